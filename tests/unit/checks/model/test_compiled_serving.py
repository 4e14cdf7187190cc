"""model.serving through a compiler: the same tokens, other ones, ties, a refusal, too little time or memory, a busy host."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from readiness.datamodel import Evidence, Status, Yield
from readiness.probes.model import compiled_serving, steps
from readiness.probes.model.compiled_serving import Budget
from readiness.probes.model.steps import Served
from readiness.probes.parity.train_and_decode import DecodeResult
from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import Timing
from tests.support import cpu, run_check, value, values

#: One layer as the compiled model calls it: the layer, its input, angles, what it kept.
Layer = Callable[..., Any]


def served(monkeypatch: pytest.MonkeyPatch, compiler: Callable[[Layer], Layer], **settings: Any) -> Evidence:
    """Serving with a compiler in place of torch.compile's."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: compiler(function))
    quick = {"workload": "qwen3-8b", "batches": (1, 2), "tokens": 4, "rounds": 1, "narrow_prompt": 8, "compile_narrow": True}
    return run_check("model.serving", cpu(0), **{**quick, **settings})


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not say how long it kept the process waiting disturbs nothing that is known of."""
    monkeypatch.setattr(timing, "is_reported", lambda: False)


def same(function: Layer) -> Layer:
    return function


def test_the_same_tokens_are_timed_beside_those_call_by_call(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = served(monkeypatch, same)
    assert evidence.status is Status.MEASURED, evidence.reason
    for phase in ("tokens", "pace"):
        assert value(evidence, "compiled_supported", phase=phase) == 1
        assert value(evidence, "compiled_wrong_tokens", phase=phase) == 0
        assert value(evidence, "compiled_logit_error", phase=phase) == 0
    for batch in ("1", "2"):
        for name in ("compiled_first_token_ms", "compiled_between_tokens_ms"):
            assert 0 < value(evidence, name, batch=batch, quantile="p50") <= value(evidence, name, batch=batch, quantile="p99")
        plain, through = (value(evidence, name, batch=batch, phase="decode") for name in ("tokens_per_s", "compiled_tokens_per_s"))
        assert value(evidence, "compiled_speedup", batch=batch) == pytest.approx(through / plain)


def test_other_tokens_are_wrong_and_the_row_says_from_which_step_on(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def from_the_third_token_on(function: Layer) -> Layer:
        def call(layer: Any, x: Any, turn: Any, past: Any) -> Any:
            out, kept = function(layer, x, turn, past)
            return (-out if past is not None and past[0].shape[2] >= 22 else out), kept

        return call

    evidence = served(monkeypatch, from_the_third_token_on)
    assert value(evidence, "compiled_supported", phase="tokens") == 1
    assert value(evidence, "compiled_wrong_tokens", phase="tokens") > 0
    assert value(evidence, "compiled_logit_error", phase="tokens") > 0.1
    assert value(evidence, "wrong_tokens") == 0, "call by call all is right"
    rows = [row for row in evidence.rows if "compiled_token" in row and row["phase"] == "tokens"]
    assert min(row["step"] for row in rows) == 2
    assert all(row["logits_differ_by"] > 0.1 and row["judged"] == "another token" for row in rows)


def test_numbers_that_are_none_are_wrong(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def nan(function: Layer) -> Layer:
        def call(*given: Any) -> Any:
            out, kept = function(*given)
            return out * math.nan, kept

        return call

    evidence = served(monkeypatch, nan)
    assert value(evidence, "compiled_wrong_tokens", phase="tokens") == 16
    assert value(evidence, "compiled_logit_error", phase="tokens") == math.inf


def decoded(logits: list[list[float]]) -> DecodeResult:
    rows = torch.tensor([logits])
    return DecodeResult(rows.argmax(-1), rows)


def test_a_tie_is_no_defect_and_what_is_more_is_one() -> None:
    plain = decoded([[1.0, 2.0, 3.0, 2.9999995], [1.0, 2.0, 3.0, 2.9]])
    through = decoded([[1.0, 2.0, 3.0, 3.0000005], [1.0, 2.0, 2.9, 3.0]])
    found = compiled_serving.compared(plain, through, torch.float32)
    assert [(one.step, one.expected, one.token, one.tie) for one in found.differences] == [(0, 2, 3, True), (1, 2, 3, False)]
    size = math.sqrt((1 + 4 + 9 + 2.9**2) / 4)
    assert found.differences[1].lead == pytest.approx(0.1 / size, rel=1e-4)
    assert (found.wrong, found.tokens, found.worst_step) == (1, 2, 1)
    assert found.deviation == found.differences[1].deviation == pytest.approx(0.1 / size, rel=1e-4)
    coarse = compiled_serving.compared(plain, through, torch.bfloat16)
    assert coarse.wrong == 0, "in bfloat16 that much is rounding"


def test_logits_that_are_no_numbers_are_wrong_even_if_the_token_is_the_same() -> None:
    plain, through = decoded([[1.0, 2.0, 3.0]]), decoded([[1.0, 2.0, math.nan]])
    assert torch.equal(plain.tokens, through.tokens)
    found = compiled_serving.compared(plain, through, torch.float32)
    assert (found.wrong, found.deviation) == (1, math.inf)
    assert compiled_serving.compared(through, plain, torch.float32).wrong == 1, "nor is it known what the right one is"


@pytest.mark.parametrize(
    ("problem", "status"), [(NotImplementedError("no backend for this device"), Status.MEASURED), (RuntimeError("device lost"), Status.ERROR)]
)  # fmt: skip
def test_a_stack_without_a_compiler_is_not_supported_and_errors_are_none(
    problem: Exception, status: Status, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Layer) -> Layer:
        def call(*_: Any) -> Any:
            raise problem

        return call

    evidence = served(monkeypatch, refuse)
    assert evidence.status is status
    assert value(evidence, "wrong_tokens") == 0
    assert values(evidence, "compiled_supported") == ([0] if status is Status.MEASURED else [])
    assert values(evidence, "compiled_wrong_tokens") == values(evidence, "compiled_between_tokens_ms") == []


def test_memory_that_runs_out_says_nothing_of_the_compiler(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Layer) -> Layer:
        def call(*_: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

        return call

    evidence = served(monkeypatch, full)
    assert evidence.status is Status.MEASURED
    assert values(evidence, "compiled_supported") == []
    assert any("memory ran out" in str(row.get("compiled")) for row in evidence.rows)


def test_what_takes_too_long_to_compile_is_left_out_with_its_reason(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10**6, 40))  # the narrow model takes 40 seconds, and then 60 are over
    monkeypatch.setattr(compiled_serving, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    evidence = served(monkeypatch, same)
    assert value(evidence, "compiled_wrong_tokens", phase="tokens") == 0
    assert values(evidence, "compiled_wrong_tokens", phase="pace") == values(evidence, "compiled_between_tokens_ms") == []
    said = [row for row in evidence.rows if row.get("compiled") == "not measured: compiling took 40.0 s before, and of 60 s 0.0 s are left"]
    assert len(said) == 1


def test_a_batch_for_which_no_time_is_left_is_named(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([None, None, "not measured: too late"])
    monkeypatch.setattr(Budget, "lack", lambda self, more_s=0.0: next(said))
    evidence = served(monkeypatch, same)
    assert values(evidence, "compiled_speedup", batch="1") != []
    assert values(evidence, "compiled_speedup", batch="2") == []
    assert any(row == {"batch": "2", "compiled": "not measured: too late"} for row in evidence.rows)


def test_what_came_before_says_whether_the_next_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_serving, "time", SimpleNamespace(monotonic=lambda: 100.0))
    assert Budget(60.0, began=90.0, last_s=49.0).lack() is None
    lack = Budget(60.0, began=90.0, last_s=50.0).lack()
    assert lack == "not measured: compiling took 50.0 s before, and of 60 s 50.0 s are left"


def test_a_busy_host_makes_the_compiled_pace_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "is_reported", lambda: True)
    waits = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr(timing, "in_line_s", lambda: float(next(waits)))
    evidence = served(monkeypatch, same)
    assert value(evidence, "compiled_wrong_tokens", phase="pace") == 0
    assert values(evidence, "compiled_between_tokens_ms") == values(evidence, "compiled_speedup") == []
    assert sum("busy" in str(row.get("compiled")) for row in evidence.rows) == 2


def test_narrow_layers_are_not_compiled_by_default(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = served(monkeypatch, same, compile_narrow=False)
    assert values(evidence, "compiled_supported") == []
    assert any("narrow layers" in str(row.get("compiled")) for row in evidence.rows)


# ------------------------------------------------------------------------------------------------------ the largest batch


def largest(
    monkeypatch: pytest.MonkeyPatch, compiler: Callable[[Layer], Layer] = same, *, call_by_call: int = 4, **settings: Any
) -> Evidence:
    """Serving of as many conversations as fit: `call_by_call` of them, on a device that is the host's in disguise."""

    def eager(accelerator: Any, model: Any, plan: Any, prompts: Any, tokens: int) -> Generator[Yield, None, Served | None]:
        yield from ()
        return steps.serve_largest(accelerator, model, prompts, tokens, call_by_call)

    monkeypatch.setattr(steps, "largest_measurements", eager)
    return served(monkeypatch, compiler, compile_within_s=1e6, **settings)


