"""How a worker ended, in words: signals without a name, and what it was at."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest

from readiness import checklist, endings, processes
from readiness.model import AcceleratorFacts, Evidence, Status
from readiness.plan import Job


def evidence(**changes: Any) -> Evidence:
    """The evidence of a worker that ended like this."""
    check = next(iter(checklist.discover().values()))
    job = Job(check, (AcceleratorFacts("cpu:0", "cpu", 0, "cpu", None, None),))
    with tempfile.TemporaryFile() as log:
        worker = processes.Worker(1, -1, log, 60.0, started=0.0, ready=1.0, finished=2.0)
        for name, value in changes.items():
            setattr(worker, name, value)
        return endings.evidence_of(worker, job, 1)


@pytest.mark.parametrize(("number", "name"), [(11, "SIGSEGV"), (40, "signal 40"), (99, "signal 99")])
def test_every_signal_has_a_word(number: int, name: str) -> None:
    assert endings.signal_name(number) == name
    found = evidence(exit_code=-number)
    assert found.status is Status.CRASHED
    assert found.reason == f"its process died by {name}"
    assert found.process["signal"] == name


def test_what_it_was_at_is_told_of_a_hang_and_of_a_crash() -> None:
    note = "softmax\n in bfloat16 " + "x" * 500
    for changes in ({"exit_code": -11}, {"timed_out": True, "exit_code": -9, "kill_sent": 1.0, "killed": "it hung"}):
        reason = evidence(note=note, **changes).reason or ""
        assert "; its last note was: softmax in bfloat16 xxx" in reason
        assert len(reason) < 400


def test_an_end_that_was_told_needs_no_note() -> None:
    end = {"status": "error", "reason": "RuntimeError: no kernel"}
    assert evidence(end=end, exit_code=0, note="softmax").reason == "RuntimeError: no kernel"
