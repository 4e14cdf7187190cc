"""A world of ranks: what it reports when healthy, and what it says, with nothing left over, when it is not."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist

from readiness.accelerators.base import Accelerator
from readiness.accelerators.cpu import Cpu
from readiness.check_registry import Skip
from readiness.datamodel import AcceleratorFacts
from readiness.distributed import (
    FailureKind,
    Placement,
    RankContext,
    RanksOutcome,
    flight_recorder,
    place,
    rank_monitor,
    rank_process,
    run_ranks,
    watch_clock,
)
from readiness.distributed import group_runner as distributed_run_ranks
from readiness.distributed import (
    launcher as distributed_launcher,
)
from readiness.distributed import rank_entry as rank_side
from readiness.distributed.status_board import StatusBoard
from readiness.distributed.types import Json
from readiness.host import disk
from readiness.host.temp_dirs import anonymous_file
from tests.support import cpu, disk_full
from tests.support import ranks as support


def run(function: Any, ranks: int = 2, settings: Json | None = None, **options: Any) -> RanksOutcome:
    accelerator = cpu()
    return run_ranks(function, accelerator, place(accelerator, ranks), settings, **{"patience_s": 20.0, **options})


def summing(context: RankContext) -> Iterator[Json]:
    for number in range(context.settings.get("rounds", 5)):
        tensor = torch.full((8,), float(context.rank + 1))
        with context.step(f"sum {number}"):
            dist.all_reduce(tensor)
        yield {"sum": tensor[0].item()}


def nothing(context: RankContext) -> None:
    print("rubbish on stdout", context.rank)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_rank_reports_in_order(ranks: int) -> None:
    outcome = run(summing, ranks)
    assert outcome.failure is None
    expected = {"sum": ranks * (ranks + 1) / 2}
    assert outcome.reports == ((expected,) * 5,) * ranks


def test_a_rank_function_may_return_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(nothing).reports == ((), ())
    assert "rubbish" not in capfd.readouterr().out


def about_itself(context: RankContext) -> Iterator[Json]:
    yield {
        "leads_its_session": os.getsid(0) == os.getpid(),
        "threads": torch.get_num_threads(),
        "device": str(context.device),
        "seed": context.accelerator.seed,
        "listens": [connection.laddr.ip for connection in psutil.Process().net_connections() if connection.laddr],
        "environment": [os.environ.get("GLOO_SOCKET_IFNAME"), os.environ.get("NCCL_SOCKET_IFNAME")],
    }


def test_a_rank_stays_on_this_machine_and_takes_its_share_of_the_cores() -> None:
    outcome = run(about_itself)
    for (report,) in outcome.reports:
        assert report["leads_its_session"]
        assert report["device"] == "cpu"
        assert report["seed"] == 7
        assert 1 <= report["threads"] <= max(1, (os.cpu_count() or 1) // 2)
        assert set(report["listens"]) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        assert report["environment"] == ["lo", "=lo"]
    assert "GLOO_SOCKET_IFNAME" not in os.environ


def large(context: RankContext) -> Iterator[Json]:
    for _ in range(3):
        yield {"text": "x" * 3_000_000, "nan": float("nan")}


def test_reports_larger_than_a_pipe_arrive_whole() -> None:
    outcome = run(large)
    assert [len(report["text"]) for reports in outcome.reports for report in reports] == [3_000_000] * 6


@pytest.mark.parametrize(
    ("fault", "trouble", "told"),
    [
        (support.kill_oneself, FailureKind.DIED, "SIGKILL"),
        (support.stop_oneself, FailureKind.FROZEN, "stopped"),
        (support.fail, FailureKind.RAISED, "ArithmeticError: the matrix unit gave up"),
        (support.leave, FailureKind.DIED, "exited without a report"),
        (support.end_slowly, FailureKind.DIED, "SIGKILL"),
    ],
)
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_fault_is_laid_at_the_door_of_its_rank(
    fault: Any, trouble: FailureKind, told: str, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    support.at_call("all_reduce", 3, 1, fault, monkeypatch)
    outcome = run(summing, ranks)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.culprits) == (trouble, (1,))
    assert told in outcome.failure.reason
    assert outcome.failure.operation == "sum 2"
    assert outcome.reports[1] == ({"sum": ranks * (ranks + 1) / 2},) * 2


def test_a_rank_that_fails_for_want_of_disk_has_failed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as planted:
        support.at_call("all_reduce", 3, 1, disk_full, planted)
        with pytest.raises(OSError, match=r"rank 1 .*No space left on device") as info:
            run(summing)
    assert info.value.errno == errno.ENOSPC


@pytest.mark.parametrize("fault", [support.fail, support.kill_oneself])
def test_what_fails_while_a_disk_is_full_is_no_ranks_fault(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    support.at_call("all_reduce", 3, 1, fault, monkeypatch)
    monkeypatch.setattr(disk, "full", lambda folders: "/dev/shm")
    with pytest.raises(OSError, match="/dev/shm is full: rank 1"):
        run(summing)


def waiting(context: RankContext) -> Iterator[Json]:
    yield from summing(context)
    if context.rank == 1:
        support.hang()
    yield from summing(context)


def test_a_rank_that_stays_away_is_named_and_its_stack_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch)
    outcome = run(waiting, 3, patience_s=3.0)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.culprits) == (FailureKind.BEHIND, (1,))
    assert "hang" in outcome.failure.log


def all_waiting(context: RankContext) -> None:
    with context.step("the same for all"):
        support.reached()
        time.sleep(1000)


def test_a_hang_of_all_ranks_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch, ranks=2)
    outcome = run(all_waiting, patience_s=1.0)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.culprits) == (FailureKind.HUNG, ())
    assert "all_waiting" in outcome.failure.log


def endless(context: RankContext) -> Iterator[Json]:
    while True:
        time.sleep(0.05)
        yield {}


def working_on(context: RankContext) -> Iterator[Json]:
    yield {}
    for number in range(10):
        with context.step(f"work {number}"):
            time.sleep(0.1)


class PausedClock:
    """The clock of a process that is paused for an hour whenever a test says so."""

    def __init__(self) -> None:
        self.pauses = 0

    def monotonic(self) -> float:
        return time.monotonic() + 3600.0 * self.pauses


def test_a_pause_of_the_whole_tool_counts_for_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = PausedClock()
    monkeypatch.setattr(watch_clock, "time", clock)

    def pause_once(_: int, report: Json) -> None:
        clock.pauses = 1

    assert run(working_on, on_report=pause_once).failure is None
    assert clock.pauses == 1


def test_a_group_beyond_its_limit_is_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    # However long the ranks take to start: the limit has passed once two reports of the first are there.
    monkeypatch.setattr(rank_monitor.RankMonitor, "now", property(lambda monitor: 2.0 * (len(monitor.processes[0].collected) > 1)))
    outcome = run(endless, limit_s=1.0)
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.OVERDUE
    assert len(outcome.reports[0]) > 1


def test_a_rank_that_cannot_leave_is_reported_with_its_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_side, "_leave_group", lambda: dist.get_rank() and support.hang())
    monkeypatch.setattr(distributed_run_ranks, "LEAVE_S", 100.0)  # which pass once the other one has left
    monkeypatch.setattr(rank_monitor.RankMonitor, "now", property(lambda monitor: 1000.0 * (0 in monitor.ended_at)))
    outcome = run(summing)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.culprits) == (FailureKind.LINGERED, (1,))
    assert len(outcome.reports[1]) == 5


def test_different_shapes_are_a_failure_and_not_the_end_of_this_process() -> None:
    outcome = run(mismatched)
    assert outcome.failure is not None
    assert outcome.failure.kind in (FailureKind.DIED, FailureKind.RAISED, FailureKind.HUNG)


def mismatched(context: RankContext) -> None:
    with context.step("sum of different shapes"):
        dist.all_reduce(torch.ones(100 * (context.rank + 1)))


def test_an_out_of_memory_kill_is_no_evidence_about_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = iter((3, 4))
    monkeypatch.setattr(distributed_run_ranks, "kernel_kills", lambda: next(kills))
    support.at_call("all_reduce", 1, 0, support.kill_oneself, monkeypatch)
    with pytest.raises(MemoryError, match="for lack of memory"):
        run(summing)


def test_a_machine_that_cannot_start_the_second_rank_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, calls = os.fork, iter((True, False))

    def exhausted() -> int:
        if next(calls):
            return fork()
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", exhausted)
    with pytest.raises(BlockingIOError):
        run(summing)


def leave_a_name_and_wait(context: RankContext) -> None:
    folder = Path(context.settings["folder"])
    with context.step("sum"):
        dist.all_reduce(torch.ones(1))
    (folder / f"{os.getpid()}.pid").touch()
    if context.rank == 1:
        support.stop_oneself()
    support.hang()


@pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_rank_survives_the_kill_of_its_launcher(
    fresh: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, temporary = tmp_path / "names", tmp_path / "temporary"
    names.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(rank_monitor, "FROZEN_S", 1000.0)
    accelerator = fresh_cpu() if fresh else cpu()
    launcher = os.fork()
    if launcher == 0:
        try:
            run_ranks(leave_a_name_and_wait, accelerator, place(accelerator, 3), {"folder": str(names)})
        finally:
            os._exit(1)
    pids = support.pids_in(names, 3)
    os.kill(launcher, signal.SIGKILL)
    os.waitpid(launcher, 0)
    assert support.wait_for_end(pids) == []
    assert list(temporary.iterdir()) == []


class Fresh(Cpu):
    """The CPU, driven like a device that must not be forked."""

    fork_safe = False


def fresh_cpu() -> Accelerator:
    accelerator = cpu()
    return Accelerator(accelerator.facts, Fresh(), seed=accelerator.seed)


def summing_and_about_itself(context: RankContext) -> Iterator[Json]:
    yield from summing(context)
    yield from about_itself(context)


@pytest.mark.slow
def test_ranks_in_fresh_interpreters_do_the_same() -> None:
    accelerator = fresh_cpu()
    outcome = run_ranks(summing_and_about_itself, accelerator, place(accelerator, 2), {"rounds": 2})
    assert outcome.failure is None
    for *sums, itself in outcome.reports:
        assert sums == [{"sum": 3.0}] * 2
        assert itself["leads_its_session"]


@pytest.mark.slow
def test_a_fresh_interpreter_that_cannot_begin_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    accelerator = fresh_cpu()
    outcome = run_ranks(summing, accelerator, place(accelerator, 2))
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.DIED


def chips(number: int, backend: str | None) -> Accelerator:
    class Chips(Cpu):
        collective_backend = backend  # type: ignore[assignment]

    facts = [
        AcceleratorFacts(id=f"chip:{index}", kind="chip", index=index, stack="chips", vendor=None, model=None)
        for index in range(number)
    ]
    return Accelerator(facts[0], Chips(), peers=facts)


@pytest.mark.parametrize(
    ("number", "ranks", "ids", "labels"),
    [
        (1, 0, ("chip:0",), {"ranks": "2", "chips": "one", "world": "all"}),
        (1, 2, ("chip:0",), {"ranks": "2", "chips": "one", "world": "all"}),
        (1, 1, ("chip:0",), {"ranks": "1", "chips": "one", "world": "part"}),
        (4, 0, ("chip:0", "chip:1", "chip:2", "chip:3"), {"ranks": "4", "chips": "several", "world": "all"}),
        (4, 2, ("chip:0", "chip:1"), {"ranks": "2", "chips": "several", "world": "part"}),
        (2, 4, ("chip:0", "chip:1"), {"ranks": "4", "chips": "one", "world": "all"}),
        (8, 8, tuple(f"chip:{index}" for index in range(8)), {"ranks": "8", "chips": "several", "world": "all"}),
        (20, 0, tuple(f"chip:{index}" for index in range(16)), {"ranks": "16", "chips": "several", "world": "part"}),
    ],
)
def test_ranks_are_placed_one_on_each_chip_as_long_as_there_are_chips(
    number: int, ranks: int, ids: tuple[str, ...], labels: dict[str, str]
) -> None:
    placement = place(chips(number, "gloo"), ranks)
    assert placement.ids == ids
    assert placement.labels == labels
    assert ("software only" in placement.scope) is (labels["chips"] == "one")


def test_a_library_that_wants_a_chip_for_each_rank_gets_no_more_ranks_than_chips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dist, "is_backend_available", lambda name: name in ("gloo", "nccl"))
    for backend in ("nccl", "cpu:gloo,cuda:nccl"):
        assert place(chips(1, backend), 2).labels == {"ranks": "1", "chips": "one", "world": "part"}
        assert place(chips(1, backend)).labels == {"ranks": "1", "chips": "one", "world": "part"}
        assert place(chips(4, backend), 8).labels == {"ranks": "4", "chips": "several", "world": "all"}
        with pytest.raises(Skip, match="2 ranks need 2 chips"):
            place(chips(1, backend), 2, least=2)


def test_a_library_that_lets_ranks_share_a_chip_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_backend_available", lambda name: name == "nccl")
    accelerator = chips(1, "nccl")
    monkeypatch.setattr(accelerator.stack, "ranks_share", lambda facts: facts.id == "chip:0")
    placement = place(accelerator, least=2)
    assert placement.labels == {"ranks": "2", "chips": "one", "world": "all"}
    assert "software only" in placement.scope


@pytest.mark.parametrize(("backend", "reason"), [(None, "no collective library"), ("no_such", "no backend 'no_such'")])
def test_without_a_collective_library_nothing_is_measured(backend: str | None, reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        place(chips(2, backend), 2)


def test_a_placement_counts_each_accelerator_once() -> None:
    facts = cpu().facts
    assert Placement((facts, facts)).ids == ("cpu:0",)


def test_a_rank_is_named_with_its_accelerator() -> None:
    placement = place(chips(4, "gloo"))
    assert placement.name(3) == "rank 3 (chip:3)"
    assert placement.name(0, 2) == "rank 0 (chip:0), rank 2 (chip:2)"


def telling_each_other(context: RankContext) -> Iterator[Json]:
    for turn in range(50):
        if context.rank == turn % context.world_size:
            time.sleep(0.001)
        yield {"told": context.exchange(100 * turn + context.rank)}


def test_ranks_exchange_numbers_without_a_collective() -> None:
    outcome = run(telling_each_other, 3)
    assert outcome.failure is None
    expected = tuple({"told": [100 * turn, 100 * turn + 1, 100 * turn + 2]} for turn in range(50))
    assert outcome.reports == (expected,) * 3


def never_meeting(context: RankContext) -> None:
    with context.step("thinking"):
        if context.rank == 2:
            support.hang()
    context.exchange()


def test_a_rank_that_does_not_come_to_a_meeting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch)
    outcome = run(never_meeting, 3, patience_s=3.0)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.culprits) == (FailureKind.BEHIND, (2,))
    assert "in thinking" in outcome.failure.reason


def keeping_the_interpreter(context: RankContext) -> None:
    with context.step("the same for all"):
        support.reached()
        if context.rank == 1:
            ctypes.PyDLL(None).sleep(1000)  # a call in C that lets no other thread of its process run
        support.hang()


def test_a_rank_that_holds_the_interpreter_lock_is_identified(monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch, ranks=3)
    outcome = run(keeping_the_interpreter, 3, patience_s=5.0)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.culprits) == (FailureKind.FROZEN, (1,))
    assert "keeping_the_interpreter" in outcome.failure.log


def calling_something_else(context: RankContext) -> None:
    tensor = torch.ones(8)
    dist.all_reduce(tensor)
    with context.step("what all should do"):
        support.reached()
        if context.rank == 2:
            dist.broadcast(tensor, src=2)
            dist.broadcast(tensor, src=0)
        else:
            dist.all_reduce(tensor)


def test_a_rank_that_calls_another_collective_is_named_by_the_flight_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch, ranks=4)
    outcome = run(calling_something_else, 4, patience_s=2.0)
    assert outcome.failure is not None
    if outcome.failure.kind is not FailureKind.MISMATCHED:
        pytest.skip(f"this torch keeps no record of gloo's calls: {outcome.failure.reason}")
    assert outcome.failure.culprits == (2,)
    assert "rank 2 calls broadcast of 8 Float" in outcome.failure.reason


def agreeing_often(context: RankContext) -> Iterator[Json]:
    wrong = 0
    for turn in range(5000):
        wrong += sum(number != turn for number in context.board.exchange(context.rank, float(turn)))
    yield {"wrong": wrong}


def test_no_rank_takes_an_older_number_for_a_new_one() -> None:
    assert [report["wrong"] for (report,) in run(agreeing_often, 3).reports] == [0, 0, 0]


def its_environment(context: RankContext) -> Iterator[Json]:
    yield {name: value for name, value in os.environ.items() if name.startswith("TORCH_")}


def test_the_recorder_of_the_devices_library_goes_before_that_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    def recorder(operation: str, *numbers: int) -> Any:
        entries = [
            {"is_p2p": False, "record_id": number, "process_group": ["0", "default"], "collective_seq_id": number,
             "profiling_name": operation, "input_sizes": [[4]], "input_dtypes": ["Float"]}
            for number in numbers
        ]  # fmt: skip
        return lambda: json.dumps({"entries": entries}).encode()

    c10d = torch._C._distributed_c10d
    monkeypatch.setattr(c10d, "_dump_fr_trace_json", recorder("gloo:barrier", 1), raising=False)
    monkeypatch.setattr(c10d, "_dump_nccl_trace_json", recorder("nccl:all_reduce", 1, 2), raising=False)
    call = flight_recorder.last_call()
    assert call is not None
    assert (call["operation"], call["number"]) == ("all_reduce", 2)
    monkeypatch.setattr(c10d, "_dump_nccl_trace_json", recorder("nccl:all_reduce"), raising=False)
    call = flight_recorder.last_call()
    assert call is not None
    assert call["operation"] == "barrier"


def chattering(context: RankContext) -> Iterator[Json]:
    for number in range(400):
        print(f"line {number}", flush=True)
        if number % 20 == 0:
            yield {}
    yield {"done": True}


def test_reading_what_a_rank_prints_takes_nothing_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    healthy = rank_process.RankProcess.read

    def read(self: rank_process.RankProcess) -> bool:
        news = healthy(self)
        found.append(self.log_tail(100_000))
        return news

    monkeypatch.setattr(rank_process.RankProcess, "read", read)
    assert run(chattering, 1).failure is None
    assert found[-1].splitlines() == [f"line {number}" for number in range(400)]


def test_an_exchange_without_partners_times_out() -> None:
    with anonymous_file("board") as file:
        board = StatusBoard(file.fileno(), 2)
        with pytest.raises(TimeoutError, match="rank 1 did not arrive"):
            board.exchange(0, 1.0, 0.05)
        board.close()


def test_watchdogs_are_the_users_unless_a_group_shortens_their_dumps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TORCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", "15000")
    (told,), _ = run(its_environment).reports
    assert told == {"TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC": "15000", "TORCH_FR_BUFFER_SIZE": "64"}
    accelerator = cpu()
    with distributed_launcher.rank_group(
        its_environment, accelerator, place(accelerator, 1), {}, timeout_s=30.0, short_watchdog_dumps=True
    ) as group:
        while not group.processes[0].finished and group.processes[0].open:
            rank_process.read_reports(group.processes, 1.0)
    (told,) = group.processes[0].collected
    for library in ("FR", "NCCL", "XCCL", "MCCL", "HCCL"):
        assert told[f"TORCH_{library}_WAIT_TIMEOUT_DUMP_MILSEC"] == "250"
        assert told[f"TORCH_{library}_DUMP_ON_TIMEOUT"] == "0"
    assert os.environ["TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC"] == "15000"


def dying(context: RankContext) -> None:
    if context.rank == 1 and context.settings.get("dies"):
        support.kill_oneself()


class Resting(Cpu):
    """Devices that cannot be used together for a while after a process of theirs was killed."""

    cooldown_s = 7.5


@pytest.mark.parametrize(("settings", "rests"), [({}, []), ({"dies": True}, [7.5])])
def test_devices_are_left_alone_after_a_rank_was_killed(settings: Json, rests: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: slept.append(seconds) if seconds == 7.5 else sleep(seconds))
    accelerator = Accelerator(cpu().facts, Resting(), seed=7)
    run_ranks(dying, accelerator, place(accelerator, 2), settings, patience_s=10.0)
    assert slept == rests


def test_no_rank_leaves_an_image_of_its_memory() -> None:
    def limit(_: RankContext) -> Iterator[Json]:
        yield {"core": resource.getrlimit(resource.RLIMIT_CORE)[0]}

    assert [report["core"] for (report,) in run(limit).reports] == [0, 0]
