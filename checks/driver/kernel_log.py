"""What came in the kernel's log during the run."""

from __future__ import annotations

import time
from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Phase, Row, Skip, Yield, check


@check(
    "driver.kernel_log",
    title="The kernel's log names no fault of the device during the run",
    measures={
        "fatal_events": Measure(
            "1", better=Better.LOWER,
            meaning="Lines since the run began with a fault after which the device must not be used.",
            title="No fatal fault came in the kernel's log during the run",
            why="A fault that the driver logs under light work comes again under heavy work, and ends it.",
            remedy="Drain the device and do what the rows of driver.kernel_log name; run again the check that ran then.",
            action=Action.RESET_DEVICE,
        ),
        "events": Measure(
            "1", better=Better.LOWER,
            meaning="Lines since the run began with a fault that is not fatal, and that no check provoked on purpose.",
            title="No fault came in the kernel's log during the run",
            why="A line that the driver logs while a check runs is the first thing that its vendor asks for.",
            remedy="Read the rows of driver.kernel_log; run again the check that ran then, and look for the line again.",
            action=Action.GATHER_EVIDENCE,
        ),
    },
    typical_s=0.2,
    catches=("kernel-log",),
    phase=Phase.LAST,
)
def kernel_log(accelerator: Accelerator) -> Iterator[Yield]:
    """Reads the kernel's log for faults of the device since the run began, and names the check that ran when each came.

    Xid lines, fault codes of an Ascend, PCIe errors (AER) of the device or of the port before it, and the like. What a
    check provokes on purpose (an index out of range, a process that is killed) is shown in the rows and not counted,
    unless it is fatal.
    """
    from readiness import device_health

    timeline = accelerator.timeline
    if timeline is None:
        raise Skip("it is unknown when the run began")
    try:
        found = accelerator.fault_events(timeline.began)
    except device_health.SourceError as problem:
        raise Skip(str(problem)) from None
    counted: dict[bool, list[str]] = {True: [], False: []}
    for event in found:
        assert event.at is not None
        fault, came = event.fault, timeline.describe(event.at)
        fatal = fault.severity is device_health.Severity.FATAL
        provoked = device_health.is_over(fault.severity, fault.action, event.at, timeline)
        moment = time.strftime("%H:%M:%SZ", time.gmtime(event.at))
        yield Row({"fault": fault.text, "severity": fault.severity.value, "action": fault.action.value, "at": moment,
                   "came": came, "provoked": provoked, "line": event.text[:200], "source": fault.source})  # fmt: skip
        if fatal or (fault.severity is device_health.Severity.DEGRADED and not provoked):
            counted[fatal].append(f"{fault.text} at {moment}, {came}")
    for name, lines in (("fatal_events", counted[True]), ("events", counted[False])):
        yield Measurement(name, len(lines), about="; ".join(dict.fromkeys(lines))[:300] or None)
