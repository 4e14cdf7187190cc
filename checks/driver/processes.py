"""Several processes on one device, and one that is killed at work."""

from __future__ import annotations

from collections.abc import Iterator

from readiness import Accelerator, Action, Better, Measure, Measurement, Note, Row, Skip, Yield, check


@check(
    "driver.processes",
    title="Processes share the device, and one that is killed gives it back",
    measures={
        "sharing_supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where all processes could open the device and work on it at the same time.",
            title="Several processes can use the device at the same time",
            why="Servers, data loaders and notebooks open a device that another process uses.",
            remedy="Give each process a device of its own; look at the device's compute mode.",
            action=Action.CHECK_CONFIG,
        ),
        "sharing_failures": Measure(
            "1", better=Better.LOWER,
            meaning="Processes that worked at the same time and got a wrong result, died, or did not end.",
            title="Processes that share the device get right results",
            why="A wrong result in one process because of another is seen by neither.",
            remedy="Give each process a device of its own; update the driver.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "usable_after_kill": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the device worked in a new process within `within_s` after one was killed at work.",
            title="The device works again after a process was killed",
            why="Schedulers, out-of-memory killers and impatient users kill processes at work; the next job starts at once.",
            remedy="Reset the device after a job that was killed; update the driver.",
            action=Action.RESET_DEVICE,
        ),
        "recovery_s": Measure(
            "s", better=Better.LOWER,
            meaning="Time after the kill until a new process worked, beyond what opening takes otherwise.",
            title="The device works again soon after a process was killed",
            why="A job that restarts at once meets a device that is not ready, and fails again.",
            remedy="Wait as long before a restart; update the driver.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "unreturned_bytes": Measure(
            "bytes", better=Better.LOWER,
            meaning="Memory of the killed process that was still taken after `within_s`; reported where it was seen taken.",
            title="The memory of a killed process is given back",
            why="Memory that a killed process keeps is lost to the next job until the device is reset.",
            remedy="Reset the device; update the driver.",
            action=Action.RESET_DEVICE,
        ),
    },
    typical_s=0.8,
    limit_s=240.0,
    catches=("shared-device", "memory-kept", "wedged-after-kill"),
    least={"processes": 2, "seconds": 0.05, "hold_mib": 1, "within_s": 0.1, "open_timeout_s": 1},
    provokes=True,
)
def processes(
    accelerator: Accelerator, *, processes: int = 2, seconds: float = 0.3, hold_mib: int = 64, within_s: float = 10.0,
    open_timeout_s: float = 60.0,
) -> Iterator[Yield]:  # fmt: skip
    """Lets `processes` work on the device at once, then kills one at work and opens the device again.

    Each holds `hold_mib` of memory and multiplies matrices of whole numbers, whose results are exact. A process that cannot
    open the device while another works, and can alone, is a stack that does not share; everything else that goes wrong is
    a failure. Memory is compared with what the driver reported before.
    """
    from readiness.probes.driver import lifecycle, sharing

    base = lifecycle.open_once(accelerator, open_timeout_s)
    if base.failure is not None:
        raise Skip(f"a process that is alone cannot use the device: {base.failure}")
    hold_bytes = hold_mib * 2**20
    yield Note("several processes at once")
    found = sharing.together(accelerator, processes, seconds, hold_bytes, open_timeout_s + 2 * seconds)
    for number, one in enumerate(found):
        yield Row({"process": number, "began": one.began, "failure": one.failure})
    supported = all(one.began for one in found)
    about = next((one.failure for one in found if not one.began), None)
    yield Measurement("sharing_supported", int(supported), samples=len(found), about=about)
    worked = [one for one in found if one.began]
    if worked:
        failures = [one.failure for one in worked if one.failure is not None]
        yield Measurement("sharing_failures", len(failures), samples=len(worked), about=failures[0] if failures else None)
    yield Note("a process is killed at work")
    recovery = sharing.killed(accelerator, base, hold_bytes, open_timeout_s, within_s)
    if recovery is None:
        return
    yield Row({"killed": True, "failure": recovery.failure, "seconds": round(recovery.seconds, 3),
               "unreturned_bytes": recovery.unreturned_bytes})  # fmt: skip
    yield Measurement("usable_after_kill", int(recovery.failure is None), about=recovery.failure)
    if recovery.failure is None:
        yield Measurement("recovery_s", recovery.seconds)
    if recovery.unreturned_bytes is not None:
        yield Measurement("unreturned_bytes", recovery.unreturned_bytes)
