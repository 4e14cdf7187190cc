"""From what the ranks of `multichip.integrity` reported to measurements, and to whom a wrong result is laid. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from readiness.model import Measurement, Row, Yield
from readiness.multichip import telling
from readiness.multichip.suspects import Look, Role, Verdict, verdicts
from readiness.multichip.telling import Reports
from readiness.ranks.values import LONGEST_ABOUT, Json, Placement, RanksOutcome

KINDS = ("compute", "transfer", "all_reduce", "all_gather")



def integrity(outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """`wrong_results` of each kind of work; of a world that did not finish only those that are not zero."""
    reports = telling.reported(outcome)
    finished = outcome.failure is None
    yield from telling.refusals(reports)
    for rank, report in reports:
        if report.get("wrong"):
            where: Json = {key: str(report[key]) for key in ("source", "team", "slots") if key in report}
            yield Row({"rank": rank, "work": report["made"], "wrong": report["wrong"], **where, **report["first"]})
    wrong, looked, made = _looks(reports)
    odd, tied = _votes(reports, placement)
    for who in (odd, tied):
        for rank, what in who.items():
            yield Row({"rank": rank, "chip": placement.ranks[rank].id, "computes_otherwise": ", ".join(what)})
    for rank in odd:
        wrong[Look("compute", (rank,))] += len(odd[rank])
    if any("vote" in report for _, report in reports):
        made["compute"] += sum("vote" in report for _, report in reports)
    found = verdicts(wrong, looked)
    for verdict in found:
        yield Row({
            "suspect": " or ".join(suspect.role.value for suspect in verdict.suspects),
            "ranks": ", ".join(sorted({str(rank) for suspect in verdict.suspects for rank in suspect.ranks})),
            "chips": ", ".join(sorted({placement.ranks[rank].id for who in verdict.suspects for rank in who.ranks})),
            "explains": len(verdict.looks), "seen": verdict.times,
        })  # fmt: skip
    for kind in KINDS:
        count = sum(times for look, times in wrong.items() if look.kind == kind)
        if kind == "compute" and not count and tied:
            count = max(map(len, tied.values()))
            words = f"{placement.name(*sorted(tied))} compute different bits from the same inputs, and none of them is usual"
            labels = {**placement.labels, "work": kind}
            yield Measurement("wrong_results", count, labels, samples=made[kind], about=words[:LONGEST_ABOUT])
        elif count or (finished and made[kind]):
            about = next((_about(one, kind, placement) for one in found if kind in {look.kind for look in one.looks}), None)
            labels = {**placement.labels, "work": kind}
            yield Measurement("wrong_results", count, labels, samples=made[kind] or None, about=about)


def _looks(reports: Reports) -> tuple[Counter[Look], set[Look], Counter[str]]:
    """What was wrong and how often, all that was looked at, and how many calls were made of each kind."""
    wrong: Counter[Look] = Counter()
    looked: set[Look] = set()
    made: Counter[str] = Counter()
    sums: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for rank, report in reports:
        kind = report.get("made", "")
        made[kind] += report.get("calls", 0)
        match kind:
            case "compute":
                looked.add(Look(kind, (rank,)))
                wrong[Look(kind, (rank,))] += report["wrong"]
            case "transfer":
                look = Look(kind, (report["source"], rank))
                looked.add(look)
                wrong[look] += report["wrong"]
            case "all_gather":
                looked |= {Look(kind, (source, rank)) for source in range(max(rank for rank, _ in reports) + 1)}
                for source, times in report["slots"]:
                    wrong[Look(kind, (source, rank))] += times
            case "all_reduce":
                looked.add(Look(kind, tuple(report["team"])))
                for number, _ in report["which"]:
                    sums.setdefault((tuple(report["team"]), number), []).append(rank)
    for (team, _), ranks in sums.items():
        wrong[Look("all_reduce", team, tuple(sorted(ranks)))] += 1
    return Counter({look: times for look, times in wrong.items() if times}), looked, made


def _votes(reports: Reports, placement: Placement) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Ranks that computed something else than most chips of their make, and what; and those of which nobody is most."""
    votes: dict[tuple[str | None, str], dict[int, str]] = {}
    for rank, report in reports:
        for what, digest in report.get("digests", {}).items() if "vote" in report else ():
            votes.setdefault((placement.ranks[rank].model, f"{what} in {report['vote']}"), {})[rank] = digest
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
    who = ", or ".join(_words(verdict, index, placement) for index in range(len(verdict.suspects)))
    seen = f"seen {verdict.times} times in {len(verdict.looks)} places" if verdict.times > 1 else "seen once"
    return f"{kind}: {who}; {seen}"[:LONGEST_ABOUT]


def _words(verdict: Verdict, index: int, placement: Placement) -> str:
    suspect = verdict.suspects[index]
    match suspect.role:
        case Role.COMPUTE:
            return f"{placement.name(*suspect.ranks)} computes wrongly"
        case Role.SENDER:
            return f"what {placement.name(*suspect.ranks)} sends arrives wrong"
        case Role.RECEIVER:
            return f"{placement.name(*suspect.ranks)} receives wrongly"
    one, other = suspect.ranks
    if len(verdict.directions) == 1:
        one, other = next(iter(verdict.directions))
        return f"the link from {placement.name(one)} to {placement.name(other)}"
    return f"the link between {placement.name(one)} and {placement.name(other)}"
