"""Error localisation: finds the chip that computes, sends or receives wrong data, or the link, from all wrong results. Pure.

One wrong result has many possible causes, all wrong results together have few. Every observation has its suspects; the
one that explains most observations is the culprit, and of those that explain as many the one that was right in the fewest
others. What is then left is explained in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

#: Seen less often than this, a fault that comes and goes may have spared another rank by chance.
SELDOM = 5


class Role(StrEnum):
    """Role in which a suspect causes wrong results."""

    COMPUTE = "compute"
    SENDER = "sender"
    RECEIVER = "receiver"
    LINK = "link"


@dataclass(frozen=True, slots=True, order=True)
class Suspect:
    """Suspect: a rank in a role, or a link with its two ends in order."""

    role: Role
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Observation:
    """One result that was checked.

    `kind` is compute, transfer, all_gather or all_reduce. Of transfers and gathers `ranks` are source and target; of sums
    those of the team, and `wrong` those of them that got a wrong result.
    """

    kind: str
    ranks: tuple[int, ...]
    wrong: tuple[int, ...] = ()

    def suspects(self) -> frozenset[Suspect]:
        """Return the suspects that could have caused this wrong result."""
        match self.kind:
            case "compute":
                return frozenset({Suspect(Role.COMPUTE, self.ranks)})
            case "all_reduce":
                return frozenset(self._of_sum())
        source, target = self.ranks
        ends = {Suspect(Role.SENDER, (source,)), Suspect(Role.RECEIVER, (target,))}
        return frozenset(ends if source == target else {*ends, _link(source, target)})  # its own part passes over no link

    def _of_sum(self) -> Iterable[Suspect]:
        """Return the suspects of a wrong sum: an input if it is wrong on all ranks, else the receivers."""
        if self.wrong and set(self.wrong) < set(self.ranks):
            yield from (Suspect(Role.RECEIVER, (rank,)) for rank in self.wrong)
        else:
            yield from (Suspect(Role.SENDER, (rank,)) for rank in self.ranks)
        if len(self.ranks) == 2:
            yield _link(*self.ranks)


def _link(one: int, other: int) -> Suspect:
    return Suspect(Role.LINK, (min(one, other), max(one, other)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Suspects that explain some observations equally well, and how often these were seen."""

    suspects: tuple[Suspect, ...]
    observations: tuple[Observation, ...]
    times: int

    @property
    def kinds(self) -> set[str]:
        """Kinds of the explained observations."""
        return {one.kind for one in self.observations}

    @property
    def directions(self) -> set[tuple[int, ...]]:
        """Directions in which transfers were wrong."""
        return {one.ranks for one in self.observations if one.kind in ("transfer", "all_gather")}


def verdicts(wrong: Mapping[Observation, int], observed: Iterable[Observation]) -> list[Verdict]:
    """Explain all wrong results (`wrong`: how often by observation), given all that was checked."""
    every = set(observed)
    chances: dict[Suspect, int] = {}
    for one in every:
        partly = [Observation(one.kind, one.ranks, (rank,)) for rank in one.ranks] if one.kind == "all_reduce" else []
        for suspect in frozenset().union(*(each.suspects() for each in (one, *partly))):
            chances[suspect] = chances.get(suspect, 0) + 1
    ranks = {rank for one in every for rank in one.ranks}
    left, found = set(wrong), []
    while left:
        explained: dict[Suspect, set[Observation]] = {}
        for one in left:
            for suspect in one.suspects():
                explained.setdefault(suspect, set()).add(one)
        most = max(map(len, explained.values()))
        best = sorted(suspect for suspect, observations in explained.items() if len(observations) == most)
        chosen = explained[min(best, key=lambda suspect: (chances.get(suspect, most), suspect))]
        equivalent = [suspect for suspect in best if explained[suspect] == chosen]
        times = sum(wrong[one] for one in chosen)
        if len(ranks) > 2 and times >= SELDOM:
            least = min(chances.get(suspect, most) for suspect in equivalent)
            equivalent = [suspect for suspect in equivalent if chances.get(suspect, most) == least]
        found.append(Verdict(tuple(equivalent), tuple(sorted(chosen)), times))
        left -= chosen
    return found
