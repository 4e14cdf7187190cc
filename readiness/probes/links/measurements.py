"""Measurements of `multichip.links` from the reports of its ranks. Pure.

A group that did not finish proves faults only: wrong elements, ranks that disagree and interruptions are reported if there
are any. Of speeds only those of the links are, where every rank had come to the end of the transfers.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from readiness.datamodel import Measurement, Row, Yield
from readiness.distributed.types import LONGEST_ABOUT, Placement, RanksOutcome
from readiness.probes.links.reports import (
    PRODUCTS,
    CallReport,
    HostStalls,
    LaterLinkTimes,
    LinkTimes,
    OwnAllReduceTime,
    ProductTimes,
    TransfersDone,
    WrongResult,
)
from readiness.probes.ranks_common import settling
from readiness.probes.ranks_common.host_pauses import stalled_s
from readiness.probes.ranks_common.measurements import pair_matrix, unsupported
from readiness.probes.ranks_common.process_groups import Subgroup
from readiness.probes.throughput.timing import MOSTLY_WAITED

#: Fewer calls than these in a quarter of the time, and their best shows little of what can be had.
LEAST_CALLS = 8
#: Fewer pairs than these have no usual speed that one of them could fall short of.
LEAST_PAIRS = 3
#: One or two calls that took long count if one of them took so long; several count in any case. A busy host interrupts
#: a transfer now and then for most of a second, a link that comes back takes seconds, or does it again.
LONG_INTERRUPTION_S, SEVERAL = 1.5, 3
#: Where half of all transfers take so many times the best ones, the host is busy, and speeds are as much its as the links'.
BUSY = 2.0
#: A pair that keeps less of its speed than this seems slower than at first.
SLOWER = 0.6
#: A rank that is later than the others by more than this seems late.
PROMPT_S = 0.005
#: A pair this much slower than usual counts as slow where a common chip is looked for.
SLOW_SHARE = 0.8


def links(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield all figures of a group, finished or not."""
    finished = outcome.failure is None
    yield from settling.rows(outcome, placement)
    yield from unsupported(outcome)
    yield from _wrong_elements(outcome, placement, finished)
    yield from _mismatches(outcome, placement, finished)
    yield from _interruptions(outcome, placement, finished)
    if finished or len(outcome.of(TransfersDone)) == len(outcome.reports):
        yield from _transfers(outcome, placement)
    if finished:
        yield from _speed_kept(outcome, placement)
        yield from _links_kept(outcome, placement)
        yield from _stragglers(outcome, placement)


def _wrong_elements(outcome: RanksOutcome, placement: Placement, finished: bool) -> Iterator[Yield]:
    calls: Counter[str] = Counter()
    for _, report in outcome.of(CallReport):
        calls[report.op] += report.timings.calls
    wrong: dict[str, list[tuple[int, WrongResult]]] = {"all_reduce": [], "send_recv": []}
    for rank, found in outcome.of(WrongResult):
        wrong[found.op].append((rank, found))
    for op, reports in wrong.items():
        for rank, one in reports[:100]:
            yield Row({
                "rank": rank, "op": op, "dtype": one.dtype, "team": _numbers(one.subgroup),
                "turn": one.turn, "call": one.call,
                **asdict(one.difference),
            })  # fmt: skip
        if reports or (finished and calls[op]):
            total = sum(one.difference.wrong for _, one in reports)
            about = _about_wrong(op, reports, placement) if reports else None
            yield Measurement(
                "wrong_elements", total, {**placement.labels, "op": op}, samples=calls[op] or None, about=about
            )


