"""`multichip.bandwidth`: formulas, healthy ranks, every defect it claims to see planted, and what cannot be told."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.distributed as dist

from readiness.accelerators.base import Accelerator
from readiness.accelerators.interconnect import Links
from readiness.accelerators.remote_devices import Host, on_host
from readiness.datamodel import AcceleratorFacts, Evidence, Measurement, Row, Status
from readiness.distributed import Placement, RanksOutcome
from readiness.probes.bandwidth import link_counters, measurements, tail_latency, transfers, transport_baseline
from readiness.probes.bandwidth import rank as bandwidth_rank
from readiness.probes.bandwidth.bus_bandwidth import blocks, bus_factor, group_sizes
from readiness.probes.bandwidth.reports import CollectiveTimes, LinkState, TailTimes
from readiness.probes.ranks_common import message_sizes
from tests.support import cpu, run_check, value, values
from tests.support import ranks as support
from tests.support.multichip import Simulated, chips, machine
from tests.support.simulator import defect

#: Messages grow, and tails are as long, where a test is about that.
SMALL: dict[str, Any] = {
    "bytes": [8, 4096, 65536], "samples": 2, "block_mib": 0.25, "most_mib": 1.0, "tail_calls": 20, "budget_s": 3.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _once_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks slow is not tried again and again: beside other tests most does, and no test asks a speed of this host."""
    monkeypatch.setattr(transfers, "DOUBTFUL_SHARE", 0.0)
    monkeypatch.setattr(bandwidth_rank, "DOUBTFUL_SHARE", 0.0)
    monkeypatch.setattr(tail_latency, "DOUBTFUL_RATIO", math.inf)


def checked(accelerator: Accelerator | None = None, **settings: Any) -> Evidence:
    evidence = run_check("multichip.bandwidth", accelerator or chips(4), **{**SMALL, **settings})
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


def about(evidence: Evidence, name: str, **where: str) -> str:
    (found,) = [
        item.about for item in evidence.measurements if item.name == name and where.items() <= dict(item.labels).items()
    ]
    assert found is not None
    assert len(found) < 300
    return found


@pytest.mark.parametrize(
    ("op", "ranks", "factor"),
    [
        ("all_reduce", 2, 1.0), ("all_reduce", 8, 1.75), ("all_gather", 4, 0.75), ("reduce_scatter", 8, 0.875),
        ("all_to_all", 2, 0.5), ("broadcast", 8, 1.0), ("send_recv", 2, 1.0),
    ],
)  # fmt: skip
def test_factors_are_those_of_nccl_tests(op: str, ranks: int, factor: float) -> None:
    assert bus_factor(op, ranks) == factor


def test_groups_are_powers_of_two_and_all() -> None:
    assert [group_sizes(ranks) for ranks in (2, 3, 4, 6, 8, 16)] == [[2], [2, 3], [2, 4], [2, 4, 6], [2, 4, 8], [2, 4, 8, 16]]
    assert blocks(8, 2) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert blocks(16, 2) == [(0, 1), (4, 5), (8, 9), (12, 13)]
    assert blocks(6, 4) == [(0, 1, 2, 3)]


@pytest.mark.parametrize(("seed", "number"), [(1, 2), (2, 3), (3, 4), (4, 5)])
def test_healthy_ranks_are_measured_in_every_way(seed: int, number: int) -> None:
    evidence = checked(chips(number, seed), tail_calls=200 if number == 2 else 100)
    where = {"ranks": str(number), "chips": "several", "world": "all"}
    assert value(evidence, "completed", **where) == 1
    assert value(evidence, "wrong_results", **where) == 0
    for op in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast"):
        here = {**where, "op": op, "group": str(number)}
        bus = value(evidence, "bus_gbps", bytes="65536", **here)
        assert bus == pytest.approx(value(evidence, "algorithm_gbps", bytes="65536", **here) * bus_factor(op, number))
        assert value(evidence, "latency_us", bytes="8", **here) > 0
    assert (values(evidence, "group_bus_share", group="2") != []) == (number > 2)
    assert 0 < value(evidence, "share_of_raw", raw="socket", **where) <= value(evidence, "most_of_raw", **where)
    assert value(evidence, "latency_us", op="send_recv") > 0
    assert value(evidence, "overlap_ratio") > 0
    assert value(evidence, "both_ways_gain") > 0
    for host in ("included", "excluded"):
        assert value(evidence, "longest_ratio", host=host) >= value(evidence, "tail_ratio", host=host) >= 1
    assert len([row for row in evidence.rows if "link" in row]) == number * (number - 1) // 2


