"""Measurements of `multichip.integrity` from the reports of its ranks, and who is to blame for a wrong result. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from readiness.datamodel import Measurement, Row, Yield
from readiness.distributed.types import LONGEST_ABOUT, Json, Placement, RanksOutcome
from readiness.probes.integrity.error_localisation import Observation, Role, Verdict, verdicts
from readiness.probes.integrity.rank import Vote, WorkReport
from readiness.probes.ranks_common.measurements import unsupported

KINDS = ("compute", "transfer", "all_reduce", "all_gather")


def integrity(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield `wrong_results` of each kind of work; for a group that did not finish, only those above zero."""
    finished = outcome.failure is None
    yield from unsupported(outcome)
    for rank, report in outcome.of(WorkReport):
        if report.first is not None:
            where: Json = {"source": report.source, "team": _listed(report.subgroup), "slots": _listed(report.slots)}
            known = {name: str(value) for name, value in where.items() if value is not None}
            yield Row({"rank": rank, "work": report.kind, "wrong": report.wrong, **known, **asdict(report.first)})
    wrong, observed, calls = _observations(outcome)
    odd, tied = _votes(outcome, placement)
    for who in (odd, tied):
        for rank, what in who.items():
            yield Row({"rank": rank, "chip": placement.ranks[rank].id, "computes_otherwise": ", ".join(what)})
    for rank in odd:
        wrong[Observation("compute", (rank,))] += len(odd[rank])
    if votes := len(outcome.of(Vote)):
        calls["compute"] += votes
    found = verdicts(wrong, observed)
    for verdict in found:
        yield Row({
            "suspect": " or ".join(suspect.role.value for suspect in verdict.suspects),
            "ranks": ", ".join(sorted({str(rank) for suspect in verdict.suspects for rank in suspect.ranks})),
            "chips": ", ".join(sorted({placement.ranks[rank].id for who in verdict.suspects for rank in who.ranks})),
            "explains": len(verdict.observations), "seen": verdict.times,
        })  # fmt: skip
    for kind in KINDS:
        count = sum(times for one, times in wrong.items() if one.kind == kind)
        labels = {**placement.labels, "work": kind}
        if kind == "compute" and not count and tied:
            count = max(map(len, tied.values()))
            text = f"{placement.name(*sorted(tied))} compute different bits from the same inputs, and there is no majority"
            yield Measurement("wrong_results", count, labels, samples=calls[kind], about=text[:LONGEST_ABOUT])
        elif count or (finished and calls[kind]):
            about = next((_about(one, kind, placement) for one in found if kind in one.kinds), None)
            yield Measurement("wrong_results", count, labels, samples=calls[kind] or None, about=about)


def _listed(values: tuple[object, ...] | None) -> list[object] | None:
    return None if values is None else [list(value) if isinstance(value, tuple) else value for value in values]


def _observations(outcome: RanksOutcome) -> tuple[Counter[Observation], set[Observation], Counter[str]]:
    """Return the wrong results with their counts, everything that was checked, and the calls of each kind."""
    wrong: Counter[Observation] = Counter()
    observed: set[Observation] = set()
    calls: Counter[str] = Counter()
    sums: dict[tuple[tuple[int, ...], int], list[int]] = {}
    ranks = [rank for rank, reports in enumerate(outcome.reports) if reports]
    for rank, report in outcome.of(WorkReport):
        calls[report.kind] += report.calls
        match report:
            case WorkReport(kind="compute" as kind):
                observed.add(Observation(kind, (rank,)))
                wrong[Observation(kind, (rank,))] += report.wrong
            case WorkReport(kind="transfer" as kind, source=int(source)):
                one = Observation(kind, (source, rank))
                observed.add(one)
                wrong[one] += report.wrong
            case WorkReport(kind="all_gather" as kind, slots=tuple(slots)):
                observed |= {Observation(kind, (source, rank)) for source in range(max(ranks) + 1)}
                for source, times in slots:
                    wrong[Observation(kind, (source, rank))] += times
            case WorkReport(kind="all_reduce" as kind, subgroup=tuple(subgroup)):
                observed.add(Observation(kind, subgroup))
                for number in report.wrong_calls:
                    sums.setdefault((subgroup, number), []).append(rank)
    for (subgroup, _), receivers in sums.items():
        wrong[Observation("all_reduce", subgroup, tuple(sorted(receivers)))] += 1
    return Counter({one: times for one, times in wrong.items() if times}), observed, calls


def _votes(outcome: RanksOutcome, placement: Placement) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Return ranks whose results differ from most chips of their model, with the operations; and ties without a majority."""
    votes: dict[tuple[str | None, str], dict[int, str]] = {}
    for rank, vote in outcome.of(Vote):
        for what, digest in vote.digests.items():
            votes.setdefault((placement.ranks[rank].model, f"{what} in {vote.dtype}"), {})[rank] = digest
    odd: dict[int, list[str]] = {}
    tied: dict[int, list[str]] = {}
    for (_, what), digests in votes.items():
        usual, times = Counter(digests.values()).most_common(1)[0]
        for rank, digest in digests.items() if len(digests) > 1 else ():
            if 2 * times <= len(digests):
                tied.setdefault(rank, []).append(what)
            elif digest != usual:
                odd.setdefault(rank, []).append(what)
    return odd, tied


def _about(verdict: Verdict, kind: str, placement: Placement) -> str:
    who = ", or ".join(_describe_suspect(verdict, index, placement) for index in range(len(verdict.suspects)))
    seen = f"seen {verdict.times} times in {len(verdict.observations)} places" if verdict.times > 1 else "seen once"
    return f"{kind}: {who}; {seen}"[:LONGEST_ABOUT]


def _describe_suspect(verdict: Verdict, index: int, placement: Placement) -> str:
    suspect = verdict.suspects[index]
    match suspect.role:
        case Role.COMPUTE:
            return f"{placement.name(*suspect.ranks)} computes wrong results"
        case Role.SENDER:
            return f"data sent by {placement.name(*suspect.ranks)} arrives wrong"
        case Role.RECEIVER:
            return f"{placement.name(*suspect.ranks)} receives wrong data"
    one, other = suspect.ranks
    if len(verdict.directions) == 1:
        one, other = next(iter(verdict.directions))
        return f"the link from {placement.name(one)} to {placement.name(other)}"
    return f"the link between {placement.name(one)} and {placement.name(other)}"
