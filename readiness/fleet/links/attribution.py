"""From results of pairs and groups to the next round of trials, or to the hosts and links that are to blame. Pure.

A trial is a pair or a group of hosts that worked together: good, bad, or unknown where it could not be tried. A good one
clears all its hosts and the links between them. Hosts that good pairs connect form a part of the fleet:

- A host by itself is tried with hosts of every larger part, until one is good, or three are bad with each: it is named.
  It must have led one of these, since only the host that leads a run says whether other work keeps it busy.
- Two parts of several hosts between which every pair is bad are a division: the network between them, and no host, is named.
- A pair that is bad while both its hosts belong to one part is tried again, until it was bad three times (the link is
  named) or good three times (it failed now and then, which is listed).
- A host with three such links or more, to hosts that fail with nobody else, of which repetitions are now good and now bad,
  fails now and then itself: it is named, the links are not.
- A group that is bad is halved; where both halves are good, halves of one are tried with halves of the other. Either ends
  at a pair that is bad, or with a group that fails only together.

Nobody is named for a single bad trial, and what could not be tried is unknown, never good.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

#: Bad trials with hosts of one part before a host is named, and bad or good ones of a pair before its link is settled.
SETTLING_TRIALS = 3
#: Rounds in which every host is paired: a host that fails in half of its trials is missed once in thirty-two times.
SCREENING_ROUNDS = 5
#: Hosts of a group; and the most that one run takes.
GROUP_SIZE, LARGEST_GROUP = 8, 65
#: Beyond the screening so many rounds at most; what is open then is listed as unresolved.
FURTHER_ROUNDS = 40
#: A host is tried so often without any answer before it is given up.
_MOST_UNKNOWN = 3
_Pair = frozenset[str]


class Outcome(StrEnum):
    """Outcome of a trial."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


class Purpose(StrEnum):
    """Why a trial is made."""

    SCREENING = "every host with another"
    SUSPECT = "a suspect with a known-good host"
    REPEAT = "a bad link once more"
    GROUP = "a group"
    HALF = "part of a bad group"
    ALL = "all together"


@dataclass(frozen=True, slots=True)
class Trial:
    """Hosts to be tried together; the first of them leads the run."""

    hosts: tuple[str, ...]
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a trial."""

    trial: Trial
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Plan:
    """Hosts to be tried, rounds in which all are paired, hosts of a group (0: pairs alone), and the seed of the order."""

    hosts: tuple[str, ...]
    screening_rounds: int = SCREENING_ROUNDS
    group_size: int = GROUP_SIZE
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Who is to blame. Pairs and groups are sorted tuples of hosts."""

    bad_hosts: tuple[str, ...] = ()
    unsteady_hosts: tuple[str, ...] = ()
    bad_links: tuple[tuple[str, ...], ...] = ()
    unsteady_links: tuple[tuple[str, ...], ...] = ()
    unresolved_pairs: tuple[tuple[str, ...], ...] = ()
    divided: tuple[tuple[str, ...], ...] = ()
    unconnected: tuple[tuple[str, ...], ...] = ()
    bad_groups: tuple[tuple[str, ...], ...] = ()
    unknown_hosts: tuple[str, ...] = ()
    unknown_groups: tuple[tuple[str, ...], ...] = ()
    cleared: tuple[str, ...] = ()

    @property
    def blamed(self) -> frozenset[str]:
        """The hosts that are named."""
        return frozenset((*self.bad_hosts, *self.unsteady_hosts))


