"""How a worker ended, in words: signals without a name, and what it was at."""

from __future__ import annotations

from typing import Any

import pytest

from readiness import check_registry
from readiness.datamodel import AcceleratorFacts, Evidence, Measurement, Status
from readiness.engine import worker_evidence
from readiness.engine.plan import Job
from readiness.isolation.evidence_pipe import End
from readiness.isolation.worker_process import Worker
from readiness.missing_evidence import OWN_FAULTS, Cause, KillCause, SkipCause


def evidence(**changes: Any) -> Evidence:
    """The evidence of a worker that ended like this."""
    check = next(iter(check_registry.discover().values()))
    job = Job(check, (AcceleratorFacts("cpu:0", "cpu", 0, "cpu", None, None),))
    worker = Worker(1, -1, -1, 60.0, started=0.0, ready=1.0, finished=2.0)
    for name, value in changes.items():
        setattr(worker, name, value)
    return worker_evidence.evidence_of(worker, job, 1)


@pytest.mark.parametrize(("number", "name"), [(11, "SIGSEGV"), (7, "SIGBUS"), (40, "signal 40"), (99, "signal 99")])
def test_every_signal_has_a_word(number: int, name: str) -> None:
    assert worker_evidence.signal_name(number) == name
    found = evidence(exit_code=-number)
    own = number in OWN_FAULTS
    assert found.status is (Status.CRASHED if own else Status.ERROR)
    assert found.reason == (f"its process died by {name}" if own else f"its process was killed from outside by {name}")
    assert found.process["signal"] == name


def test_the_last_note_is_part_of_a_hangs_and_a_crashs_reason() -> None:
    note = "softmax\n in bfloat16 " + "x" * 500
    for changes in ({"exit_code": -11}, {"timed_out": True, "exit_code": -9, "kill_sent": 1.0, "killed": "it hung"}):
        reason = evidence(note=note, **changes).reason or ""
        assert "; its last note was: softmax in bfloat16 xxx" in reason
        assert len(reason) < 400


@pytest.mark.parametrize(
    ("waited_s", "status"), [(None, Status.TIMEOUT), (0.1, Status.TIMEOUT), (40.0, Status.TIMEOUT), (46.0, Status.SKIPPED)]
)
def test_a_timeout_on_a_host_without_a_free_processor_is_no_fault(waited_s: float | None, status: Status) -> None:
    changes = {"timed_out": True, "exit_code": -9, "kill_sent": 1.0, "killed": "it hung", "waited_s": waited_s}
    worker = Worker(1, -1, -1, 60.0, started=0.0, ready=1.0, finished=2.0)
    for name, value in changes.items():
        setattr(worker, name, value)
    found = worker_evidence.unless_starved(evidence(**changes), worker)
    assert found.status is status
    if status is Status.SKIPPED:
        assert found.cause is SkipCause.BUSY_HOST
        assert found.reason == "the host is too busy: it waited 46 s for a processor; not finished within 60 s"
        worker.blocker = "a driver holds it"
        assert worker_evidence.unless_starved(evidence(**changes), worker).status is Status.TIMEOUT


def test_a_reported_end_needs_no_note() -> None:
    end = End(Status.ERROR, "RuntimeError: no kernel")
    assert evidence(end=end, exit_code=0, note="softmax").reason == "RuntimeError: no kernel"


def test_the_word_that_it_measured_counts_only_from_a_process_that_left_by_itself() -> None:
    end = End(Status.MEASURED, None)
    assert evidence(end=end, exit_code=0).status is Status.MEASURED
    for changes, status, words in (
        ({"exit_code": -11}, Status.CRASHED, "SIGSEGV after delivering its evidence"),
        ({"exit_code": 3}, Status.CRASHED, "code 3 after delivering its evidence"),
        ({"exit_code": -9}, Status.ERROR, "killed from outside by SIGKILL"),
        ({"exit_code": 70}, Status.ERROR, "could not deliver its evidence"),
        ({"exit_code": None}, Status.ERROR, "its process was lost"),
        ({"exit_code": -9, "killed": "the run was interrupted", "kill_sent": 1.0}, Status.ERROR, "the run was interrupted"),
        ({"exit_code": -9, "killed": "time limit", "kill_sent": 1.0, "timed_out": True}, Status.TIMEOUT, "not finished within"),
    ):
        found = evidence(end=end, **changes)
        assert (found.status, words in (found.reason or "")) == (status, True), found


def test_results_after_a_full_disk_are_not_reported() -> None:
    spoiled = [Measurement("figure", -1.0)]
    end = End(Status.ERROR, "the host's disk was too small", void=True)
    assert evidence(end=end, exit_code=0, measurements=spoiled).measurements == ()
    assert evidence(end=End(Status.ERROR, "another"), exit_code=0, measurements=spoiled).measurements == tuple(spoiled)


def test_a_full_disk_explains_a_crash_and_a_hang() -> None:
    for changes in ({"exit_code": -7}, {"exit_code": 1}, {"exit_code": -9, "timed_out": True, "killed": "time limit", "kill_sent": 1.0}):
        assert evidence(**changes).status in (Status.CRASHED, Status.TIMEOUT)
        found = evidence(full_disk="/tmp", **changes)
        assert found.status is Status.ERROR
        assert "; /tmp was full at that time" in (found.reason or "")


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"exit_code": -9, "killed": "time limit", "kill_cause": KillCause.TIME_LIMIT, "timed_out": True}, KillCause.TIME_LIMIT),
        ({"exit_code": -9, "killed": "little is left", "kill_cause": KillCause.MEMORY, "kill_sent": 1.0}, KillCause.MEMORY),
        ({"exit_code": -9, "kernel_kills_before": -1}, KillCause.MEMORY),
        ({"killed": "it could not be started", "kill_cause": KillCause.NOT_STARTED}, KillCause.NOT_STARTED),
        ({"exit_code": -9, "killed": "foreign bytes", "kill_cause": KillCause.OUTPUT, "kill_sent": 1.0}, KillCause.OUTPUT),
        ({"exit_code": -11}, None),
        ({"exit_code": 0, "end": End(Status.MEASURED, None)}, None),
        ({"exit_code": 0, "end": End(Status.SKIPPED, "it has nothing to measure")}, None),
    ],
)
def test_why_it_was_ended_is_kept_for_programs(changes: dict[str, Any], cause: Cause | None) -> None:
    """No matter in which words the reason says it."""
    assert evidence(**changes).cause is cause


def test_want_of_memory_is_known_by_its_cause() -> None:
    assert worker_evidence.ran_out_of_memory(Worker(1, -1, -1, 60.0, kill_cause=KillCause.MEMORY))
    assert not worker_evidence.ran_out_of_memory(Worker(1, -1, -1, 60.0, killed="out of memory, it says", kill_cause=KillCause.OUTPUT))
