"""What is known between the hosts of a fleet: rounds, matrix of rates and latencies, who is to blame. Only reads."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from readiness.fleet.links import attribution, trial_store
from readiness.fleet.links.attribution import Conclusion, Outcome, Purpose

#: So many pairs without an answer are listed; the others are counted.
_MOST_PAIRS = 50


@dataclass(frozen=True, slots=True)
class Round:
    """A round: what for, and how many of its trials came out how; `waiting` were planned and not made yet."""

    number: int
    purposes: tuple[Purpose, ...]
    trials: int
    good: int
    bad: int
    unknown: int
    waiting: int


@dataclass(frozen=True, slots=True)
class TriedTrial:
    """A trial with its outcome, its reasons and figures."""

    round: int
    hosts: tuple[str, ...]
    purpose: Purpose
    outcome: Outcome
    reasons: tuple[str, ...]
    gbps: float | None
    latency_us: float | None
    tail_ratio: float | None
    started: str
    seconds: float


@dataclass(frozen=True, slots=True)
class LinksSummary:
    """All of it. `pairs` is how many pairs the hosts have; `pairs_good` and the others count pairs, not trials."""

    hosts: tuple[str, ...]
    options: tuple[str, ...]
    finished: bool
    rounds: tuple[Round, ...]
    trials: tuple[TriedTrial, ...]
    conclusion: Conclusion
    pairs: int
    pairs_good: int
    pairs_bad: int
    pairs_unknown: int

    @property
    def pairs_untried(self) -> int:
        """Pairs of which nothing is known: not tried, or without an answer."""
        return self.pairs - self.pairs_good - self.pairs_bad

    @property
    def suspects(self) -> tuple[str, ...]:
        """Hosts that are named, or at an end of a link that is, or of which nothing is known; the worst first."""
        found = self.conclusion
        pairs = (*found.bad_links, *found.unresolved_pairs, *found.unsteady_links)
        return tuple(dict.fromkeys((
            *found.bad_hosts, *found.unsteady_hosts, *(host for pair in pairs for host in pair), *found.unknown_hosts,
        )))  # fmt: skip

    def with_host(self, host: str) -> Iterator[TriedTrial]:
        """Yield the pairs that a host was in."""
        return (one for one in self.trials if len(one.hosts) == 2 and host in one.hosts)


def read(connection: sqlite3.Connection) -> LinksSummary | None:
    """Return what the database knows between hosts; None where nothing was ever planned."""
    campaign = trial_store.campaign(connection)
    if campaign is None:
        return None
    kept = trial_store.trials(connection)
    results, judged = trial_store.outcomes(kept)
    done = [one for one in kept if one.evidence is not None]
    tried = tuple(
        TriedTrial(
            one.round, one.trial.hosts, one.trial.purpose, found.outcome, found.reasons, found.evidence.gbps,
            found.evidence.latency_us, found.evidence.tail_ratio, one.started, one.seconds,
        )
        for one, found in zip(done, judged, strict=True)
    )  # fmt: skip
    of_pairs: dict[frozenset[str], set[Outcome]] = {}
    for one in tried:
        if len(one.hosts) == 2:
            of_pairs.setdefault(frozenset(one.hosts), set()).add(one.outcome)
    counted = Counter(
        Outcome.BAD if Outcome.BAD in outcomes else Outcome.GOOD if Outcome.GOOD in outcomes else Outcome.UNKNOWN
        for outcomes in of_pairs.values()
    )
    count = len(campaign.plan.hosts)
    return LinksSummary(
        campaign.plan.hosts, campaign.arguments, campaign.finished, tuple(_rounds(kept, tried)), tried,
        attribution.conclude(campaign.plan, results), count * (count - 1) // 2, counted[Outcome.GOOD], counted[Outcome.BAD],
        counted[Outcome.UNKNOWN],
    )  # fmt: skip


def _rounds(kept: Sequence[trial_store.StoredTrial], tried: Sequence[TriedTrial]) -> Iterator[Round]:
    purposes: dict[int, set[Purpose]] = {}
    planned: Counter[int] = Counter()
    for one in kept:
        purposes.setdefault(one.round, set()).add(one.trial.purpose)
        planned[one.round] += 1
    outcomes = Counter((one.round, one.outcome) for one in tried)
    for number in sorted(planned):
        good, bad, unknown = (outcomes[number, outcome] for outcome in (Outcome.GOOD, Outcome.BAD, Outcome.UNKNOWN))
        yield Round(
            number, tuple(purpose for purpose in Purpose if purpose in purposes[number]), planned[number], good, bad,
            unknown, planned[number] - good - bad - unknown,
        )  # fmt: skip


def sentences(between: LinksSummary) -> Iterator[tuple[str, str]]:
    """Yield what came of it: `bad` where something is named, `open` where something is unknown, `note`, and a sentence."""
    yield from (("bad", text) for text in _named(between))
    yield from (("open", text) for text in _unknown(between))
    if len(between.conclusion.bad_hosts) > max(3, len(between.hosts) // 10):
        yield "note", "so many hosts seldom fail by themselves: look first for what they share, as a switch or a setting"
    if len(between.hosts) > attribution.LARGEST_GROUP:
        yield "note", f"all hosts together were not tried: a run takes {attribution.LARGEST_GROUP} at most"


def _named(between: LinksSummary) -> Iterator[str]:
    found = between.conclusion
    for host in found.bad_hosts:
        partners = {other for one in between.with_host(host) if one.outcome is Outcome.BAD for other in one.hosts} - {host}
        yield f"{host} fails with each of the {len(partners)} hosts that it was tried with{why(between, (host,))}"
    for host in found.unsteady_hosts:
        yield f"{host} fails now and then, with hosts that fail with nobody else{why(between, (host,))}"
    for one, other in found.bad_links:
        yield f"the link between {one} and {other} fails, both are sound with others{why(between, (one, other))}"
    if found.divided:
        sizes = " and ".join(f"{len(part)} ({_some(part, 3)})" for part in found.divided)
        yield f"the network is divided: hosts work within each part, and no pair works between the parts of {sizes}"
    for group in found.bad_groups:
        yield f"{len(group)} hosts fail together, and none of their parts does ({_some(group)}){why(between, group)}"


def _unknown(between: LinksSummary) -> Iterator[str]:
    found = between.conclusion
    for one, other in found.unresolved_pairs:
        yield f"{one} with {other} failed, and neither host nor link could be told{why(between, (one, other))}"
    for one, other in found.unsteady_links:
        yield f"{one} with {other} failed now and then, and was right three times{why(between, (one, other))}"
    for part in found.unconnected:
        yield f"{len(part)} hosts could not be tried with the others: {_some(part)}"
    silent = _without_answer(between)
    for pair in silent[:_MOST_PAIRS]:
        yield f"{pair[0]} with {pair[1]} is unknown{why(between, pair)}"
    if len(silent) > _MOST_PAIRS:
        yield f"{len(silent) - _MOST_PAIRS} more pairs that were tried are unknown"
    for host in found.unknown_hosts:
        yield f"{host} is unknown{why(between, (host,)) or ': it was not tried'}"
    for group in found.unknown_groups:
        yield f"{len(group)} hosts together are unknown{why(between, group)}"
    if not between.finished:
        yield "the trials did not come to their end: the same command goes on with them"


def _without_answer(between: LinksSummary) -> list[tuple[str, ...]]:
    """Return pairs that were tried and never answered, but for those of hosts that are named or unknown themselves."""
    answered: dict[tuple[str, ...], bool] = {}
    for one in between.trials:
        if len(one.hosts) == 2:
            pair = tuple(sorted(one.hosts))
            answered[pair] = answered.get(pair, False) or one.outcome is not Outcome.UNKNOWN
    explained = between.conclusion.blamed | set(between.conclusion.unknown_hosts)
    return [pair for pair, is_answered in sorted(answered.items()) if not is_answered and explained.isdisjoint(pair)]


def _some(hosts: Sequence[str], most: int = 6) -> str:
    return ", ".join(hosts[:most]) + (", ..." if len(hosts) > most else "")


def why(between: LinksSummary, hosts: Sequence[str]) -> str:
    """Return `: ` and the reason most often given in trials of just these hosts, or of one with others; else nothing."""
    wanted = set(hosts)
    reasons: Counter[str] = Counter()
    for one in between.trials:
        fits = wanted == set(one.hosts) if len(hosts) > 1 else len(one.hosts) == 2 and wanted <= set(one.hosts)
        if fits and one.outcome is not Outcome.GOOD:
            reasons.update(one.reasons[:1])
    return f": {reasons.most_common(1)[0][0]}" if reasons else ""


def in_short(between: LinksSummary) -> str:
    """`of 6 pairs of 4 hosts, 5 good, 1 bad, 0 unknown; 5 rounds (every host with another 3, a bad link once more 2)`."""
    count = len(between.hosts)
    plural = "s" if between.pairs != 1 else ""
    text = (
        f"of {between.pairs} pair{plural} of {count} hosts, {between.pairs_good} good, {between.pairs_bad} bad, "
        f"{between.pairs_untried} unknown"
    )
    never = between.pairs_untried - between.pairs_unknown
    if never:
        text += f" ({never} of these not tried: in {len(between.rounds)} rounds every host meets some others)"
    made = Counter(purpose for one in between.rounds for purpose in one.purposes)
    listed = ", ".join(f"{purpose.value} {number}" for purpose, number in made.items())
    return f"{text}; {len(between.rounds)} round{'s' if len(between.rounds) != 1 else ''} ({listed})"
