"""The ranks' side of `multichip.collectives`: every operation is called between guards, and every element compared."""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from readiness.multichip import extremes, grouped, meeting, repetitions
from readiness.multichip.comparing import difference, digest
from readiness.multichip.known_answers import OPERATIONS, SWEPT, Case, Inputs, exact, largest_exact
from readiness.numerics.unsupported import describe, is_unsupported
from readiness.ranks.values import OPTIONAL, Json, RankContext

__all__ = ["Tally", "checked", "difference", "digest", "rank_main"]

#: Elements before and after each buffer that no collective may touch.
GUARD = 32

#: From so many elements on the ranks look at the clock before they go on to the next power of two.
LONG = 2**14

#: What libraries say to parts of several sizes and to strides, where they take neither.
_UNEVEN = re.compile(r"contiguous|uneven|(same|equal|invalid|match\w*)\b.* (size|shape|numel|tensor)", re.IGNORECASE)


@dataclass(slots=True)
class Tally:
    """What became of one operation in one type on this rank. `first_wrong` describes the first wrong element."""

    calls: int = 0
    compared: int = 0
    wrong: int = 0
    first_wrong: Json | None = None
    unsupported: str | None = None

    def to_json(self) -> Json:
        """For the report."""
        return {name: getattr(self, name) for name in self.__slots__}


def checked(names: Sequence[str]) -> list[str]:
    """The names of types, all of them known and of numbers that have an order. Raises ValueError: no rank is to blame."""
    for name in names:
        dtype = getattr(torch, name, None)
        if not isinstance(dtype, torch.dtype) or dtype.is_complex or dtype is torch.bool:
            raise ValueError(f"dtypes: {name!r} is not a type of real numbers in torch")
    return list(names)


def rank_main(context: RankContext) -> Iterator[Json]:
    """Every operation in every type and size of the settings, then what else there is; a report for each."""
    calls: Counter[str] = Counter()
    with context.step("making groups of ranks"):
        groups = grouped.make(context.world_size)
    for name in context.settings["dtypes"]:
        dtype: torch.dtype = getattr(torch, name)
        for operation in OPERATIONS:
            tally = _tally(context, operation, dtype, calls, groups)
            if tally.calls or tally.unsupported:
                yield {"op": operation, "dtype": name, **tally.to_json()}
    for name in context.settings["dtypes"]:
        dtype = getattr(torch, name)
        if dtype.is_floating_point:
            yield from repetitions.reports(context, dtype, name, calls)
            yield from extremes.reports(context, dtype, name, calls)
    yield from meeting.reports(context)


def _sizes(context: RankContext, operation: str, dtype: str) -> Iterator[tuple[int, int]]:
    """(round, elements). The sizes beside powers of two come once, as long as there is time; all ranks agree on that."""
    settings = context.settings
    yield from itertools.product(range(settings["rounds"]), settings["sizes"])
    if operation in SWEPT and dtype == settings["dtypes"][0]:  # what libraries look at is bytes
        started = time.monotonic()
        power = 2
        while power <= settings.get("largest", 0):
            yield from ((settings["rounds"], size) for size in (power - 1, power, power + 1))
            power *= 2
            if power > LONG and max(context.share(time.monotonic() - started)) > settings["sweep_s"]:
                break


def _tally(context: RankContext, operation: str, dtype: torch.dtype, calls: Counter[str], groups: grouped.Groups) -> Tally:
    tally = Tally()
    reduction = f"{operation.removeprefix('all_reduce_')} {dtype}".replace("torch.", "")
    if (reason := context.accelerator.stack.beyond_reductions.get(reduction)) is not None:
        tally.unsupported = reason
        return tally
    for number, size in _sizes(context, operation, str(dtype).removeprefix("torch.")):
        for case in OPERATIONS[operation](Inputs(context, operation, dtype, size, number, groups)):
            try:
                title = f"{operation} of {size} x {dtype} ({numbered(case.function or operation, calls, case.calls)})"
                _perform(context, case, title.replace("torch.", ""), tally, lead=GUARD + number % 2)
            except (RuntimeError, TypeError, ValueError) as problem:
                if not is_unsupported(problem) and not (operation in OPTIONAL and _UNEVEN.search(str(problem))):
                    raise
                tally.unsupported = describe(problem)
                return tally
    return tally


def numbered(function: str, calls: Counter[str], several: int = 1) -> str:
    """The call of torch and its number since the process began: defects that come with use are told by it."""
    first = calls[function] + 1
    calls[function] += several
    return f"{function} number {first}" if several == 1 else f"{function} numbers {first} to {calls[function]}"


def _perform(context: RankContext, case: Case, title: str, tally: Tally, lead: int) -> None:
    """One call between guards, and the comparison of all that may have been written.

    `lead` elements go before the buffer: an odd number of them leaves it aligned to nothing but its type.
    """
    source = _guarded(case.sent, context.device, lead)
    unwritten = torch.full_like(case.expected, largest_exact(case.expected.dtype))
    target = source if case.in_place else _guarded(unwritten, context.device, lead)
    with context.step(title):
        case.call(_inside(source, lead), _inside(target, lead))
        context.accelerator.synchronize()
    tally.calls += 1
    _compare(target, case.expected, case.defined, "output", title, tally, lead)
    if not case.in_place:
        _compare(source, case.sent, True, "input", title, tally, lead)


def _compare(
    buffer: torch.Tensor, expected: torch.Tensor, defined: bool, which: str, title: str, tally: Tally, lead: int
) -> None:
    found, right = exact(buffer.cpu()), exact(_guarded(expected, torch.device("cpu"), lead))
    differs = found != right
    if not defined:
        _inside(differs, lead).fill_(False)
    wrong = differs.nonzero().flatten()
    tally.compared += right.numel() if defined else lead + GUARD
    tally.wrong += wrong.numel()
    if wrong.numel() and tally.first_wrong is None:
        index = int(wrong[0])
        tally.first_wrong = {
            "call": title,
            "buffer": which if lead <= index < lead + expected.numel() else f"beside the {which}",
            "index": index - lead,
            "found": found[index].item(),
            "expected": right[index].item(),
        }


def _guarded(values: torch.Tensor, device: torch.device, lead: int) -> torch.Tensor:
    """A buffer on the device with the values between two guards."""
    guard = torch.full((lead + GUARD,), largest_exact(values.dtype), dtype=values.dtype)
    return torch.cat([guard[:lead], values, guard[lead:]]).to(device)


def _inside(buffer: torch.Tensor, lead: int) -> torch.Tensor:
    return buffer[lead : buffer.numel() - GUARD]
