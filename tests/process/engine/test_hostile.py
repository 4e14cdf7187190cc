"""A check shares its process with the pipe that its evidence goes through: whatever it does to it makes no verdict."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from readiness import check_registry
from readiness.check_registry import Check
from readiness.datamodel import AcceleratorFacts, Evidence, Limit, Operator, Outcome, Profile, Requirement, Status, Use
from readiness.documents.assessment import evidence_to_json
from readiness.documents.schema import first_problem
from readiness.engine import worker_evidence
from readiness.engine.plan import Job
from readiness.errors import Exit
from readiness.host import disk
from readiness.isolation import forkserver_process, worker_pool
from readiness.isolation.worker_process import Worker, catches, state
from readiness.judging import judge
from readiness.missing_evidence import KillCause
from tests.support.engine import MISBEHAVING, children, evidence_of, leftovers, run, use_checks, write_profile

FOREIGN = "something other than readiness wrote to its evidence pipe"
CPU = AcceleratorFacts("cpu:0", "cpu", 0, "cpu", None, None)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where single checks are run, each in a worker of one pool."""

    pool: worker_pool.WorkerPool
    checks: dict[str, Check] = field(default_factory=check_registry.discover)

    def run(self, check: str, *, limit_s: float = 60.0, fork: bool = True, **settings: Any) -> tuple[Evidence, Outcome]:
        """A check's evidence, and what becomes of the requirement that its figure be at least 0."""
        job = Job(self.checks[check], (CPU,), settings=settings)
        return self.judged(job, self.finished(job, limit_s, fork=fork))

    def judged(self, job: Job, worker: Worker) -> tuple[Evidence, Outcome]:
        """The same of a worker that has ended."""
        evidence = worker_evidence.evidence_of(worker, job, 1)
        assert first_problem("assessment", evidence_to_json(evidence), "evidence") is None
        requirement = Requirement("r", (Use.TRAINING,), job.check.id, "figure", Limit(Operator.AT_LEAST, 0))
        (finding,) = judge.judge(Profile("p", "P", (Use.TRAINING,), (requirement,)), CPU, [evidence]).findings
        return evidence, finding.outcome

    def finished(
        self, job: Job, limit_s: float, *, fork: bool = True, when: Callable[[Worker, int], bool] = lambda worker, parent: True
    ) -> Worker:
        """The worker that did a job and has ended. `when` says of it, and of its parent's id, from when on it has so little time."""
        worker = self.pool.start(job.worker_request(7), fork=fork, limit_s=600.0)
        while not worker.ended:
            self.pool.poll(0.05)
            if worker.pid is not None and worker.ready is not None and when(worker, self.pool._forkserver.pid):
                worker.limit_s = limit_s
        return worker


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_checks(monkeypatch, MISBEHAVING)
        with worker_pool.WorkerPool() as pool:
            yield Bench(pool)
        assert children() == []


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("ends_glued", FOREIGN),
        ("blank_line", FOREIGN),
        ("dies_glued", FOREIGN),
        ("daemon_writes", FOREIGN),
        ("thread_writes", FOREIGN),
        ("brackets", "malformed: it is nested too deeply"),
        ("skips_one", "a gap or a repetition: message 3 in place of 2"),
        ("goes_on_twice", "a copy of its process, made by fork, went on with the check"),
        ("closes", "could not deliver its evidence"),
        ("huge_line", "a message of more than 4 MiB"),
        ("prints_in_one_breath", "it printed more than 32 MiB"),
        ("breaks_streams", "ValueError: something else"),
        ("wants_disk", "the host's disk was too small: No space left on device"),
    ],
)
def test_what_is_done_to_evidence_makes_it_an_error_and_no_verdict(bench: Bench, way: str, words: str) -> None:
    evidence, outcome = bench.run(f"hostile.{way}")
    assert (evidence.status, outcome) == (Status.ERROR, Outcome.UNKNOWN), evidence
    assert words in (evidence.reason or "")


