"""Measurements of `multichip.drills` from the outcomes of injected faults. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from readiness.datamodel import Labels, Measurement, Row, Yield
from readiness.distributed.rank_messages import Report
from readiness.distributed.types import LONGEST_ABOUT, Failure, Placement
from readiness.probes.rank_faults.fault_injection import FaultOutcome, RankResponse
from readiness.probes.rank_faults.faults import CallReturned, Connections, GroupLeft, GroupUsable, Guard, RankFault
from readiness.probes.ranks_common.measurements import culprits

_ReportT = TypeVar("_ReportT", bound=Report)
#: `Rank 3`, `ranks 1, 2`, `[rank=0]`, as libraries name ranks.
_NAMED = re.compile(r"\branks?[\s:=\[(]*(\d+(?:\s*,\s*\d+)*)", re.IGNORECASE)
#: What only points to the rank that knows more, or was the first to see that a call is overdue. Sources:
#: ProcessGroupGloo::monitoredBarrier, the heartbeat monitor of ProcessGroupNCCL.
_POINTS = re.compile(r"(?:send/recv from|please check|timeout from) +rank \d+", re.IGNORECASE)


def fault_measurements(outcome: FaultOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield all measurements of one fault."""
    rank_fault, others = outcome.rank_fault, outcome.others
    labels = {**placement.labels, "drill": rank_fault.fault.value, "guard": rank_fault.guard.value}
    what = _what(outcome, placement)
    noticed = {rank: one.noticed_at - outcome.fault_at for rank, one in others.items() if one.noticed_at is not None}
    yield _row(outcome, placement, noticed)
    silent = [rank for rank, one in enumerate(outcome.responses) if one.wrong]
    about = f"{what}; wrong results without an error on {placement.name(*silent)}" if silent else None
    yield Measurement("silent", len(silent), labels, samples=len(outcome.responses), about=_cut(about))
    if rank_fault.harmless:
        yield _survived(outcome, placement, labels)
        yield from _retransmissions(outcome, placement, labels)
        return
    unaware = [rank for rank in others if rank not in noticed]
    about = f"{what}; the stack did not notify {placement.name(*unaware)}" if unaware else None
    yield Measurement("noticed", len(noticed) / len(others), labels, samples=len(others), about=_cut(about))
    if not unaware:
        last = max(noticed, key=lambda rank: noticed[rank])
        about = f"{what}; {placement.name(last)} was notified last: {_short(others[last])}"
        yield Measurement("noticed_after_s", noticed[last], labels, samples=len(noticed), about=_cut(about))
    still_there = [rank for rank, one in others.items() if one.exit_code is None]
    about = f"{what}; {placement.name(*still_there)} could not stop" if still_there else None
    stopped = 1 - len(still_there) / len(others)
    yield Measurement("others_stopped", stopped, labels, samples=len(others), about=_cut(about))
    tried = {rank: left.left for rank, one in others.items() if (left := one.first(GroupLeft)) is not None}
    if tried:
        stuck = [rank for rank, out in tried.items() if not out]
        about = f"{what}; leaving the group hung on {placement.name(*stuck)}" if stuck else None
        share = 1 - len(stuck) / len(tried)
        yield Measurement("left_group", share, labels, samples=len(tried), about=_cut(about))
    if len(placement.ranks) > 2 or rank_fault.loses_a_rank:  # of two that are there and differ, either may be the wrong one
        yield from _naming(outcome, placement, labels)
    usable = {rank: used.works for rank, one in enumerate(outcome.responses) if (used := one.first(GroupUsable)) is not None}
    if usable:
        bad = [rank for rank, works in usable.items() if not works]
        about = f"{what}; afterwards the group no longer works on {placement.name(*bad)}" if bad else None
        yield Measurement("usable_after", int(not bad), labels, samples=len(usable), about=_cut(about))


def _survived(outcome: FaultOutcome, placement: Placement, labels: Labels) -> Measurement:
    responses = outcome.responses
    lost = [rank for rank, one in enumerate(responses) if one.first(CallReturned) is None or one.wrong or one.exit_code]
    about = None
    if lost:
        error_text = next((_short(responses[rank]) for rank in lost if responses[rank].message), "without an error")
        about = f"{_what(outcome, placement)}; lost on {placement.name(*lost)}: {error_text}"
    return Measurement("survived", int(not lost), labels, samples=len(responses), about=_cut(about))


