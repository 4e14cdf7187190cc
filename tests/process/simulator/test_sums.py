"""Kinds of defects that sum in few digits, are wrong in single elements or in the last ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.simulator import chip, defect, inside


def _x(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(11))


@pytest.mark.parametrize("kernel", ["mm", "bmm", "addmm", "sum", "mean"])
def test_sums_are_kept_in_bfloat16(kernel: str) -> None:
    def ask() -> Any:
        left, right = _x(3, 256).to("sim"), _x(256, 5).to("sim")
        called = {
            "mm": lambda: left @ right, "bmm": lambda: left[None] @ right[None], "addmm": lambda: torch.addmm(left[0, :5], left, right),
            "sum": lambda: left.sum(1), "mean": lambda: left.mean(1),
        }[kernel]  # fmt: skip
        found: torch.Tensor = called()  # type: ignore[no-untyped-call]
        return found.cpu().flatten().tolist()

    right, narrow = inside(chip(), ask), inside(chip(defect("narrow-sums", f"{kernel}*")), ask)
    off = max(abs(one - other) / max(abs(other), 1e-3) for one, other in zip(narrow, right, strict=True))
    assert 1e-4 < off < 0.2


def test_a_sum_of_few_terms_and_whole_numbers_are_right() -> None:
    def ask() -> Any:
        left, right = _x(3, 8).bfloat16().to("sim"), _x(8, 5).bfloat16().to("sim")
        return [(left @ right).cpu().float().flatten().tolist(), torch.arange(9).to("sim").sum().item()]

    assert inside(chip(defect("narrow-sums")), ask) == inside(chip(), ask)


def test_the_last_elements_are_wrong_where_eight_do_not_divide() -> None:
    def ask() -> Any:
        return [(_x(3, 7).to("sim") * 1.0).cpu().flatten().tolist(), (_x(4, 8).to("sim") * 1.0).cpu().flatten().tolist()]

    (odd, even), (right, whole) = inside(chip(defect("wrong-tail", "mul*")), ask), inside(chip(), ask)
    assert odd[:16] == right[:16]
    assert all(abs(one - other) > 0.1 or abs(other + 1) < 0.3 for one, other in zip(odd[16:], right[16:], strict=True))
    assert even == whole


def test_one_element_is_off_by_a_share_of_the_largest() -> None:
    def ask() -> Any:
        return (_x(4, 16).to("sim") * 1.0).cpu().flatten().tolist()

    wrong, right = inside(chip(defect("one-element", "mul*", severity=0.25)), ask), inside(chip(), ask)
    off = [one - other for one, other in zip(wrong, right, strict=True) if one != other]
    assert off == [pytest.approx(0.25 * max(map(abs, right)))]


def test_the_result_has_the_digits_of_bfloat16() -> None:
    def ask() -> Any:
        return (_x(4, 16).to("sim") * 1.0).cpu().flatten().tolist()

    assert inside(chip(defect("rounded-result", "mul*")), ask) == _x(4, 16).bfloat16().float().flatten().tolist()