@pytest.mark.parametrize("bytes_", ["stray bytes ", "2 ", '2 00000000 {"', "1", "{}", " ", "\n"])
def test_a_bad_figure_is_not_lost_behind_stray_bytes(bench: Bench, bytes_: str) -> None:
    """The kill for them comes later than the end, or earlier, as it happens: neither makes it a pass."""
    for _ in range(30):
        evidence, outcome = bench.run("hostile.glues", bytes_=bytes_)
        assert (evidence.status, outcome, evidence.measurements) == (Status.ERROR, Outcome.UNKNOWN, ()), evidence
        assert evidence.reason == FOREIGN


def test_a_fresh_interpreter_is_held_to_the_same(bench: Bench) -> None:
    """As on stacks that cannot be forked."""
    statuses = [bench.run(id, fork=False)[0].status for id in ("trouble.well", "hostile.glues", "hostile.stops_its_parent")]
    assert statuses == [Status.MEASURED, Status.ERROR, Status.MEASURED]
    evidence, outcome = bench.run("hostile.closes", fork=False)
    assert (evidence.status, outcome, evidence.process["exit_code"]) == (Status.ERROR, Outcome.UNKNOWN, Exit.INTERNAL)
    assert "the check has closed its evidence pipe" in evidence.log or "Bad file descriptor" in evidence.log


def test_what_came_before_a_fault_still_stands(bench: Bench) -> None:
    """A bad figure that was delivered whole is a failure, whatever its check does afterwards."""
    evidence, outcome = bench.run("hostile.replays")
    assert (evidence.status, outcome) == (Status.ERROR, Outcome.FAIL)
    assert "its evidence continues after its end" in (evidence.reason or "")


def nested(levels: int) -> dict[str, Any]:
    """A mapping in a mapping, and so on, so many times."""
    return {"in": nested(levels - 1)} if levels else {}


MEASUREMENT = {"name": "figure", "value": 1.0, "unit": "1", "labels": {}}
MALFORMED = [
    {"measurement": []},
    {"measurement": MEASUREMENT | {"labels": {"dtype": 7}}},
    {"measurement": MEASUREMENT | {"value": "many"}},
    {"end": {"status": "glorious", "reason": None}},
    {"end": {"status": "timeout", "reason": "it was slow"}},
    {"end": {"status": "measured", "reason": "a reason"}},
    {"end": []},
    {"row": nested(8)},
    {"accelerator": {"id": "cpu:0"}},
    {"ready": True},
    {"nothing": 1},
    [],
]  # fmt: skip
MALFORMED_TEXTS = [*map(json.dumps, MALFORMED), '{"row": {"x": NaN}}', '{"row": {"x": ' + "9" * 5000 + "}}", "{", "\x00"]


@pytest.mark.parametrize("payload", MALFORMED_TEXTS)
def test_a_malformed_message_is_an_error_of_its_check(bench: Bench, payload: str) -> None:
    evidence, outcome = bench.run("hostile.malformed", payload=payload)
    assert (evidence.status, outcome) == (Status.ERROR, Outcome.UNKNOWN)
    assert "its evidence is malformed: " in (evidence.reason or "")


def test_one_hostile_check_costs_no_other_and_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_checks(monkeypatch, MISBEHAVING)
    ids = [f"hostile.{way}" for way in ("malformed", "glues", "stops_its_parent", "replays")]
    profile = write_profile(tmp_path / "test.toml", [*ids, "trouble.well"], settings={ids[0]: {"payload": MALFORMED_TEXTS[0]}})
    assessment = run(tmp_path / "run", profile)
    statuses = [evidence_of(assessment, id).status for id in [*ids, "trouble.well"]]
    assert statuses == [Status.ERROR, Status.ERROR, Status.MEASURED, Status.ERROR, Status.MEASURED]
    assert run(tmp_path / "run", profile).accelerators[0].findings == assessment.accelerators[0].findings