def _about_wrong(op: str, reports: Sequence[tuple[int, WrongResult]], placement: Placement) -> str:
    rank, first = reports[0]
    types = ", ".join(sorted({report.dtype for _, report in reports}))
    # A fault of one chip spoils the sums of all its teams: the suspect is what all of them have in common.
    suspects = set.intersection(*(set(report.subgroup) for _, report in reports))
    where = f"in every case with {placement.name(*sorted(suspects))}" if suspects else "no rank is in all of them"
    calls = len({(report.subgroup, report.turn) for _, report in reports})
    return (
        f"{op} in {types}: {calls} calls wrong, {where}; first on {placement.name(rank)}, {first.call} of ranks"
        f" {_numbers(first.subgroup)}: {first.difference.found:g} instead of {first.difference.expected:g}"
        f" at index {first.difference.index}"
    )[:LONGEST_ABOUT]


def _mismatches(outcome: RanksOutcome, placement: Placement, finished: bool) -> Iterator[Yield]:
    """Count ranks whose sum differs from that of the first rank of their subgroup; right results have no digest."""
    digests: dict[tuple[Subgroup, int], dict[int, str]] = {}
    calls: dict[tuple[Subgroup, int], WrongResult] = {}
    for rank, report in outcome.of(WrongResult):
        if report.op == "all_reduce":
            key = (report.subgroup, report.turn)
            digests.setdefault(key, {})[rank] = report.difference.digest
            calls[key] = report
    disagreeing: dict[int, tuple[WrongResult, int]] = {}
    for (subgroup, turn), by_rank in digests.items():
        for rank in subgroup[1:]:
            if by_rank.get(rank) != by_rank.get(subgroup[0]):
                disagreeing.setdefault(rank, (calls[subgroup, turn], subgroup[0]))
    if disagreeing or (finished and any(report.op == "all_reduce" for _, report in outcome.of(CallReport))):
        about = None
        if disagreeing:
            rank, (report, first) = next(iter(disagreeing.items()))
            about = (
                f"{report.call} in {report.dtype}: {placement.name(rank)} and {placement.name(first)}"
                f" hold different sums; {len(disagreeing)} ranks differ from the first of their group"
            )
        yield Measurement("rank_mismatches", len(disagreeing), placement.labels, about=about)


def _interruptions(outcome: RanksOutcome, placement: Placement, finished: bool) -> Iterator[Yield]:
    """Count each interruption once, however many ranks waited through it, without stalls of a host."""
    stalls: dict[int, list[tuple[float, float]]] = {}
    for rank, stalled in outcome.of(HostStalls):
        stalls.setdefault(rank, []).extend(stalled.stalls)
    reports = [report for _, report in outcome.of(CallReport)]
    seen: dict[tuple[str, Subgroup, int], tuple[float, float]] = {}
    longest, excused = max((report.timings.longest for report in reports), default=0.0), 0
    for report in reports:
        limit = report.timings.limit
        for number, began, seconds in report.timings.interruptions:
            left = seconds - max((stalled_s(of_rank, began, seconds) for of_rank in stalls.values()), default=0.0)
            excused += left <= limit
            key = (report.kind, report.subgroup, number)
            if left > max(limit, seen.get(key, (0.0, 0.0))[0]):
                seen[key] = (left, report.timings.median)
    if len(seen) < SEVERAL and all(seconds < LONG_INTERRUPTION_S for seconds, _ in seen.values()):
        excused, seen = excused + len(seen), {}
    looked = finished and bool(reports)
    if looked:
        yield Row({"longest_call_s": round(longest, 4), "long_calls_laid_at_the_host": excused})
    if seen or looked:
        about = _about_interruptions(seen, placement) if seen else None
        yield Measurement("interruptions", len(seen), placement.labels, about=about)


def _about_interruptions(seen: Mapping[tuple[str, Subgroup, int], tuple[float, float]], placement: Placement) -> str:
    (kind, subgroup, number), (seconds, median) = max(seen.items(), key=lambda item: item[1][0])
    suspects = set.intersection(*(set(subgroup) for _, subgroup, _ in seen))
    where = f"; all of them with {placement.name(*sorted(suspects))}" if suspects and len(seen) > 1 else ""
    return (
        f"the longest: {kind} number {number} between {placement.name(*subgroup)} took {seconds:.2g} s,"
        f" usually {median:.2g} s{where}"
    )[:LONGEST_ABOUT]


