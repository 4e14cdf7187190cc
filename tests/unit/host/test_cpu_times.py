"""CPU times of the host: what others had of the CPUs, on a recorded /proc."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from readiness.host import cpu_times
from readiness.host.cpu_times import CpuTimes, History, Shares, read, shares

TICK = os.sysconf("SC_CLK_TCK")


def machine(folder: Path, cpus: dict[int, tuple[int, int]], processes: dict[int, tuple[int, list[int]]]) -> Path:
    """A /proc: by CPU the seconds it worked and that were withheld, by process its seconds and its children."""
    lines = ["cpu  1 2 3 4 5 6 7 8 9 10"]
    lines += [f"cpu{cpu} {worked * TICK} 0 0 99 9 0 0 {stolen * TICK} 0 0" for cpu, (worked, stolen) in cpus.items()]
    (folder / "stat").write_text("\n".join([*lines, "intr 5"]) + "\n")
    for pid, (seconds, children) in processes.items():
        (folder / str(pid) / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        (folder / str(pid) / "stat").write_text(f"{pid} (a) b) S 1 1 1 0 -1 0 0 0 0 0 {seconds * TICK} 0 0 0 20 0 1 0 5\n")
        (folder / str(pid) / "task" / str(pid) / "children").write_text(" ".join(map(str, children)))
    return folder


def test_a_reading_counts_the_usable_cpus_and_the_whole_tree_of_processes(tmp_path: Path) -> None:
    proc = machine(tmp_path, {0: (50, 1), 1: (40, 2), 2: (900, 9)}, {10: (3, [11, 12]), 11: (4, [13]), 12: (5, []), 13: (6, [])})
    (tmp_path / "online").write_text("0-2\n")
    reading = read({0, 1}, proc, 10, tmp_path / "online")
    assert reading is not None
    assert (reading.cpus, reading.worked_s, reading.stolen_s, reading.own_s) == (2, 90, 3, 18)
    assert (reading.elsewhere, reading.elsewhere_s) == (1, 909)
    (proc / "13" / "stat").unlink()  # it ends between the two looks
    assert read({0, 1}, proc, 10) is not None


@pytest.mark.parametrize("online", ["0-3,8", "0-", "x", None])
def test_work_on_cpus_that_are_not_reported_is_not_known(online: str | None, tmp_path: Path) -> None:
    """A container may see its own CPUs alone."""
    proc = machine(tmp_path, {0: (50, 1), 1: (40, 2)}, {10: (3, [])})
    if online is not None:
        (tmp_path / "online").write_text(online)
    before = read({0, 1}, proc, 10, tmp_path / "online")
    machine(tmp_path, {0: (51, 1), 1: (41, 2)}, {10: (3, [])})
    after = read({0, 1}, proc, 10, tmp_path / "online")
    assert before is not None
    assert after is not None
    assert (before.elsewhere, before.elsewhere_s) == (None, None)
    found = shares(before, replace(after, at=before.at + 10))
    assert found == Shares(0.1, 0.0, None)


@pytest.mark.parametrize("text", ["", "cpu 1 2 3\n", "cpu0 0 0 0 0 0 0 0 0\n", "cpu0 a b c\n"])
def test_a_system_that_counts_nothing_reports_nothing(text: str, tmp_path: Path) -> None:
    assert read({0}, tmp_path, 10) is None
    (tmp_path / "stat").write_text(text)
    assert read({0}, tmp_path, 10) is None


def test_shares_are_of_all_cpus_and_lie_between_nothing_and_all() -> None:
    before = CpuTimes(100.0, 2, 50.0, 1.0, 20.0)
    assert shares(before, CpuTimes(110.0, 2, 62.0, 2.0, 26.0)) == Shares(0.3, 0.05)  # 12 s worked, 6 of them ours, of 20
    assert shares(before, CpuTimes(110.0, 2, 52.0, 1.0, 26.0)) == Shares(0.0, 0.0)   # ticks that are counted late
    assert shares(before, CpuTimes(110.0, 2, 99.0, 1.0, 20.0)) == Shares(1.0, 0.0)
    assert shares(before, before) is None
    assert shares(before, CpuTimes(110.0, 3, 62.0, 2.0, 26.0)) is None  # a CPU was plugged in


def test_work_of_the_cpus_that_the_run_may_not_use_is_a_share_of_these() -> None:
    before, after = CpuTimes(100.0, 1, 50.0, 1.0, 20.0, 4, 300.0), CpuTimes(110.0, 1, 60.0, 1.0, 30.0, 4, 312.0)
    assert shares(before, after) == Shares(0.0, 0.0, 0.3)
    assert shares(before, replace(after, elsewhere=3)) == Shares(0.0, 0.0, None)  # one was unplugged


def test_a_burst_of_a_second_is_the_peak_of_a_long_check(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    taken = 0.0
    monkeypatch.setattr(cpu_times, "read", lambda: CpuTimes(now, 2, taken, 0.0, 0.0))
    history = History()
    history.note()
    for second in range(101, 121):
        now = float(second)
        taken += 1.6 if second in (101, 110) else 0.02  # the one at 101 is before the check
        history.tick()
        history.tick()  # no second reading of the same moment
    history.note()
    assert history.since(103.0) == Shares(0.0565, 0.0, 0.0, 0.8)
    assert history.since(112.0) == Shares(0.01, 0.0, 0.0, 0.01)
    assert len(history._seconds) == 20


def test_a_short_check_is_seen_in_the_second_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([CpuTimes(10.0, 1, 0, 0, 0), CpuTimes(12.0, 1, 2, 0, 0), CpuTimes(12.9, 1, 2, 0, 0), CpuTimes(13.0, 1, 2, 0, 0)])
    monkeypatch.setattr(cpu_times, "read", lambda: next(moments))
    history = History()
    assert history.since(0.0) is None
    for _ in range(4):
        history.note()
    assert history.since(12.9) == Shares(0.0, 0.0)   # from 12.0, not from 12.9: a tenth of a second has ten ticks
    assert history.since(11.0) == Shares(0.6667, 0.0)
    assert history.since(5.0) == Shares(0.6667, 0.0)


def test_this_system_counts_what_this_process_works() -> None:
    first = read()
    if first is None:
        pytest.skip("this system reports no times of its CPUs")
    begun = os.times().user
    while os.times().user < begun + 0.1:
        pass
    last = read()
    assert last is not None
    assert last.own_s - first.own_s > 0.09  # ten ticks, whose difference as fractions may be a little less
