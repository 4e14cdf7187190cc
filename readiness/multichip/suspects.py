"""Whose doing a wrong result is: a chip that computes wrongly, sends wrongly or receives wrongly, or a link. Pure.

One wrong result has many possible causes, all wrong results together have few. Every observation names those who could
have caused it; the suspect who explains most of them is the culprit, and of those who explain as many the one of whom the
fewest other things were right. What is then left is explained in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

#: Seen less often than this, a fault that comes and goes may have spared another rank by chance.
SELDOM = 5


class Role(StrEnum):
    """What a suspect does wrong."""

    COMPUTE = "compute"
    SENDER = "sender"
    RECEIVER = "receiver"
    LINK = "link"


@dataclass(frozen=True, slots=True, order=True)
class Suspect:
    """A rank in a role; of a link its two ends, in their order."""

    role: Role
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Look:
    """One thing that was looked at.

    `kind` is compute, transfer, all_gather or all_reduce. Of transfers and gathers `ranks` are source and target; of sums
    those of the team, and `wrong` those of them that got a wrong result.
    """

    kind: str
    ranks: tuple[int, ...]
    wrong: tuple[int, ...] = ()

    def suspects(self) -> frozenset[Suspect]:
        """Who could have caused that this was wrong."""
        match self.kind:
            case "compute":
                return frozenset({Suspect(Role.COMPUTE, self.ranks)})
            case "all_reduce":
                return frozenset(self._of_sum())
        source, target = self.ranks
        ends = {Suspect(Role.SENDER, (source,)), Suspect(Role.RECEIVER, (target,))}
        return frozenset(ends if source == target else {*ends, _link(source, target)})  # its own part passes over no link

    def _of_sum(self) -> Iterable[Suspect]:
        """Wrong for all: somebody put in what is wrong. Wrong for some: these received it so."""
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
    """Who explains what: several `suspects` where they cannot be told apart. `times` is how often it was seen."""

    suspects: tuple[Suspect, ...]
    looks: tuple[Look, ...]
    times: int

    @property
    def directions(self) -> set[tuple[int, ...]]:
        """In which directions transfers were wrong."""
        return {look.ranks for look in self.looks if look.kind in ("transfer", "all_gather")}


def verdicts(wrong: Mapping[Look, int], looked: Iterable[Look]) -> list[Verdict]:
    """Who explains all that was wrong (how often by look), given all that was looked at (`Look.wrong` empty)."""
    chances: dict[Suspect, int] = {}
    for look in set(looked):
        both = [look, *([Look(look.kind, look.ranks, (rank,)) for rank in look.ranks] if look.kind == "all_reduce" else [])]
        for suspect in frozenset().union(*(one.suspects() for one in both)):
            chances[suspect] = chances.get(suspect, 0) + 1
    ranks = {rank for look in looked for rank in look.ranks}
    left, found = set(wrong), []
    while left:
        explained: dict[Suspect, set[Look]] = {}
        for look in left:
            for suspect in look.suspects():
                explained.setdefault(suspect, set()).add(look)
        most = max(map(len, explained.values()))
        best = sorted(suspect for suspect, looks in explained.items() if len(looks) == most)
        chosen = explained[min(best, key=lambda suspect: (chances.get(suspect, most), suspect))]
        alike = [suspect for suspect in best if explained[suspect] == chosen]
        times = sum(wrong[look] for look in chosen)
        if len(ranks) > 2 and times >= SELDOM:
            least = min(chances.get(suspect, most) for suspect in alike)
            alike = [suspect for suspect in alike if chances.get(suspect, most) == least]
        found.append(Verdict(tuple(alike), tuple(sorted(chosen)), times))
        left -= chosen
    return found
