"""`multichip.drills`: what gloo makes of each fault, stacks that fail the drill, and what cannot be told."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist

from readiness.accelerators.base import Accelerator
from readiness.accelerators.cpu import Cpu
from readiness.datamodel import Evidence, Status
from readiness.distributed import rank_monitor, rank_process
from readiness.distributed.flight_recorder import WATCHDOG_DUMP_S
from readiness.distributed.rank_process import RankProcess
from readiness.probes.rank_faults import measurements, parent
from readiness.probes.rank_faults import rank as rank_faults_rank
from readiness.probes.rank_faults.fault_injection import RankResponse
from readiness.probes.rank_faults.faults import RANK_FAULTS, ErrorRaised, Fault, FaultInjected, Guard, RankFault
from tests.support import cpu, disk_full, run_check, value, values
from tests.support import ranks as support

LOSSES = (Fault.KILLED, Fault.STOPPED, Fault.ABSENT, Fault.RAISING)
MISTAKES = (Fault.COLLECTIVE, Fault.SHAPE, Fault.BYTES, Fault.SAME_BYTES)


def chips(number: int) -> Accelerator:
    facts = [dataclasses.replace(cpu().facts, id=f"cpu:{index}", index=index) for index in range(number)]
    return Accelerator(facts[0], cpu().stack, seed=7, peers=facts)


def checked(
    monkeypatch: pytest.MonkeyPatch, *drills: RankFault, accelerator: Accelerator | None = None, **settings: Any
) -> Evidence:
    """The evidence of these drills alone."""
    monkeypatch.setattr(parent, "RANK_FAULTS", drills)
    evidence = run_check("multichip.drills", accelerator or chips(3), **settings)
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


def about(evidence: Evidence, name: str, **where: str) -> str:
    (reply,) = [
        item.about or "" for item in evidence.measurements if item.name == name and where.items() <= dict(item.labels).items()
    ]
    assert len(reply) < 300
    return reply


def test_nothing_is_noticed_where_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = checked(monkeypatch, RankFault(Fault.NONE))
    assert value(evidence, "survived", drill="none") == 1
    assert value(evidence, "silent", drill="none") == 0
    assert value(evidence, "completed", ranks="3", chips="several", world="all") == 1
    assert values(evidence, "noticed") == []


@pytest.mark.parametrize("fault", LOSSES)
def test_a_rank_that_is_lost_is_noticed_and_the_others_stop(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = checked(monkeypatch, RankFault(fault), timeout_s=1.5)
    assert value(evidence, "completed") == 1
    assert value(evidence, "noticed", drill=fault.value, guard="none") == 1
    assert value(evidence, "others_stopped") == 1
    assert value(evidence, "silent") == 0
    assert value(evidence, "named_culprit", by="stack") == 0  # gloo speaks of ports
    assert value(evidence, "named_culprit", by="watchdog") == 1
    if fault in (Fault.STOPPED, Fault.ABSENT):  # whose connections stay: the timeout alone can tell
        # Of the call that was under way: on a busy machine the others may have begun it before the fault.
        assert value(evidence, "noticed_after_s") > 0.5
    (row,) = [row for row in evidence.rows if row.get("drill") == fault.value]
    assert row["culprit"] in ("rank 1 (cpu:1)", "rank 2 (cpu:2)")
    assert set(row["noticed_after_s"]) == {"0", "1", "2"} - {row["culprit"][5]}
    assert row["culprit"][:6] in row["from_outside"]


@pytest.mark.parametrize("fault", LOSSES)
def test_a_library_that_ends_processes_once_its_watchdog_has_written(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch's for NCCL does: the others know when they are ended, and their end is no fault of theirs."""
    monkeypatch.setenv("TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", "60000")  # what the user has told it is not waited for
    support.with_a_watchdog(monkeypatch)
    evidence = checked(monkeypatch, RankFault(fault), timeout_s=1.5, patience_s=4.0)
    assert value(evidence, "completed") == 1
    assert value(evidence, "noticed", drill=fault.value) == 1
    assert value(evidence, "others_stopped") == 1
    assert value(evidence, "named_culprit", by="watchdog") == 1
    assert 1 < value(evidence, "noticed_after_s") < 60
    assert values(evidence, "left_group") == []  # nobody was left to leave it: that is not a pass


