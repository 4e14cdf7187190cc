"""Task supervisors: every task ends once, whatever becomes of the processes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import psutil
import pytest

from readiness.isolation import task_process, task_supervisor
from readiness.isolation.task_process import TaskProcess
from readiness.isolation.task_supervisor import StartError, TaskQueue, TaskStatus, TaskSupervisor
from tests.support.isolation import serve

DONE, CRASHED, HUNG = TaskStatus.DONE, TaskStatus.CRASHED, TaskStatus.HUNG
Task = tuple[Any, ...]


def supervisor(*batches: Iterable[Task], limit_s: float = 60.0, **options: Any) -> TaskSupervisor[Task]:
    return TaskSupervisor(
        lambda: TaskProcess.fork(serve, capture=True), list, lambda task: limit_s, queue=TaskQueue(batches), **options
    )


@pytest.mark.parametrize("processes", [1, 3])
def test_each_task_ends_once(processes: int) -> None:
    batches = [[("echo", batch, number) for number in range(3)] for batch in range(4)]
    with supervisor(*batches, processes=processes) as leader:
        ends = list(leader.run())
    assert {end.status for end in ends} == {DONE}
    assert sorted(end.task for end in ends) == [task for batch in batches for task in batch]
    for batch in range(4):  # one process does a batch
        assert len({end.result["pid"] for end in ends if end.task[1] == batch}) == 1
    assert len({end.result["pid"] for end in ends}) <= processes


def test_a_crash_costs_one_task_and_another_process_does_the_rest() -> None:
    with supervisor([("echo", 1), ("crash", "at home"), ("echo", 2)]) as leader:
        first, crash, second = leader.run()
    assert (first.status, crash.status, second.status) == (DONE, CRASHED, DONE)
    assert (crash.phase, crash.detail, crash.reason) == ("crash", "at home", "the process died by SIGSEGV")
    assert "Segmentation fault" in crash.output
    assert crash.result is None
    assert first.result["pid"] != second.result["pid"]


def test_a_hang_is_killed_at_its_limit() -> None:
    started: list[TaskProcess] = []

    def start() -> TaskProcess:
        started.append(TaskProcess.fork(serve, capture=True))
        return started[-1]

    def limit_s(task: Task) -> float:
        """A second, where it has blocked: a busy host may let it come there later."""
        return 1.0 if task == ("block",) and started[0].phase.read() == ("block", "") else 60.0

    with TaskSupervisor[Task](start, list, limit_s, queue=TaskQueue([[("block",), ("echo", 1)]])) as leader:
        hang, echo = leader.run()
    assert (hang.status, hang.phase, hang.reason) == (HUNG, "block", "did not finish within 1 s")
    assert echo.status is DONE


def test_a_limit_of_phases_begins_with_each_phase() -> None:
    """As if a task had been begun long ago: it is over the limit as a whole, and each of its steps within it."""

    class Earlier(TaskSupervisor[Task]):
        def assign(self, child: Any) -> None:
            super().assign(child)
            child.since -= 1000.0

    cases: tuple[tuple[bool, Task, TaskStatus], ...] = ((True, ("steps", 3, 0.01), DONE), (False, ("sleep", 600), HUNG))
    for phases, task, status in cases:
        with Earlier(lambda: TaskProcess.fork(serve, capture=True), list, lambda _: 100.0, queue=TaskQueue([[task]]), phases=phases) as leader:
            (end,) = leader.run()
        assert end.status is status
    with supervisor([("sleep", 600)], limit_s=0.5, phases=True) as leader:
        (end,) = leader.run()
    assert end.status is HUNG


def test_what_is_put_first_is_done_next() -> None:
    with supervisor([("crash",), ("echo", 2)], [("echo", 3)]) as leader:
        done = []
        for end in leader.run():
            done.append(end.task)
            if end.status is CRASHED:
                end.rest.appendleft(("echo", 1))
    assert done == [("crash",), ("echo", 1), ("echo", 2), ("echo", 3)]


def test_a_process_that_exits_is_not_charged_with_the_next_task() -> None:
    with supervisor([("last",), ("echo", 1)]) as leader:
        last, echo = leader.run()
    assert (last.status, echo.status) == (DONE, DONE)
    assert last.result["pid"] != echo.result["pid"]


def test_single_tasks_keep_their_process() -> None:
    with supervisor() as leader:
        found = [leader.do(("echo", number)) for number in range(3)]
        assert leader.do(("crash",)).status is CRASHED
        after = leader.do(("echo", 4))
    assert len({end.result["pid"] for end in found}) == 1
    assert after.status is DONE
    assert after.result["pid"] != found[0].result["pid"]


def test_nothing_is_left_behind_when_the_block_is_left_early() -> None:
    others = set(psutil.Process().children())
    with supervisor(*([("sleep", 600)] for _ in range(2)), [("echo", 1)], processes=3) as leader:
        assert next(leader.run()).status is DONE
        started = set(psutil.Process().children()) - others
        assert len(started) == 3
    assert not [child for child in started if child.is_running()]


def test_no_process_comes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = []

    def start() -> TaskProcess:
        starts.append(1)
        return TaskProcess.fork(serve)

    monkeypatch.setattr(task_process, "prepare_child", lambda parent: os._exit(3))
    with TaskSupervisor[Task](start, list, lambda task: 1.0) as leader:
        with pytest.raises(StartError, match="the last one exited with code 3"):
            leader.do(("echo",))
        assert len(starts) == task_supervisor.MOST_FALSE_STARTS


def test_a_process_that_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_process, "prepare_child", lambda parent: __import__("time").sleep(600))
    with supervisor([("echo",)], start_limit_s=0.1) as leader, pytest.raises(StartError, match=r"not ready after 0\.1 s"):
        next(leader.run())
