"""Fault counters and throttling while the device works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Note, Row, Skip, Yield, check


@check(
    "driver.under_load",
    title="Nothing is counted and nothing slows the device down while it works",
    measures={
        "errors_per_s": Measure(
            "1/s", better=Better.LOWER,
            meaning="By how much the fault counters of this kind rose in a second, idle or under load.",
            title="No {kind} errors come under load ({phase})",
            why=(
                "Errors that come only under load are seen by no look at an idle device, and slow or ruin what it works on."
            ),
            remedy="Drain the device and reset it; if errors come again under load, have it replaced.",
            action=Action.REPLACE,
        ),
        "throttled_share": Measure(
            "1", better=Better.LOWER,
            meaning="Share of the samples under load at which heat or power slowed the device down.",
            title="Neither heat nor power slows the device down within seconds",
            why="A device that is slowed down after seconds of work is slower still after hours.",
            remedy="Look at cooling, power supply and power limits.",
            action=Action.CHECK_CONFIG,
        ),
    },
    typical_s=5.0,
    catches=("counter-under-load",),
    least={"seconds": 0.2},
)
def under_load(accelerator: Accelerator, *, seconds: float = 3.0) -> Iterator[Yield]:
    """Counts faults and looks for throttling while the device works, and at rest before it.

    Corrected errors at 17,700 a second under load, and none as soon as a device is idle, are on record: a look before and
    after sees nothing of them. Counters are read at both ends of a third of `seconds` at rest and of `seconds` of matrix
    products. Throttling counts where the driver names a reason that is a fault: heat, power supply, a brake. Where
    neither can be read, nothing is reported.

    Labels: `kind` (as in `driver.faults`), `phase` (idle, load).
    """
    from readiness import device_health, fault_counters
    from readiness.probes.driver import under_load as probe

    if accelerator.counters() is None and accelerator.throttle_reasons() is None:
        what = "neither fault counters nor reasons of throttling can be read"
        raise Skip(f"{what}: the vendor offers none, or its library is missing")
    yield Note("at rest")
    spans = [probe.idle(accelerator, seconds / 3)]
    yield Note("under load")
    spans.append(probe.load(accelerator, seconds))
    for span in spans:
        rises: Counter[str] = Counter()
        for name, rise in (span.rises or {}).items():
            rises[fault_counters.kind_of(name)] += rise
            if rise:
                yield Row({"phase": span.name, "counter": name, "rise": rise, "seconds": round(span.seconds, 3)})
        kinds = {fault_counters.kind_of(name) for name in span.rises or {}}
        for kind in (kind for kind in fault_counters.KINDS if kind in kinds):
            yield Measurement("errors_per_s", rises[kind] / span.seconds, {"kind": kind, "phase": span.name})
        for reason, count in span.throttled.items():
            yield Row({"phase": span.name, "throttle_reason": reason, "samples": count, "of": span.samples})
    work = spans[-1]
    if work.samples:
        faulty = [count for reason, count in work.throttled.items() if device_health.slows_by_fault(reason)]
        yield Measurement("throttled_share", max(faulty, default=0) / work.samples, samples=work.samples)
