"""The vendor's fault counters, before and after the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from readiness.accelerators.base import Accelerator
from readiness.check_registry import Phase, Skip, check
from readiness.datamodel import Measurement, Row, Yield


@check(
    "driver.faults",
    title="No fault counter moved during the run",
    measures={"new_faults": "1", "standing_faults": "1", "lost_counters": "1"},
    typical_s=0.2,
    catches=("counter",),
    phase=Phase.LAST,
)
def faults(accelerator: Accelerator) -> Iterator[Yield]:
    """Did the device count new faults while it was being assessed, and which had it before?

    Memory that corrects itself today fails tomorrow, and an uncorrected error may have changed a result without a word.
    `new_faults` sums what the counters of a kind rose since the run began (label `kind`: uncorrected, corrected, other);
    `standing_faults` sums what they stood at when it began, which a reset or a repair should clear, without those of a
    device's whole life; `lost_counters` are those that could be read then and cannot be read now.
    """
    from readiness.accelerators.fault_counters import KINDS, events, increases, kind_of, lifelong

    before = accelerator.facts.counters
    if not before:
        raise Skip("no fault counters could be read when the run began: the vendor offers none, or its library is missing")
    after = accelerator.counters()
    if after is None:
        raise Skip("the fault counters that were read when the run began cannot be read any more")
    rises = increases(before, after)
    counted = events(rises)
    new: Counter[str] = Counter()
    standing: Counter[str] = Counter()
    for name, count in sorted(before.items()):
        kind = kind_of(name)
        standing[kind] += 0 if lifelong(name) else count
        new[kind] += counted.get(name, 0)
        yield Row({"counter": name, "kind": kind, "before": count, "after": after.get(name), "new": rises.get(name)})
    for kind in KINDS:
        if any(kind_of(name) == kind and not lifelong(name) for name in before):
            yield Measurement("standing_faults", standing[kind], {"kind": kind})
        if any(kind_of(name) == kind for name in rises):
            yield Measurement("new_faults", new[kind], {"kind": kind})
    yield Measurement("lost_counters", len(before) - len(rises), samples=len(before))
