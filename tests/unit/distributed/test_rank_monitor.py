"""The rank monitor: what counts as movement, and that time in which the monitor itself was paused counts for nothing."""

from __future__ import annotations

import json
import os
import types
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from readiness.distributed import watch_clock
from readiness.distributed.launcher import RankGroup
from readiness.distributed.rank_monitor import RankMonitor
from readiness.distributed.rank_process import RankProcess
from readiness.distributed.status_board import StatusBoard
from readiness.distributed.types import Json
from readiness.host.temp_dirs import anonymous_file


@dataclass
class Handle:
    pid: int = 0
    code: int | None = None

    def poll(self) -> int | None:
        return self.code


@dataclass
class Clock:
    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


class Ranks:
    """Ranks without processes, whose reports the test writes."""

    def __init__(self, number: int) -> None:
        self.pipes = [os.pipe() for _ in range(number)]
        self.orders = [os.pipe() for _ in range(number)]
        for read, _ in self.pipes:
            os.set_blocking(read, False)
        self.handles = [Handle() for _ in range(number)]
        self.file = anonymous_file("board")
        self.board = StatusBoard(self.file.fileno(), number)
        self.group = RankGroup(
            [
                RankProcess(rank, self.handles[rank], self.orders[rank][1], self.pipes[rank][0], anonymous_file("log"))
                for rank in range(number)
            ],
            self.board,
        )

    def report(self, rank: int, message: Json) -> None:
        os.write(self.pipes[rank][1], json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        for process in self.group.processes:
            process.close()
        for (read, _), (_, write) in zip(self.orders, self.pipes, strict=True):
            os.close(read)
            os.close(write)
        self.board.close()
        self.file.close()


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    made = Ranks(2)
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watch_clock, "time", made)
    return made


def test_a_pause_of_the_monitor_is_no_silence_of_the_ranks(ranks: Ranks, clock: Clock) -> None:
    monitor = RankMonitor(ranks.group)
    clock.now += 1.5
    monitor.tick(0.0)
    assert (monitor.now, monitor.idle_s) == (1.5, 1.5)
    clock.now += 100.0
    monitor.tick(0.0)
    assert (monitor.now, monitor.idle_s) == (1.5, 0.0)  # after a pause the ranks have their time anew
    clock.now += 1.5
    monitor.tick(0.0)
    assert (monitor.now, monitor.idle_s) == (3.0, 1.5)


def test_reports_marks_and_ends_are_movement(ranks: Ranks, clock: Clock) -> None:
    monitor = RankMonitor(ranks.group)

    def idle() -> float:
        clock.now += 1.0
        monitor.tick(0.0)
        return monitor.idle_s

    assert idle() == 1
    ranks.report(1, {"report": {"found": 3}})
    assert idle() == 0
    assert ranks.group.processes[1].collected == [{"found": 3}]
    assert idle() == 1
    with ranks.board.step(0, "sum"):
        assert idle() == 0
    assert idle() == 0
    ranks.report(0, {"report": {"last": True}})
    ranks.handles[0].code = 0
    assert idle() == 0
    assert monitor.ended_at == {0: clock.now}
    assert ranks.group.processes[0].collected == [{"last": True}]
    assert monitor.any_failed
    assert not monitor.all_ended
    assert idle() == 1


def test_idle_time_may_begin_at_a_moment_to_come(ranks: Ranks, clock: Clock) -> None:
    monitor = RankMonitor(ranks.group)
    monitor.tick(0.0)
    monitor.count_from(clock.now + 1.5)
    clock.now += 1.0
    monitor.tick(0.0)
    assert monitor.idle_s == -0.5
    monitor.count_from(clock.now - 5.0)  # what has moved since then counts
    assert monitor.idle_s == -0.5


def test_a_stopped_rank_is_frozen_after_a_while_that_was_watched(
    ranks: Ranks, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {1: "stopped"}
    for rank, handle in enumerate(ranks.handles):
        handle.pid = rank
    monitor = RankMonitor(ranks.group)

    def frozen(passed_s: float) -> bool:
        clock.now += passed_s
        monitor.tick(0.0)
        return monitor.any_frozen()

    with monkeypatch.context() as patch:  # undone before others look for processes
        patch.setattr(
            psutil, "Process", lambda pid: types.SimpleNamespace(status=lambda: states.get(pid, psutil.STATUS_SLEEPING))
        )
        assert not frozen(0.1)
        assert not frozen(60.0)  # both were paused: the rank is continued after the monitor
        assert not frozen(1.0)
        states.clear()
        assert not frozen(1.0)
        states[1] = "stopped"
        assert not frozen(0.1)
        assert not frozen(1.0)
        assert frozen(1.0)


def test_reports_are_handed_over_and_not_kept(ranks: Ranks, clock: Clock) -> None:
    heard: list[tuple[int, Json]] = []
    monitor = RankMonitor(ranks.group, lambda rank, report: heard.append((rank, report)))
    ranks.report(0, {"report": {"number": 1}})
    monitor.tick(0.0)
    ranks.report(1, {"report": {"number": 2}})
    ranks.handles[1].code = 1
    monitor.tick(0.0)
    assert heard == [(0, {"number": 1}), (1, {"number": 2})]
    assert [process.collected for process in ranks.group.processes] == [[], []]
