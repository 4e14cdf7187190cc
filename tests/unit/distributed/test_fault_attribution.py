"""Who is to blame: causes before victims, in every order in which they are noticed."""

from __future__ import annotations

import itertools

import pytest

from readiness.distributed.fault_attribution import RankSnapshot, attribute_fault, ended_by_watchdog, is_victim
from readiness.distributed.status_board import Mark
from readiness.distributed.types import Failure, FailureKind, Json

IN_SUM = Mark(3, 2, "all_reduce")
AFTER_SUM = Mark(2, 2, "all_reduce")
LOST = "RuntimeError: [pair.cc:544] Connection closed by peer [127.0.0.1]:4242"


def judged(*snapshots: RankSnapshot, stalled: bool = False) -> Failure:
    """The same failure in whatever order the ranks are looked at."""
    found = {attribute_fault(order, stalled=stalled, waited_s=5) for order in itertools.permutations(snapshots)}
    assert len({(failure.kind, frozenset(failure.culprits)) for failure in found}) == 1
    return attribute_fault(snapshots, stalled=stalled, waited_s=5)


def test_a_signal_comes_before_the_exceptions_of_those_who_lost_that_rank() -> None:
    failure = judged(
        RankSnapshot(0, IN_SUM, exit_code=1, error=LOST),
        RankSnapshot(1, IN_SUM, exit_code=-9),
        RankSnapshot(2, AFTER_SUM, state="sleeping"),
    )
    assert (failure.kind, failure.culprits) == (FailureKind.DIED, (1,))
    assert "SIGKILL in all_reduce" in failure.reason


WATCHDOG = "[rank2]:[E] [Rank 2] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE)"

GONE = "[Rank 0] NCCL watchdog thread terminated with exception: NCCL error: remote process exited or there was a network error"


@pytest.mark.parametrize(
    ("exit_code", "log", "expected"),
    [
        (-6, WATCHDOG, True), (-6, "ran for 2001 milliseconds before timing out.", True), (-9, WATCHDOG, False),
        (-6, GONE, True), (-6, GONE.replace("remote process exited", "unhandled cuda error"), False),
        (None, WATCHDOG, False), (1, WATCHDOG, False), (-6, "double free or corruption", False), (-6, "", False),
    ],
)  # fmt: skip
def test_a_watchdogs_end_is_recognised(exit_code: int | None, log: str, expected: bool) -> None:
    assert ended_by_watchdog(exit_code, log) is expected


def test_those_that_a_watchdog_ended_are_victims() -> None:
    victims = [RankSnapshot(rank, IN_SUM, exit_code=-6, ended_by_watchdog=True) for rank in (0, 2)]
    failure = judged(*victims, RankSnapshot(1, IN_SUM, exit_code=-9))
    assert (failure.kind, failure.culprits) == (FailureKind.DIED, (1,))
    failure = judged(*victims, RankSnapshot(1, IN_SUM, state="stopped"))
    assert (failure.kind, failure.culprits) == (FailureKind.FROZEN, (1,))
    failure = judged(*victims, RankSnapshot(1, AFTER_SUM))
    assert (failure.kind, failure.culprits) == (FailureKind.BEHIND, (1,))
    failure = judged(*victims, RankSnapshot(1, AFTER_SUM, exit_code=1, error="ArithmeticError: no"))
    assert (failure.kind, failure.culprits) == (FailureKind.RAISED, (1,))
    failure = judged(*victims, RankSnapshot(1, IN_SUM, exit_code=-6))
    assert (failure.kind, failure.culprits) == (FailureKind.DIED, (1,)), "it aborted of its own"
    failure = judged(*victims, RankSnapshot(1, IN_SUM, exit_code=-6, ended_by_watchdog=True))
    assert failure.culprits == (), "all waited for each other"


def test_a_stopped_rank_comes_before_those_behind() -> None:
    failure = judged(RankSnapshot(0, IN_SUM), RankSnapshot(1, AFTER_SUM, state="stopped"), RankSnapshot(2, AFTER_SUM), stalled=True)
    assert (failure.kind, failure.culprits) == (FailureKind.FROZEN, (1,))


def test_a_rank_that_stays_away_is_named_when_nothing_moves() -> None:
    failure = judged(RankSnapshot(0, IN_SUM), RankSnapshot(1, AFTER_SUM), RankSnapshot(2, IN_SUM), stalled=True)
    assert (failure.kind, failure.culprits) == (FailureKind.BEHIND, (1,))
    assert "rank 1 is after all_reduce" in failure.reason


