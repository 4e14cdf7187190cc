"""Replay worker: the process in which a workload's operators are replayed, one group at a time.

A task asks for a part, or for the pace of the device (`{"measure": true}`). The phase that the process notes is that of the
call, with what is special about it as the detail.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.accelerators.remote_devices import accelerator_from_json, accelerator_to_json
from readiness.isolation.task_process import TaskProcess, TaskServer
from readiness.numerics import Strictness
from readiness.numerics.strict_precision import strict_precision
from readiness.numerics.unsupported import describe
from readiness.probes.model_operators import replay_sizes
from readiness.probes.model_operators.outcomes import CallTiming, ReplayResult
from readiness.probes.model_operators.replay import OpGroup, Replayer
from readiness.probes.model_operators.replay_sizes import DeviceBudget
from readiness.probes.operators import cpu_fallback
from readiness.probes.operators.outcomes import Outcome, Phase
from readiness.tracing import workload_schema
from readiness.tracing.workload_schema import Workload


def fork(accelerator: Accelerator, workload: Workload) -> TaskProcess:
    """Fork a worker with this process's imports. Only for devices that survive a fork."""

    def serve_forked(server: TaskServer) -> int:
        torch.set_num_threads(1)  # the pool of threads is not there
        return _serve(server, accelerator, workload)

    return TaskProcess.fork(serve_forked)


def spawn(accelerator: Accelerator, file: Path) -> TaskProcess:
    """Start a worker in a fresh interpreter, which loads the stack's plug-in and the workload itself."""
    request = accelerator_to_json(accelerator) | {"file": str(file)}
    return TaskProcess.spawn("readiness.probes.model_operators.replay_worker:serve", request)


def serve(server: TaskServer, request: Mapping[str, Any]) -> int:
    """Serve tasks in a fresh interpreter."""
    accelerator = accelerator_from_json(request)
    cpu_fallback.warn_always()
    accelerator.enter()
    loaded = workload_schema.load(Path(request["file"]))
    with strict_precision():
        return _serve(server, accelerator, loaded)


def _serve(server: TaskServer, accelerator: Accelerator, workload: Workload) -> int:
    cpu_fallback.warn_always()
    budget = replay_sizes.unmeasured(accelerator)

    def do(task: Mapping[str, Any]) -> tuple[Any, bool]:
        if "measure" in task:
            return _measure_speed(accelerator), False
        result = _replayed(server, accelerator, workload, budget, task)
        # Also of one that cannot be judged: the next one must not be blamed for a device that this one has lost.
        lost = not result.outcome.right and not accelerator.is_usable()
        if lost:
            detail = f"left the device unusable: {result.detail}"
            result = ReplayResult(Outcome.CRASHED, result.phase, detail, True, result.where)
        return _to_json(result), lost

    return server.serve(do)


def _replayed(
    server: TaskServer, accelerator: Accelerator, workload: Workload, budget: DeviceBudget, task: Mapping[str, Any]
) -> ReplayResult:
    name, dtype, records = task["group"]
    group = OpGroup(name, dtype, tuple(records))
    deadline = time.monotonic() + task["left_s"]
    try:
        speed = task["speed"] or (budget.multiplications_per_s, budget.bytes_per_s)
        share = DeviceBudget(budget.bytes, task["record_s"], *speed)
        strictness = Strictness(**task["strictness"])
        replayer = Replayer(
            accelerator, workload, group, share, server.phase.enter, deadline, task["gradients"], task["offsets"], strictness
        )
        return replayer.replay_group(large=task["large"])
    except Exception as problem:  # noqa: BLE001 - one operator's, not the run's
        traceback.print_exc()
        return ReplayResult(Outcome.UNJUDGED, detail=f"it could not be compared: {describe(problem)}")


def _measure_speed(accelerator: Accelerator) -> tuple[float, float] | None:
    try:
        return replay_sizes.measure(accelerator)
    except Exception:  # noqa: BLE001 - the operators' own trials say what is wrong
        return None


def _to_json(result: ReplayResult) -> dict[str, Any]:
    return {
        "outcome": result.outcome.value, "phase": result.phase.value, "detail": result.detail, "where": result.where,
        "backward": result.backward, "reached": result.reached,
        "timings": {str(number): asdict(timing) for number, timing in result.timings.items()},
    }  # fmt: skip


def result_of(message: Mapping[str, Any]) -> ReplayResult:
    """Decode the result that a worker sent."""
    timings = {int(number): CallTiming(**found) for number, found in message["timings"].items()}
    outcome, phase = Outcome(message["outcome"]), Phase(message["phase"])
    return ReplayResult(**{**message, "outcome": outcome, "phase": phase, "timings": timings})
