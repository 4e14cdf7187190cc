"""What fits: a layout of so many chips, the fewest chips, the largest batch and the longest context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from readiness.memory_fit import estimate
from readiness.memory_fit.estimate import Estimate, Model, Serving, Training
from readiness.memory_fit.layout import BYTES, Chosen, Layout

#: Beyond this many chips nobody trains or serves a model of today.
_MOST_CHIPS = 2**17
_HOST = 8
#: Bounds of what is sought.
_MOST_BATCH, _MOST_LENGTH = 2**20, 2**30

How = Training | Serving


def estimate_of(model: Model, how: How, layout: Layout) -> Estimate:
    """Return the estimate for training or serving."""
    return estimate.training(model, how, layout) if isinstance(how, Training) else estimate.serving(model, how, layout)


def best(model: Model, how: How, chips: int, chosen: Chosen, usable_bytes: float) -> Estimate:
    """Return the estimate of the plainest layout that fits; of the one that needs least where none does.

    The caller has seen to it that there is one (`Chosen.problem`).
    """
    least: Estimate | None = None
    for layout in chosen.layouts(chips, model.architecture):
        found = estimate_of(model, how, layout)
        if found.bytes <= usable_bytes:
            return found
        if least is None or found.bytes < least.bytes:
            least = found
    assert least is not None, "no layout can be"
    return least


@dataclass(frozen=True, slots=True)
class Fewest:
    """The fewest chips that fit, with their estimate."""

    chips: int
    estimate: Estimate


def fewest_chips(model: Model, how: How, chosen: Chosen, usable_bytes: float) -> Fewest | None:
    """Return the fewest chips on which it fits: up to a host of eight one by one, then in hosts. None if never.

    What grows with the number of chips is only how much is divided: where many do not fit, fewer do not either.
    """
    counts = [*range(1, _HOST), *(_HOST * 2**power for power in range((_MOST_CHIPS // _HOST).bit_length()))]
    previous = 0
    for chips in counts:
        found = _fitting(model, how, chips, chosen, usable_bytes)
        if found is not None:
            return _between(model, how, chosen, usable_bytes, previous, Fewest(chips, found))
        previous = chips
    return None


def _between(
    model: Model, how: How, chosen: Chosen, usable_bytes: float, too_few: int, enough: Fewest
) -> Fewest:
    """Narrow down to whole hosts."""
    while enough.chips - too_few > _HOST and enough.chips > _HOST:
        middle = (enough.chips + too_few) // 2 // _HOST * _HOST
        if middle <= too_few:
            break
        found = _fitting(model, how, middle, chosen, usable_bytes)
        if found is None:
            too_few = middle
        else:
            enough = Fewest(middle, found)
    return enough


def _fitting(model: Model, how: How, chips: int, chosen: Chosen, usable_bytes: float) -> Estimate | None:
    if _least_bytes(model, how, chips) > usable_bytes or chosen.problem(chips, model.architecture) is not None:
        return None
    found = best(model, how, chips, chosen, usable_bytes)
    return found if found.bytes <= usable_bytes else None


def _least_bytes(model: Model, how: How, chips: int) -> float:
    """Return what parameters and their state need even where all of it is divided evenly over all chips."""
    each = BYTES[how.dtype]
    if isinstance(how, Training):
        each = 2 * each + how.optimizer.moments[0] + how.optimizer.master(how.dtype)
    return model.parameters * each / chips


def largest_batch(model: Model, how: How, layout: Layout, usable_bytes: float) -> int:
    """Return the largest batch of a replica that fits, 0 if none does."""
    return _largest(
        lambda batch: estimate_of(model, replace(how, batch=batch), layout).bytes <= usable_bytes, _MOST_BATCH
    )


def longest(model: Model, how: How, layout: Layout, usable_bytes: float) -> int:
    """Return the most tokens of a sequence that fit with one sequence in the batch, 0 if none does."""
    return _largest(
        lambda length: estimate_of(model, replace(how, batch=1, length=length), layout).bytes <= usable_bytes, _MOST_LENGTH
    )


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest number that fits, where all below one that fits do as well."""
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