def test_a_rank_that_never_began_is_named() -> None:
    failure = judged(RankSnapshot(0, Mark(1, 0, "joining")), RankSnapshot(1, Mark(0, 0, "")), stalled=True)
    assert (failure.kind, failure.culprits) == (FailureKind.BEHIND, (1,))
    assert "before its first operation" in failure.reason


def test_a_hang_of_all_ranks_in_one_operation_names_none() -> None:
    failure = judged(RankSnapshot(0, IN_SUM), RankSnapshot(1, IN_SUM), stalled=True)
    assert (failure.kind, failure.culprits, failure.operation) == (FailureKind.HUNG, (), "all_reduce")


def test_a_cause_comes_before_victims_words_and_before_a_slower_rank() -> None:
    failure = judged(
        RankSnapshot(0, IN_SUM, error=LOST), RankSnapshot(1, Mark(2, 1, "training step"), error="ArithmeticError: no"), RankSnapshot(2, AFTER_SUM)
    )
    assert (failure.kind, failure.culprits) == (FailureKind.RAISED, (1,))


def test_ranks_that_lost_each_other_without_a_cause_name_none() -> None:
    failure = judged(RankSnapshot(0, IN_SUM, error=LOST), RankSnapshot(1, IN_SUM, error=LOST))
    assert (failure.kind, failure.culprits) == (FailureKind.RAISED, ())


def test_the_rank_that_is_behind_is_named_when_the_others_timed_out() -> None:
    timed_out = "RuntimeError: Timed out waiting 5000ms for recv operation to complete"
    failure = judged(RankSnapshot(0, IN_SUM, error=timed_out), RankSnapshot(1, AFTER_SUM))
    assert (failure.kind, failure.culprits) == (FailureKind.BEHIND, (1,))


def test_leaving_without_a_word_is_dying() -> None:
    failure = judged(RankSnapshot(0, IN_SUM, error=LOST), RankSnapshot(1, AFTER_SUM, exit_code=0))
    assert (failure.kind, failure.culprits) == (FailureKind.DIED, (1,))


@pytest.mark.parametrize(
    ("words", "victim"),
    [
        (LOST, True),
        ("RuntimeError: Application timeout caused pair closure", True),
        ("DistBackendError: NCCL error: remote process exited or there was a network error", True),
        ("ArithmeticError: the matrix unit gave up", False),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_victims_words(words: str, victim: bool) -> None:
    assert is_victim(words) is victim


def call(operation: str = "all_reduce", size: int = 8, dtype: str = "Float", number: int = 3, group: str = "0") -> Json:
    return {"group": group, "number": number, "operation": operation, "sizes": [[size]], "dtypes": [dtype]}


def test_the_rank_that_calls_otherwise_than_most_is_named() -> None:
    timed_out = "RuntimeError: Timed out waiting 2000ms for recv operation to complete"
    for odd in (call("broadcast"), call(size=9), call(dtype="Int")):
        for error in (None, timed_out):
            snapshots = [RankSnapshot(rank, IN_SUM, error=error, call=odd if rank == 1 else call()) for rank in range(3)]
            failure = judged(*snapshots, stalled=error is None)
            assert (failure.kind, failure.culprits) == (FailureKind.MISMATCHED, (1,))
            assert "collective number 3 differs between ranks" in failure.reason


def test_two_ranks_with_different_calls_name_none() -> None:
    failure = judged(RankSnapshot(0, IN_SUM, call=call()), RankSnapshot(1, IN_SUM, call=call("broadcast")), stalled=True)
    assert (failure.kind, failure.culprits) == (FailureKind.MISMATCHED, ())


def test_a_library_that_gives_up_over_another_ranks_call_is_a_victim() -> None:
    aborted = RankSnapshot(0, IN_SUM, exit_code=-6)
    others = [RankSnapshot(1, IN_SUM, call=call(size=9)), RankSnapshot(2, IN_SUM, call=call()), RankSnapshot(3, IN_SUM, call=call())]
    failure = judged(aborted, *others)
    assert (failure.kind, failure.culprits) == (FailureKind.MISMATCHED, (1,))
    alone = judged(aborted, RankSnapshot(1, IN_SUM, call=call()), RankSnapshot(2, IN_SUM, call=call()))
    assert (alone.kind, alone.culprits) == (FailureKind.DIED, (0,))
    assert judged(RankSnapshot(0, IN_SUM, exit_code=-11), *others).culprits == (0,)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (call(), call()),
        (call(), call(number=4, size=9)),            # one is ahead: that is no mismatch
        (call(), call(group="7", size=9)),           # other teams call other things
        (call("gather", 8), call("gather", 9)),      # parts may be of different sizes
        (call("all_to_all", 8), call("all_to_all", 9)),
    ],
)  # fmt: skip
def test_calls_that_may_differ_are_no_mismatch(one: Json, other: Json) -> None:
    failure = judged(RankSnapshot(0, IN_SUM, call=one), RankSnapshot(1, IN_SUM, call=other), RankSnapshot(2, IN_SUM, call=one), stalled=True)
    assert (failure.kind, failure.culprits) == (FailureKind.HUNG, ())


