"""Shape of model and batch for a number of ranks: everything divides evenly. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Experts that work on a token, groups of experts, and groups that may be chosen from.
CHOSEN, GROUPS, CHOSEN_GROUPS = 4, 4, 2
#: What DeepSeek-V3 multiplies the gates of its experts by.
GATE_SCALE = 2.5
_HEAD, _LEAST_HEADS, _LEAST_LAYERS, _LEAST_EXPERTS = 16, 4, 2, 16


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Shape for `ranks` ranks, each of which may hold one part of heads, layers, experts, sequence or batch.

    `layers` is the least number; a pipeline of more stages has more. `routing` names how experts are chosen, None
    where there are none.
    """

    ranks: int
    layers: int = _LEAST_LAYERS
    routing: str | None = None

    def __str__(self) -> str:
        """Return the name of the shape in seeds and reports; it determines the weights."""
        return f"Shape(ranks={self.ranks}, layers={self.layers}, routing={self.routing!r})"

    @property
    def heads(self) -> int:
        """Number of heads of queries, keys and values."""
        return self.ranks * math.ceil(_LEAST_HEADS / self.ranks)

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return _HEAD * self.heads

    @property
    def hidden(self) -> int:
        """Width of the feed-forward, and of each expert."""
        return 2 * self.width if self.routing is None else self.width // 2

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return self.ranks * math.ceil(96 / self.ranks)

    @property
    def length(self) -> int:
        """Tokens of a sequence from which the next is predicted."""
        return self.ranks * math.ceil(24 / self.ranks)

    @property
    def batch(self) -> int:
        """Sequences of a step over all ranks: equally many for each rank and micro-batch."""
        return 2 * self.ranks * math.ceil(4 / self.ranks)

    @property
    def experts(self) -> int:
        """Number of experts: a multiple of the ranks and of the groups."""
        unit = math.lcm(self.ranks, GROUPS)
        return unit * math.ceil(_LEAST_EXPERTS / unit)
