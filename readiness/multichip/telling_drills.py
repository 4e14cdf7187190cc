"""From the drills that were held to measurements and rows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from readiness.model import Labels, Measurement, Row, Yield
from readiness.multichip.drilling import Held, Told
from readiness.multichip.drills import Drill, Guard
from readiness.ranks.values import LONGEST_ABOUT, Failure, Placement

#: `Rank 3`, `ranks 1, 2`, `[rank=0]`, as libraries name ranks.
_NAMED = re.compile(r"\branks?[\s:=\[(]*(\d+(?:\s*,\s*\d+)*)", re.IGNORECASE)
#: What only points to the rank that knows more, or was the first to see that a call is overdue. Sources:
#: ProcessGroupGloo::monitoredBarrier, the heartbeat monitor of ProcessGroupNCCL.
_POINTS = re.compile(r"(?:send/recv from|please check|timeout from) +rank \d+", re.IGNORECASE)


def drill(held: Held, placement: Placement) -> Iterator[Yield]:
    """Everything that one drill has shown."""
    labels = {**placement.labels, "drill": held.drill.fault.value, "guard": held.drill.guard.value}
    others = held.others
    noticed = {rank: told.noticed_at - held.fault_at for rank, told in others.items() if told.noticed_at is not None}
    yield _row(held, placement, noticed)
    silent = [rank for rank, told in enumerate(held.told) if told.wrong]
    told = f"{_what(held, placement)}; wrong results without an error on {placement.name(*silent)}" if silent else None
    yield Measurement("silent", len(silent), labels, samples=len(held.told), about=_cut(told))
    if held.drill.harmless:
        yield _survived(held, placement, labels)
        yield from _resent(held, placement, labels)
        return
    deaf = [rank for rank in others if rank not in noticed]
    told = f"{_what(held, placement)}; the stack told nothing to {placement.name(*deaf)}" if deaf else None
    yield Measurement("noticed", len(noticed) / len(others), labels, samples=len(others), about=_cut(told))
    if not deaf:
        last = max(noticed, key=lambda rank: noticed[rank])
        words = f"{_what(held, placement)}; {placement.name(last)} was told last: {_short(others[last])}"
        yield Measurement("noticed_after_s", noticed[last], labels, samples=len(noticed), about=_cut(words))
    left = [rank for rank, one in others.items() if one.exit_code is None]
    told = f"{_what(held, placement)}; {placement.name(*left)} could not stop" if left else None
    yield Measurement("others_stopped", 1 - len(left) / len(others), labels, samples=len(others), about=_cut(told))
    tried = {rank: bool(one.first("left")) for rank, one in others.items() if one.first("left") is not None}
    if tried:
        stuck = [rank for rank, out in tried.items() if not out]
        told = f"{_what(held, placement)}; leaving the group did not end on {placement.name(*stuck)}" if stuck else None
        share = 1 - len(stuck) / len(tried)
        yield Measurement("left_group", share, labels, samples=len(tried), about=_cut(told))
    if len(placement.ranks) > 2 or held.drill.loses_a_rank:  # of two that are there and differ, either may be the wrong one
        yield from _naming(held, placement, labels)
    usable = [(rank, one.first("usable")) for rank, one in enumerate(held.told) if one.first("usable") is not None]
    if usable:
        bad = [rank for rank, works in usable if not works]
        told = f"{_what(held, placement)}; afterwards the group no longer works on {placement.name(*bad)}" if bad else None
        yield Measurement("usable_after", int(not bad), labels, samples=len(usable), about=_cut(told))


def _survived(held: Held, placement: Placement, labels: Labels) -> Measurement:
    lost = [rank for rank, told in enumerate(held.told) if told.first("returned") is None or told.wrong or told.exit_code]
    told = None
    if lost:
        words = next((_short(held.told[rank]) for rank in lost if held.told[rank].words), "no word of it")
        told = f"{_what(held, placement)}; lost on {placement.name(*lost)}: {words}"
    return Measurement("survived", int(not lost), labels, samples=len(held.told), about=_cut(told))


def _resent(held: Held, placement: Placement, labels: Labels) -> Iterator[Measurement]:
    """How often segments had to be sent again, where all data pass through connections that the kernel tells of."""
    ends: dict[tuple[int, int], int] = {}
    by_link: dict[tuple[int, int], int] = {}
    every = [told.first("connections") for told in held.told]
    if not all(every):
        return
    for rank, connections in enumerate(every):
        ends |= {(own, other): rank for own, other, _, _ in connections}
    for rank, connections in enumerate(every):
        for own, other, count, _ in connections:
            peer = ends.get((other, own), rank)
            by_link[min(rank, peer), max(rank, peer)] = by_link.get((min(rank, peer), max(rank, peer)), 0) + count
    worst = max(by_link, key=lambda link: by_link[link])
    told = f"{_what(held, placement)}; {by_link[worst]} of them between {placement.name(*worst)}" if by_link[worst] else None
    yield Measurement("retransmissions", sum(by_link.values()), labels, samples=len(by_link), about=_cut(told))


def _naming(held: Held, placement: Placement, labels: Labels) -> Iterator[Measurement]:
    """Who is named: by the stack to the others, and by what is seen from outside."""
    named = named_by_stack(held.others)
    words = f"{_what(held, placement)}; the stack names {_ranks(sorted(named), placement)}"
    yield Measurement("named_culprit", int(named == {held.culprit}), {**labels, "by": "stack"}, about=_cut(words))
    blamed: Sequence[int] = held.failure.culprits if held.failure is not None else ()
    words = f"{_what(held, placement)}; from outside {_ranks(blamed, placement)} is to blame"
    right = int(tuple(blamed) == (held.culprit,))
    yield Measurement("named_culprit", right, {**labels, "by": "watchdog"}, about=None if right else _cut(words))


def named_by_stack(others: dict[int, Told]) -> set[int]:
    """The ranks that the stack names to others than themselves."""
    named: set[int] = set()
    for rank, told in others.items():
        found = {int(number) for group in _NAMED.findall(_POINTS.sub("", told.words)) for number in group.split(",")}
        named |= found - {rank}
    return named


def broken(drill: Drill, failure: Failure, placement: Placement) -> Row:
    """A drill that could not be held, since the world failed before its fault."""
    return Row({
        "drill": drill.name,
        "not_held": failure.reason,
        "trouble": failure.trouble.value,
        "culprit_ranks": ", ".join(map(str, failure.culprits)) or None,
        "culprit_chips": ", ".join(dict.fromkeys(placement.ranks[rank].id for rank in failure.culprits)) or None,
        "log": failure.log or None,
    })  # fmt: skip


def not_held(drill: Drill, reason: str) -> Row:
    """A drill that this stack or machine has no means for."""
    return Row({"drill": drill.name, "not_held": reason})


def _row(held: Held, placement: Placement, noticed: dict[int, float]) -> Row:
    first = {rank: told.first("sums") for rank, told in enumerate(held.told) if told.first("sums") is not None}
    return Row({
        "drill": held.drill.name,
        "culprit": placement.name(held.culprit),
        "noticed_after_s": {str(rank): round(seconds, 3) for rank, seconds in noticed.items()},
        "words": {str(rank): _short(told) for rank, told in held.others.items() if told.words},
        "exit_codes": {str(rank): told.exit_code for rank, told in enumerate(held.told)},
        "leaving_took_s": max((told.first("stopped") or 0.0 for told in held.told), default=0.0),
        "sums": next(iter(first.values()), None),
        "round_trip_s": max((one[3] for told in held.told for one in told.first("connections") or ()), default=None),
        "longest_sum_s": max((told.first("longest_s") or 0.0 for told in held.told), default=0.0) or None,
        "from_outside": held.failure.reason if held.failure is not None else None,
    })  # fmt: skip


def _what(held: Held, placement: Placement) -> str:
    guard = "" if held.drill.guard is Guard.NONE else ", TORCH_DISTRIBUTED_DEBUG=DETAIL"
    return f"drill: {held.drill.fault.value} ({placement.name(held.culprit)}{guard})"


def _ranks(ranks: Sequence[int], placement: Placement) -> str:
    return placement.name(*(rank for rank in ranks if rank < len(placement.ranks))) or "nobody"


def _short(told: Told) -> str:
    return " ".join(told.words.split())[:160]


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:LONGEST_ABOUT]