def test_evidence_goes_into_no_file_that_has_taken_the_pipes_number(bench: Bench, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    evidence, outcome = bench.run("hostile.takes_the_number", marker=str(mine))
    assert (evidence.status, outcome) == (Status.ERROR, Outcome.UNKNOWN)
    assert mine.read_bytes() == b""


def test_a_pipe_that_does_not_block_loses_nothing(bench: Bench) -> None:
    evidence, outcome = bench.run("hostile.sets_nonblocking")
    assert (evidence.status, outcome) == (Status.MEASURED, Outcome.PASS), evidence
    assert [row["number"] for row in evidence.rows] == list(range(300))


def test_a_crash_within_a_message_is_a_crash(bench: Bench) -> None:
    evidence, outcome = bench.run("hostile.dies_halfway")
    assert (evidence.status, outcome) == (Status.CRASHED, Outcome.FAIL)
    assert "SIGSEGV" in (evidence.reason or "")


def test_a_parent_that_was_stopped_goes_on_and_costs_nobody_anything(bench: Bench) -> None:
    for id in ("hostile.stops_its_parent", "trouble.well"):
        evidence, outcome = bench.run(id)
        assert (evidence.status, outcome, evidence.process["exit_code"]) == (Status.MEASURED, Outcome.PASS, 0)
    evidence, outcome = bench.run("trouble.hangs", limit_s=0.5)
    assert evidence.status is Status.TIMEOUT


def test_a_lost_exit_code_is_not_blamed_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever should tell of an end says nothing: the process is dead all the same, holds no device and was not late."""
    before = children()
    use_checks(monkeypatch, MISBEHAVING)
    monkeypatch.setattr(worker_pool, "VANISH_LIMIT_S", 1.0)
    monkeypatch.setattr(forkserver_process.ForkserverProcess, "resume", lambda self: None)
    with worker_pool.WorkerPool() as pool:
        bench = Bench(pool)
        job = Job(bench.checks["hostile.stops_its_parent"], (CPU,))
        worker = bench.finished(job, limit_s=0.0, when=lambda worker, parent: worker.end is not None and state(worker.pid or 0, parent) is None)
    assert worker.end is not None
    assert (worker.exit_code, worker.timed_out, worker.blocker) == (None, False, None)
    evidence = worker_evidence.evidence_of(worker, job, 1)
    assert (evidence.status, evidence.reason) == (Status.ERROR, "it ended; its exit code was lost")
    assert children() == before


def test_a_killed_parent_costs_its_check_alone_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_checks(monkeypatch, MISBEHAVING)
    monkeypatch.setenv("MANY_TRACE", str(tmp_path))
    marker = tmp_path / "marker"
    with worker_pool.WorkerPool() as pool:
        bench = Bench(pool)
        evidence, outcome = bench.run("hostile.kills_its_parent", marker=str(marker))
        assert (evidence.status, outcome) == (Status.ERROR, Outcome.UNKNOWN), evidence
        assert "the forkserver died" in (evidence.reason or "")
        assert marker.exists()
        assert len(leftovers(str(tmp_path))) == 1, "the new one, and no daemon"
        assert bench.run("trouble.well")[1] is Outcome.PASS
    assert leftovers(str(tmp_path)) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU, signal.SIGALRM, 40])
def test_a_signal_that_somebody_sends_is_not_blamed_on_the_device(bench: Bench, number: int) -> None:
    evidence, outcome = bench.run("hostile.is_ended", number=int(number))
    assert (evidence.status, outcome) == (Status.ERROR, Outcome.UNKNOWN), evidence
    assert "was killed from outside by" in (evidence.reason or "")


def test_a_process_that_somebody_stopped_was_not_late(bench: Bench) -> None:
    job = Job(bench.checks["hostile.is_ended"], (CPU,), settings={"number": int(signal.SIGSTOP)})
    stopped = bench.finished(job, 0.5, when=lambda worker, parent: state(worker.pid or 0, parent) in forkserver_process.STOPPED)
    evidence, outcome = bench.judged(job, stopped)
    assert (evidence.status, outcome) == (Status.ERROR, Outcome.UNKNOWN), evidence
    assert "not finished within 0.5 s, and its process was stopped from outside" in (evidence.reason or "")


def test_a_stack_that_is_printed_late_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy host may let neither the forkserver nor the worker run for a second."""
    asked: list[float] = []
    send = bench.pool._send

    def late(message: Mapping[str, Any]) -> None:
        if "dump" in message:
            asked.append(time.monotonic())
            held.append(message)
        else:
            send(message)

    held: list[Mapping[str, Any]] = []
    monkeypatch.setattr(bench.pool, "_send", late)
    monkeypatch.setattr(worker_pool, "_DUMP_LIMIT_S", 600.0)
    job = Job(bench.checks["trouble.hangs"], (CPU,))
    worker = bench.pool.start(job.worker_request(7), fork=True, limit_s=600.0)
    while not worker.ended:
        bench.pool.poll(0.05)
        if worker.measurements:  # after which it hangs
            worker.limit_s = 0.0
        if held and time.monotonic() - asked[0] > 1.0:
            send(held.pop())
    assert worker.timed_out
    assert "in hangs" in worker.log_tail


def test_who_handles_a_signal_is_known() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    try:
        for handler, handled in ((signal.SIG_IGN, False), (signal.SIG_DFL, False), (lambda *_: None, True)):
            signal.signal(signal.SIGUSR2, handler)
            assert catches(os.getpid(), signal.SIGUSR2) is handled
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE])
def test_a_signal_that_a_process_brings_upon_itself_is_a_crash(bench: Bench, number: int) -> None:
    evidence, outcome = bench.run("hostile.is_ended", number=int(number))
    assert (evidence.status, outcome) == (Status.CRASHED, Outcome.FAIL), evidence


