"""Process groups: ranks that work together in pairs, alone, and all."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import torch.distributed as dist

Subgroup = tuple[int, ...]

#: Pairings of all ranks for sums by two; with four ranks these are all the pairs there are.
PAIRINGS = 3
#: Pairs that exchange blocks, one after the other; more would take long and show little more.
MOST_PAIRS = 28


def pairings(world_size: int) -> list[list[Subgroup]]:
    """Return rounds in which every rank meets another one, until it has met all; with an odd number one rank rests."""
    ranks: list[int | None] = [*range(world_size), *([None] if world_size % 2 else [])]
    rounds: list[list[Subgroup]] = []
    for _ in range(len(ranks) - 1):
        opposite = zip(ranks[: len(ranks) // 2], reversed(ranks[len(ranks) // 2 :]), strict=True)
        rounds.append([(min(a, b), max(a, b)) for a, b in opposite if a is not None and b is not None])
        ranks = [ranks[0], ranks[-1], *ranks[1:-1]]
    return rounds


def pairs(world_size: int) -> list[Subgroup]:
    """Return all pairs; for many ranks only some, in which all ranks take part about equally often."""
    every: list[Subgroup] = sorted(combinations(range(world_size), 2))
    return every if len(every) <= MOST_PAIRS else list(chain(*pairings(world_size)))[:MOST_PAIRS]


def rounds(world_size: int) -> list[list[Subgroup]]:
    """Return the subgroups for sums, round by round: some pairings, then all ranks together."""
    everyone = tuple(range(world_size))
    return [*pairings(world_size)[:PAIRINGS], *([[everyone]] if world_size > 2 else [])]


def groups(world_size: int) -> dict[Subgroup, Any]:
    """Make a process group for each rank alone and for each subgroup; None is the default group, for all."""
    everyone = tuple(range(world_size))
    subgroups = [*((rank,) for rank in everyone), *(subgroup for subgroups in rounds(world_size) for subgroup in subgroups)]
    return {
        subgroup: None if subgroup == everyone else dist.new_group(list(subgroup)) for subgroup in dict.fromkeys(subgroups)
    }
