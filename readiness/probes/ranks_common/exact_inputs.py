"""Exact inputs of collectives: every rank can draw all of them and so knows the right answer.

Inputs are random integers that depend on the position, the rank and the run's seed, so small that every order of adding
them up is exact in the type at hand. A constant input would not show chunks that were swapped, and the common way out,
not to check where a constant would overflow, leaves large groups unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from readiness.distributed.types import RankContext

#: Random numbers that are drawn at once.
_POOL = 2**20
_POOLS: dict[tuple[int, int, int, int], torch.Tensor] = {}


@dataclass(frozen=True, slots=True)
class Case:
    """One call of a collective: this rank's input and expected output (both on the CPU), and the call itself.

    `call` gets the input and the output, which are the same buffer where `in_place`. It is not `defined` what the output
    holds where the operation promises nothing: a reduction to one rank leaves the others' as it likes. `function` is the
    function of torch.distributed behind it, unless it bears the operation's name, and `calls` how often it is called.
    """

    sent: torch.Tensor
    expected: torch.Tensor
    call: Callable[[torch.Tensor, torch.Tensor], object]
    in_place: bool = False
    defined: bool = True
    function: str | None = None
    calls: int = 1


def real_dtypes(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of types, if all are known and ordered. Raises ValueError: no rank is to blame."""
    for name in names:
        dtype = getattr(torch, name, None)
        if not isinstance(dtype, torch.dtype) or dtype.is_complex or dtype is torch.bool:
            raise ValueError(f"dtypes: {name!r} is not a real dtype of torch")
    return tuple(names)


def largest_exact(dtype: torch.dtype) -> int:
    """Return the largest number up to which the type holds all integers exactly, capped where more show nothing.

    No input reaches it.
    """
    largest = int(2 / torch.finfo(dtype).eps) if dtype.is_floating_point else torch.iinfo(dtype).max
    return min(largest, 2**20)


def exact(values: torch.Tensor) -> torch.Tensor:
    """Return the values in a CPU type that holds them all and can be compared."""
    return values.double() if values.dtype.is_floating_point else values.long()


def exact_sum(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the sum of parts in their type, without intermediate rounding."""
    every = list(parts)
    return torch.stack([exact(values) for values in every]).sum(0).to(every[0].dtype)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs of all ranks to one operation; each rank can draw all of them.

    `size` is the number of elements of one rank's buffer; where that holds a part for each rank, the parts are smaller.
    `groups` are process groups of torch.distributed by kind and ranks.
    """

    context: RankContext
    operation: str
    dtype: torch.dtype
    size: int
    round: int = 0
    groups: Mapping[tuple[str, tuple[int, ...]], Any] = field(default_factory=dict)
    limit: int = field(init=False)

    def __post_init__(self) -> None:
        """Set the limit of inputs and results."""
        object.__setattr__(self, "limit", largest_exact(self.dtype))

    @property
    def part_size(self) -> int:
        """Elements of one rank's part; whole buffers for each would grow with the square of the ranks."""
        return -(-self.size // self.context.world_size)

    def values(self, rank: int, numel: int, part: object = "", *, summed: bool = False) -> torch.Tensor:
        """Return a rank's input of `numel` elements. With `summed`, every partial sum is exact in the type."""
        world_size = self.context.world_size
        # One below the limit, which fills guards and outputs beforehand: an element that was never written is seen.
        most = max(1, (self.limit - 1) // world_size) if summed else self.limit - 1
        lowest = 0 if not self.dtype.is_signed else -most
        labels = (self.operation, self.dtype, self.size, self.round, rank, part)
        drawn = self._drawn(lowest, most, numel, self.context.accelerator.generator("collectives", *labels))
        if summed and world_size >= self.limit:  # too many ranks for all of them to put something in at every position
            turns = -(-world_size // (self.limit - 1))
            drawn *= (torch.arange(numel) + rank) % turns == 0
        return drawn.to(self.dtype)

    def _drawn(self, lowest: int, most: int, numel: int, generator: torch.Generator) -> torch.Tensor:
        """Return random integers: a random slice of many that were drawn once.

        Every rank makes the inputs of all ranks: drawing each of them anew would take most of the check's time.
        """
        pool_size = max(_POOL, 2 * numel)
        key = self.context.accelerator.seed, lowest, most, pool_size
        if key not in _POOLS:
            pool = self.context.accelerator.generator("collectives", "pool", *key)
            _POOLS[key] = torch.randint(lowest, most + 1, (pool_size,), generator=pool)
        place = int(torch.randint(0, pool_size - numel + 1, (), generator=generator))
        return _POOLS[key][place : place + numel].clone()

    def generator(self, *labels: object) -> torch.Generator:
        """Return a random generator that is the same on every rank for the same labels."""
        own = (self.operation, self.dtype, self.size, self.round)
        return self.context.accelerator.generator("collectives", *own, *labels)

    def some_ranks(self, rank: int, numel: int, most: int) -> torch.Tensor:
        """Return the positions at which this rank takes part, if at most `most` ranks may at each; they take turns."""
        turns = -(-self.context.world_size // most)
        return (torch.arange(numel) + rank) % turns == 0

    def all_values(self, numel: int, *, summed: bool = False) -> list[torch.Tensor]:
        """Return the inputs of all ranks."""
        return [self.values(rank, numel, summed=summed) for rank in range(self.context.world_size)]