def screening(plan: Plan) -> list[list[Trial]]:
    """Return rounds in which each host is in one pair (one host of an odd number is idle): a round-robin tournament.

    Few hosts are all paired with each other; of many, so many rounds of the tournament are drawn.
    """
    order = list(plan.hosts)
    chance = random.Random(f"{plan.seed} {len(order)}")  # noqa: S311 - an order that repeats, no secret
    chance.shuffle(order)
    if len(order) % 2:
        order.append("")
    count = len(order)
    rounds = list(range(count - 1))
    if len(rounds) > plan.screening_rounds:
        rounds = sorted(chance.sample(rounds, plan.screening_rounds))
    made = []
    for number in rounds:
        ring = [order[0], *(order[1 + (place + number) % (count - 1)] for place in range(count - 1))]
        pairs = [(ring[place], ring[count - 1 - place]) for place in range(count // 2)]
        led = [pair if (number + place) % 2 else pair[::-1] for place, pair in enumerate(pairs)]
        made.append([Trial(pair, Purpose.SCREENING) for pair in led if all(pair)])
    return made


def next_round(plan: Plan, results: Sequence[Result]) -> list[Trial]:
    """Return the trials of the next round, each host in one at most; empty where all is settled, or nothing can be."""
    rounds = screening(plan)
    made = sum(result.trial.purpose is Purpose.SCREENING for result in results)
    for trials in rounds:
        if made < len(trials):
            return trials
        made -= len(trials)
    state = _State(plan, results)
    return state.pairs() or state.groups()


def conclude(plan: Plan, results: Sequence[Result]) -> Conclusion:
    """Return who is to blame as far as the results say."""
    return _State(plan, results).conclusion()


@dataclass(slots=True)
class _Round:
    """Trials of a round; each host is in one of them at most."""

    trials: list[Trial] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)

    def add(self, hosts: Sequence[str], purpose: Purpose) -> bool:
        """Add a trial unless one of its hosts is in another; return whether it was added."""
        if not self.busy.isdisjoint(hosts):
            return False
        self.busy.update(hosts)
        self.trials.append(Trial(tuple(hosts), purpose))
        return True


def _sorted(hosts: Sequence[str] | _Pair) -> tuple[str, ...]:
    return tuple(sorted(hosts))


@dataclass(slots=True)
class _Tries:
    """How often a pair was good, bad and unknown."""

    good: int = 0
    bad: int = 0
    unknown: int = 0

    def count(self, outcome: Outcome) -> None:
        """Add a trial."""
        setattr(self, outcome.value, getattr(self, outcome.value) + 1)


@dataclass(slots=True)
class _State:
    """What the results say. `parts` are the hosts that good pairs connect, the largest first; `part_of` finds a host's."""

    plan: Plan
    results: Sequence[Result]
    tries: dict[_Pair, _Tries] = field(default_factory=dict)
    partners: dict[str, list[_Pair]] = field(default_factory=dict)
    parts: list[list[str]] = field(default_factory=list)
    part_of: dict[str, int] = field(default_factory=dict)
    between: dict[tuple[int, int], list[_Pair]] = field(default_factory=dict)
    led: dict[str, _Tries] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for result in self.results:
            if len(result.trial.hosts) == 2:
                self.tries.setdefault(frozenset(result.trial.hosts), _Tries()).count(result.outcome)
                self.led.setdefault(result.trial.hosts[0], _Tries()).count(result.outcome)
        for pair in self.tries:
            for host in pair:
                self.partners.setdefault(host, []).append(pair)
        self._find_parts()

    def _find_parts(self) -> None:
        leader = {host: host for host in self.plan.hosts}

        def find(host: str) -> str:
            while leader[host] != host:
                leader[host] = leader[leader[host]]
                host = leader[host]
            return host

        for pair, tries in self.tries.items():
            if tries.good:
                one, other = (find(host) for host in sorted(pair))
                leader[other] = one
        parts: dict[str, list[str]] = {}
        for host in self.plan.hosts:
            parts.setdefault(find(host), []).append(host)
        self.parts = sorted(parts.values(), key=lambda part: (-len(part), part[0]))
        self.part_of = {host: number for number, part in enumerate(self.parts) for host in part}
        for pair in self.tries:
            larger, smaller = sorted(self.part_of[host] for host in pair)
            if larger != smaller:
                self.between.setdefault((larger, smaller), []).append(pair)

    # --------------------------------------------------------------------------------------------------- pairs

    def pairs(self) -> list[Trial]:
        """Return a round of pairs that say more: of parts that may belong together, then bad links once more."""
        made = _Round()
        settled = self._settled_parts()
        turn = 0
        for number in range(1, len(self.parts)):
            if self._is_given_up(number):
                continue
            for larger in settled:
                if larger < number and self._missing(number, larger) > 0:
                    turn += self._add_untried(made, number, larger, turn)
            if self._must_lead(number, settled):
                turn += self._add_untried(made, number, settled[0], turn, again=True)
        for pair in self._chance_pairs(settled):
            made.add(_sorted(pair), Purpose.REPEAT)
        unsteady = self._unsteady_hosts()
        for pair in self._unsettled_links():
            if not unsteady & pair:
                made.add(_sorted(pair), Purpose.REPEAT)
        return made.trials

    def _settled_parts(self) -> list[int]:
        """Return the largest part, and those that are divided from all such: others may yet turn out to belong to one."""
        settled: list[int] = []
        for number, part in enumerate(self.parts):
            if len(part) > 1 and all(self._missing(number, larger) <= 0 for larger in settled):
                settled.append(number)
        return settled

    def _chance_pairs(self, settled: Sequence[int]) -> Iterator[_Pair]:
        """Yield bad pairs that were tried once where there are too few hosts for three pairs: luck must not name anybody."""
        for number, part in enumerate(self.parts):
            if number in settled[:1] or self._is_given_up(number):
                continue
            for larger in settled:
                if larger < number and len(part) * len(self.parts[larger]) < SETTLING_TRIALS:
                    yield from (pair for pair in self.between.get((larger, number), []) if self.tries[pair].bad == 1)
        if len(self.plan.hosts) <= self.plan.screening_rounds + 1:
            alone = {part[0] for part in self.parts if len(part) == 1}
            yield from (pair for pair, tries in self.tries.items() if pair <= alone and tries.bad == 1)

    def _missing(self, number: int, larger: int) -> int:
        """Return how many bad pairs between two parts are missing before they count as divided."""
        found = [self.tries[pair] for pair in self.between.get((larger, number), [])]
        bad = sum(one.bad > 0 for one in found)
        unknown = sum(one.unknown for one in found if not one.bad)
        return 0 if unknown >= _MOST_UNKNOWN * (2 if bad else 1) else self._pairs_needed(number, larger) - bad

    def _pairs_needed(self, number: int, larger: int) -> int:
        """Return how many pairs of two parts must be bad before they count as divided."""
        return min(SETTLING_TRIALS, len(self.parts[number]) * len(self.parts[larger]))

    def _must_lead(self, number: int, settled: Sequence[int]) -> bool:
        """Return whether a host by itself would be named, but has not led a trial that was bad yet."""
        host = self.parts[number][0]
        own = self.led.get(host, _Tries())
        is_alone = len(self.parts[number]) == 1 and bool(settled)
        return is_alone and not own.bad and own.unknown < _MOST_UNKNOWN and self._is_divided(number, settled)

    def _is_divided(self, number: int, settled: Sequence[int]) -> bool:
        return all(self._bad_between(number, one) >= self._pairs_needed(number, one) for one in settled if one < number)

    def _add_untried(self, made: _Round, number: int, larger: int, turn: int, *, again: bool = False) -> bool:
        """Add a pair of two parts of which nothing is known yet, or any with `again`; the larger part's hosts take turns."""
        candidates = self.parts[larger]
        for most_unknown in (0, _MOST_UNKNOWN):
            for host in self.parts[number]:
                for step in range(len(candidates)):
                    pair = (host, candidates[(turn + step) % len(candidates)])
                    tries = self.tries.get(frozenset(pair), _Tries())
                    says_more = again or (not tries.bad and tries.unknown <= most_unknown)
                    if says_more and made.add(pair, Purpose.SUSPECT):
                        return True
        return False

    def _is_given_up(self, number: int) -> bool:
        """Return whether a host by itself never answered: it is unknown, not bad."""
        if len(self.parts[number]) > 1:
            return False
        found = [self.tries[pair] for pair in self.partners.get(self.parts[number][0], [])]
        return not any(one.bad for one in found) and sum(one.unknown for one in found) >= _MOST_UNKNOWN

    def _bad_links(self) -> Iterator[_Pair]:
        """Yield pairs of one part that were bad at least once."""
        for pair, tries in self.tries.items():
            one, other = pair
            if tries.bad and self.part_of[one] == self.part_of[other]:
                yield pair

    def _unsettled_links(self) -> Iterator[_Pair]:
        """Yield bad links that were neither bad nor good three times yet; of a host with many, as many at most."""
        load: Counter[str] = Counter()
        for pair in sorted(self._bad_links(), key=sorted):
            tries = self.tries[pair]
            if max(load[host] for host in pair) >= SETTLING_TRIALS:
                continue
            load.update(pair)
            if tries.bad < SETTLING_TRIALS and tries.good < SETTLING_TRIALS and tries.unknown < _MOST_UNKNOWN:
                yield pair

    def _unsteady_hosts(self) -> frozenset[str]:
        """Return hosts that are bad with three others or more that fail with nobody else."""
        of_host: dict[str, set[str]] = {}
        for pair in self._bad_links():
            one, other = pair
            of_host.setdefault(one, set()).add(other)
            of_host.setdefault(other, set()).add(one)
        found = set()
        for host, others in of_host.items():
            exclusive = [other for other in others if of_host[other] == {host}]
            tries = [self.tries[frozenset((host, other))] for other in exclusive]
            again, mixed = sum(one.bad > 1 for one in tries), any(one.good for one in tries)
            if len(others) >= SETTLING_TRIALS and len(exclusive) == len(others) and again > 1 and mixed:
                found.add(host)
        return frozenset(found)

    # -------------------------------------------------------------------------------------------------- groups

    def _groups(self) -> dict[tuple[str, ...], _Tries]:
        found: dict[tuple[str, ...], _Tries] = {}
        for result in self.results:
            if len(result.trial.hosts) > 2:
                found.setdefault(result.trial.hosts, _Tries()).count(result.outcome)
        return found

    def _smaller(self, group: tuple[str, ...], tried: Mapping[tuple[str, ...], _Tries]) -> list[tuple[str, ...]]:
        """Return the smaller groups that say where a bad group fails: its halves; where these are good, halves of both."""
        one, other = _halves(group)
        if any(self._outcome(half, tried) is not Outcome.GOOD for half in (one, other)):
            return [half for half in (one, other) if len(half) > 1]
        if len(group) < 4:
            return [(first, second) for first in one for second in other]
        return [first + second for first in _halves(one) for second in _halves(other)]

    def _outcome(self, group: tuple[str, ...], tried: Mapping[tuple[str, ...], _Tries]) -> Outcome | None:
        """Return what is known of a group: one within a good one is good. None where it was not tried."""
        if len(group) < 2:
            return Outcome.GOOD
        own = tried.get(group) or self.tries.get(frozenset(group))
        if own is not None and own.bad:
            return Outcome.BAD
        members = set(group)
        if (own is not None and own.good) or any(members <= set(other) for other, tries in tried.items() if tries.good):
            return Outcome.GOOD
        return None if own is None else Outcome.UNKNOWN

    def _eligible(self) -> list[str]:
        """Return hosts of the largest part without those that are named, and one of each named link."""
        if not self.parts or len(self.parts[0]) < 2:
            return []
        conclusion = self._pair_conclusion()
        left_out = set(conclusion.blamed)
        links = [set(pair) for pair in (*conclusion.bad_links, *conclusion.unresolved_pairs)]
        while links := [pair for pair in links if not pair & left_out]:
            counted = Counter(host for pair in links for host in sorted(pair))
            left_out.add(max(sorted(counted), key=lambda host: counted[host]))
        return [host for host in self.parts[0] if host not in left_out]

    def groups(self) -> list[Trial]:
        """Return a round of groups that were not tried yet: parts of bad ones, else the first ones, else all together."""
        size = self.plan.group_size
        hosts = self._eligible()
        made = _Round()
        if size < 3 or len(hosts) < 3:
            return []
        tried = self._groups()
        for group, tries in tried.items():
            for smaller in self._smaller(group, tried) if tries.bad else ():
                if self._outcome(smaller, tried) is None:
                    made.add(smaller, Purpose.HALF)
        if made.trials:
            return made.trials
        purposes = {result.trial.purpose for result in self.results}
        if Purpose.GROUP not in purposes and len(hosts) > size:
            for group in _groups_of(hosts, size):
                made.add(group, Purpose.GROUP)
        elif Purpose.ALL not in purposes and len(hosts) <= LARGEST_GROUP:
            made.add(hosts, Purpose.ALL)
        return made.trials

    # ---------------------------------------------------------------------------------------------- conclusion

    def conclusion(self) -> Conclusion:
        """Return who is to blame."""
        found = self._pair_conclusion()
        tried = self._groups()
        together = tuple(
            group for group, tries in tried.items()
            if tries.bad and all(self._outcome(one, tried) is not Outcome.BAD for one in self._smaller(group, tried))
        )
        unknown = tuple(group for group, tries in tried.items() if tries.unknown and not tries.good and not tries.bad)
        return replace(found, bad_groups=together, unknown_groups=unknown)

    def _pair_conclusion(self) -> Conclusion:
        large = [number for number, part in enumerate(self.parts) if len(part) > 1]
        bad: list[str] = []
        unknown: list[str] = []
        divided: list[tuple[str, ...]] = []
        unconnected: list[tuple[str, ...]] = []
        for number, part in enumerate(self.parts):
            proven = bool(large) and self._is_divided(number, large)
            if len(part) > 1:
                (divided if proven or not number else unconnected).append(tuple(part))
            elif proven and self.led.get(part[0], _Tries()).bad:
                bad += part
            else:
                unknown += part
        unsteady = self._unsteady_hosts()
        links: list[tuple[str, ...]] = []
        now_and_then: list[tuple[str, ...]] = []
        open_pairs: list[tuple[str, ...]] = []
        for pair in sorted(self._bad_links(), key=sorted):
            tries = self.tries[pair]
            if pair & unsteady:
                continue
            if tries.bad >= SETTLING_TRIALS and tries.good < tries.bad:
                links.append(_sorted(pair))
            elif tries.good >= SETTLING_TRIALS:
                now_and_then.append(_sorted(pair))
            else:
                open_pairs.append(_sorted(pair))
        if not large:  # no pair is good: nobody can be told from anybody
            open_pairs = [_sorted(pair) for pair, tries in sorted(self.tries.items(), key=_by_names) if tries.bad]
        blamed = {*bad, *unsteady}
        return Conclusion(
            bad_hosts=tuple(sorted(bad)), unsteady_hosts=tuple(sorted(unsteady)), bad_links=tuple(links),
            unsteady_links=tuple(now_and_then), unresolved_pairs=tuple(open_pairs),
            divided=tuple(divided) if len(divided) > 1 else (), unconnected=tuple(unconnected),
            unknown_hosts=tuple(sorted(unknown)),
            cleared=tuple(sorted(host for part in self.parts if len(part) > 1 for host in part if host not in blamed)),
        )  # fmt: skip

    def _bad_between(self, number: int, larger: int) -> int:
        return sum(self.tries[pair].bad > 0 for pair in self.between.get((larger, number), []))


def _groups_of(hosts: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Yield groups of about this size, none smaller than three where that can be."""
    count = max(1, round(len(hosts) / size))
    for number in range(count):
        yield tuple(hosts[len(hosts) * number // count : len(hosts) * (number + 1) // count])


def _halves(group: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    middle = (len(group) + 1) // 2
    return group[:middle], group[middle:]


def _by_names(entry: tuple[_Pair, _Tries]) -> tuple[str, ...]:
    return _sorted(entry[0])
