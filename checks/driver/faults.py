"""The vendor's fault counters, before and after the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Phase, Row, Skip, Yield, check


@check(
    "driver.faults",
    title="No fault counter moved during the run",
    measures={
        "new_faults": Measure(
            "1", better=Better.LOWER,
            meaning="By how much the counters of this kind rose since the run began.",
            title="No uncorrected fault was counted during the run",
            why="A device that counts an uncorrected error within minutes of light work will not last a training run.",
            remedy="Drain the device, reset it, run the vendor's diagnosis; replace it if the counter moves again.",
            action=Action.REPLACE,
        ),
        "standing_faults": Measure(
            "1", better=Better.LOWER,
            meaning="Sum of the counters of this kind when the run began, without those of a device's whole life.",
            title="No uncorrected fault stood when the run began",
            why=(
                "Uncorrected errors, and pending or failed row remaps, that stood when the run began are a device on "
                "its way out."
            ),
            remedy="Reset the device so that pending remaps take effect; replace it if they return.",
            action=Action.RESET_DEVICE,
        ),
        "lost_counters": Measure(
            "1", better=Better.LOWER,
            meaning="Counters that could be read when the run began and cannot be read now.",
            title="Fault counters stay readable",
            why="A counter that can no longer be read after a few minutes of work hides what it would say.",
            remedy="Look at the kernel's log; the driver may have lost the device.",
            action=Action.GATHER_EVIDENCE,
        ),
    },
    typical_s=0.2,
    catches=("counter",),
    phase=Phase.LAST,
)
def faults(accelerator: Accelerator) -> Iterator[Yield]:
    """Reads the device's fault counters at the end of the run and compares them with those at its beginning.

    Memory that corrects itself today fails tomorrow, and an uncorrected error may have changed a result without a word.
    What stood when the run began should have been cleared by a reset or a repair.

    Labels: `kind` (uncorrected, corrected, other).
    """
    from readiness import fault_counters

    before = accelerator.facts.counters
    if not before:
        raise Skip("no fault counters could be read when the run began: the vendor offers none, or its library is missing")
    after = accelerator.counters()
    if after is None:
        raise Skip("the fault counters that were read when the run began cannot be read any more")
    rises = fault_counters.increases(before, after)
    counted = fault_counters.events(rises)
    new: Counter[str] = Counter()
    standing: Counter[str] = Counter()
    for name, count in sorted(before.items()):
        kind = fault_counters.kind_of(name)
        standing[kind] += 0 if fault_counters.lifelong(name) else count
        new[kind] += counted.get(name, 0)
        yield Row({"counter": name, "kind": kind, "before": count, "after": after.get(name), "new": rises.get(name)})
    for kind in fault_counters.KINDS:
        if any(fault_counters.kind_of(name) == kind and not fault_counters.lifelong(name) for name in before):
            yield Measurement("standing_faults", standing[kind], {"kind": kind})
        if any(fault_counters.kind_of(name) == kind for name in rises):
            yield Measurement("new_faults", new[kind], {"kind": kind})
    yield Measurement("lost_counters", len(before) - len(rises), samples=len(before))
