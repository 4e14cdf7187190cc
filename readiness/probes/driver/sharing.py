"""Several processes on one device, and one that is killed at work. Only workers import this.

The device is not touched in this process before its children have been forked: they open it, and report what they see.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.host import disk
from readiness.host.temp_dirs import temp_dir
from readiness.probes.driver import child_process, lifecycle

_JOB = "readiness.probes.driver.sharing:work"
_SIZE = 256
#: Work of a device that computes beside the host, queued before each look: a kill must meet it at work.
_QUEUED = 64
#: How long after the kill it comes back is asked again and again.
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class WorkResult:
    """Result of one process: it began to work; why it did not end well."""

    began: bool
    failure: str | None


@dataclass(frozen=True, slots=True)
class Recovery:
    """What came after a kill: why the device is not usable again, or None, and for how long it was not.

    `unreturned_bytes` is the memory that stays taken, None if the killed process's own could not be seen.
    """

    failure: str | None
    seconds: float
    unreturned_bytes: int | None = None


def work(accelerator: Accelerator, settings: Mapping[str, Any], say: child_process.Say) -> None:
    """Hold memory and multiply matrices for some seconds, and compare every result; runs in the child.

    The seconds count from when all processes that share the device are at work: a busy host may start one much later.
    """
    began = False
    mark = None if settings["folder"] is None else Path(settings["folder"], str(settings["number"]))
    try:
        import torch

        accelerator.enter()
        block = torch.empty(int(settings["hold_bytes"]), dtype=torch.uint8, device=accelerator.device)
        block[:: 1 << 12] = 7
        drawn = torch.randint(-8, 9, (_SIZE, _SIZE), generator=accelerator.generator("sharing", settings["number"]))
        wanted, x = drawn @ drawn, drawn.float().to(accelerator.device)
        accelerator.synchronize()
        used = None if accelerator.device.type == "cpu" else lifecycle.used_bytes(accelerator)
        rounds = wrong = 0
        gives_up = time.monotonic() + float(settings["wait_s"])
        ends: float | None = None
        while ends is None or time.monotonic() < ends:
            for _ in range(_QUEUED if accelerator.stack.asynchronous and not accelerator.stack.host_backed else 1):
                result = x @ x
            if not began:
                began = True
                say({"began": True, "used_bytes": used})
                if mark is not None:
                    mark.touch()
            wrong += not torch.equal(result.cpu().long(), wanted)
            rounds += 1
            if ends is None and (_all_at_work(mark, settings["processes"]) or time.monotonic() > gives_up):
                ends = time.monotonic() + float(settings["seconds"])
        failure = f"{wrong} of {rounds} results were wrong" if wrong else None
        if int(block[0].cpu()) != 7:
            failure = "its memory was overwritten"
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is why the device did not do it
        failure = disk.describe(problem, f"{type(problem).__name__}: {problem}")
    if mark is not None:
        mark.touch()  # nobody waits for a process that failed
    say({"failure": failure, "began": began})


def _all_at_work(mark: Path | None, processes: int) -> bool:
    return mark is None or len(list(mark.parent.iterdir())) >= processes


def together(accelerator: Accelerator, processes: int, seconds: float, hold_bytes: int, limit_s: float) -> list[WorkResult]:
    """Let processes work on the device at the same time. Raises OSError for a full disk."""
    deadline = time.monotonic() + limit_s
    with contextlib.ExitStack() as stack:
        folder = str(stack.enter_context(temp_dir()))
        children = []
        for number in range(processes):
            settings = {
                "seconds": seconds, "hold_bytes": hold_bytes, "number": number, "processes": processes, "folder": folder,
                "wait_s": limit_s / 2,
            }  # fmt: skip
            children.append(child_process.start(accelerator, _JOB, settings))
            stack.callback(children[-1].close)
        found = [_outcome(child, deadline) for child in children]
    for one in found:
        disk.raise_if_full(one.failure or "")
    return found


def _outcome(child: child_process.ChildProcess, deadline: float) -> WorkResult:
    answers: list[child_process.Answer] = []
    while (answer := child.answer(deadline)) is not None:
        answers.append(answer)
        if "failure" in answer:
            break
    began = any(answer.get("began") for answer in answers)
    status = child.wait(deadline)
    if status is None:
        held = child.kill()
        return WorkResult(began, f"it did not end in time{'' if held is None else f', and {held}'}")
    last = answers[-1] if answers else {}
    if "failure" not in last:
        return WorkResult(began, f"it {child_process.ending(status)}")
    return WorkResult(began, last["failure"])


def killed(
    accelerator: Accelerator, base: lifecycle.Opening, hold_bytes: int, limit_s: float, within_s: float
) -> Recovery | None:
    """Kill a process at work, and open the device again and again until it works and nothing is held; None if that process
    did not begin to work. `base` is how the device opens otherwise.
    """
    settings = {
        "seconds": 10 * limit_s, "hold_bytes": hold_bytes, "number": 0, "processes": 1, "folder": None, "wait_s": 0.0,
    }  # fmt: skip
    child = child_process.start(accelerator, _JOB, settings)
    try:
        answer = child.answer(time.monotonic() + limit_s)
        if answer is None or not answer.get("began") or "failure" in answer:
            child.kill()
            return None
        held = child.kill()
    finally:
        child.close()
    killed_at = time.monotonic()
    if held is not None:
        return Recovery(f"the killed process stays: {held}", 0.0)
    seen = None if base.used_bytes is None or answer["used_bytes"] is None else answer["used_bytes"] - base.used_bytes
    failure, recovered_s, left = None, None, None
    while True:
        opening = lifecycle.open_once(accelerator, limit_s)
        now = time.monotonic() - killed_at
        failure = opening.failure
        if failure is None:
            recovered_s = max(now - base.seconds, 0.0) if recovered_s is None else recovered_s
            if seen is not None and seen >= hold_bytes // 2 and None not in (opening.used_bytes, base.used_bytes):
                left = max((opening.used_bytes or 0) - (base.used_bytes or 0), 0)
            if not left or left < hold_bytes // 8:
                break
        if now > within_s:
            break
        time.sleep(_POLL_S)
    seconds = recovered_s if recovered_s is not None else time.monotonic() - killed_at
    return Recovery(failure if recovered_s is None else None, seconds, left)