def _retransmissions(outcome: FaultOutcome, placement: Placement, labels: Labels) -> Iterator[Measurement]:
    """Yield the number of retransmissions, if the kernel reports on all connections that carry data."""
    ends: dict[tuple[int, int], int] = {}
    by_link: dict[tuple[int, int], int] = {}
    every = [found.connections if (found := one.first(Connections)) else () for one in outcome.responses]
    if not all(every):
        return
    for rank, connections in enumerate(every):
        ends |= {(own, other): rank for own, other, _, _ in connections}
    for rank, connections in enumerate(every):
        for own, other, count, _ in connections:
            peer = ends.get((other, own), rank)
            link = min(rank, peer), max(rank, peer)
            by_link[link] = by_link.get(link, 0) + count
    worst = max(by_link, key=lambda link: by_link[link])
    about = None
    if by_link[worst]:
        about = f"{_what(outcome, placement)}; {by_link[worst]} of them between {placement.name(*worst)}"
    yield Measurement("retransmissions", sum(by_link.values()), labels, samples=len(by_link), about=_cut(about))


def _naming(outcome: FaultOutcome, placement: Placement, labels: Labels) -> Iterator[Measurement]:
    """Yield whether the culprit is named: by the stack to the other ranks, and by the monitor from outside."""
    what = _what(outcome, placement)
    named = named_by_stack(outcome.others)
    about = f"{what}; the stack blames {_ranks(sorted(named), placement)}"
    right = int(named == {outcome.culprit})
    yield Measurement("named_culprit", right, {**labels, "by": "stack"}, about=_cut(about))
    attributed: Sequence[int] = outcome.failure.culprits if outcome.failure is not None else ()
    about = f"{what}; the monitor blames {_ranks(attributed, placement)}"
    right = int(tuple(attributed) == (outcome.culprit,))
    yield Measurement("named_culprit", right, {**labels, "by": "watchdog"}, about=None if right else _cut(about))


def named_by_stack(others: Mapping[int, RankResponse]) -> set[int]:
    """Return the ranks that the stack names to ranks other than themselves."""
    named: set[int] = set()
    for rank, response in others.items():
        found = {int(number) for group in _NAMED.findall(_POINTS.sub("", response.message)) for number in group.split(",")}
        named |= found - {rank}
    return named


def prevented(rank_fault: RankFault, failure: Failure, placement: Placement) -> Row:
    """Return a row for a fault that could not be injected because the group failed before."""
    return Row({
        "drill": rank_fault.name,
        "not_held": failure.reason,
        "trouble": failure.kind.value,
        **culprits(failure, placement),
        "log": failure.log or None,
    })  # fmt: skip


def not_possible(rank_fault: RankFault, reason: str) -> Row:
    """Return a row for a fault that this stack or machine has no means to inject."""
    return Row({"drill": rank_fault.name, "not_held": reason})


def _row(outcome: FaultOutcome, placement: Placement, noticed: Mapping[int, float]) -> Row:
    responses = outcome.responses
    returned, left = _first_of_each(responses, CallReturned), _first_of_each(responses, GroupLeft)
    round_trips = [one[3] for found in _first_of_each(responses, Connections) for one in found.connections]
    return Row({
        "drill": outcome.rank_fault.name,
        "culprit": placement.name(outcome.culprit),
        "noticed_after_s": {str(rank): round(seconds, 3) for rank, seconds in noticed.items()},
        "words": {str(rank): _short(one) for rank, one in outcome.others.items() if one.message},
        "exit_codes": {str(rank): one.exit_code for rank, one in enumerate(responses)},
        "leaving_took_s": max((one.seconds for one in left), default=0.0),
        "sums": next((one.sums for one in returned if one.sums is not None), None),
        "round_trip_s": max(round_trips, default=None),
        "longest_sum_s": max((one.longest_s for one in returned), default=0.0) or None,
        "from_outside": outcome.failure.reason if outcome.failure is not None else None,
    })  # fmt: skip


def _first_of_each(responses: Sequence[RankResponse], kind: type[_ReportT]) -> list[_ReportT]:
    return [report for one in responses if (report := one.first(kind)) is not None]


def _what(outcome: FaultOutcome, placement: Placement) -> str:
    guard = "" if outcome.rank_fault.guard is Guard.NONE else ", TORCH_DISTRIBUTED_DEBUG=DETAIL"
    return f"drill: {outcome.rank_fault.fault.value} ({placement.name(outcome.culprit)}{guard})"


def _ranks(ranks: Sequence[int], placement: Placement) -> str:
    return placement.name(*(rank for rank in ranks if rank < len(placement.ranks))) or "nobody"


def _short(response: RankResponse) -> str:
    return " ".join(response.message.split())[:160]


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:LONGEST_ABOUT]
