"""`multichip.links`: healthy ranks, every defect it claims to see planted, and what cannot be told."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

from readiness.accelerators.base import Accelerator
from readiness.accelerators.cpu import Cpu
from readiness.datamodel import Evidence, Measurement, Status
from readiness.distributed import Placement, RanksOutcome
from readiness.probes.links import measurements, repeated_allreduce, stragglers
from readiness.probes.links import rank as links_rank
from readiness.probes.links.reports import CallReport, HostStalls
from readiness.probes.ranks_common.call_timings import CallTimings
from readiness.probes.ranks_common.host_pauses import StallDetector, stalled_s
from readiness.probes.ranks_common.process_groups import pairings, pairs
from tests.support import cpu, run_check, value, values
from tests.support import ranks as support
from tests.support.multichip import Simulated, chips, machine
from tests.support.simulator import defect

SMALL: dict[str, Any] = {"repeats": 120, "rounds": 4, "block_mib": 0.25, "most_mib": 0.25, "interruption_s": 1.0}
#: Where sums are not what is looked at: too few to seem slower than at first, and be repeated, on a busy host.
FEW_SUMS: dict[str, Any] = {"repeats": 12}
#: Ranks that work by themselves do so for a tenth of the time, and sum less meanwhile: it is half of most tests.
FEW_PRODUCTS: dict[str, int] = {"REPETITIONS": 3, "EXCHANGED_BYTES": 2**20, "EXCHANGING_TURNS": 1}
#: What they are of their own accord.
ALL_PRODUCTS = {name: getattr(stragglers, name) for name in FEW_PRODUCTS}
#: How often ranks that look slow are given further turns, and what share of the fastest link's speed has others tried again.
FURTHER, DOUBTFUL_SHARE = stragglers.FURTHER, links_rank.DOUBTFUL_SHARE


@pytest.fixture(autouse=True)
def _few_products(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in FEW_PRODUCTS.items():
        monkeypatch.setattr(stragglers, name, few)


@pytest.fixture(autouse=True)
def _once_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks slow is not tried again and again: beside other tests nearly all does, and no test asks a speed of this host."""
    once(monkeypatch.setattr)
    monkeypatch.setattr(stragglers, "FURTHER", 0)


def once(set_: Callable[[Any, str, object], object]) -> None:
    """Of links and sums, no slow ones are tried again; and this host is told of as one that keeps no rank waiting."""
    set_(links_rank, "in_line_s", lambda: 0.0)
    set_(repeated_allreduce, "in_line_s", lambda: 0.0)
    set_(links_rank, "DOUBTFUL_SHARE", 1e-9)
    set_(links_rank, "LATER_SHARE", 0.0)
    set_(repeated_allreduce, "DOUBTFUL_SHARE", 0.0)


def checked(accelerator: Accelerator | None = None, **settings: Any) -> Evidence:
    evidence = run_check("multichip.links", accelerator or chips(3), **{**SMALL, **settings})
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


def about(evidence: Evidence, name: str, **where: str) -> str:
    """What the one poor value of this name is about."""
    (found,) = [
        item.about
        for item in evidence.measurements
        if item.name == name and item.about and where.items() <= dict(item.labels).items()
    ]
    assert "\n" not in found
    assert len(found) < 300
    return found


