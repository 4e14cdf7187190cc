"""Bus bandwidth of collectives: bytes per time, times the share that passes a link. Pure.

The size of an operation is that of nccl-tests: the whole buffer of a rank, of all_gather what it ends with, of
reduce_scatter what it begins with. Source of the factors: https://github.com/NVIDIA/nccl-tests, doc/PERFORMANCE.md.
"""

from __future__ import annotations


def bus_factor(op: str, ranks: int) -> float:
    """Return the factor from algorithm bandwidth to bus bandwidth for this number of ranks."""
    match op:
        case "all_reduce":
            return 2 * (ranks - 1) / ranks
        case "all_gather" | "reduce_scatter" | "all_to_all":
            return (ranks - 1) / ranks
    return 1.0


def group_sizes(world_size: int) -> list[int]:
    """Return the group sizes: every power of two below the number of ranks, and all ranks."""
    sizes = [2]
    while sizes[-1] * 2 < world_size:
        sizes.append(sizes[-1] * 2)
    return [*(size for size in sizes if size < world_size), world_size]


def blocks(world_size: int, size: int, most: int = 4) -> list[tuple[int, ...]]:
    """Return groups of `size` neighbouring ranks, at most `most`, evenly chosen."""
    every = [tuple(range(first, first + size)) for first in range(0, world_size - size + 1, size)]
    if len(every) <= most:
        return every
    return [every[number * len(every) // most] for number in range(most)]
