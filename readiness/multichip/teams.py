"""Which ranks work together: pairs in rounds, each rank alone, and all."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

Team = tuple[int, ...]

#: Pairings of all ranks for sums by two; with four ranks these are all the pairs there are.
PAIRINGS = 3


def pairings(world_size: int) -> list[list[Team]]:
    """Rounds in which every rank meets another one, and at the end has met all; in a world of odd size one rests."""
    ranks: list[int | None] = [*range(world_size), *([None] if world_size % 2 else [])]
    rounds: list[list[Team]] = []
    for _ in range(len(ranks) - 1):
        opposite = zip(ranks[: len(ranks) // 2], reversed(ranks[len(ranks) // 2 :]), strict=True)
        rounds.append([(min(a, b), max(a, b)) for a, b in opposite if a is not None and b is not None])
        ranks = [ranks[0], ranks[-1], *ranks[1:-1]]
    return rounds


def rounds(world_size: int) -> list[list[Team]]:
    """The teams for sums, round by round: some pairings, then all ranks together."""
    everyone = tuple(range(world_size))
    return [*pairings(world_size)[:PAIRINGS], *([[everyone]] if world_size > 2 else [])]


def groups(world_size: int) -> dict[Team, Any]:
    """A group of torch.distributed for each rank by itself and for each team of the rounds; None, the default, for all."""
    everyone = tuple(range(world_size))
    teams = [*((rank,) for rank in everyone), *(team for teams in rounds(world_size) for team in teams)]
    return {team: None if team == everyone else dist.new_group(list(team)) for team in dict.fromkeys(teams)}