def test_a_cause_comes_before_a_mismatch() -> None:
    raised = RankSnapshot(1, IN_SUM, error="ArithmeticError: no", call=call(size=9))
    failure = judged(RankSnapshot(0, IN_SUM, call=call()), raised, RankSnapshot(2, IN_SUM, call=call()))
    assert (failure.kind, failure.culprits) == (FailureKind.RAISED, (1,))


def test_a_rank_without_heartbeat_is_named_among_hanging_ones() -> None:
    failure = judged(RankSnapshot(0, IN_SUM), RankSnapshot(1, IN_SUM, silent_s=9.0), RankSnapshot(2, AFTER_SUM, silent_s=0.2), stalled=True)
    assert (failure.kind, failure.culprits) == (FailureKind.FROZEN, (1,))
    assert "no thread of any rank makes progress: rank 1 in all_reduce" in failure.reason


def test_missing_heartbeats_of_all_ranks_are_a_stalled_machine() -> None:
    failure = judged(RankSnapshot(0, IN_SUM, silent_s=9.0), RankSnapshot(1, IN_SUM, silent_s=9.0), stalled=True)
    assert (failure.kind, failure.culprits) == (FailureKind.HUNG, ())


def test_a_wire_that_is_dead_comes_before_a_rank_that_is_behind() -> None:
    snapshots = [RankSnapshot(0, IN_SUM), RankSnapshot(1, AFTER_SUM), RankSnapshot(2, IN_SUM)]
    one = attribute_fault(snapshots, stalled=True, waited_s=5, dead_links={(0, 2)})
    assert (one.kind, one.culprits) == (FailureKind.UNREACHABLE, ())
    assert "between rank 0 and rank 2" in one.reason
    both = attribute_fault(snapshots, stalled=True, waited_s=5, dead_links={(0, 2), (1, 2)})
    assert (both.kind, both.culprits) == (FailureKind.UNREACHABLE, (2,))
    apart = attribute_fault([*snapshots, RankSnapshot(3, IN_SUM)], stalled=True, waited_s=5, dead_links={(0, 2), (1, 3)})
    assert apart.culprits == ()


def test_a_signal_and_a_cause_come_before_a_dead_wire() -> None:
    dead = attribute_fault([RankSnapshot(0, IN_SUM), RankSnapshot(1, IN_SUM, exit_code=-9)], stalled=False, waited_s=5, dead_links={(0, 1)})
    assert (dead.kind, dead.culprits) == (FailureKind.DIED, (1,))
    raised = attribute_fault([RankSnapshot(0, IN_SUM), RankSnapshot(1, IN_SUM, error="ArithmeticError: no")], stalled=False, waited_s=5, dead_links={(0, 1)})
    assert (raised.kind, raised.culprits) == (FailureKind.RAISED, (1,))


def test_a_rank_without_the_call_in_its_flight_recorder_is_named() -> None:
    """It marked the call as entered, and hangs before the library recorded it."""
    waiting, missing = call(number=20) | {"numbers": {"0": 20}}, call(number=19) | {"numbers": {"0": 19}}
    failure = judged(RankSnapshot(0, IN_SUM, call=waiting), RankSnapshot(1, IN_SUM, call=missing), stalled=True)
    assert (failure.kind, failure.culprits) == (FailureKind.BEHIND, (1,))
    assert "rank 1 in all_reduce" in failure.reason
    timed_out = "RuntimeError: Timed out waiting 2000ms for recv operation to complete"
    failure = judged(RankSnapshot(0, IN_SUM, error=timed_out, call=waiting), RankSnapshot(1, IN_SUM, call=missing), RankSnapshot(2, IN_SUM, call=waiting))
    assert (failure.kind, failure.culprits) == (FailureKind.BEHIND, (1,))


def test_ranks_of_other_groups_are_not_behind() -> None:
    one, other = call(group="1", number=9) | {"numbers": {"0": 3, "1": 9}}, call(group="2") | {"numbers": {"0": 3, "2": 3}}
    failure = judged(RankSnapshot(0, IN_SUM, call=one), RankSnapshot(1, IN_SUM, call=other), stalled=True)
    assert (failure.kind, failure.culprits) == (FailureKind.HUNG, ())
