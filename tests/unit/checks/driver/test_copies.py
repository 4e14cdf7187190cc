"""driver.copies: seen whole, seen damaged, and refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from readiness.probes.driver.memcpy import wrong_bytes
from tests.support import cpu, run_check, value, values

Copy = Any


@pytest.mark.parametrize("seed", range(3))
def test_the_host_copies_whole(seed: int) -> None:
    evidence = run_check("driver.copies", cpu(seed))
    assert value(evidence, "wrong_bytes", memory="pageable") == 0
    assert value(evidence, "coverage", memory="pageable") == 1.0
    assert values(evidence, "wrong_bytes", memory="pinned") == []  # the host pins nothing for itself


def _plant(monkeypatch: pytest.MonkeyPatch, defect: Copy) -> None:
    honest = torch.Tensor.copy_
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, source, **rest: defect(honest, self, source))


def test_strides_that_are_ignored_show(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(honest: Copy, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        if target.dim() == 2 and not source.is_contiguous():
            source = source.as_strided(source.shape, (source.shape[1], 1), source.storage_offset())
        return honest(target, source)  # type: ignore[no-any-return]

    _plant(monkeypatch, defect)
    evidence = run_check("driver.copies", dtypes=("float32",), large=17)
    assert value(evidence, "wrong_bytes", memory="pageable") > 0
    assert {row["layout"] for row in evidence.rows if row.get("wrong_bytes")} >= {"transposed"}


def test_equal_strides_with_gaps_copied_as_one_block_show(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(honest: Copy, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        reach = 1 + sum((size - 1) * step for size, step in zip(target.size(), target.stride(), strict=True))
        if target.dim() == 2 and target.stride() == source.stride() != (1, 1) and reach > target.numel() > 0 and source.is_cpu:
            honest(*(one.as_strided((reach,), (1,), one.storage_offset()) for one in (target, source)))
            return target
        return honest(target, source)  # type: ignore[no-any-return]

    _plant(monkeypatch, defect)
    evidence = run_check("driver.copies", dtypes=("float32",), large=17)
    wrong = {row["layout"] for row in evidence.rows if row.get("wrong_bytes") and row["direction"] == "to host"}
    assert wrong >= {"equal gaps", "equal transposed gaps"}
    assert not wrong & {"gaps to other gaps", "gaps to dense", "contiguous"}


def test_a_copy_that_spoils_what_it_reads_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(honest: Copy, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        honest(target, source)
        if source.dim() == 2 and not source.is_contiguous() and 0 not in source.stride():
            source.zero_()
        return target

    _plant(monkeypatch, defect)
    evidence = run_check("driver.copies", dtypes=("float32",), large=17)
    wrong = {(row["layout"], row["direction"]) for row in evidence.rows if row.get("wrong_bytes")}
    assert wrong >= {("transposed", "to host"), ("strided", "on device"), ("equal gaps", "to host"), ("equal gaps", "on device")}
    assert "contiguous" not in {layout for layout, _ in wrong}


def test_a_copy_that_reads_its_source_after_it_was_overwritten_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.Tensor.copy_
    late: list[tuple[torch.Tensor, torch.Tensor]] = []

    def later(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        if non_blocking:
            late.append((target, source))
            return target
        for waiting in late:
            honest(*waiting)
        late.clear()
        return honest(target, source)

    monkeypatch.setattr(torch.Tensor, "copy_", later)
    evidence = run_check("driver.copies", dtypes=("float32",), large=16)
    wrong = {row["direction"] for row in evidence.rows if row.get("wrong_bytes") and "overwritten" in row["direction"]}
    assert wrong == {f"{way}, source overwritten" for way in ("to device", "to host", "on device")}


def test_a_copy_that_never_arrives_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    _plant(monkeypatch, lambda honest, target, source: honest(target, source) if source.numel() < 10_000 else target)
    evidence = run_check("driver.copies", dtypes=("float32",), rows=20, columns=20, large=200)
    assert value(evidence, "wrong_bytes", memory="pageable") > 0


def test_one_wrong_byte_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(honest: Copy, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        honest(target, source)
        if target.dtype == torch.int8 and target.shape == (67, 129):
            target[66, 128] += 1
        return target

    _plant(monkeypatch, defect)
    evidence = run_check("driver.copies", dtypes=("int8", "int16"), large=16)
    assert value(evidence, "wrong_bytes", memory="pageable") > 0
    assert {row["dtype"] for row in evidence.rows if row.get("wrong_bytes")} == {"int8"}


def test_a_dtype_that_is_refused_lowers_the_coverage_and_names_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(honest: Copy, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        if target.dtype == torch.float64:
            raise TypeError("this device has no float64")
        return honest(target, source)  # type: ignore[no-any-return]

    _plant(monkeypatch, defect)
    evidence = run_check("driver.copies", dtypes=("float64", "float32"), large=16)
    assert 0.3 < value(evidence, "coverage", memory="pageable") < 0.9
    assert value(evidence, "wrong_bytes", memory="pageable") == 0
    assert any("no float64" in str(row.get("refused")) for row in evidence.rows)


PAIR = ("float32", "bfloat16")


def test_a_copy_that_converts_and_ignores_strides_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(honest: Copy, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        if target.dtype != source.dtype and not source.is_contiguous():
            source = source.as_strided(source.shape, (source.shape[1], 1), source.storage_offset())
        return honest(target, source)  # type: ignore[no-any-return]

    _plant(monkeypatch, defect)
    evidence = run_check("driver.copies", dtypes=PAIR, large=17)
    wrong = {(row["dtype"], row["layout"], row["direction"]) for row in evidence.rows if row.get("wrong_bytes")}
    ways = {("float32 to bfloat16", way) for way in ("to device", "to host")} | {("bfloat16 to float32", way) for way in ("to device", "to host")}
    assert wrong == {(dtype, layout, way) for dtype, way in ways for layout in ("transposed", "strided", "offset")}
    assert value(evidence, "coverage", memory="pageable") == 1.0


def test_a_move_into_new_memory_that_rounds_otherwise_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.Tensor.to

    def cut_off(tensor: torch.Tensor, *arguments: Any, **keywords: Any) -> torch.Tensor:
        if keywords.get("dtype") is torch.bfloat16 and tensor.dtype is torch.float32:
            tensor = (tensor.contiguous().view(torch.int32) & -(2**16)).view(torch.float32)
        return honest(tensor, *arguments, **keywords)

    monkeypatch.setattr(torch.Tensor, "to", cut_off)
    evidence = run_check("driver.copies", dtypes=PAIR, large=17)
    wrong = {(row["dtype"], row["direction"]) for row in evidence.rows if row.get("wrong_bytes")}
    assert wrong == {("float32 to bfloat16", f"{way}, new memory") for way in ("to device", "to host")}


def test_a_conversion_that_is_refused_is_no_wrong_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(honest: Copy, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        if target.dtype != source.dtype:
            raise NotImplementedError("copies between dtypes are not implemented")
        return honest(target, source)  # type: ignore[no-any-return]

    _plant(monkeypatch, defect)
    evidence = run_check("driver.copies", dtypes=PAIR, large=17)
    assert value(evidence, "wrong_bytes", memory="pageable") == 0
    assert 0.8 < value(evidence, "coverage", memory="pageable") < 1
    assert {row["dtype"] for row in evidence.rows if row.get("refused") and "dtype" in row} == {"float32 to bfloat16", "bfloat16 to float32"}


def test_nothing_copied_is_nothing_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: Any) -> torch.Tensor:
        raise RuntimeError("the bus is down")

    _plant(monkeypatch, defect)
    evidence = run_check("driver.copies", dtypes=("float32",), large=16)
    assert value(evidence, "coverage", memory="pageable") == 0
    assert values(evidence, "wrong_bytes") == []


def test_wrong_shape_and_dtype_are_infinitely_wrong() -> None:
    assert wrong_bytes(torch.arange(4), torch.arange(4).int()) == math.inf
    assert wrong_bytes(torch.arange(4), torch.arange(5)) == math.inf
    assert wrong_bytes(torch.tensor([float("nan")]), torch.tensor([float("nan")])) == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.complex64])
def test_each_single_byte_counts_wherever_a_view_begins_and_ends(dtype: torch.dtype) -> None:
    memory = torch.arange(16 * dtype.itemsize, dtype=torch.uint8)
    for start, count in ((start, count) for start in range(3) for count in (1, 2, 3, 4, 8, 9)):
        wanted = memory.clone().view(dtype)[start : start + count]
        for place in range(memory.numel()):
            changed = memory.clone()
            changed[place] ^= 0x80  # what was zero stays equal to zero as a number
            inside = start * dtype.itemsize <= place < (start + count) * dtype.itemsize
            assert wrong_bytes(changed.view(dtype)[start : start + count], wanted) == inside
