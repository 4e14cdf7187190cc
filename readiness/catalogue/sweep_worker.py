"""Sweep worker: the process in which operators are tried, one in one dtype at a time.

A task is `[index, dtype, thorough, gradients, offsets]`; the phase that the process notes is that of the call, with how its
inputs lie as the detail.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from readiness import accelerators, assessment
from readiness.accelerators.base import Accelerator
from readiness.catalogue import calls, database, fallback
from readiness.catalogue.calls import Phase
from readiness.catalogue.database import Entry
from readiness.catalogue.judge import Manner, Trials
from readiness.catalogue.outcomes import Outcome, Result
from readiness.isolation.task_process import TaskProcess, TaskServer
from readiness.numerics import Strictness
from readiness.precision import strict_precision


def fork(accelerator: Accelerator, entries: Sequence[Entry], manner: Manner) -> TaskProcess:
    """A worker that has everything this process has imported. Only for devices that survive a fork."""
    return TaskProcess.fork(lambda server: _serve(server, accelerator, entries, manner))


def spawn(accelerator: Accelerator, manner: Manner) -> TaskProcess:
    """A worker in a fresh interpreter, which loads the stack's plug-in and the database by itself."""
    facts = assessment.facts_to_json(accelerator.facts)
    request = {"accelerator": facts, "seed": accelerator.seed, "manner": asdict(manner)}
    return TaskProcess.spawn("readiness.catalogue.sweep_worker:serve", request)


def serve(server: TaskServer, request: Mapping[str, Any]) -> int:
    """Serve in a fresh interpreter."""
    facts = assessment.facts_from_json(request["accelerator"])
    accelerator = Accelerator(facts, accelerators.stack(facts.stack), seed=request["seed"])
    fallback.warn_always()
    accelerator.enter()
    manner = Manner(**request["manner"] | {"strictness": Strictness(**request["manner"]["strictness"])})
    entries = database.load()
    with strict_precision():
        return _serve(server, accelerator, entries, manner)


def _serve(server: TaskServer, accelerator: Accelerator, entries: Sequence[Entry], manner: Manner) -> int:
    # A forked process has no pool of threads, and the reference must not depend on the size of one.
    torch.set_num_threads(1)
    fallback.warn_always()
    # Some of the database's samples and operators seed again: this process has no other devices than ours.
    torch.manual_seed = partial(calls.seed_all, accelerator)
    trials = Trials(accelerator, server.phase.enter, manner)

    def do(task: Sequence[Any]) -> tuple[Any, bool]:
        index, dtype, thorough, gradients, offsets = task
        result = _try(trials, entries[index], database.dtype_of(dtype), thorough, gradients, offsets)
        lost = result.raised and not accelerator.is_usable()
        return {
            "outcome": (Outcome.CRASHED if lost else result.outcome).value, "phase": result.phase.value,
            "detail": f"left the device unusable: {result.detail}" if lost else result.detail,
            "backward": result.backward, "layout": str(result.layout), "raised": result.raised and not lost,
            "forward_mode": result.forward_mode, "forward_mode_detail": result.forward_mode_detail,
        }, lost  # fmt: skip

    return server.serve(do)


def _try(
    trials: Trials, entry: Entry, dtype: torch.dtype, thorough: bool, gradients: bool, offsets: bool
) -> Result:
    try:
        return trials.judge(entry, dtype, thorough=thorough, gradients=gradients, offsets=offsets)
    except Exception as problem:  # noqa: BLE001 - one operator's, not the sweep's
        traceback.print_exc()
        detail = f"it could not be compared: {type(problem).__name__}: {problem}"[:400]
        return Result(Outcome.MISSING, Phase.FORWARD, detail, entry.claims_backward(dtype), raised=True)


def result_of(message: Mapping[str, Any]) -> Result:
    """The result as the worker sent it."""
    return Result(**{**message, "outcome": Outcome(message["outcome"]), "phase": Phase(message["phase"])})


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("the sweep needs fork, socket pairs and signals")
