"""Measurements of `multichip.bandwidth` from the reports of its ranks. Pure.

Of a group that did not finish only wrong results are reported, and what was refused.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from readiness.datamodel import Labels, Measurement, Row, Yield
from readiness.distributed.types import LONGEST_ABOUT, Placement, RanksOutcome
from readiness.probes.bandwidth import link_counters
from readiness.probes.bandwidth.bus_bandwidth import bus_factor
from readiness.probes.bandwidth.reports import CollectiveTimes, LinkState, OverlapTimes, PairTimes, TailTimes, TimeUp
from readiness.probes.ranks_common import settling
from readiness.probes.ranks_common.measurements import pair_matrix, unsupported
from readiness.probes.ranks_common.process_groups import Subgroup

if TYPE_CHECKING:
    from readiness.accelerators.base import Stack

#: Fewer calls than these have no hundredth.
LEAST_CALLS = 100
#: Bus bandwidth and what it is of, by operation and size, then by how many ranks the group has.
Buses = dict[tuple[str, int], dict[int, tuple[float, str]]]


def measurements(outcome: RanksOutcome, placement: Placement, stack: Stack) -> Iterator[Yield]:
    """Yield all figures of a group, and of its links."""
    yield from settling.rows(outcome, placement)
    yield from bandwidth(outcome, placement)
    yield from link_counters.measurements(stack, outcome, placement)


def bandwidth(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield all figures of a group that finished."""
    yield from unsupported(outcome)
    yield from _wrong(outcome, placement)
    if outcome.failure is None:
        yield from _collectives(outcome, placement)
        yield from _pairs(outcome, placement)
        yield from _tail(outcome, placement)
        yield from _overlap(outcome, placement)