def spoil(name: str, rank: int, when: Callable[[int, torch.Tensor], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Around every call of `torch.distributed.NAME` on the rank something happens after it, told its number."""
    healthy, calls = getattr(dist, name), [0]

    def faulty(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        result = healthy(tensor, *arguments, **options)
        if dist.get_rank() == rank:
            when(calls[0], tensor)
        return result

    monkeypatch.setattr(dist, name, faulty)


@pytest.mark.parametrize(("seed", "number"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)])
def test_healthy_ranks_are_right_and_uninterrupted(seed: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, usual in ALL_PRODUCTS.items():
        if name == "REPETITIONS" or number <= 3:  # among more ranks the large sums take most of the time
            monkeypatch.setattr(stragglers, name, usual)
    evidence = checked(chips(number, seed), repeats=SMALL["repeats"] if number <= 3 else 40)
    where = {"ranks": str(max(number, 2)), "chips": "several" if number > 1 else "one", "world": "all"}
    assert value(evidence, "completed", **where) == 1
    assert value(evidence, "wrong_elements", op="all_reduce", **where) == 0
    assert value(evidence, "wrong_elements", op="send_recv", **where) == 0
    assert value(evidence, "rank_mismatches", **where) == 0
    assert value(evidence, "interruptions", **where) == 0
    assert value(evidence, "link_gbps", **where) > 0
    assert 0 < value(evidence, "straggler_share", load="alone", **where) <= 1
    assert value(evidence, "straggler_delay_s", **where) >= 0
    assert all(kept > 0 for kept in values(evidence, "collective_speed_kept", **where))
    unknown = [row for row in evidence.rows if "slowest_link_share" in row]  # on a busy host
    assert len(values(evidence, "slowest_link_share")) + len(unknown) == (number >= 3)


def test_blocks_grow_until_their_start_is_a_small_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_rank, "LONG_ENOUGH_S", 10.0)
    sizes: dict[str, Any] = {"block_mib": 2**-5, "most_mib": 2.1}
    evidence = checked(chips(3), **sizes, **FEW_SUMS)
    assert {row["bytes"] for row in evidence.rows if "link" in row} == {2**21}  # twice eightfold
    assert value(evidence, "completed") == 1
    assert value(evidence, "wrong_elements", op="send_recv") == 0
    monkeypatch.setattr(links_rank, "LONG_ENOUGH_S", 0.0)
    assert {row["bytes"] for row in checked(chips(3), **sizes, **FEW_SUMS).rows if "link" in row} == {2**15}


def test_ranks_on_one_chip_have_no_links_to_compare() -> None:
    evidence = checked(cpu(), ranks=3, **FEW_SUMS)
    assert value(evidence, "completed", ranks="3", chips="one") == 1
    assert values(evidence, "slowest_link_share") == []


def test_one_wrong_sum_in_five_hundred_names_call_and_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil("all_reduce", 1, lambda call, tensor: call % 500 == 0 and tensor[5].add_(1), monkeypatch)
    evidence = checked(chips(2), repeats=520, budget_s=60.0)
    assert value(evidence, "wrong_elements", op="all_reduce") >= 1  # how many calls fit into the time differs
    assert value(evidence, "wrong_elements", op="send_recv") == 0
    reasons = about(evidence, "wrong_elements")
    assert "rank 1 (cpu:1), all_reduce number 500" in reasons
    assert "at index 5" in reasons
    assert value(evidence, "rank_mismatches") >= 1
    assert "hold different sums" in about(evidence, "rank_mismatches")


def test_a_fault_in_one_dtype_is_reported_with_the_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil("all_reduce", 1, lambda _, tensor: tensor.dtype is torch.bfloat16 and tensor[0].add_(2), monkeypatch)
    evidence = checked()
    reasons = about(evidence, "wrong_elements")
    assert reasons.startswith("all_reduce in bfloat16: ")
    assert "in every case with rank 1 (cpu:1)" in reasons


def test_equally_wrong_ranks_are_no_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in (0, 1):
        spoil("all_reduce", rank, lambda call, tensor: call == 40 and tensor.mul_(2), monkeypatch)
    evidence = checked(chips(2))
    assert value(evidence, "wrong_elements", op="all_reduce") > 0
    assert value(evidence, "rank_mismatches") == 0


def test_a_block_that_arrives_wrong_names_its_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil("recv", 2, lambda call, tensor: call == 7 and tensor[9].neg_(), monkeypatch)
    evidence = checked(**FEW_SUMS)
    assert value(evidence, "wrong_elements", op="send_recv") >= 1
    assert "rank 2 (cpu:2)" in about(evidence, "wrong_elements")
    assert value(evidence, "wrong_elements", op="all_reduce") == 0


def delay(names: tuple[str, ...], rank: int, wait_s: Callable[[int], float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each of these calls the rank waits so long, told how many of them it has made."""
    calls = [0]

    def slowed(healthy: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if dist.is_initialized() and dist.get_rank() == rank:
                calls[0] += 1
                time.sleep(wait_s(calls[0]))
            return healthy(*arguments, **options)

        return call

    for name in names:
        owner = torch if name == "mm" else dist
        monkeypatch.setattr(owner, name, slowed(getattr(owner, name)))


def test_a_slow_chip_spoils_all_its_links_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_rank, "DOUBTFUL_SHARE", DOUBTFUL_SHARE)
    delay(("send", "recv"), 3, lambda _: 0.05, monkeypatch)
    evidence = checked(chips(4), **FEW_SUMS)
    assert value(evidence, "slowest_link_share") < 0.3
    assert "every link of rank 3 (cpu:3)" in about(evidence, "slowest_link_share")
    assert value(evidence, "interruptions") == 0
    assert value(evidence, "completed") == 1


def test_a_link_that_is_slow_from_some_day_on_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only large transfers show it: to begin one takes longer than a small one's bytes."""
    healthy, sums = dist.send, [0]
    healthy_sum = dist.all_reduce

    def counted(*arguments: Any, **options: Any) -> Any:
        sums[0] += 1
        return healthy_sum(*arguments, **options)

    def slow(tensor: torch.Tensor, target: int, *arguments: Any, **options: Any) -> None:
        began = time.monotonic()
        healthy(tensor, target, *arguments, **options)
        if sums[0] > 50 and {dist.get_rank(), target} == {1, 2}:
            time.sleep(2 * (time.monotonic() - began) + 0.01)

    monkeypatch.setattr(dist, "all_reduce", counted)
    monkeypatch.setattr(dist, "send", slow)
    evidence = checked()
    assert value(evidence, "link_speed_kept") < 0.5
    assert about(evidence, "link_speed_kept").startswith("the link between rank 1 (cpu:1), rank 2 (cpu:2): ")


def test_a_single_slow_link_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_rank, "DOUBTFUL_SHARE", DOUBTFUL_SHARE)
    healthy = dist.send

    def slow(tensor: torch.Tensor, target: int, *arguments: Any, **options: Any) -> None:
        time.sleep(0.1 if {dist.get_rank(), target} == {1, 2} else 0)
        healthy(tensor, target, *arguments, **options)

    monkeypatch.setattr(dist, "send", slow)
    evidence = checked(chips(4), **FEW_SUMS)
    assert value(evidence, "slowest_link_share") < 0.3
    assert about(evidence, "slowest_link_share").startswith("the link between rank 1 (cpu:1), rank 2 (cpu:2):")


@pytest.mark.parametrize("name", ["all_reduce", "recv"])
def test_a_link_that_goes_and_comes_back_is_counted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = 60 if name == "all_reduce" else 3
    delay((name,), 1, lambda call: 2.6 if call == at else 0, monkeypatch)
    evidence = checked(chips(2))
    assert value(evidence, "interruptions") == 1
    took = re.search(r"between rank 0 \(cpu:0\), rank 1 \(cpu:1\) took ([\d.]+) s", about(evidence, "interruptions"))
    assert took is not None
    assert float(took[1]) >= 2.5
    assert value(evidence, "completed") == 1


@pytest.mark.parametrize("number", [2, 3])
def test_a_rank_that_computes_slowly_is_named(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    delay(("mm",), 1, lambda _: 0.05, monkeypatch)
    evidence = checked(chips(number), **FEW_SUMS)
    assert value(evidence, "straggler_share", load="alone") < 0.3
    assert about(evidence, "straggler_share", load="alone").startswith("rank 1 (cpu:1): a product of width ")


def test_a_chip_that_takes_twice_as_long_is_named(on_simulated_chips: Simulated) -> None:
    slow = machine(defect("slow", "mm", severity=0.5, chip=[2]), chips=3)

    def prepare() -> None:
        once(setattr)
        vars(stragglers).update(FEW_PRODUCTS)

    evidence = on_simulated_chips("multichip.links", slow, prepare=prepare, **SMALL)
    assert value(evidence, "straggler_share", load="alone") < 0.8
    reasons = about(evidence, "straggler_share", load="alone")
    assert reasons.startswith("rank 2 (sim:2): a product of width ")
    assert reasons.endswith(" turns")


def test_a_chip_that_is_slow_only_while_it_exchanges_is_named(on_simulated_chips: Simulated) -> None:
    slow = machine(defect("slow", "mm", severity=0.1, chip=[1], exchanging=True), chips=3)
    evidence = on_simulated_chips("multichip.links", slow, prepare=lambda: once(setattr), **SMALL)
    assert value(evidence, "straggler_share", load="exchanging") < 0.5
    assert about(evidence, "straggler_share", load="exchanging").startswith("rank 1 (sim:1): a product of width ")
    assert value(evidence, "straggler_share", load="alone") > value(evidence, "straggler_share", load="exchanging")
    paces = {(row["load"], row["rank"]): row for row in evidence.rows if "variation" in row}
    assert {("alone", rank) for rank in range(3)} | {("together", rank) for rank in range(3)} <= set(paces)
    assert all(row["best_s"] <= row["median_s"] and row["variation"] >= 0 for row in paces.values())


def test_a_rank_that_was_slow_for_a_while_alone_is_given_further_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever shares the host with it may have been what was slow."""
    monkeypatch.setattr(stragglers, "FURTHER", FURTHER)
    requested = {"turns": 0}

    def products(context: Any) -> dict[str, list[float]]:
        requested["turns"] += 1
        return {"256": [4e-4 if context.rank == 1 and requested["turns"] <= 8 else 2e-4]}

    monkeypatch.setattr(stragglers, "_products", products)
    evidence = checked(chips(2), **FEW_SUMS)
    assert value(evidence, "straggler_share", load="alone") == 1.0
    monkeypatch.setattr(stragglers, "_products", lambda context: {"256": [4e-4 if context.rank == 1 else 2e-4]})
    evidence = checked(chips(2), **FEW_SUMS)
    assert value(evidence, "straggler_share", load="alone") == 0.5
    assert about(evidence, "straggler_share", load="alone").endswith(" in 24 of 24 turns")


def test_the_luck_of_another_makes_no_rank_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy host a rank may once be much faster than all are in the other turns, in which this one may even be ahead."""
    monkeypatch.setattr(stragglers, "FURTHER", FURTHER)
    requested = {"turns": 0}

    def products(context: Any) -> dict[str, list[float]]:
        requested["turns"] += 1
        return {"256": [2.9e-4 if context.rank == 1 else 2e-4 if requested["turns"] == 3 else 3e-4]}

    monkeypatch.setattr(stragglers, "_products", products)
    assert value(checked(chips(2), **FEW_SUMS), "straggler_share", load="alone") == 1.0
    assert value(checked(chips(3), **FEW_SUMS), "straggler_share", load="alone") == 1.0


@pytest.mark.parametrize("number", [2, 3])
def test_a_rank_that_is_late_in_collectives_is_named(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    delay(("all_reduce",), 1, lambda _: 0.05, monkeypatch)
    evidence = checked(chips(number), budget_s=1.0, **FEW_SUMS)
    assert value(evidence, "straggler_delay_s") > 0.03
    assert about(evidence, "straggler_delay_s").startswith("rank 1 (cpu:1): all_reduce with itself takes ")
    assert value(evidence, "completed") == 1


def test_a_collective_that_becomes_slow_keeps_little_of_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    delay(("all_reduce",), 0, lambda call: 0.02 if call > 90 else 0, monkeypatch)
    evidence = checked(chips(2), budget_s=60.0)  # as many sums as are asked for, also where each takes long
    assert value(evidence, "collective_speed_kept", block="small") < 0.4
    assert "at the end" in about(evidence, "collective_speed_kept", block="small")


@pytest.mark.parametrize(
    ("fault", "what"), [(support.kill_oneself, "died"), (support.fail, "raised"), (support.leave, "died")]
)
def test_a_rank_that_fails_is_named_and_only_what_was_done_before_is_reported(
    fault: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    support.at_call("all_reduce", 100, 2, fault, monkeypatch)
    evidence = checked()
    assert value(evidence, "completed", world="all") == 0
    assert about(evidence, "completed").startswith("caused by rank 2 (cpu:2): rank 2")
    assert "all_reduce number 100" in about(evidence, "completed")
    (row,) = [row for row in evidence.rows if "trouble" in row]
    assert (row["trouble"], row["culprit_chips"]) == (what, "cpu:2")
    told = {item.name for item in evidence.measurements} - {"slowest_link_share"}  # unknown on a busy host
    assert told == {"completed", "link_gbps"}


def test_links_that_were_not_all_measured_are_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    support.at_call("send", 20, 2, support.kill_oneself, monkeypatch)
    evidence = checked()
    assert "rank 2" in about(evidence, "completed")
    assert {item.name for item in evidence.measurements} == {"completed"}


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_hang_of_the_twentieth_sum_is_reported_with_its_number(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch)
    support.at_call("all_reduce", 20, 1, support.hang, monkeypatch)
    evidence = checked(chips(number), patience_s=3.0)
    assert value(evidence, "completed") == 0
    assert values(evidence, "link_speed_kept") == [], "what came after the sums nobody knows"
    reasons = about(evidence, "completed")
    assert "rank 1" in reasons
    assert "in all_reduce number 20" in reasons


def test_results_that_were_wrong_before_a_hang_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil("all_reduce", 0, lambda call, tensor: call == 30 and tensor[0].add_(1), monkeypatch)
    support.patient_until_the_fault(monkeypatch)
    support.at_call("all_reduce", 60, 1, support.hang, monkeypatch)
    evidence = checked(chips(2), patience_s=3.0)
    assert value(evidence, "completed") == 0
    assert value(evidence, "wrong_elements", op="all_reduce") == 1
    assert value(evidence, "rank_mismatches") == 1


def test_a_rank_that_hangs_at_work_of_its_own_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch)
    monkeypatch.setattr(stragglers, "_products", lambda context: support.hang() if context.rank == 2 else {"256": [1e-3]})
    reasons = about(checked(patience_s=3.0, **FEW_SUMS), "completed")
    assert reasons.startswith("caused by rank 2 (cpu:2)")
    assert "products of rank 2 alone" in reasons


def test_a_hang_of_a_transfer_names_its_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch)
    support.hang_between(1, 2, monkeypatch)
    evidence = checked(patience_s=3.0)
    assert about(evidence, "completed").startswith("caused by rank 1 (cpu:1), rank 2 (cpu:2)")


def test_a_library_without_transfers_is_measured_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    support.without_transfers(monkeypatch)
    evidence = checked()
    assert value(evidence, "completed") == 1
    assert values(evidence, "link_gbps") == values(evidence, "slowest_link_share") == []
    assert values(evidence, "wrong_elements", op="send_recv") == []
    assert any(row.get("unsupported") == "send_recv" for row in evidence.rows)


def test_a_refused_type_is_left_out() -> None:
    evidence = checked(chips(2), dtypes=["int16", "float32"])
    assert value(evidence, "wrong_elements", op="all_reduce") == 0
    assert any(row.get("unsupported") == "all_reduce in int16" for row in evidence.rows)
    nothing = checked(chips(2), dtypes=["int16"])
    assert values(nothing, "wrong_elements", op="all_reduce") == values(nothing, "rank_mismatches") == []
    assert values(nothing, "collective_speed_kept") == []


class WantsAChipForEachRank(Cpu):
    collective_backend = "nccl"


def test_one_chip_that_ranks_cannot_share_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_backend_available", lambda name: True)
    evidence = run_check("multichip.links", Accelerator(cpu().facts, WantsAChipForEachRank()))
    assert evidence.status is Status.SKIPPED
    assert evidence.measurements == ()


@pytest.mark.parametrize("world_size", range(2, 18))
def test_everybody_meets_everybody(world_size: int) -> None:
    rounds = pairings(world_size)
    met = [pair for subgroups in rounds for pair in subgroups]
    assert len(met) == len(set(met)) == world_size * (world_size - 1) // 2
    for subgroups in rounds:
        busy = [rank for pair in subgroups for rank in pair]
        assert len(busy) == len(set(busy)) >= world_size - 1
    taken = pairs(world_size)
    assert len(taken) == min(len(met), 28)
    assert {rank for pair in taken for rank in pair} == set(range(world_size))


def test_timings_distinguish_early_from_late_and_long_from_usual() -> None:
    timings, clock = CallTimings(), 0.0
    for number in range(100):
        seconds = 0.001 if number < 80 else 0.004
        seconds = 0.5 if number == 30 else seconds
        timings.add(number, clock, seconds)
        clock += seconds
    summary = timings.summary(0.4)
    assert [(number, seconds) for number, _, seconds in summary.interruptions] == [(30, 0.5)]
    assert summary.first[0] == 0.001
    assert (summary.median, summary.longest, summary.calls) == (0.001, 0.5, 100)
    slow = CallTimings([(number, number * 1.0, 0.01 if number < 50 else 0.05) for number in range(100)]).summary(0.4)
    assert (slow.first[0], slow.last[0]) == (0.01, 0.05)


def call_report(calls: list[tuple[int, float, float]]) -> CallReport:
    return CallReport("all_reduce", (0, 1), CallTimings(calls).summary(0.4), "small")


def link_values(*stalls: tuple[tuple[float, float], ...]) -> dict[str, float]:
    """What is measured of a group whose one long call began at 5 s and took 4 s, with these stalls on its ranks."""
    report = call_report([(number, number * 0.1, 4.0 if number == 50 else 0.001) for number in range(100)])
    outcome = RanksOutcome(tuple((report, HostStalls(of_rank)) if of_rank else (report,) for of_rank in stalls), None, 1.0)
    reasons = measurements.links(outcome, Placement((cpu().facts,) * 2))
    return {item.name: float(item.value) for item in reasons if isinstance(item, Measurement)}


@pytest.mark.parametrize(
    ("stalls", "interruptions"),
    [
        (((), ()), 1),
        (((), ((4.9, 9.1),)), 0),                # one rank stood still all the while
        ((((5.0, 7.0), (7.2, 9.0)), ()), 0),     # all but 0.2 s
        ((((5.0, 8.0),), ()), 0),                # what is left is what a busy host does
        ((((5.0, 7.0),), ((5.0, 7.0),)), 1),     # both at the same time: half of it
        ((((1.0, 5.1),), ((8.9, 12.0),)), 1),    # before and after
    ],
)  # fmt: skip
def test_a_host_that_stands_still_is_no_link_that_went_away(stalls: Any, interruptions: int) -> None:
    assert link_values(*stalls)["interruptions"] == interruptions


@pytest.mark.parametrize(("longest", "times", "interruptions"), [(0.9, 2, 0), (0.9, 3, 3), (1.6, 1, 1), (0.3, 9, 0)])
def test_short_interruptions_count_where_they_come_back(longest: float, times: int, interruptions: int) -> None:
    calls = [(number, number * 2.0, longest if number < times else 0.001) for number in range(100)]
    report = call_report(calls)
    reasons = measurements.links(RanksOutcome(((report,), (report,)), None, 1.0), Placement((cpu().facts,) * 2))
    found = [item.value for item in reasons if isinstance(item, Measurement) and item.name == "interruptions"]
    assert found == [interruptions]


def test_a_pause_of_the_host_is_noted_when_it_could_not_run() -> None:
    looked = threading.Event()

    def clock() -> float:
        looked.set()
        return time.monotonic()

    detector = StallDetector(clock)
    looked.wait()
    began = time.monotonic()
    sum(range(30_000_000))  # one call in C that keeps the interpreter
    until = time.monotonic()
    deadline = time.monotonic() + 60
    while stalled_s(detector.stalls, began, until - began) <= (until - began) / 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stalled_s(detector.stalls, began, until - began) > (until - began) / 2


def test_a_few_calls_prove_no_speed_kept() -> None:
    report = call_report([(number, number * 1.0, 1.0) for number in range(12)])
    outcome = RanksOutcome(((report,), (report,)), None, 1.0)
    placement = Placement((cpu().facts,) * 2)
    assert not [item for item in measurements.links(outcome, placement) if getattr(item, "name", "") == "collective_speed_kept"]
