"""driver.memory: seen keeping, seen forgetting and staying broken, and unable to tell."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readiness.probes.driver import memory_fill
from tests.support import cpu, run_check, value, values
from tests.unit.checks.driver.fakes import FakeStack, fake

SETTINGS: dict[str, Any] = {"host_gib": 0.06, "piece_gib": 0.02}


@pytest.mark.parametrize("seed", range(3))
def test_the_hosts_memory_keeps_what_is_written(seed: int) -> None:
    evidence = run_check("driver.memory", cpu(seed), **SETTINGS)
    assert value(evidence, "allocated_share") == 1.0
    assert value(evidence, "wrong_bytes") == 0
    assert value(evidence, "oom_clean") == value(evidence, "oom_recovered") == 1
    assert value(evidence, "usable_gib", how="reported") > 0.1


def test_a_flipped_bit_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = memory_fill.over_allocate

    def flip(accelerator: Any, size: int) -> Any:
        filled[-1].pieces[-1][-1] ^= 4
        return honest(accelerator, size)

    filled: list[memory_fill.MemoryFill] = []
    fill = memory_fill.fill

    def kept(*arguments: Any) -> memory_fill.MemoryFill:
        filled.append(fill(*arguments))
        return filled[-1]

    monkeypatch.setattr(memory_fill, "fill", kept)
    monkeypatch.setattr(memory_fill, "over_allocate", flip)
    assert value(run_check("driver.memory", **SETTINGS), "wrong_bytes") == 1


def test_pieces_that_share_memory_show(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.empty
    given: dict[Any, torch.Tensor] = {}

    def alias(*size: Any, **rest: Any) -> torch.Tensor:
        return given.setdefault((size, rest.get("dtype")), honest(*size, **rest))

    monkeypatch.setattr(torch, "empty", alias)
    assert value(run_check("driver.memory", **SETTINGS), "wrong_bytes") > 1_000_000


def test_an_allocator_that_gives_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.empty
    left = [2**25]

    def stingy(*size: Any, **rest: Any) -> torch.Tensor:
        if isinstance(size[0], int):
            if size[0] > left[0]:
                raise torch.OutOfMemoryError("out of memory")
            left[0] -= size[0]
        return honest(*size, **rest)

    monkeypatch.setattr(torch, "empty", stingy)
    evidence = run_check("driver.memory", **SETTINGS)
    assert 0.2 < value(evidence, "allocated_share") < 0.9
    assert value(evidence, "oom_clean") == 1


def test_an_unclean_error_and_a_device_that_stays_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.empty
    broken: list[bool] = []

    def sticky(*size: Any, **rest: Any) -> torch.Tensor:
        if broken or size[0] == 2**50:
            broken.append(True)
            raise RuntimeError("unspecified launch failure")
        return honest(*size, **rest)

    monkeypatch.setattr(torch, "empty", sticky)
    evidence = run_check("driver.memory", **SETTINGS)
    assert value(evidence, "oom_clean") == value(evidence, "oom_recovered") == 0
    assert any("launch failure" in str(row.get("answer")) for row in evidence.rows)


def test_a_request_that_is_granted_though_it_cannot_be_is_not_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **rest: honest(*((16,) if size[0] == 2**50 else size), **rest))
    assert value(run_check("driver.memory", **SETTINGS), "oom_clean") == 0


def test_a_stack_that_reports_no_memory_leaves_shares_and_sizes_open() -> None:
    evidence = run_check("driver.memory", fake(FakeStack(memory=None)), **SETTINGS)
    assert values(evidence, "allocated_share") == values(evidence, "usable_gib") == []
    assert value(evidence, "wrong_bytes") == 0
    assert value(evidence, "oom_clean") == 1