@pytest.mark.parametrize("fault", MISTAKES)
def test_a_call_that_does_not_match_is_refused_under_the_guard(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = checked(monkeypatch, RankFault(fault, Guard.DETAIL), timeout_s=20.0)  # which nobody waits for
    assert value(evidence, "noticed", drill=fault.value, guard="detail") == 1
    assert value(evidence, "silent") == 0
    assert value(evidence, "usable_after") == 1
    assert value(evidence, "others_stopped") == 1
    assert value(evidence, "named_culprit", by="stack") == 1
    assert value(evidence, "named_culprit", by="watchdog") == 1


@pytest.mark.parametrize("fault", MISTAKES[:3])
def test_without_the_guard_a_mismatch_ends_ranks_or_times_out(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = checked(monkeypatch, RankFault(fault), timeout_s=1.5)
    assert value(evidence, "noticed", guard="none") == 1
    assert value(evidence, "others_stopped") == 1
    assert value(evidence, "silent") == 0


def test_waiting_for_a_rank_ended_by_its_watchdog_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a call of other shapes one rank may be served and return, while the watchdog of another ends that."""

    healthy = rank_faults_rank._trigger_fault

    def meet_fault(sums: Any, *arguments: Any, **options: Any) -> Any:
        sums.run = lambda count: 0
        yield from healthy(sums, *arguments, **options)

    monkeypatch.setattr(rank_faults_rank, "_trigger_fault", meet_fault)
    monkeypatch.setattr(rank_faults_rank._Sums, "mismatched_call", lambda *_: os.abort())
    evidence = checked(monkeypatch, RankFault(Fault.SHAPE), timeout_s=1.0)
    assert value(evidence, "others_stopped") == 1, evidence.rows
    assert values(evidence, "usable_after") == []


def test_a_slow_start_is_no_fault_as_long_as_it_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = rank_faults_rank._Sums.run

    def slow(self: Any, count: int) -> int:
        time.sleep(0.2)
        return healthy(self, count)

    monkeypatch.setattr(rank_faults_rank._Sums, "run", slow)
    evidence = checked(monkeypatch, RankFault(Fault.NONE), start_s=8.0)  # forty sums, and four seconds in which nothing may move
    assert value(evidence, "completed") == 1
    assert value(evidence, "survived") == 1


class ConnectsSlowly(Cpu):
    connect_timeout_s = 20.0


def test_devices_have_their_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy, takes_s = dist.new_group, [3.0]

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(*takes_s)
        return healthy(*arguments, **options)

    monkeypatch.setattr(dist, "new_group", slow)
    facts = [dataclasses.replace(cpu().facts, id=f"cpu:{index}", index=index) for index in range(2)]
    evidence = checked(monkeypatch, RankFault(Fault.NONE), accelerator=Accelerator(facts[0], ConnectsSlowly(), peers=facts), start_s=4.0)
    assert value(evidence, "completed") == 1
    takes_s[:] = [600.0]
    evidence = checked(monkeypatch, RankFault(Fault.NONE), accelerator=chips(2), start_s=4.0)
    assert value(evidence, "completed") == 0


def test_types_of_the_same_size_are_silent_garbage_on_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = checked(monkeypatch, RankFault(Fault.SAME_BYTES), timeout_s=20.0)  # which nobody waits for
    assert value(evidence, "noticed") == 0
    assert value(evidence, "silent") == 3
    assert "wrong results without an error on rank 0 (cpu:0), rank 1 (cpu:1), rank 2 (cpu:2)" in about(evidence, "silent")
    assert value(evidence, "usable_after") == 1
    assert value(evidence, "completed") == 1


def test_a_cut_link_is_noticed_and_a_short_cut_and_losses_are_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = (Fault.CUT, Fault.SHORT_CUT, Fault.LOSSY)
    evidence = checked(monkeypatch, *map(RankFault, faults), timeout_s=4.0)
    assert value(evidence, "noticed", drill="cut link") == 1
    assert value(evidence, "others_stopped", drill="cut link") == 1
    assert value(evidence, "named_culprit", drill="cut link", by="watchdog") == 1
    assert value(evidence, "retransmissions", drill="lossy link") > 0
    assert value(evidence, "survived", drill="link cut for a moment") == 1
    assert value(evidence, "survived", drill="lossy link") == 1
    (row,) = [row for row in evidence.rows if row.get("drill") == "link cut for a moment"]
    assert row["longest_sum_s"] > 0.4


def test_an_absent_rank_is_named_by_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = checked(monkeypatch, RankFault(Fault.ABSENT, Guard.DETAIL), timeout_s=1.5)
    assert value(evidence, "named_culprit", by="stack") == 1


def never_coming_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a function of torch.distributed wait on where it should raise."""
    healthy = getattr(dist, name)

    def deaf(*arguments: Any, **options: Any) -> Any:
        try:
            return healthy(*arguments, **options)
        except RuntimeError:
            return support.hang()

    monkeypatch.setattr(dist, name, deaf)


def test_a_silent_stack_fails_and_the_check_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    never_coming_back("all_reduce", monkeypatch)
    evidence = checked(monkeypatch, RankFault(Fault.ABSENT), RankFault(Fault.NONE), timeout_s=1.0, patience_s=2.0)
    assert value(evidence, "noticed") == 0
    assert "the stack did not notify rank 0 (cpu:0)" in about(evidence, "noticed")
    assert values(evidence, "noticed_after_s") == []
    assert value(evidence, "others_stopped") == 0
    assert value(evidence, "named_culprit", by="watchdog") == 1
    assert value(evidence, "survived", drill="none") == 1


def test_ranks_that_cannot_leave_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = dist.destroy_process_group
    monkeypatch.setattr(dist, "destroy_process_group", lambda: support.hang() if dist.get_rank() == 0 else healthy())
    evidence = checked(monkeypatch, RankFault(Fault.RAISING), patience_s=2.0)
    assert value(evidence, "noticed") == 1
    assert value(evidence, "left_group") == 0.5
    assert "leaving the group hung on rank 0 (cpu:0)" in about(evidence, "left_group")
    assert value(evidence, "others_stopped") == 1  # a job may end its process all the same


def test_ranks_that_cannot_end_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_faults_rank, "_leave", lambda context: support.hang() if context.rank == 0 else iter(()))
    evidence = checked(monkeypatch, RankFault(Fault.RAISING), patience_s=2.0)
    assert value(evidence, "noticed") == 1
    assert value(evidence, "others_stopped") == 0.5
    assert "rank 0 (cpu:0) could not stop" in about(evidence, "others_stopped")


def test_a_group_that_sums_wrong_does_not_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    support.corrupt("all_reduce", 5, 1, monkeypatch, lambda tensor: tensor[7].add_(1))
    evidence = checked(monkeypatch, RankFault(Fault.NONE))
    assert value(evidence, "survived") == 0
    assert value(evidence, "silent") == 1
    assert "on rank 1 (cpu:1)" in about(evidence, "survived")


@pytest.mark.parametrize("fault", [support.kill_oneself, support.leave])
def test_a_rank_that_exits_by_itself_is_named_and_nothing_else_is_reported(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    support.at_call("all_reduce", 20, 2, fault, monkeypatch)
    evidence = checked(monkeypatch, RankFault(Fault.NONE), RankFault(Fault.KILLED))
    assert [item.name for item in evidence.measurements] == ["completed"]
    assert about(evidence, "completed").startswith("caused by rank 2 (cpu:2): rank 2")
    (row,) = [row for row in evidence.rows if "not_held" in row]
    assert row["culprit_chips"] == "cpu:2"


def test_a_rank_that_finds_no_room_on_the_disk_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    support.at_call("all_reduce", 20, 2, disk_full, monkeypatch)
    with pytest.raises(OSError, match=r"rank 2 .*No space left on device"):
        checked(monkeypatch, RankFault(Fault.NONE))


def test_a_hang_before_the_fault_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch)
    support.at_call("all_reduce", 20, 1, lambda: support.hang(), monkeypatch)
    evidence = checked(monkeypatch, RankFault(Fault.NONE), start_s=8.0)
    assert value(evidence, "completed") == 0
    assert "all_reduce of 4096 x float32" in about(evidence, "completed")


def test_an_injection_prevented_by_a_busy_host_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed_out(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("Timed out waiting 2000ms for recv operation to complete")

    monkeypatch.setattr(dist, "new_group", timed_out)
    evidence = checked(monkeypatch, RankFault(Fault.KILLED))
    assert [item.name for item in evidence.measurements] == ["completed"]
    assert value(evidence, "completed") == 1
    assert any("Timed out" in str(row.get("not_held")) for row in evidence.rows)


def test_of_two_ranks_that_call_differently_neither_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = checked(monkeypatch, RankFault(Fault.SHAPE, Guard.DETAIL), accelerator=chips(2), timeout_s=20.0)
    assert value(evidence, "noticed") == 1
    assert values(evidence, "named_culprit") == []


class WantsAChipForEachRank(Cpu):
    collective_backend = "nccl"


def test_one_chip_that_ranks_cannot_share_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_backend_available", lambda name: True)
    evidence = run_check("multichip.drills", Accelerator(cpu().facts, WantsAChipForEachRank()))
    assert evidence.status is Status.SKIPPED
    assert evidence.measurements == ()


def test_links_are_cut_only_where_all_data_pass_through_tcp() -> None:
    assert parent._no_links_to_cut(Accelerator(cpu().facts, WantsAChipForEachRank())) is not None
    assert parent._no_links_to_cut(cpu()) is None or os.uname().sysname != "Linux"


def reply(words: str) -> RankResponse:
    return RankResponse((ErrorRaised(1.0, words),), None, None, words)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["Rank 0 is running collective: X, but Rank 2 is running collective: Y"], {2}),
        (["[Rank 0]: Ranks 1, 3 failed to pass monitoredBarrier in 2000 ms"], {1, 3}),
        (["received errors while waiting for send/recv from rank 0. Please check rank 0 logs for faulty rank"] * 2, set()),
        (["Connection closed by peer [127.0.0.1]:4242"], set()),
        (["[rank0]: Watchdog caught collective operation timeout"], set()),
        (["remote process exited: rank=3"], {3}),
        (["Received a dump signal due to a collective timeout from  rank 2 and we will try our best to dump"], set()),
    ],
)
def test_ranks_named_by_a_stack_are_parsed(words: Sequence[str], named: set[int]) -> None:
    assert measurements.named_by_stack({rank: reply(text) for rank, text in enumerate(words)}) == named


