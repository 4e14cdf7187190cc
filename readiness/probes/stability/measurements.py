"""Measurements of a sustained load."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from readiness.accelerators.readers import health
from readiness.datamodel import Measurement, Row, Yield
from readiness.probes.stability.load import Load
from readiness.probes.stability.load_steadiness import of_samples
from readiness.probes.stability.memory_usage import Growth
from readiness.probes.stability.per_op_stats import OpStats
from readiness.probes.stability.thermal_load import Drop, SensorSample, Span, ThermalLoad


def of_load(load: Load) -> Iterator[Yield]:
    """Yield a row for every operation with errors, and the measurements of each dtype and phase.

    Of a load that was cut short nobody can say that it would have found nothing: what it did not find is not told.
    """
    for stats in load.op_stats:
        if stats.wrong or stats.errors or stats.refusal is not None or not stats.repeatable:
            yield Row({"operation": stats.name, "calls": stats.calls, "wrong": stats.wrong, "errors": stats.errors,
                       "error": stats.error, "refused": stats.refusal, "repeatable": stats.repeatable})  # fmt: skip
    for phase in dict.fromkeys(stats.phase for stats in load.op_stats):
        errors = _errors([stats for stats in load.op_stats if stats.phase == phase], phase)
        if errors.value or not load.cut_short:
            yield errors
    for dtype, phase in dict.fromkeys((stats.dtype, stats.phase) for stats in load.op_stats if stats.dtype):
        chosen = [stats for stats in load.op_stats if (stats.dtype, stats.phase) == (dtype, phase)]
        for item in _of_kind(chosen, {"dtype": dtype, "phase": phase}):
            if not (load.cut_short and isinstance(item, Measurement) and item.name == "mismatches" and not item.value):
                yield item
    if load.cut_short:
        yield Row({"cut_short": load.ended, "after_s": load.elapsed_s, "of_s": load.seconds})
    yield from _of_products(load)
    for growth in load.usage.growth() if not load.cut_short else ():
        labels = {"memory": growth.memory}
        yield Measurement("memory_growth_bytes", growth.bytes_per_1000_calls, labels, samples=growth.readings,
                          about=_describe_growth(growth, load.elapsed_s))  # fmt: skip


def _of_products(load: Load) -> Iterator[Yield]:
    """Yield rows and measurements of the products that keep the device warm: its pace, and whether it kept it."""
    gemms = load.thermal_load
    if gemms is None:
        return
    yield Row({"rounds": load.rounds, "seconds": load.elapsed_s, "ended": load.ended, "product": gemms.size,
               "device_ms": [round(1e3 * span.device_s, 4) for span in gemms.spans],
               "host_ms": [round(1e3 * span.host_s, 4) for span in gemms.spans if gemms.host_product],
               "waited_s": [_finite(span.waited_s) for span in gemms.spans],
               "disturbed": sum(not span.is_quiet for span in gemms.spans)})  # fmt: skip
    yield Row(_series(gemms.moments if len(gemms.moments) > 2 else gemms.spans))
    if load.cut_short:
        return
    if (drop := gemms.drop()) is not None:
        yield Measurement("speed_kept", drop.kept, samples=load.rounds, about=_describe_drop(drop, load))
    yield from _staying_power(gemms, load)


def _staying_power(gemms: ThermalLoad, load: Load) -> Iterator[Yield]:
    """Yield how steady the pace was, how warm and how hungry the device; nothing of it that the host disturbed."""
    found = of_samples(gemms.quiet_paces(), load.elapsed_s)
    product = f"products of {gemms.size} x {gemms.size}"
    if found is not None:
        for quantile, seconds in (("p50", found.median_s), ("p99", found.p99_s)):
            yield Measurement("product_ms", 1e3 * seconds, {"quantile": quantile}, samples=found.samples)
        about = f"{product}: 1 % take {1e3 * found.p99_s:.3g} ms or longer, half of them {1e3 * found.median_s:.3g} ms"
        yield Measurement("jitter", found.jitter, samples=found.samples, about=about)
        if found.kept is not None:
            about = f"{product} in the last tenth of {load.elapsed_s:.0f} s have {found.kept:.3g} of the speed in the first"
            yield Measurement("end_speed_kept", found.kept, samples=found.samples, about=about)
        if found.slope is not None:
            yield Measurement("speed_slope", found.slope, samples=found.samples)
    known = [moment.throttled for moment in gemms.moments if moment.throttled is not None]
    if known:
        share = sum(any(map(health.slows_by_fault, reasons)) for reasons in known) / len(known)
        reasons = ", ".join(sorted({reason for reasons in known for reason in reasons}))
        yield Measurement("throttled_share", share, samples=len(known), about=f"reasons: {reasons}" if reasons else None)
    for name in ("temperature_c", "power_w"):
        readings = [moment.sensors[name] for moment in gemms.moments if math.isfinite(moment.sensors.get(name, math.nan))]
        if name == "temperature_c" and readings:
            yield Measurement("hottest_c", max(readings), samples=len(readings))
        elif readings and load.rounds:
            joules = sum(readings) / len(readings) * load.elapsed_s / load.rounds
            yield Measurement("energy_per_round_j", joules, samples=len(readings))


def _series(spans: Sequence[Span | SensorSample]) -> dict[str, Any]:
    """Return a row of shape `series/1`: speed of the load and sensor readings over time."""
    host = [1e3 * span.host_s for span in spans]
    columns: dict[str, list[float | None]] = {
        "at_s": [round(span.ended_s, 3) for span in spans],
        "device_ms": [_finite(1e3 * span.device_s) for span in spans],
        **({"host_ms": list(map(_finite, host))} if any(map(math.isfinite, host)) else {}),
    }
    for name in dict.fromkeys(name for span in spans for name in span.sensors):
        columns[name] = [_finite(span.sensors.get(name, math.nan)) for span in spans]
    throttled = [getattr(span, "throttled", None) for span in spans]
    if any(reasons is not None for reasons in throttled):
        columns["throttled"] = [None if each is None else float(any(map(health.slows_by_fault, each))) for each in throttled]
    return {"shape": "series/1", "columns": columns}


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _errors(op_stats: Sequence[OpStats], phase: str) -> Measurement:
    raised = sorted((stats for stats in op_stats if stats.errors), key=lambda stats: -stats.errors)
    about = f"{raised[0].name}{_others(raised)}: {raised[0].error}" if raised else None
    calls = sum(stats.calls for stats in op_stats)
    return Measurement("errors", sum(stats.errors for stats in raised), {"phase": phase}, samples=calls, about=about)


def _of_kind(op_stats: Sequence[OpStats], labels: dict[str, str]) -> Iterator[Yield]:
    refused = [stats for stats in op_stats if stats.refusal is not None]
    ran = [stats for stats in op_stats if stats.calls]
    share = 1 - len(refused) / len(op_stats)
    about = f"{refused[0].name}{_others(refused)}: {refused[0].refusal}" if refused else None
    yield Measurement("supported", share, labels, samples=len(op_stats), about=about)
    if not ran:
        return
    calls = sum(stats.calls for stats in ran)
    yield Measurement("calls", calls, labels, samples=len(ran))
    wrong = sorted((stats for stats in ran if stats.wrong), key=lambda stats: -stats.wrong)
    changing = [stats for stats in ran if not stats.repeatable]
    compared = sum(stats.calls for stats in ran if stats.repeatable)
    if wrong or 2 * len(changing) <= len(ran):  # of what differs at once no later call can be told to be wrong
        about = f"{wrong[0].describe()}{_others(wrong)}" if wrong else None
        yield Measurement("mismatches", sum(stats.wrong for stats in wrong), labels, samples=compared, about=about)
    about = f"{changing[0].name}{_others(changing)}: equal inputs gave different bits immediately" if changing else None
    yield Measurement("unrepeatable", len(changing), labels, samples=len(ran), about=about)
    first = [stats for stats in ran if stats.first_error is not None]
    if first:
        worst = max(first, key=lambda stats: math.inf if math.isnan(stats.first_error or 0.0) else stats.first_error or 0.0)
        about = f"{worst.name}: its first result has a relative error of {worst.first_error:.2g}"
        yield Measurement("first_error", worst.first_error or 0.0, labels, samples=len(first), about=about)


def _others(op_stats: Sequence[OpStats]) -> str:
    """Return how many other operations are wrong, and name the next one."""
    match len(op_stats):
        case 0 | 1:
            return ""
        case 2:
            return f" (and {op_stats[1].name})"
        case count:
            return f" (and {op_stats[1].name}, and {count - 2} more)"


def _describe_drop(drop: Drop, load: Load) -> str:
    assert load.thermal_load is not None
    span = f"from {drop.span.began_s:.0f} to {drop.span.ended_s:.0f} s"
    before, now = 1e3 * drop.seconds_before, 1e3 * drop.seconds
    size = load.thermal_load.size
    return f"matrix products of {size} x {size} took {now:.3g} ms at best {span}, {before:.3g} ms before"


def _describe_growth(growth: Growth, elapsed_s: float) -> str:
    grown = (growth.ended_bytes - growth.began_bytes) / 2**20
    return f"{growth.memory} memory changed by {grown:.3g} MiB in the second half of {elapsed_s:.0f} s of load"
