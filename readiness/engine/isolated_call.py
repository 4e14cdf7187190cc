"""Isolated call: a function that runs foreign code, called in a separate process that may crash or hang.

The process is a worker like those of checks: in a group of its own, killed from outside with whatever it left behind, when
its time is up, when the host's memory runs out, or when the command line dies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from readiness import errors
from readiness.engine.worker_evidence import describe_end
from readiness.errors import ReadinessError
from readiness.isolation.worker_pool import WorkerPool
from readiness.isolation.worker_process import Worker
from readiness.missing_evidence import KillCause

_POLL_S = 0.1


class FailedCallError(Exception):
    """The call did not finish. The text says how; `note` is its last progress note, `log` its output."""

    def __init__(self, how: str, *, note: str = "", log: str = "", timed_out: bool = False) -> None:
        super().__init__(how)
        self.note = note
        self.log = log
        self.timed_out = timed_out

    def line_in(self, file: str | Path) -> int | None:
        """Return the line of a file where the process crashed or was stopped; None if unknown."""
        found = re.search(rf'File "{re.escape(str(file))}", line (\d+)', self.log)
        return int(found[1]) if found else None


def call(
    function: str,
    arguments: Mapping[str, Any],
    *,
    limit_s: float,
    memory_bytes: int,
    note: Callable[[str], object] = lambda _: None,
) -> Any:
    """Call `module:function` with JSON arguments and return its JSON result; its parameter `note` reports progress.

    Raises what it raised of readiness's own errors, and FailedCallError for everything else: another exception, its end,
    `limit_s` seconds without an end, or more than `memory_bytes` of its own.
    """
    request = {"job": "call", "function": function, "arguments": dict(arguments), "memory_bytes": memory_bytes}
    shown = 0
    with WorkerPool(preload="readiness.engine.worker") as pool:
        worker = pool.start(request, fork=True, limit_s=limit_s)
        while not worker.ended:
            pool.poll(_POLL_S)
            notes = _notes(worker)
            for text in notes[shown:]:
                note(text)
            shown = len(notes)
    return _answer(worker)


def _notes(worker: Worker) -> list[str]:
    """Return all its progress notes."""
    return [str(row.cells.get("note")) for row in worker.rows]


def _answer(worker: Worker) -> Any:
    note = next(reversed(_notes(worker)), "")
    # Answers after a time limit, or of a process that then died, are not trusted, as with a check.
    if worker.end is None or worker.killed is not None or worker.timed_out or worker.answer is None:
        late = worker.timed_out or worker.kill_cause is KillCause.SUSPENDED
        raise FailedCallError(_end(worker), note=note, log=worker.log_tail, timed_out=late)
    match worker.answer.value:
        case {"answer": answer}:
            return answer
        case {"refused": str(kind), "what": str(what), "place": str() | None as place, "remedy": str() | None as remedy}:
            known: Any = getattr(errors, kind, None)
            error = known if isinstance(known, type) and issubclass(known, ReadinessError) else ReadinessError
            raise error(what, place=place, remedy=remedy)
        case {"failed": str(how)}:
            raise FailedCallError(how, note=note, log=worker.log_tail)
    raise FailedCallError("it sent an unknown answer", note=note, log=worker.log_tail)


def _end(worker: Worker) -> str:
    if worker.timed_out:
        return f"not finished within {worker.limit_s:g} s"
    if worker.killed is None and worker.exit_code is not None and worker.exit_code >= 0:
        return f"its process ended with exit code {worker.exit_code} before its work was done"
    return describe_end(worker)