def test_every_fault_is_injected_after_a_control_run() -> None:
    assert RANK_FAULTS[0].fault is Fault.NONE
    assert {one.fault for one in RANK_FAULTS} == set(Fault)
    assert len(set(RANK_FAULTS)) == len(RANK_FAULTS)


def test_parts_are_bounded_so_that_sums_are_exact() -> None:
    from readiness.distributed.types import RankContext

    contexts: list[RankContext] = [RankContext(rank, 5, cpu(), {}, None) for rank in range(5)]  # type: ignore[arg-type]
    for dtype in (torch.float32, torch.bfloat16, torch.int32):
        total = sum(rank_faults_rank._Sums(context, None).part(100, dtype).double() for context in contexts)
        assert torch.equal(torch.as_tensor(total), rank_faults_rank._Sums(contexts[0], None).known(100).expected.double())


def test_a_pause_of_the_whole_job_is_no_silence_of_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suspended after the fault for longer than the monitor has patience, monitor and ranks alike."""
    timeout_s, patience_s = 2.0, 1.0
    healthy = rank_process.read_reports
    ticks_since_fault = 0

    def pausing(processes: Sequence[RankProcess], wait_s: float) -> bool:
        nonlocal ticks_since_fault
        news = healthy(processes, wait_s)
        if any(isinstance(report, FaultInjected) for process in processes for report in process.collected):
            ticks_since_fault += 1
        if ticks_since_fault == 20:  # by now the others wait for the rank that stays away, and no mark moves any more
            pids = [process.handle.pid for process in processes]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(timeout_s + patience_s + WATCHDOG_DUMP_S + 1.0)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        return news

    monkeypatch.setattr(rank_monitor, "read_reports", pausing)
    evidence = checked(monkeypatch, RankFault(Fault.ABSENT), timeout_s=timeout_s, patience_s=patience_s)
    assert ticks_since_fault > 20
    assert value(evidence, "noticed") == 1
    assert value(evidence, "others_stopped") == 1
