"""Values at knees and extremes, contributions, large vocabularies, many elements and threads: defects that show there alone."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch

from readiness.probes.operators import chosen_values, extra_ops, multithreaded_ops, opinfo, samples, seeded_selection
from readiness.probes.operators.op_trial import OpTrial
from readiness.probes.operators.outcomes import FailedError, Outcome
from readiness.simulator import machine_file as chips
from tests.process.checks.operators.test_reference import tried
from tests.process.checks.operators.test_sweep_circumstances import on_sim
from tests.support import cpu
from tests.support.simulator import chip, defect

Override = Callable[[str, Callable[..., Any]], None]
#: A seed that chooses a large sort of short rows, which takes a tenth of the others' time.
SHORT_ROWS = 8
ENTRIES = {entry.name: entry for entry in opinfo.load()}


def at_values(name: str, dtype: torch.dtype = torch.float32, seed: int = 7) -> list[FailedError]:
    """What is wrong at the chosen values."""
    accelerator = cpu(seed)
    trial = OpTrial(accelerator, ENTRIES[name], dtype, lambda *_: None, rotation=seeded_selection.of(accelerator))
    drawn = samples.draw(ENTRIES[name], dtype, seed=trial.caller.seed, gradients=True)
    return list(chosen_values.broken(trial, drawn, True))


def _hardswish(x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = x * (x + 3).clamp(0, 6) / 6
    return torch.where(x == 3, 2.5, result) if x.dtype != torch.float64 else result


def _exponential(x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = torch.exp2(x * 1.4426950408889634)
    return torch.where(x < -11, 0.0, result) if x.dtype == torch.float32 else result


@pytest.mark.parametrize(
    ("kernel", "wrong", "name", "said"),
    [("hardswish", _hardswish, "nn.functional.hardswish", "at 3 it is 2.5 instead of 3"),
     ("exp", _exponential, "exp", "at -11.09")],
)  # fmt: skip
def test_one_wrong_value_is_found(kernel: str, wrong: Callable[..., Any], name: str, said: str, override: Override) -> None:
    assert at_values(name) == []
    override(kernel, wrong)
    found = at_values(name)
    assert found
    assert all(failure.where == "at knees and extremes" for failure in found)
    assert said in str(found[0])


def test_whole_numbers_beside_floats(override: Override) -> None:
    def wrong(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        result = torch.complex(other.to(x.dtype), x).angle()
        whole = x.dtype == torch.float32 and not other.is_floating_point()
        return torch.where(other == -2, result * 1.1, result) if whole else result

    override("atan2", wrong)
    assert {failure.where for failure in at_values("atan2")} == {"on whole numbers beside floats"}


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_a_gradient_that_takes_a_product_with_a_subnormal_argument_is_not_judged_there(seed: int) -> None:
    assert at_values("hypot", torch.float16, seed) == []


def test_what_the_reference_cannot_compute_is_not_judged(override: Override) -> None:
    def refusing(x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.float64:
            raise RuntimeError("no such dtype")
        result: torch.Tensor = x * (x + 3).clamp(0, 6) / 6
        return result

    override("hardswish", refusing)
    assert at_values("nn.functional.hardswish") == []


def _adding_in_its_dtype(x: torch.Tensor, dim: int, index: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    result = x.clone()
    for place in range(index.shape[0]):
        result[index[place, 0]] += values[place]
    return result


def test_contributions_beyond_what_bfloat16_counts(override: Override) -> None:
    assert tried("scatter_add", torch.bfloat16).outcome.clean
    override("scatter_add", _adding_in_its_dtype)
    result = tried("scatter_add", torch.bfloat16)
    assert (result.outcome, result.where) == (Outcome.WRONG, "with 600 contributions to one row")


@pytest.mark.parametrize("name", ["nn.functional.embedding", "index_put_.accumulate"])
def test_the_cpu_itself_adds_up_in_bfloat16(name: str) -> None:
    result = tried(name, torch.bfloat16)
    assert result.outcome.clean
    assert "adds up in 16 bits" in result.known


@pytest.mark.parametrize(
    ("planted", "only", "dtype", "where"),
    [
        (defect("wrong-result", "mean*", severity=0.5, numel_over=3000, dtype=("float16",)), "mean", "float16", ""),
        (defect("zero-result", "_fused_adam*", dtype=("float16",)), "optim.AdamW.fused", "float16", ""),
        (defect("zero-result", "multinomial"), "multinomial.vocabulary", "float32", ""),
        (defect("wrong-tail", "mm", severity=0.5, numel_over=200000), "mm.many_elements", "float32", ""),
        (defect("wrong-result", "sort*", severity=0.5, numel_over=2**21), "sort", "float32", "elements"),
        (defect("wrong-result", "bmm*", severity=0.5), "bmm", "complex64", ""),
    ],
)  # fmt: skip
def test_planted(planted: chips.Defect, only: str, dtype: str, where: str) -> None:
    found = on_sim(chip(planted), only, dtypes=(dtype,), seed=SHORT_ROWS)
    assert found[only][0] in ("wrong", "missing"), found
    assert where in found[only][1]


def test_a_healthy_chip_shows_none_of_them() -> None:
    only = ("mean", "optim.AdamW.*", "multinomial.vocabulary", "mm.many_elements", "sort", "bmm", "scatter_add", "exp")
    assert on_sim(chip(), *only, dtypes=("float32", "bfloat16", "complex64"), seed=SHORT_ROWS) == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_a_large_vocabulary(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.zeros(3, dtype=dtype)
    torch.manual_seed(5)
    assert bool(extra_ops._vocabulary(values).all())
    drawn = torch.multinomial

    def without_tail(weights: torch.Tensor, count: int, replacement: bool = False) -> torch.Tensor:
        return drawn(weights, count, replacement=replacement).clamp_max(2**16)

    monkeypatch.setattr(torch, "multinomial", without_tail)
    assert not bool(extra_ops._vocabulary(values).all())


def _racing(x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = torch.special.expit(x) * x
    if torch.get_num_threads() > 1 and x.numel() > 32_768:
        result.view(-1)[32_768 : 32_768 + 64] = 0  # what the second thread should have written
    return result


def in_a_fork(function: Callable[[], Any]) -> Any:
    """What a function returns as JSON in a process forked from this one, in which it may start threads."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(writing, json.dumps(function()).encode())
        except BaseException:  # noqa: BLE001 - the test is told
            os.write(writing, json.dumps(traceback.format_exc()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:  # noqa: PTH123 - a pipe
        found = answer.read()
    os.waitpid(child, 0)
    return json.loads(found)


def test_a_race_between_threads_is_found(override: Override, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeded_selection, "of", lambda _: seeded_selection.Rotation(threaded=("nn.functional.silu",)))

    def outcome() -> tuple[str, str | None]:
        torch.set_num_threads(1)
        result = tried("nn.functional.silu")
        return result.outcome.value, result.where

    healthy, _ = in_a_fork(outcome)
    assert Outcome(healthy).clean
    override("silu", _racing)
    assert in_a_fork(outcome) == [Outcome.WRONG.value, "on all threads"]


def test_where_threads_were_lost_in_a_fork_nothing_is_tried(override: Override, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeded_selection, "of", lambda _: seeded_selection.Rotation(threaded=("nn.functional.silu",)))
    monkeypatch.setattr(multithreaded_ops, "available", lambda: False)
    override("silu", _racing)
    assert tried("nn.functional.silu").outcome.clean


def test_a_process_that_was_forked_after_threads_were_started_does_not_try_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_a_later_fork() -> Any:
        multithreaded_ops.available()
        torch.set_num_threads(2)
        torch.ones(multithreaded_ops.ROWS, multithreaded_ops.COLUMNS).exp().sum()  # the pool, which no fork has
        monkeypatch.setattr(multithreaded_ops, "_PATIENCE_S", 1.0)
        return in_a_fork(multithreaded_ops.available)

    assert in_a_fork(in_a_later_fork) is False


def test_a_pool_that_does_not_answer_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multithreaded_ops, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(os, "write", lambda *_: 0)
    assert not multithreaded_ops._available_in(-1)


def test_every_threaded_operator_has_a_call() -> None:
    assert set(seeded_selection.THREADED) == set(multithreaded_ops.NAMES) <= ENTRIES.keys()
    assert len(seeded_selection.of(cpu(1)).threaded) == 9