def too_many_for(most: int, problem: Exception) -> Callable[[Layer], Layer]:
    """A compiler whose layers raise for more conversations at once; the narrow model's four are no matter of it."""

    def compiler(function: Layer) -> Layer:
        def call(layer: Any, x: Any, turn: Any, past: Any) -> Any:
            if x.shape[0] > most and x.dtype == torch.bfloat16:
                raise problem
            return function(layer, x, turn, past)

        return call

    return compiler


def test_the_largest_batch_is_timed_compiled_too(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = largest(monkeypatch)
    assert value(evidence, "compiled_largest_batch") == 4
    for name in ("compiled_first_token_ms", "compiled_between_tokens_ms"):
        assert value(evidence, name, batch="largest", quantile="p50") > 0
    assert value(evidence, "compiled_tokens_per_s", batch="largest", phase="decode") > 0
    assert value(evidence, "compiled_speedup", batch="largest") > 0


def test_compiled_fewer_may_fit_and_are_not_compared_with_more(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = largest(monkeypatch, too_many_for(2, torch.OutOfMemoryError("CUDA out of memory")), call_by_call=8)
    assert value(evidence, "compiled_largest_batch") == 2
    assert value(evidence, "compiled_tokens_per_s", batch="largest", phase="decode") > 0
    assert values(evidence, "compiled_speedup", batch="largest") == []
    assert values(evidence, "compiled_speedup", batch="2") != []


def test_a_compiler_that_refuses_large_batches_is_told_and_what_fits_stays(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = largest(monkeypatch, too_many_for(2, NotImplementedError("no such shape")))
    assert sorted(values(evidence, "compiled_supported", phase="pace")) == [0, 1]
    assert values(evidence, "compiled_largest_batch") == values(evidence, "compiled_speedup", batch="largest") == []
    assert values(evidence, "compiled_speedup", batch="2") != []


def test_without_time_or_memory_the_largest_batch_is_not_measured_and_the_row_says_why(
    quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = largest(monkeypatch)
    honest = Budget.lack
    monkeypatch.setattr(Budget, "lack", lambda self, more_s=0.0: "not measured: too late" if more_s else honest(self))
    late = largest(monkeypatch)
    assert values(evidence, "compiled_largest_batch") == [4]
    assert values(late, "compiled_largest_batch") == values(late, "compiled_speedup", batch="largest") == []
    assert {"batch": "largest", "compiled": "not measured: too late"} in late.rows
    monkeypatch.setattr(Budget, "lack", honest)
    one = Served(4, 8, Timing((1e-3,)), Timing((1e-3,)))
    monkeypatch.setattr(steps, "serve_largest", lambda _, model, *__: one if hasattr(model, "parameters") else None)
    full = largest(monkeypatch)
    assert values(full, "compiled_largest_batch") == []
    assert any("even for one" in str(row.get("compiled")) for row in full.rows)


def test_the_work_counts_beside_the_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_serving, "time", SimpleNamespace(monotonic=lambda: 100.0))
    budget = Budget(60.0, began=90.0, last_s=20.0)
    assert budget.lack(29.0) is None
    lack = budget.lack(30.0)
    assert lack == "not measured: compiling took 20.0 s before, the work takes 30.0 s, and of 60 s 50.0 s are left"


def test_no_largest_batch_call_by_call_is_none_compiled(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = served(monkeypatch, same)
    assert values(evidence, "largest_batch") == values(evidence, "compiled_largest_batch") == []