def test_messages_and_blocks_grow_while_they_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for item in (transfers, bandwidth_rank):  # quick is what this machine is, however busy
        monkeypatch.setattr(item, "LONG_ENOUGH_S", 10.0)
    evidence = checked(chips(2), most_mib=0.5, budget_s=60.0)
    assert sorted({int(item.labels["bytes"]) for item in evidence.measurements if item.name == "bus_gbps"}) == [4096, 65536, 524288]
    evidence = checked(chips(3), most_mib=4.1, budget_s=60.0)
    sizes = {(item.labels["group"], int(item.labels["bytes"])) for item in evidence.measurements if item.name == "bus_gbps"}
    assert sizes == {("3", 4096), *((group, size) for group in "23" for size in (65536, 524288, 4194304))}
    assert value(evidence, "wrong_results") == 0
    for op in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast"):
        assert value(evidence, "peak_bus_gbps", op=op) == max(values(evidence, "bus_gbps", op=op, group="3"))
    links = [row for row in evidence.rows if "link" in row]
    assert {row["bytes"] for row in links} == {2097152}
    slowest = min(float(str(row["gigabytes_a_second"])) for row in links)
    assert value(evidence, "link_gbps") == pytest.approx(slowest, abs=5e-4)


def test_a_slow_library_gets_no_larger_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    for item in (transfers, bandwidth_rank):
        monkeypatch.setattr(item, "LONG_ENOUGH_S", 0.0)
    evidence = checked(chips(2))
    assert max(int(item.labels["bytes"]) for item in evidence.measurements if item.name == "bus_gbps") == 65536
    assert {row["bytes"] for row in evidence.rows if "link" in row} == {262144}