@pytest.mark.parametrize("how", ["device", "limit"])
def test_what_cannot_be_printed_fails_nobody(bench: Bench, how: str) -> None:
    evidence, outcome = bench.run("hostile.disk_is_full", how=how)
    assert (evidence.status, outcome) == (Status.ERROR, Outcome.UNKNOWN)
    assert evidence.reason == "ValueError: something else"


def test_a_crash_or_a_hang_beside_a_full_disk_proves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared memory that finds no room ends a process by SIGBUS, and libraries abort or wait."""
    monkeypatch.setattr(disk, "full", lambda: "/dev/shm")
    cases: list[tuple[str, dict[str, Any]]] = [("hostile.is_ended", {"number": int(signal.SIGBUS)}), ("trouble.hangs", {})]
    for id, settings in cases:
        evidence, outcome = bench.run(id, limit_s=0.5, **settings)
        assert (evidence.status, outcome) == (Status.ERROR, Outcome.UNKNOWN), evidence
        assert "/dev/shm was full at that time" in (evidence.reason or "")
    assert bench.run("trouble.well")[1] is Outcome.PASS


@pytest.mark.parametrize(
    ("how", "words"), [("mute", "MuteError: its message cannot be shown"), ("panic", "PanicError: index"), ("interrupt", "Keyb")]
)
def test_whatever_is_raised_is_an_error(bench: Bench, how: str, words: str) -> None:
    evidence, outcome = bench.run("hostile.raises_oddly", how=how)
    assert (evidence.status, outcome) == (Status.ERROR, Outcome.UNKNOWN)
    assert words in (evidence.reason or "")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("digits", "its value is an integer of 16610 bits"),
        ("text", "its value is str, not a number"),
        ("samples", "TypeError"),
        ("negative samples", "its number of samples"),
        ("spread", "its spread is an integer of"),
        ("labels", "not a mapping of at most 100 names"),
        ("row", "a row of list, not a mapping"),
        ("huge row", "a row of 8 MiB is more than evidence may have"),
    ],
)
def test_what_is_no_figure_is_refused_where_it_is_made(bench: Bench, how: str, words: str) -> None:
    evidence, outcome = bench.run("hostile.odd_figure", how=how)
    assert (evidence.status, outcome) == (Status.ERROR, Outcome.UNKNOWN)
    assert words in (evidence.reason or "")


def test_time_in_which_nobody_looked_counts_towards_no_limit(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line was stopped (Ctrl-Z, a virtual machine that stood still) while a check worked on."""
    job = Job(bench.checks["trouble.slow_at_first"], (CPU,), settings={"marker": str(tmp_path / "marker")})
    worker = bench.pool.start(job.worker_request(7), fork=True, limit_s=30.0)
    while worker.ready is None:
        bench.pool.poll(0.05)
    now = worker.ready + 1000.0
    with monkeypatch.context() as late:
        late.setattr(time, "monotonic", lambda: now)
        bench.pool.poll(0.05)
        assert not worker.timed_out
        now += 29.0
        late.setattr(worker_pool, "_STALL_S", 100.0)
        bench.pool.poll(0.05)
        assert not worker.timed_out
        now += 2.0
        bench.pool.poll(0.05)
        assert worker.timed_out
    bench.pool.kill(worker, "enough", KillCause.STOP)
    while not worker.ended:
        bench.pool.poll(0.05)