def _speed_kept(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield the worst subgroup's best time in the first quarter over that in the last, from the frequent sums of two."""
    for block in ("small", "large"):
        subgroups: dict[Subgroup, list[CallReport]] = {}
        for _, report in outcome.of(CallReport):
            if report.block == block and len(report.subgroup) == 2:
                subgroups.setdefault(report.subgroup, []).append(report)
        kept = {
            subgroup: (min(report.timings.first[0] for report in both), min(report.timings.last[0] for report in both))
            for subgroup, both in subgroups.items()
            if all(min(report.timings.first[1], report.timings.last[1]) >= LEAST_CALLS for report in both)
        }
        if kept:
            subgroup, (first, last) = min(kept.items(), key=lambda item: item[1][0] / item[1][1])
            waited = sum(report.timings.waited for report in subgroups[subgroup])
            if first / last < SLOWER and waited > MOSTLY_WAITED:
                yield _kept_waiting("collective_speed_kept", waited, first / last, block=block)
                continue
            about = (
                f"all_reduce ({block} block) of {placement.name(*subgroup)}: {_ms(first)} at first, {_ms(last)} at the end"
            )
            samples = sum(report.timings.calls for both in subgroups.values() for report in both)
            labels = {**placement.labels, "block": block}
            yield Measurement("collective_speed_kept", first / last, labels, samples=samples, about=about)


def _links_kept(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield the worst pair's best transfer before all sums over its best one afterwards, in large blocks."""
    pairs: dict[Subgroup, list[LaterLinkTimes]] = {}
    for _, report in outcome.of(LaterLinkTimes):
        pairs.setdefault(report.pair, []).append(report)
    times = {pair: (min(one.first for one in both), min(one.last for one in both)) for pair, both in pairs.items()}
    if times:
        pair, (first, last) = min(times.items(), key=lambda item: item[1][0] / item[1][1])
        waited = sum(report.waited for report in pairs[pair])
        if first / last < SLOWER and waited > MOSTLY_WAITED:
            yield _kept_waiting("link_speed_kept", waited, first / last)
            return
        size = pairs[pair][0].bytes / 2**20
        both_times = f"{size:g} MiB there and back in {_ms(first)} at first, in {_ms(last)} at the end"
        about = f"the link between {placement.name(*pair)}: {both_times}"
        samples = sum(report.calls for both in pairs.values() for report in both)
        yield Measurement("link_speed_kept", first / last, placement.labels, samples=samples, about=about)


def _kept_waiting(measure: str, waited: float, share: float, **cells: str) -> Row:
    """Return the row for a pair that looks slower at the end while the host kept its ranks waiting.

    Sums and transfers may then be slow of the host's doing: a slow link keeps no rank waiting for a processor.
    """
    each = f"each of the two ranks waiting for {waited / 2:.0%} of the time"
    how = f"the host kept {each}, and they had {share:.2g} of the speed at first"
    return Row({measure: f"not known: {how}", **cells})


def _transfers(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    links: dict[Subgroup, tuple[float, ...]] = {}  # seconds, by quantile; the worse of the two ends
    waited: dict[Subgroup, float] = {}
    size = calls = 0
    for _, report in outcome.of(LinkTimes):
        links[report.pair] = tuple(map(max, report.quantiles, links.get(report.pair, report.quantiles)))
        size, calls = report.bytes, calls + report.calls
        waited[report.pair] = waited.get(report.pair, 0.0) + report.waited
    rates = {subgroup: 2 * size / seconds[0] / 1e9 for subgroup, seconds in links.items()}
    for subgroup, rate in rates.items():
        yield Row({"link": placement.name(*subgroup), "bytes": size, "gigabytes_a_second": round(rate, 3)})
    yield from pair_matrix(placement, rates, "a large message there and back", "GB/s")
    if not rates:
        return
    slowest = min(rates, key=lambda subgroup: rates[subgroup])
    about = f"the link between {placement.name(*slowest)}"
    yield Measurement("link_gbps", rates[slowest], placement.labels, samples=calls, about=about)
    if placement.labels["chips"] != "several":
        return
    # Within a host links are of another kind than between hosts: each is compared with its own kind.
    kinds = [
        {subgroup: links[subgroup] for subgroup in links if placement.between_hosts(subgroup) == between}
        for between in (False, True)
    ]
    shares = {subgroup: share for kind in kinds if len(kind) >= LEAST_PAIRS for subgroup, share in _shares(kind).items()}
    if not shares:
        return
    busy = statistics.median(seconds[-1] / seconds[0] for seconds in links.values())
    chosen = {subgroup: one.kindest if busy > BUSY else one.best for subgroup, one in shares.items()}
    slowest = min(chosen, key=lambda subgroup: chosen[subgroup].share)
    share = chosen[slowest]
    if busy > BUSY and (share.share >= SLOW_SHARE or waited[slowest] > MOSTLY_WAITED):
        # Medians are the host's then, and a link of half the speed hides in them: a fault may be proven, its absence not.
        how = f"half of all transfers took {busy:.2g} times the best or longer: the host is busy"
        yield Row({"slowest_link_share": f"not known: {how}"})
        return
    common = _common_rank({subgroup: one.share for subgroup, one in chosen.items()})
    about = f"the link between {placement.name(*slowest)}" if common is None else f"every link of {placement.name(common)}"
    rate, usual = (2 * size / seconds / 1e9 for seconds in (share.seconds, share.usual))
    about += f": {rate:.3g} GB/s {_QUANTILE_WORDS[share.quantile]}; {usual:.3g} GB/s is usual"
    yield Measurement("slowest_link_share", share.share, placement.labels, samples=len(shares), about=about)


def _common_rank(shares: Mapping[Subgroup, float]) -> int | None:
    """Return the rank of which every link is slow, and no other link is.

    Beside links at a hundredth of the usual speed, one at three quarters is as good as the others: a busy host can do that.
    So slow is what is nearer to the slowest than to the usual speed, where what is a little slow has no rank in common.
    """
    for limit in (SLOW_SHARE, min(SLOW_SHARE, math.sqrt(min(shares.values())))):
        slow = {subgroup for subgroup, share in shares.items() if share < limit}
        for rank in sorted({rank for subgroup in shares for rank in subgroup}):
            if slow == {subgroup for subgroup in shares if rank in subgroup}:
                return rank
    return None


#: What a rate at each of the quantiles is, in words.
_QUANTILE_WORDS = ("at best", "in a quarter of the transfers", "in half of the transfers")


@dataclass(frozen=True, slots=True)
class _Share:
    """A link's speed over the usual one, by one quantile: 0 is the best. Both in seconds of a block."""

    quantile: int
    seconds: float
    usual: float

    @property
    def share(self) -> float:
        """1 where the link is as fast as usual."""
        return self.usual / self.seconds


@dataclass(frozen=True, slots=True)
class _Shares:
    """A link's share by its best, and by the quantile that is kindest to it."""

    best: _Share
    kindest: _Share


def _shares(links: Mapping[Subgroup, Sequence[float]]) -> dict[Subgroup, _Shares]:
    """Return each link's speed over the usual one.

    A busy host spoils now the best of a link and now its median; a slow link is slow in all of them.
    """
    usual = [_usual(seconds) for seconds in zip(*links.values(), strict=True)]
    found = {}
    for subgroup, seconds in links.items():
        each = [_Share(number, own, other) for number, (own, other) in enumerate(zip(seconds, usual, strict=True))]
        found[subgroup] = _Shares(each[0], max(each, key=lambda one: one.share))
    return found


def _usual(seconds: Sequence[float]) -> float:
    """Return the lower quartile. The median fails if one chip slows down half of the pairs of four."""
    return sorted(seconds)[(len(seconds) - 1) // 4]


def _stragglers(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    for load in ("alone", "together", "exchanging"):
        widths: dict[int, dict[str, float]] = {}
        for rank, report in outcome.of(ProductTimes):
            if report.load == load:
                best = widths.setdefault(rank, {})
                best |= {width: min(seconds, best.get(width, seconds)) for width, seconds in report.seconds.items()}
        if len(widths) < 2:
            continue
        width = max(set.intersection(*(set(found) for found in widths.values())), key=int)
        seconds = {rank: found[width] for rank, found in widths.items()}
        median, slowest = statistics.median_low(seconds.values()), max(seconds, key=lambda rank: seconds[rank])
        about = f"{placement.name(slowest)}: a product of width {width} takes {_ms(seconds[slowest])}, usually {_ms(median)}"
        share = median / seconds[slowest]
        if load == "alone":
            turns = _turns(outcome, slowest, width)
            slow = sum(turn < 0.8 for turn in turns)
            about += f"; it was the slow one in {slow} of {len(turns)} turns"
            # The best time of another may be luck that came once; a rank that is slow is slow beside it, too.
            share = max(share, min(1.0, statistics.median_high(turns)))
        if (hot := settling.unsettled(outcome, slowest, PRODUCTS)) is not None:
            about = f"{about}; at rest before: {hot}"[:LONGEST_ABOUT]
        for rank in sorted(widths):
            yield Row({"load": load, "rank": rank, "width": int(width), "best_s": seconds[rank],
                       **_pace(outcome, rank, load, width)})  # fmt: skip
        labels = {**placement.labels, "load": load}
        yield Measurement("straggler_share", share, labels, samples=len(seconds), about=about)
    yield from _own_delay(outcome, placement)


def _own_delay(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Compare the best times of all-reduces of each rank with itself."""
    own: dict[int, float] = {}
    waits: dict[int, list[float]] = {}
    for rank, one in outcome.of(OwnAllReduceTime):
        own[rank] = min(one.seconds, own.get(rank, math.inf))
        waits.setdefault(rank, []).append(one.waited)
    if len(own) < 2:
        return
    median, slowest = statistics.median_low(own.values()), max(own, key=lambda rank: own[rank])
    about = f"{placement.name(slowest)}: all_reduce with itself takes {_ms(own[slowest])}, usually {_ms(median)}"
    waited = statistics.median(waits[slowest])
    if own[slowest] - median > PROMPT_S and waited > MOSTLY_WAITED:
        how = f"{about}, and the host kept it waiting for a processor for {waited:.0%} of the time"
        yield Row({"straggler_delay_s": f"not known: {how}"})
        return
    yield Measurement("straggler_delay_s", own[slowest] - median, placement.labels, samples=len(own), about=about)


def _pace(outcome: RanksOutcome, rank: int, load: str, width: str) -> dict[str, float]:
    """Return what a product of this width usually takes this rank, and how much that varies within a turn."""
    mine = [one for other, one in outcome.of(ProductTimes) if (other, one.load) == (rank, load) and width in one.medians]
    if not mine:
        return {}
    return {
        "median_s": statistics.median(one.medians[width] for one in mine),
        "variation": statistics.median(one.variations[width] for one in mine),
    }


def _turns(outcome: RanksOutcome, rank: int, width: str) -> list[float]:
    """Return the median rank's time over this rank's in each turn: a slow host slows both."""
    turns: dict[int, list[float]] = {}
    for other, report in outcome.of(ProductTimes):
        if report.load == "alone" and width in report.seconds:
            turns.setdefault(other, []).append(report.seconds[width])
    return [statistics.median_low(of_all) / own for own, *of_all in zip(turns[rank], *turns.values(), strict=False)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _numbers(subgroup: Sequence[int]) -> str:
    return ", ".join(map(str, subgroup))
