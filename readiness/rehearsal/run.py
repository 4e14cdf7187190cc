"""Runs a rehearsal, from the plan to the result."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from readiness.engine import discovery, plan
from readiness.engine.discovery import Discovery
from readiness.engine.runner import prepare, stop_signals
from readiness.isolation.worker_pool import WorkerPool
from readiness.rehearsal.detection_matrix import DetectionMatrix, build_matrix
from readiness.rehearsal.executor import Executor, Observer, host_cpu
from readiness.rehearsal.plan import Request, plan_rehearsal


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Rehearsal and its result. `started` is UTC, ISO 8601 with `Z`; `seconds` is wall time.

    `left_out` counts the planted defects whose kind no chosen check claims.
    """

    request: Request
    result: DetectionMatrix
    started: str
    seconds: float
    host: Mapping[str, Any]
    left_out: int = 0
    interrupted: bool = False


def rehearse(request: Request, observer: Observer) -> Rehearsal:
    """Run a rehearsal. If interrupted (SIGINT, SIGTERM), return the partial result with `interrupted` set.

    Raises UsageError for a bad expression, InterruptedRunError where it was stopped before it began.
    """
    began = time.monotonic()
    started = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if request.expression is not None:
        plan.parse_expression(request.expression)  # before any process is started
    with stop_signals() as stop, WorkerPool() as pool:
        cpu = host_cpu(pool, stop)
        prepare(pool)
        written = plan_rehearsal(request, cpu)
        executor = Executor(pool, observer, stop, written.tasks(), request.jobs, request.timeout_s)
        executor.run()
        interrupted = bool(stop)
    return Rehearsal(
        request=request,
        result=build_matrix(written, executor.evidence, request.profile, request.uses),
        started=started,
        seconds=time.monotonic() - began,
        host=discovery.host(Discovery((cpu,), {}, {})),
        left_out=written.left_out,
        interrupted=interrupted,
    )