def _wrong(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield the number of wrong results among timed calls."""
    looked = [(rank, one) for rank, of_rank in enumerate(outcome.reports) for one in of_rank if _work(one)]
    wrong = [(rank, one) for rank, one in looked if one.wrong]
    for rank, one in wrong[:100]:
        first = asdict(one.first) if isinstance(one, CollectiveTimes) and one.first is not None else {}
        yield Row({"rank": rank, "work": _work(one), "wrong": one.wrong, **first})
    if wrong or (outcome.failure is None and looked):
        about = None
        if wrong:
            works = ", ".join(sorted({_work(one) for _, one in wrong}))
            about = f"{works}: wrong on {placement.name(*sorted({rank for rank, _ in wrong}))}"[:LONGEST_ABOUT]
        total = sum(one.wrong for _, one in wrong)
        yield Measurement("wrong_results", total, placement.labels, samples=len(looked), about=about)


def _work(report: object) -> str:
    """Return the subject of a report as text; empty if it has no results."""
    match report:
        case CollectiveTimes(op=op):
            return op
        case PairTimes(pair=(one, other)):
            return f"transfers between ranks {one} and {other}"
        case TailTimes() | OverlapTimes():
            return "all_reduce"
    return ""


def _collectives(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield the slowest group's best by operation, size and group size; a call takes as long as on its slowest rank."""
    subgroups: dict[tuple[str, int, Subgroup], dict[int, list[float]]] = {}
    for rank, report in outcome.of(CollectiveTimes):
        if report.seconds:
            of_subgroup = subgroups.setdefault((report.op, report.bytes, report.subgroup), {})
            of_subgroup.setdefault(rank, []).extend(report.seconds)
    groups: dict[tuple[str, int, int], dict[Subgroup, tuple[float, float]]] = {}
    for (op, size, subgroup), of_subgroup in subgroups.items():
        best, usual = max(map(min, of_subgroup.values())), max(map(statistics.median, of_subgroup.values()))
        groups.setdefault((op, size, len(subgroup)), {})[subgroup] = best, usual
    buses: Buses = {}
    smallest, largest = (pick((size for _, size, _ in groups), default=0) for pick in (min, max))
    for (op, size, ranks), found in sorted(groups.items()):
        subgroup = max(found, key=lambda subgroup: found[subgroup])
        best, usual = found[subgroup]
        here = {**placement.labels, "op": op, "group": str(ranks), "bytes": str(size)}
        between = f"{op} of {size} bytes between {_names(subgroup, placement)}"
        about = f"{between}: {best * 1e6:.4g} us at best, usually {usual * 1e6:.4g} us"
        if size == smallest < largest:
            yield Measurement("latency_us", usual * 1e6, here, about=about)
        else:
            bus = size / best * bus_factor(op, ranks) / 1e9
            buses.setdefault((op, size), {})[ranks] = bus, between
            yield Measurement("algorithm_gbps", size / best / 1e9, here, about=about)
            yield Measurement("bus_gbps", bus, here, about=about)
    yield from _small_groups(buses, placement)
    yield from by_size(buses, _raw_gbps(outcome))
    stopped = next((report for _, report in outcome.of(TimeUp)), None)
    if stopped is None:
        yield from _peaks(buses, _carried_gbps(outcome, placement), placement)
    else:  # larger messages may well be faster: what links carry at most is not known
        yield Row({"messages": f"none beyond {stopped.bytes} bytes: no time was left", "after_s": stopped.after_s})


def by_size(buses: Buses, raw: tuple[float, str] | None) -> Iterator[Row]:
    """Yield the bus bandwidth of every operation by size as rows of shape `bandwidth/1`, one for each size of a group."""
    for ranks in sorted({ranks for found in buses.values() for ranks in found}):
        of_group = {where: found[ranks][0] for where, found in buses.items() if ranks in found}
        operations, sizes = sorted({op for op, _ in of_group}), sorted({size for _, size in of_group})
        values = [[_rounded(of_group.get((op, size))) for size in sizes] for op in operations]
        yield Row({
            "shape": "bandwidth/1", "unit": "GB/s", "ranks": ranks, "operations": operations, "bytes": sizes,
            "values": values, **({} if raw is None else {"raw": _rounded(raw[0]), "raw_kind": raw[1]}),
        })  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _raw_gbps(outcome: RanksOutcome) -> tuple[float, str] | None:
    """Return the rate of the fastest raw transfer between two ranks, and what it was; None if none was measured."""
    rates = [
        (2 * report.bytes / min(report.raw) / 1e9, report.raw_kind) for _, report in outcome.of(PairTimes) if report.raw
    ]
    return max(rates, default=None)


def _small_groups(buses: Buses, placement: Placement) -> Iterator[Yield]:
    """Compare small groups with all ranks, size by size."""
    everyone = len(placement.ranks)
    for (op, size), found in sorted(buses.items()):
        together, _ = found.get(everyone, (0.0, ""))
        for ranks, (bus, between) in found.items():
            if ranks < everyone and together:
                here = {**placement.labels, "op": op, "group": str(ranks), "bytes": str(size)}
                about = f"{between}: {bus:.3g} GB/s, {together:.3g} GB/s between all {everyone}"
                yield Measurement("group_bus_share", bus / together, here, about=about)


def _peaks(buses: Buses, carried_gbps: float | None, placement: Placement) -> Iterator[Yield]:
    """Yield the best bus bandwidth of each operation over all sizes, and its ratio to the capacity of a chip's links."""
    everyone = len(placement.ranks)
    most: dict[str, tuple[float, str]] = {}
    for (op, _), found in sorted(buses.items()):
        if everyone in found:
            most[op] = max(most.get(op, (0.0, "")), found[everyone])
    for op, (bus, between) in most.items():
        here = {**placement.labels, "op": op}
        yield Measurement("peak_bus_gbps", bus, here, about=f"{between}: {bus:.3g} GB/s at best")
        if carried_gbps is not None:
            about = f"{between}: {bus:.3g} GB/s of the {carried_gbps:.4g} GB/s that a chip's links carry"
            yield Measurement("share_of_links", bus / carried_gbps, here, about=about)


def _carried_gbps(outcome: RanksOutcome, placement: Placement) -> float | None:
    """Return the link capacity of the weakest chip, as the vendor's library reports it.

    None unless every chip's links are known, all are of one host (between hosts other links count), and those that go
    straight to chips go to all that take part and to no others: with islands of chips another way counts, too.
    """
    everyone = len(placement.ranks)
    links = [state.links for _, state in outcome.of(LinkState) if state.links is not None]
    carried = [one.gbps for one in links if one.gbps]
    if len(carried) < max(everyone, len(links)) or placement.between_hosts(range(everyone)):
        return None
    if any(one.peers is not None and one.peers != everyone - 1 for one in links):
        return None
    return float(min(carried))


def _pairs(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield each pair's best rates, of the slower end; judged is the share of the raw transfer in the same run."""
    pairs: dict[Subgroup, list[PairTimes]] = {}
    for _, report in outcome.of(PairTimes):
        if report.one_way:
            pairs.setdefault(report.pair, []).append(report)
    shares: dict[Subgroup, float] = {}
    gains: dict[Subgroup, float] = {}
    rates: dict[Subgroup, float] = {}
    raws: dict[Subgroup, float] = {}
    latencies: dict[Subgroup, float] = {}
    kind = ""
    for pair, both in pairs.items():
        seconds = max(min(report.one_way) for report in both)
        together = max(min(report.both_ways) for report in both)
        plain = max(min(report.raw) for report in both)
        latencies[pair] = max(statistics.median(report.latency) for report in both)
        size, kind = both[0].bytes, both[0].raw_kind
        rates[pair], raws[pair] = 2 * size / seconds / 1e9, 2 * size / plain / 1e9
        shares[pair], gains[pair] = plain / seconds, seconds / together
        yield Row({
            "link": placement.name(*pair), "bytes": size, "gigabytes_a_second": round(rates[pair], 3),
            "both_ways_gigabytes_a_second": round(2 * size / together / 1e9, 3),
            f"raw_{kind}_gigabytes_a_second": round(raws[pair], 3), "share_of_raw": round(shares[pair], 3),
            "latency_us": round(latencies[pair] * 1e6, 1),
        })  # fmt: skip
    if not shares:
        return
    yield from pair_matrix(placement, rates, "a large message there and back", "GB/s")
    labels = {**placement.labels, "raw": kind}

    def about(pair: Subgroup) -> str:
        return f"the link between {placement.name(*pair)}: {rates[pair]:.3g} GB/s, a raw {kind} {raws[pair]:.3g} GB/s"

    slowest, fastest = min(shares, key=lambda one: shares[one]), max(shares, key=lambda one: shares[one])
    yield Measurement("share_of_raw", shares[slowest], labels, samples=len(shares), about=about(slowest))
    usual = statistics.median(shares.values())
    half = f"half of all links reach {usual:.3g} of a raw {kind}"
    yield Measurement("usual_share_of_raw", usual, labels, samples=len(shares), about=half)
    yield Measurement("most_of_raw", shares[fastest], labels, samples=len(shares), about=about(fastest))
    weakest = min(rates, key=lambda one: rates[one])
    yield Measurement("link_gbps", rates[weakest], placement.labels, samples=len(rates), about=about(weakest))
    least = min(gains, key=lambda one: gains[one])
    gain = f"the link between {placement.name(*least)}: both ways at once carry {gains[least]:.3g} times what one does"
    yield Measurement("both_ways_gain", gains[least], placement.labels, samples=len(gains), about=gain)
    late = max(latencies, key=lambda one: latencies[one])
    latency = f"the link between {placement.name(*late)}: one number takes {latencies[late] * 1e6:.4g} us"
    here = {**placement.labels, "op": "send_recv", "group": "2", "bytes": "4"}
    yield Measurement("latency_us", latencies[late] * 1e6, here, samples=len(latencies), about=latency)


def _tail(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield the tail of calls on their slowest rank, with and without the time of waiting for a processor.

    Of several series the one with the shortest tail counts.
    """
    series: dict[int, list[TailTimes]] = {}
    for _, report in outcome.of(TailTimes):
        series.setdefault(report.series, []).append(report)
    calls: dict[str, list[list[float]]] = {"included": [], "excluded": []}
    for of_ranks in series.values():
        seconds = [max(call) for call in zip(*(report.seconds for report in of_ranks), strict=True)]
        waited = [sum(call) for call in zip(*(report.waited for report in of_ranks), strict=True)]
        if len(seconds) >= LEAST_CALLS:
            calls["included"].append(seconds)
            shortest = min(seconds)
            calls["excluded"].append([max(call_s - late, shortest) for call_s, late in zip(seconds, waited, strict=True)])
    for host, found in calls.items():
        if found:
            yield from _quantiles(min(found, key=_tail_ratio), {**placement.labels, "op": "all_reduce", "host": host})


def _tail_ratio(seconds: Sequence[float]) -> float:
    return sorted(seconds)[int(0.99 * (len(seconds) - 1))] / statistics.median(seconds)


def _quantiles(seconds: Sequence[float], here: Labels) -> Iterator[Measurement]:
    ordered = sorted(seconds)
    usual, late = statistics.median(ordered), ordered[int(0.99 * (len(ordered) - 1))]
    quarter, three = ordered[len(ordered) // 4], ordered[3 * len(ordered) // 4]
    about = (
        f"of {len(ordered)} calls, half take {usual * 1e3:.3g} ms, 1 of 100 {late * 1e3:.3g} ms,"
        f" the longest {ordered[-1] * 1e3:.3g} ms"
    )
    ratios = {"tail_ratio": late / usual, "longest_ratio": ordered[-1] / usual, "jitter": (three - quarter) / usual}
    for name, value in ratios.items():
        yield Measurement(name, value, here, samples=len(ordered), about=about)


def _overlap(outcome: RanksOutcome, placement: Placement) -> Iterator[Measurement]:
    """Yield the time of both at once over the longer of the two (1: one is hidden), of the worst rank."""
    found: Mapping[int, OverlapTimes] = dict(outcome.of(OverlapTimes))
    if not found:
        return
    ratios = {rank: times.both / max(times.exchange, times.compute) for rank, times in found.items()}
    worst = max(ratios, key=lambda rank: ratios[rank])
    times = found[worst]
    about = (
        f"{placement.name(worst)}: exchange {times.exchange * 1e3:.3g} ms, products {times.compute * 1e3:.3g} ms,"
        f" both at once {times.both * 1e3:.3g} ms"
    )
    yield Measurement("overlap_ratio", ratios[worst], placement.labels, samples=len(ratios), about=about)


def _names(subgroup: Subgroup, placement: Placement) -> str:
    if len(subgroup) <= 2:
        return placement.name(*subgroup)
    return f"{placement.name(subgroup[0])} to {placement.name(subgroup[-1])}"
