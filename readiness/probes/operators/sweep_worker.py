"""Sweep worker: the process that tries operators, one in one dtype at a time.

A task is `[index, dtype, full_variants, gradients, offsets]`; the phase that the process notes is that of the call, with
how its inputs lie as the detail.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.accelerators.remote_devices import accelerator_from_json, accelerator_to_json
from readiness.isolation.task_process import TaskProcess, TaskServer
from readiness.numerics import Strictness
from readiness.numerics.strict_precision import strict_precision
from readiness.probes.operators import cpu_fallback, op_call, opinfo
from readiness.probes.operators.op_entry import Entry
from readiness.probes.operators.opinfo_trial import OpInfoTrials, TrialOptions
from readiness.probes.operators.outcomes import Outcome, Phase, SweepResult


def fork(accelerator: Accelerator, entries: Sequence[Entry], options: TrialOptions) -> TaskProcess:
    """Fork a worker with this process's imports. Only for devices that survive a fork."""
    return TaskProcess.fork(lambda server: _serve(server, accelerator, entries, options))


def spawn(accelerator: Accelerator, options: TrialOptions) -> TaskProcess:
    """Start a worker in a fresh interpreter, which loads the stack's plug-in and the database itself."""
    request = accelerator_to_json(accelerator) | {"options": asdict(options)}
    return TaskProcess.spawn("readiness.probes.operators.sweep_worker:serve", request)


def serve(server: TaskServer, request: Mapping[str, Any]) -> int:
    """Serve tasks in a fresh interpreter."""
    accelerator = accelerator_from_json(request)
    cpu_fallback.warn_always()
    accelerator.enter()
    options = TrialOptions(**request["options"] | {"strictness": Strictness(**request["options"]["strictness"])})
    entries = opinfo.load()
    with strict_precision():
        return _serve(server, accelerator, entries, options)


def _serve(server: TaskServer, accelerator: Accelerator, entries: Sequence[Entry], options: TrialOptions) -> int:
    gc.freeze()  # torch and its database: tens of thousands of calls would have them looked through again and again
    # A forked process has no pool of threads, and the reference must not depend on the size of one.
    torch.set_num_threads(1)
    cpu_fallback.warn_always()
    # Some of the database's samples and operators seed again: this process has no other devices than ours.
    torch.manual_seed = partial(op_call.seed_all, accelerator)
    trials = OpInfoTrials(accelerator, server.phase.enter, options)

    def do(task: Sequence[Any]) -> tuple[Any, bool]:
        index, dtype, full_variants, gradients, offsets = task
        result = _try(trials, entries[index], opinfo.dtype_of(dtype), full_variants, gradients, offsets)
        lost = result.raised and not accelerator.is_usable()
        return {
            "outcome": (Outcome.CRASHED if lost else result.outcome).value, "phase": result.phase.value,
            "detail": f"left the device unusable: {result.detail}" if lost else result.detail,
            "backward": result.backward, "where": str(result.where), "raised": result.raised and not lost,
            "forward_mode": result.forward_mode, "forward_mode_detail": result.forward_mode_detail, "known": result.known,
            "unjudged_backward": result.unjudged_backward,
        }, lost  # fmt: skip

    return server.serve(do)


def _try(
    trials: OpInfoTrials, entry: Entry, dtype: torch.dtype, full_variants: bool, gradients: bool, offsets: bool
) -> SweepResult:
    try:
        return trials.run(entry, dtype, full_variants=full_variants, gradients=gradients, offsets=offsets)
    except Exception as problem:  # noqa: BLE001 - one operator's, not the sweep's
        traceback.print_exc()
        detail = f"it could not be compared: {type(problem).__name__}: {problem}"[:400]
        return SweepResult(Outcome.MISSING, Phase.FORWARD, detail, entry.claims_backward(dtype), raised=True)


def result_of(message: Mapping[str, Any]) -> SweepResult:
    """Decode the result that a worker sent."""
    return SweepResult(**{**message, "outcome": Outcome(message["outcome"]), "phase": Phase(message["phase"])})


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("the sweep needs fork, socket pairs and signals")
