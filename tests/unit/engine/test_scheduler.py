"""The scheduler of worker processes, with a pool that starts none: what runs beside what, second tries, stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from readiness.engine.plan import Job
from readiness.engine.scheduler import Running, Scheduler, Stop
from readiness.engine.worker_evidence import SECOND_TRY
from readiness.missing_evidence import KillCause, StopCause
from tests.support.rehearsal import host, made_check

STOP = Stop(StopCause.INTERRUPTED, "somebody stopped it")


@dataclass
class FakeWorker:
    check: str
    limit_s: float
    ended: bool = False
    killed: str | None = None
    kill_cause: KillCause | None = None
    kill_sent: float | None = None
    timed_out: bool = False
    ready: float | None = 1.0
    seconds: float = 10.0


@dataclass
class FakePool:
    """Ends all workers at each poll, but for those of checks that go on; some by their time limit."""

    go_on: set[str] = field(default_factory=set)
    time_out: set[str] = field(default_factory=set)
    workers: list[FakeWorker] = field(default_factory=list)

    def start(self, request: Mapping[str, Any], *, fork: bool, limit_s: float) -> FakeWorker:
        self.workers.append(FakeWorker(request["check"], limit_s))
        return self.workers[-1]

    def kill(self, worker: FakeWorker, reason: str, cause: KillCause) -> None:
        worker.killed, worker.kill_cause, worker.kill_sent, worker.ended = reason, cause, 1.0, True

    def poll(self, timeout_s: float) -> None:
        for worker in self.workers:
            worker.timed_out |= worker.check in self.time_out
            worker.ended |= worker.check not in self.go_on


class Silent:
    def running(self, tasks: Sequence[tuple[Job, Any]], /) -> None: ...


class Plain(Scheduler[Job]):
    """It notes what is at work together, and what ended in which attempt. `stops` is what it hears in each round."""

    def __init__(self, pool: FakePool, *jobs: Job, slots: int | None = None, stops: Sequence[Stop | None] = ()) -> None:
        super().__init__(pool, Silent(), jobs, slots=slots)  # type: ignore[arg-type]
        self.together: list[set[str]] = []
        self.done: list[tuple[str, int]] = []
        self.stops = list(stops)
        self.refused: set[str] = set()
        self.before: list[float] = []

    def job(self, task: Job) -> Job:
        return task

    def request(self, task: Job) -> Mapping[str, Any]:
        return {"check": task.check.id}

    def limit_s(self, task: Job) -> float:
        return 10.0

    def admits(self, task: Job) -> bool:
        return task.check.id not in self.refused

    def started(self, running: Running[Job]) -> None:
        self.together.append({item.task.check.id for item in self.running})

    def wants_stop(self) -> Stop | None:
        return self.stops.pop(0) if self.stops else None

    def finish(self, running: Running[Job]) -> None:
        if running.stopped:
            self.put_back(running)
        elif not self.try_again(running):
            self.done.append((running.task.check.id, running.attempt))
            self.before.append(running.earlier_tries_s)


def job(id: str, *devices: int, alone: bool = False) -> Job:
    facts = tuple(replace(host(), id=f"cpu:{number}", index=number) for number in devices or (0,))
    return Job(made_check(id, alone=alone), facts)


def test_devices_work_side_by_side_and_each_does_one_thing_at_a_time() -> None:
    scheduler = Plain(FakePool(), job("a", 0), job("b", 0), job("c", 1), job("d", 0, 1), job("e", 1), job("f", 2))
    scheduler.run()
    # d waits for both, and e, which would overtake it, for d.
    assert scheduler.together == [{"a"}, {"a", "c"}, {"a", "c", "f"}, {"b"}, {"d"}, {"e"}]
    assert scheduler.done == [("a", 1), ("c", 1), ("f", 1), ("b", 1), ("d", 1), ("e", 1)]


def test_one_that_wants_the_machine_waits_for_all_and_is_not_overtaken() -> None:
    scheduler = Plain(FakePool(), job("a", 0), job("b", 1, alone=True), job("c", 2), job("d", 3))
    scheduler.run()
    assert scheduler.together == [{"a"}, {"b"}, {"c"}, {"c", "d"}]


def test_no_more_at_once_than_there_are_slots() -> None:
    scheduler = Plain(FakePool(), *(job(name, number) for number, name in enumerate("abcde")), slots=2)
    scheduler.run()
    assert scheduler.together == [{"a"}, {"a", "b"}, {"c"}, {"c", "d"}, {"e"}]


def test_what_ran_into_its_limit_is_tried_once_more_with_a_longer_one() -> None:
    pool = FakePool(time_out={"a"})
    scheduler = Plain(pool, job("a"), job("b"))
    scheduler.run()
    assert scheduler.done == [("a", 2), ("b", 1)]
    assert scheduler.before == [10.0, 0.0]  # the time of the first try is not lost
    assert [(worker.check, worker.limit_s) for worker in pool.workers] == [("a", 10.0), ("a", 10.0 * SECOND_TRY), ("b", 10.0)]


def test_what_was_never_ready_is_not_tried_again() -> None:
    pool = FakePool(time_out={"a"})
    scheduler = Plain(pool, job("a"))
    scheduler.started = lambda running: setattr(running.worker, "ready", None)  # type: ignore[method-assign]
    scheduler.run()
    assert scheduler.done == [("a", 1)]


def test_what_is_not_admitted_does_not_run() -> None:
    scheduler = Plain(FakePool(), job("a"), job("b"))
    scheduler.refused = {"a"}
    scheduler.run()
    assert scheduler.done == [("b", 1)]
    assert scheduler.waiting == []


def test_a_stop_ends_what_runs_and_starts_nothing() -> None:
    pool = FakePool(go_on={"a", "b"})
    scheduler = Plain(pool, job("a", 0), job("b", 1), job("c", 0), stops=[None, STOP])
    scheduler.run()
    assert scheduler.stop is STOP
    assert {(worker.killed, worker.kill_cause) for worker in pool.workers} == {(STOP.reason, KillCause.STOP)}
    assert [worker.check for worker in pool.workers] == ["a", "b"]
    assert scheduler.done == []
    assert {item.check.id for item in scheduler.waiting} == {"a", "b", "c"}


def test_what_a_stop_has_ended_is_no_evidence_even_where_its_process_stays() -> None:
    pool = FakePool(go_on={"a"})

    def kill(worker: FakeWorker, reason: str, cause: KillCause) -> None:
        worker.killed, worker.kill_sent, worker.ended = f"{reason}; it cannot be killed", 1.0, True

    pool.kill = kill  # type: ignore[method-assign]
    scheduler = Plain(pool, job("a"), stops=[None, STOP])
    scheduler.run()
    assert scheduler.done == []
    assert [item.check.id for item in scheduler.waiting] == ["a"]


def test_what_was_being_killed_before_a_stop_has_ended_by_itself() -> None:
    scheduler = Plain(FakePool(), job("a"), stops=[None, STOP])
    scheduler.started = lambda running: setattr(running.worker, "kill_sent", 1.0)  # type: ignore[method-assign]
    scheduler.run()
    assert scheduler.done == [("a", 1)]


def test_after_a_stop_no_second_try_begins() -> None:
    """Its first one had come to its limit when the stop came: a second, three times as long, would hold up whoever stops."""

    class Late(Plain):
        def finish(self, running: Running[Job]) -> None:
            self.look_for_stop()
            super().finish(running)

    pool = FakePool(time_out={"a"})
    scheduler = Late(pool, job("a"), stops=[None, STOP])
    scheduler.run()
    assert scheduler.done == []
    assert len(pool.workers) == 1
    assert [item.check.id for item in scheduler.waiting] == ["a"]