@pytest.mark.parametrize("poverty", [("HOST_BYTES", 10**9), ("DEVICE_SHARE", 1e-12)])
def test_hosts_and_devices_without_memory_get_no_larger_messages(poverty: tuple[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    for item in (transfers, bandwidth_rank):
        monkeypatch.setattr(item, "LONG_ENOUGH_S", 10.0)
    monkeypatch.setattr(message_sizes, *poverty)
    evidence = checked(chips(2))
    assert max(int(item.labels["bytes"]) for item in evidence.measurements if item.name == "bus_gbps") == 65536
    assert {row["bytes"] for row in evidence.rows if "link" in row} == {262144}


@pytest.mark.parametrize("op", ["all_reduce", "all_to_all_single"])
def test_an_error_that_large_messages_alone_have_is_seen(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth_rank, "LONG_ENOUGH_S", 10.0)
    healthy = getattr(dist, op)

    def faulty(out: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        result = healthy(out, *arguments, **options)
        if dist.get_rank() == 1 and out.numel() > 10**6:
            out.copy_(out.roll(2**18))  # every value is there, a mebibyte further
        return result

    monkeypatch.setattr(dist, op, faulty)
    evidence = checked(chips(2), bytes=[8, 524288], most_mib=8.0, budget_s=60.0)
    assert value(evidence, "wrong_results") > 0
    reasons = about(evidence, "wrong_results")
    assert reasons.startswith(f"{op.removesuffix('_single')}: wrong on rank ")
    assert reasons.endswith("rank 1 (cpu:1)")


@pytest.mark.parametrize(("slow_calls", "least", "most"), [(10**6, 0, 0.3), (6, 0.1, 100)])
def test_small_groups_that_stay_slow_are_reported(slow_calls: int, least: float, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is slow the first time alone is measured again: that was the host."""
    healthy, calls = dist.all_to_all_single, [0]
    monkeypatch.setattr(bandwidth_rank, "DOUBTFUL_SHARE", 0.6)

    def slow(out: torch.Tensor, given: torch.Tensor, group: Any = None, **options: Any) -> Any:
        calls[0] += group is not None
        time.sleep(0.4 if group is not None and calls[0] <= slow_calls else 0)
        return healthy(out, given, group=group, **options)

    monkeypatch.setattr(dist, "all_to_all_single", slow)
    evidence = checked(chips(3), most_mib=0)
    where = {"op": "all_to_all", "group": "2"}
    assert least < value(evidence, "group_bus_share", **where) < most
    reasons = about(evidence, "group_bus_share", **where)
    assert reasons.startswith("all_to_all of 65536 bytes between rank 0 (cpu:0), rank 1 (cpu:1): ")
    assert reasons.endswith(" GB/s between all 3")


def test_the_cpu_has_no_counters_of_links_and_none_is_made_up() -> None:
    evidence = checked(chips(2))
    assert values(evidence, "link_faults") == values(evidence, "link_retries") == []


def test_a_timed_result_that_is_wrong_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = dist.all_to_all_single

    def faulty(out: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        result = healthy(out, *arguments, **options)
        if dist.get_rank() == 2 and out.numel() == 1024:
            out[3] += 1
        return result

    monkeypatch.setattr(dist, "all_to_all_single", faulty)
    evidence = checked()
    assert value(evidence, "wrong_results") == 3
    assert about(evidence, "wrong_results") == "all_to_all: wrong on rank 2 (cpu:2)"


def test_a_collective_that_does_nothing_is_wrong_however_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "all_reduce", lambda *_, **__: None)
    assert value(checked(chips(2)), "wrong_results") > 0


def test_a_slow_link_has_a_small_share_of_the_raw_one(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = dist.send

    def slow(tensor: torch.Tensor, target: int, *arguments: Any, **options: Any) -> None:
        time.sleep(0.1 if {dist.get_rank(), target} == {1, 2} and tensor.numel() > 1 else 0)
        healthy(tensor, target, *arguments, **options)

    monkeypatch.setattr(dist, "send", slow)
    evidence = checked()
    assert value(evidence, "share_of_raw") < 0.1
    assert about(evidence, "share_of_raw").startswith("the link between rank 1 (cpu:1), rank 2 (cpu:2): ")
    assert value(evidence, "usual_share_of_raw") > 2 * value(evidence, "share_of_raw")


def test_calls_that_take_long_now_and_then_make_a_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy, calls = dist.all_reduce, [0]
    monkeypatch.setattr(tail_latency, "DOUBTFUL_RATIO", 6.0)
    monkeypatch.setattr(tail_latency, "MOST_SERIES", 2)

    def late(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        calls[0] += tensor.numel() == 4096
        if dist.get_rank() == 1 and tensor.numel() == 4096 and calls[0] % 40 == 0:
            time.sleep(0.5)
        return healthy(tensor, *arguments, **options)

    monkeypatch.setattr(dist, "all_reduce", late)
    evidence = checked(chips(2), tail_calls=200)
    assert value(evidence, "tail_ratio", host="excluded") > 5
    assert "of 200 calls, half take " in about(evidence, "tail_ratio", host="excluded")


def test_links_of_a_simulated_machine(on_simulated_chips: Simulated) -> None:
    """Links as fast as they are, with a counter that moved though all results were right; then at a twentieth of their speed."""
    usual = {**SMALL, "block_mib": 1.0}
    moved = defect("counter", chip=[1], options={"link_errors": 3, "link_retries": 5})
    healthy = on_simulated_chips("multichip.bandwidth", machine(moved, chips=2), **usual)
    assert value(healthy, "completed") == 1
    assert value(healthy, "wrong_results") == 0
    assert (value(healthy, "link_faults"), value(healthy, "link_retries")) == (3, 5)
    assert about(healthy, "link_faults") == "link_errors of sim:1 rose by 3"
    slow = on_simulated_chips("multichip.bandwidth", machine(defect("link-slow", severity=0.05), chips=2), **usual)
    assert value(slow, "completed") == 1
    assert value(slow, "link_faults") == value(slow, "link_retries") == 0
    assert value(slow, "share_of_raw") < value(healthy, "share_of_raw") / 2


def counter_values(risen: Any, number: int = 2) -> dict[str, Measurement]:
    placement = Placement(tuple(facts for facts in chips(number).peers))
    return {item.name: item for item in link_counters.rise_measurements(risen, placement) if isinstance(item, Measurement)}


def test_counters_that_not_every_chip_has_prove_no_health() -> None:
    assert counter_values({"cpu:0": {"nvlink_crc_flit": 0}, "cpu:1": None}) == {}
    assert counter_values({"cpu:0": {"ecc_uncorrected": 9}, "cpu:1": {"ecc_uncorrected": 0}}) == {}
    reasons = counter_values({"cpu:0": {"nvlink_crc_flit": 2}, "cpu:1": None})
    assert reasons["link_faults"].value == 2
    reasons = counter_values({"cpu:0": {"nvlink_crc_flit": 0, "pcie_replays": 4}, "cpu:1": {"nvlink_crc_flit": 0, "pcie_replays": 0}})
    assert (reasons["link_faults"].value, reasons["link_retries"].value) == (0, 4)
    assert reasons["link_retries"].about == "pcie_replays of cpu:0 rose by 4"


def test_a_chip_with_fewer_links_up_than_another_is_reported() -> None:
    placement = Placement(tuple(chips(3).peers))

    def reasons(*counts: int | None) -> list[Measurement]:
        states = {rank: LinkState(None, None if count is None else Links(count)) for rank, count in enumerate(counts)}
        return [item for item in link_counters.links_up(placement, states) if isinstance(item, Measurement)]

    (found,) = reasons(18, 17, 18)
    assert (found.name, found.value, found.samples) == ("links_up_share", 17 / 18, 3)
    assert found.about == "cpu:1 has 17 links up, cpu:0 18"
    assert [item.value for item in reasons(8, 8, 8)] == [1]
    assert reasons(18, None, 18) == reasons(None, None, None) == reasons(0, 0, 0) == []
    assert [item.value for item in reasons(0, 18, 18)] == [0]
    assert list(link_counters.links_up(placement, {})) == []
    assert list(link_counters.links_up(Placement(placement.ranks[:1]), {0: LinkState(None, Links(4))})) == []


def link_values(*gbps: float | None, host: str | None = None, peers: int | None = None) -> dict[str, Measurement]:
    """What is told of an all_gather between all ranks, 1 GB of which takes 10 ms, where their links carry so much."""
    times = CollectiveTimes("all_gather", 10**9, tuple(range(len(gbps))), (0.01,), 0)
    reports = tuple((times, LinkState(None, None if rate is None else Links(18, rate, peers))) for rate in gbps)
    facts = list(chips(len(gbps)).peers)
    if host is not None:
        facts[-1] = on_host(Host(host, ("ssh", host), "10.0.0.1"), facts[-1])
    reasons = measurements.bandwidth(RanksOutcome(reports, None, 1.0), Placement(tuple(facts)))
    return {item.name: item for item in reasons if isinstance(item, Measurement)}


def test_what_is_reached_is_held_against_what_links_carry() -> None:
    found = link_values(400.0, 375.0, 400.0, 400.0)
    assert found["peak_bus_gbps"].value == pytest.approx(75)
    assert found["share_of_links"].value == pytest.approx(0.2)
    assert found["share_of_links"].labels["op"] == "all_gather"
    assert found["share_of_links"].about == (
        "all_gather of 1000000000 bytes between rank 0 (cpu:0) to rank 3 (cpu:3): 75 GB/s of the 375 GB/s that a chip's links carry"
    )
    for gbps in ((400.0, None), (None, None), (400.0, 0.0)):
        assert "share_of_links" not in link_values(*gbps)
    assert "share_of_links" not in link_values(400.0, 400.0, host="node2"), "between hosts other links count"
    assert "share_of_links" not in link_values(400.0, 400.0, peers=7), "most links go to chips that take no part"
    assert "share_of_links" not in link_values(400.0, 400.0, 400.0, 400.0, peers=1), "bridges join pairs, and the rest is slower"
    assert link_values(400.0, 400.0, peers=1)["share_of_links"].value == pytest.approx(50 / 400)
    assert link_values(400.0, 400.0, 400.0, 400.0, peers=3)["share_of_links"].value == pytest.approx(75 / 400)


def test_what_links_carry_is_not_known_where_the_time_was_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth_rank, "LONG_ENOUGH_S", 10.0)
    evidence = checked(chips(2), budget_s=1e-6, most_mib=4.1)
    sizes = {int(item.labels["bytes"]) for item in evidence.measurements if item.name == "bus_gbps"}
    assert sizes == {4096, 65536}, "what was asked for is measured all the same"
    assert values(evidence, "peak_bus_gbps") == []
    assert any("none beyond 65536 bytes" in str(row.get("messages")) for row in evidence.rows)


class ConnectClock:
    """A clock of which connecting takes a second, and all else no time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return time.perf_counter()


def test_to_connect_takes_no_time_of_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy, clock = bandwidth_rank._connect, ConnectClock()

    def slow(*arguments: Any) -> None:
        healthy(*arguments)
        clock.now += 1.0

    monkeypatch.setattr(bandwidth_rank, "_connect", slow)
    monkeypatch.setattr(bandwidth_rank, "time", clock)
    for item in (transfers, bandwidth_rank):
        monkeypatch.setattr(item, "LONG_ENOUGH_S", 10.0)
    evidence = checked(chips(2), budget_s=0.9, most_mib=0.5, samples=1, bytes=[8, 65536])
    assert max(int(item.labels["bytes"]) for item in evidence.measurements if item.name == "bus_gbps") == 524288


def test_pairs_without_a_raw_connection_are_reported_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_baseline, "connection", lambda *_: contextlib.nullcontext(None))
    evidence = checked(chips(2))
    assert value(evidence, "completed") == 1
    assert values(evidence, "link_gbps") == []
    assert any(row.get("refused") == "raw connection" or "raw connection" in str(dict(row)) for row in evidence.rows)


def test_counters_of_another_host_are_those_that_its_rank_read() -> None:
    """Both chips are at the same place of their host's bus: this host's counters are not theirs."""
    class Counting(type(cpu().stack)):  # type: ignore[misc]
        def counters(self, facts: AcceleratorFacts) -> Mapping[str, int] | None:
            return {"nvlink_replays": 7, "nvlink_crc_flit": 1}

    here = dataclasses.replace(cpu().facts, counters={"nvlink_replays": 5, "nvlink_crc_flit": 1})
    there = on_host(Host("node2", ("ssh", "node2"), "10.0.0.1"), dataclasses.replace(here, counters={"nvlink_replays": 1}))
    placement = Placement((here, there))
    found = link_counters.counter_rises(Counting(), placement, {1: LinkState({"nvlink_replays": 4}, None)})
    assert found == {"cpu:0": {"nvlink_crc_flit": 0, "nvlink_replays": 2}, "node2/cpu:0": {"nvlink_replays": 3}}
    assert link_counters.counter_rises(Counting(), placement, {})["node2/cpu:0"] is None


def test_settings_that_hide_failing_links_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "HCCL_OP_RETRY_ENABLE", "L1:1")
    rows = [item for item in link_counters.rise_measurements({}, Placement(chips(2).peers)) if isinstance(item, Row)]
    assert [row.cells for row in rows] == [{"retry_setting": "HCCL_OP_RETRY_ENABLE", "value": "L1:1"}]


def test_a_call_is_as_long_as_on_its_slowest_rank_and_the_hosts_share_is_distinguished() -> None:
    seconds = [[0.001] * 98 + [0.001, 0.05], [0.002] * 98 + [0.1, 0.001]]
    waited = [[0.0] * 98 + [0.0, 0.049], [0.0] * 100]
    reports = tuple((TailTimes(0, tuple(s), tuple(w), 0),) for s, w in zip(seconds, waited, strict=True))
    reasons = measurements.bandwidth(RanksOutcome(reports, None, 1.0), Placement(chips(2).peers))
    found = {(m.name, m.labels.get("host")): m.value for m in reasons if isinstance(m, Measurement)}
    assert found["longest_ratio", "included"] == pytest.approx(50)
    assert found["tail_ratio", "included"] == pytest.approx(25)
    assert found["tail_ratio", "excluded"] == pytest.approx(1)
    assert found["longest_ratio", "excluded"] == pytest.approx(50)


def test_a_rank_that_dies_is_named_and_no_speed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    support.at_call("broadcast", 5, 3, support.kill_oneself, monkeypatch)
    evidence = checked()
    assert value(evidence, "completed") == 0
    assert about(evidence, "completed").startswith("caused by rank 3 (cpu:3)")
    assert {item.name for item in evidence.measurements} == {"completed"}


def test_a_hang_between_two_is_reported_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch)
    support.hang_between(1, 3, monkeypatch)
    evidence = checked(patience_s=3.0)
    assert about(evidence, "completed").startswith("caused by rank 1 (cpu:1), rank 3 (cpu:3)")


def test_a_library_without_transfers_is_measured_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    support.without_transfers(monkeypatch)
    evidence = checked()
    assert value(evidence, "completed") == 1
    assert values(evidence, "share_of_raw") == []
    assert values(evidence, "bus_gbps") != []
    assert any(row.get("unsupported") == "send and recv" for row in evidence.rows)


def test_a_stack_without_collectives_is_not_measured() -> None:
    class Without(type(cpu().stack)):  # type: ignore[misc]
        collective_backend = None

    evidence = run_check("multichip.bandwidth", Accelerator(cpu().facts, Without()))
    assert evidence.status is Status.SKIPPED
    assert evidence.measurements == ()
