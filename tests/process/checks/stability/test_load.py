"""stability.load: seen clean, seen catching what strikes seldom, late, or in one dtype and layout, and unable to tell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from readiness import check_registry
from readiness.accelerators.base import Accelerator
from readiness.datamodel import Evidence, Measurement, Outcome, Status, Use
from readiness.host import runqueue_wait
from readiness.judging.judge import judge
from readiness.probes.stability import memory_usage
from readiness.probes.stability import thermal_load as thermal_module
from readiness.probes.stability.load import ERRORS_IN_ALL, Load
from readiness.probes.stability.measurements import of_load
from readiness.probes.stability.memory_usage import Usage
from readiness.probes.stability.op_batches import ERRORS_OF_ONE
from readiness.probes.stability.operations import OPERATIONS
from readiness.probes.stability.thermal_load import Product, Span, ThermalLoad
from readiness.profile import loader
from tests.support import cpu, disk_full, run_check, value, values
from tests.support.parity import Change, Defect, Tensor, refuse, scale_gradient

SHORT = 0.3


def one(evidence: Evidence, name: str, **where: str) -> Measurement:
    found = [item for item in evidence.measurements if item.name == name and where.items() <= dict(item.labels).items()]
    assert len(found) == 1, (name, where, found, evidence.reason)
    return found[0]


def loaded(*rounds: Callable[[], object], seed: int = 7, dtypes: tuple[str, ...] = ("float32",)) -> list[Any]:
    """What a load of so many rounds finds, each in the circumstances that its function makes; no clock is asked."""
    work = Load(cpu(seed), 60.0)
    work.prepare(dtypes)
    for circumstances in rounds:
        circumstances()
        work._round()
    return list(of_load(work))


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_cpu_stays_as_it_is(seed: int) -> None:
    evidence = run_check("stability.load", cpu(seed), seconds=SHORT)
    assert evidence.status is Status.MEASURED, evidence.reason
    for name in ("mismatches", "unrepeatable", "errors"):
        assert set(values(evidence, name)) == {0}, name
    assert len(values(evidence, "mismatches")) == 4
    assert set(values(evidence, "supported")) == {1}
    assert max(values(evidence, "first_error", dtype="float32")) < 1e-4
    assert max(values(evidence, "first_error", dtype="bfloat16")) < 0.05
    assert all(item.about is None for item in evidence.measurements if item.name in ("mismatches", "errors", "supported"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]


def now_and_then(chosen: Callable[[Tensor], bool], every: int, after: int = 0) -> Change:
    """One bit of one element, in every so many calls with such a first argument, after so many calls."""
    calls = itertools.count(1)

    def change(function: Any, *args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = function(*args, **kwargs)
        if chosen(args[0]) and (number := next(calls)) > after and number % every == 0:
            bits = out.detach().view(-1).view(torch.int32 if out.itemsize == 4 else torch.int16)
            bits[0] ^= 1
        return out

    return change


@pytest.mark.parametrize("seed", range(2))
def test_a_bit_that_flips_seldom_in_one_dtype_and_layout_is_named(seed: int) -> None:
    def chosen(x: Tensor) -> bool:
        return x.dtype == torch.bfloat16 and not x.is_contiguous() and not x.requires_grad

    with Defect(["bmm"], now_and_then(chosen, every=13, after=20)):
        found = loaded(*[lambda: None] * 24, seed=seed, dtypes=("float32", "bfloat16"))
    evidence = Evidence("stability.load", Status.MEASURED, measurements=tuple(item for item in found if isinstance(item, Measurement)))
    wrong = one(evidence, "mismatches", dtype="bfloat16", phase="forward")
    assert wrong.value > 0
    assert wrong.about is not None
    assert wrong.about.startswith("batched matmul in bfloat16, strided inputs, forward:")
    assert len(wrong.about) < 300
    assert value(evidence, "mismatches", dtype="bfloat16", phase="backward") == 0
    assert set(values(evidence, "mismatches", dtype="float32")) == {0}


def test_a_wrong_first_result_is_not_the_yardstick_and_counts() -> None:
    def change(function: Any, *args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = function(*args, **kwargs)
        if not out.is_meta and next(calls) == 1:
            out[0, 0] += 1
        return out

    calls = itertools.count(1)
    with Defect(["gelu"], change):
        found = loaded(*[lambda: None] * 3)
    wrong = next(item for item in found if isinstance(item, Measurement) and item.name == "mismatches" and item.value)
    assert wrong.value == 1
    assert str(wrong.about).startswith("gelu in float32, contiguous inputs, forward: 1 of 11 calls differed, first in call 1 after")


def test_a_comparison_that_goes_wrong_is_distinguished_from_the_operations() -> None:
    broken: list[bool] = []

    def change(function: Any, *args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = function(*args, **kwargs)
        if broken and len(args[0]) > 10:
            out[0] += 1
        return out

    with Defect(["cat"], change):
        found = loaded(lambda: None, lambda: broken.append(True), broken.clear)
    wrong = [item for item in found if isinstance(item, Measurement) and item.name == "mismatches" and item.value]
    assert [item.value for item in wrong] == [1]
    assert all(item.about is not None and item.about.startswith("cat of ") for item in wrong)


def test_a_nan_is_seen_when_it_comes_and_when_it_stays() -> None:
    bad: list[bool] = []

    def change(function: Any, *args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = function(*args, **kwargs)
        if bad:
            out[0] = torch.nan
        return out

    with Defect(["silu"], change):
        found = loaded(lambda: None, lambda: bad.append(True), lambda: None, bad.clear)
    wrong = next(item for item in found if isinstance(item, Measurement) and item.name == "mismatches" and item.value)
    assert wrong.value == 4  # two rounds, two layouts
    with Defect(["silu"], lambda function, *args, **kwargs: function(*args, **kwargs) * torch.nan):
        evidence = run_check("stability.load", seconds=SHORT, dtypes=("float32",))
    first = one(evidence, "first_error", phase="forward")
    assert first.value == math.inf
    assert "silu in float32" in str(first.about)
    assert value(evidence, "mismatches", phase="forward") == 0  # the same NaN each time is the same


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_wrong_gradient_is_wrong_at_first(factor: float) -> None:
    def change(function: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return function(scale_gradient(x, factor), *args, **kwargs)

    with Defect(["matmul"], change):
        evidence = run_check("stability.load", seconds=SHORT, dtypes=("float32",))
    assert value(evidence, "first_error", phase="backward") > 5e-3
    assert "matmul in float32" in str(one(evidence, "first_error", phase="backward").about)
    assert value(evidence, "first_error", phase="forward") < 1e-4


def test_what_never_repeats_is_set_apart() -> None:
    with Defect(["layer_norm"], lambda function, *args, **kwargs: function(*args, **kwargs) * (1 + 1e-5 * torch.rand(()))):
        evidence = run_check("stability.load", seconds=SHORT, dtypes=("float32",))
    changing = one(evidence, "unrepeatable", phase="forward")
    assert changing.value == 2
    assert "layer norm in float32, contiguous inputs, forward" in str(changing.about)
    assert value(evidence, "mismatches", phase="forward") == 0


def test_an_operation_that_raises_is_named_and_the_rest_goes_on() -> None:
    calls = itertools.count(1)

    def change(function: Any, *args: Any, **kwargs: Any) -> Any:
        if next(calls) > 40:
            raise RuntimeError("execution failed: error 507015")
        return function(*args, **kwargs)

    with Defect(["rms_norm"], change):
        found = loaded(*[lambda: None] * 30)
    raised = next(item for item in found if isinstance(item, Measurement) and item.name == "errors")
    assert raised.value == 2 * ERRORS_OF_ONE
    assert str(raised.about).startswith("rms norm in float32, contiguous inputs, forward (and rms norm")
    assert "507015" in str(raised.about)
    calls_made = [item.value for item in found if isinstance(item, Measurement) and item.name == "calls"]
    assert min(calls_made) > 30 * (len(OPERATIONS) - 2) * 2


def test_an_operation_that_finds_no_room_on_the_disk_proves_nothing() -> None:
    calls = itertools.count(1)

    def change(function: Any, *args: Any, **kwargs: Any) -> Any:
        return disk_full() if next(calls) > 40 else function(*args, **kwargs)

    with Defect(["rms_norm"], change), pytest.raises(OSError, match="No space left on device"):
        loaded(*[lambda: None] * 30)


def test_a_gradient_that_raises_is_found_out_one_by_one() -> None:
    broken: list[bool] = []

    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.view_as(x)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            if broken:
                raise RuntimeError("execution failed")
            return gradient

    def change(function: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return function(Bad.apply(x), *args, **kwargs)  # type: ignore[no-untyped-call]

    with Defect(["gelu"], change):
        found = loaded(lambda: None, lambda: broken.append(True), *[lambda: None] * 4)
    raised = [item for item in found if isinstance(item, Measurement) and item.name == "errors"]
    assert raised[0].value == 0
    assert raised[1].value == 2 * (1 + ERRORS_OF_ONE)
    assert str(raised[1].about).startswith("gelu in float32, contiguous inputs, backward")


class Late(Accelerator):
    """A device whose errors surface where it is waited for."""

    waits = 0
    bad_from = 10**9

    def synchronize(self) -> None:
        self.waits += 1
        if self.waits >= self.bad_from:
            raise RuntimeError("an asynchronous error, reported only now")


def test_an_error_that_surfaces_late_counts_and_too_many_end_the_load() -> None:
    healthy = cpu()
    late = Late(healthy.facts, healthy.stack, seed=7)
    work = Load(late, 60.0)
    work.prepare(("float32",))
    work._round()
    late.bad_from = 0
    list(work.run())
    assert work.ended == f"{ERRORS_IN_ALL} calls raised"
    found = [item for item in of_load(work) if isinstance(item, Measurement) and item.name == "errors"]
    assert sum(item.value for item in found) >= ERRORS_IN_ALL
    assert "reported only now" in str(found[0].about)


def test_a_dtype_that_the_device_lacks_proves_nothing_about_results() -> None:
    work = Load(cpu(), 60.0)
    with Defect(["gelu"], lambda function, x: function(x) if x.is_meta else refuse(torch.bfloat16)(function, x)):
        work.prepare(("bfloat16",))
        work._round()
    found = [item for item in of_load(work) if isinstance(item, Measurement)]
    supported = [item for item in found if item.name == "supported"]
    assert supported[0].value == pytest.approx(36 / 38, abs=0.01)
    assert str(supported[0].about).startswith("gelu in bfloat16, contiguous inputs, forward (and gelu")
    for stats in work.op_stats:
        stats.calls, stats.refusal = 0, "not implemented"
    nothing = [item.name for item in of_load(work) if isinstance(item, Measurement) and item.labels.get("dtype")]
    assert set(nothing) == {"supported"}


def thermal_load(
    *device_ms: float, host_ms: tuple[float, ...] = (), samples: int = 100, waited_s: tuple[float, ...] = ()
) -> ThermalLoad:
    product = Product(torch.ones(2, 2), torch.ones(2, 2), 1e-3, 1)
    found = ThermalLoad(cpu(), product, product if host_ms else None, 5.0)
    host = host_ms or (float("inf"),) * len(device_ms)
    found.spans = [
        Span(5.0 * index, 5.0 * (index + 1), samples, device_time, host_time, waited_s=waited)
        for index, (device_time, host_time, waited) in enumerate(
            zip(device_ms, host, waited_s or (0.0,) * len(device_ms), strict=True)
        )
    ]
    return found


def test_a_device_that_slows_down_is_seen_whenever_it_does() -> None:
    def kept(*device_ms: float, host_ms: tuple[float, ...] = (), samples: int = 100) -> float | None:
        drop = thermal_load(*device_ms, host_ms=host_ms, samples=samples).drop()
        return None if drop is None else drop.kept

    assert kept(1, 1, 1, 4) == 0.25
    assert kept(1, 4, 1, 1) == 0.25
    assert kept(3, 2, 1, 1) == 1  # it warmed up
    assert kept(1, 3, 3, host_ms=(1, 3, 3)) == 1  # the host did
    assert kept(1, 3, 3, host_ms=(1, 1, 1)) == pytest.approx(1 / 3)
    assert kept(1, 1, 1, host_ms=(3, 1, 1)) == 1
    assert kept(1) is None
    assert kept(1, 4, samples=5) is None  # too few to be told from chance


def test_pace_is_judged_only_where_the_hosts_interruptions_are_known_and_few() -> None:
    def kept(*device_ms: float, waited_s: tuple[float, ...]) -> float | None:
        drop = thermal_load(*device_ms, waited_s=waited_s).drop()
        return None if drop is None else drop.kept

    unknown = float("nan")
    assert kept(1, 2, 2, waited_s=(0.4, 0.4, 0.4)) == 0.5
    assert kept(1, 2, 2, waited_s=(0.0, 2.5, 2.5)) is None  # two runs on the same processors
    assert kept(1, 2, 1.25, waited_s=(0.0, 2.5, 0.1)) == 0.8
    assert kept(1, 2, 2, waited_s=(2.5, 0.0, 0.0)) == 1  # against an interval that counts
    assert kept(1, 2, 2, waited_s=(unknown,) * 3) is None


@pytest.mark.parametrize(("content", "reported"), [("429514 216441 7\n", True), ("0 0 0\n", False), ("", False), (None, False)])
def test_whether_a_system_reports_waiting(tmp_path: Path, content: str | None, reported: bool) -> None:
    if content is not None:
        (tmp_path / "schedstat").write_text(content)
    assert runqueue_wait.is_reported(tmp_path / "schedstat") is reported


def test_a_span_counts_what_was_waited_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = iter([3.0, 3.5, 4.0])
    monkeypatch.setattr(thermal_module, "in_line_s", lambda: next(waits))
    monkeypatch.setattr(thermal_module, "is_reported", lambda: True)
    work = thermal_load(1.0)
    work.spans = [Span(0.0)]
    for elapsed_s in (0.0, 2.0, 4.0):
        work.step(elapsed_s, 1.0)
    assert (work.spans[0].waited_s, work.spans[0].ended_s, work.spans[0].is_quiet) == (1.0, 4.0, False)
    monkeypatch.setattr(thermal_module, "is_reported", lambda: False)
    work.step(4.5, 1.0)
    assert not work.spans[0].is_quiet


def test_what_grows_with_every_call_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def grown(readings: list[int]) -> float | None:
        following = iter(readings)
        monkeypatch.setattr(memory_usage, "own_bytes", lambda: next(following))
        held = Usage(cpu(), 0.0)
        for number in range(len(readings)):
            assert held.read(float(number), 500 * number) is None
        found = held.growth()
        return found[0].bytes_per_1000_calls if found else None

    assert grown([10**8 + 2**20 * number for number in range(20)]) == 2 * 2**20
    assert grown([10**8 * number for number in range(10)] + [10**9] * 10) == 0  # it had only to fill its pools
    assert grown([10**8, 10**8]) is None


def test_a_host_without_memory_ends_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available, total = 10, 1000

    monkeypatch.setattr("psutil.virtual_memory", Little)
    evidence = run_check("stability.load", seconds=30.0, dtypes=("float32",))
    assert evidence.status is Status.MEASURED
    assert any(row.get("ended") == "the host's memory ran out" for row in evidence.rows)
    assert any(row.get("cut_short") == "the host's memory ran out" for row in evidence.rows)
    found = judge(loader.load("general", check_registry.discover()), cpu().facts, [evidence], uses=[Use.TRAINING])
    outcomes = {item.requirement: item.outcome for item in found.findings if item.requirement.startswith("load-")}
    for name in ("load-same-forward-float32", "load-no-errors-forward", "load-no-errors-backward"):
        assert outcomes[name] is Outcome.UNKNOWN


def test_wrong_results_before_the_memory_ran_out_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Load(cpu(), 30.0)
    work.prepare(["float32"])
    work.out_of_memory, work.ended = True, "the host's memory ran out"
    work.usage.host, work.usage.calls = [10**8] * 30, list(range(0, 3000, 100))
    work.op_stats[0].wrong = 3
    measurements = [item for item in of_load(work) if isinstance(item, Measurement)]
    assert [item.value for item in measurements if item.name == "mismatches"] == [3]
    assert not [item for item in measurements if item.name in ("errors", "speed_kept", "memory_growth_bytes")]


@pytest.mark.parametrize(("gib", "left", "ends"), [(2048, 120, False), (2048, 40, True), (24, 1.5, False), (24, 1.4, True)])
def test_a_large_host_needs_no_large_share_of_its_memory(
    monkeypatch: pytest.MonkeyPatch, gib: float, left: float, ends: bool
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=int(gib * 2**30), available=int(left * 2**30)))
    assert (Usage(cpu(), 0.0).read(1.0, 1) is not None) == ends
