"""Ranks of `multichip.collectives`: call every operation between guard values, and compare every element."""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.numerics.unsupported import describe, is_unsupported
from readiness.probes.collectives import reproducibility
from readiness.probes.collectives.cases import barrier, nan_inf, subgroups
from readiness.probes.collectives.cases.basic import ONCE, ONCE_SIZES, OPERATIONS, OPTIONAL, SWEPT
from readiness.probes.ranks_common.exact_inputs import Case, Inputs, exact, largest_exact

#: Elements before and after each buffer that no collective may touch.
GUARD = 32

#: From so many elements on the ranks look at the clock before they go on to the next power of two.
LONG = 2**14

#: What libraries say to parts of several sizes and to strides, where they take neither.
_UNEVEN = re.compile(r"contiguous|uneven|(same|equal|invalid|match\w*)\b.* (size|shape|numel|tensor)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings: types, sizes, repetitions; `largest` and `sweep_s` limit the sizes next to powers of two."""

    dtypes: tuple[str, ...]
    sizes: tuple[int, ...]
    rounds: int
    repeats: int
    repeat_size: int
    largest: int = 0
    sweep_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WrongElement:
    """First wrong element of an operation: its call, buffer, position and value."""

    call: str
    buffer: str
    index: int
    found: int | float
    expected: int | float


@dataclass(frozen=True, slots=True)
class OperationReport(Report):
    """Report of one operation in one type on this rank: elements compared, wrong ones, or the refusal."""

    op: str
    dtype: str
    compared: int = 0
    wrong: int = 0
    first_wrong: WrongElement | None = None
    unsupported: str | None = None


@dataclass(slots=True)
class OperationCounts:
    """Counts of one operation in one type while it is called."""

    calls: int = 0
    compared: int = 0
    wrong: int = 0
    first_wrong: WrongElement | None = None
    unsupported: str | None = None


def rank_main(context: RankContext[Settings]) -> Iterator[Report]:
    """Call every operation in every type and size of the settings, then the further cases; yield a report of each."""
    settings = context.settings
    calls: Counter[str] = Counter()
    with context.step("making groups of ranks"):
        groups = subgroups.make_groups(context.world_size)
    for name in settings.dtypes:
        dtype: torch.dtype = getattr(torch, name)
        for operation in OPERATIONS:
            counts = _count_calls(context, operation, dtype, calls, groups)
            if counts.calls or counts.unsupported:
                yield OperationReport(operation, name, counts.compared, counts.wrong, counts.first_wrong, counts.unsupported)
    for name in settings.dtypes:
        dtype = getattr(torch, name)
        if dtype.is_floating_point:
            yield from reproducibility.reports(
                context, dtype, name, calls, repeats=settings.repeats, size=settings.repeat_size
            )
            yield from nan_inf.reports(context, dtype, name, calls)
    yield from barrier.reports(context)


def _sizes(context: RankContext[Settings], operation: str, dtype: str) -> Iterator[tuple[int, int]]:
    """Yield (round, elements). Sizes next to powers of two come once, as long as there is time; all ranks agree on that."""
    settings = context.settings
    if operation in ONCE:
        yield from ((0, size) for size in sorted(settings.sizes) if size in ONCE_SIZES)
        return
    yield from itertools.product(range(settings.rounds), settings.sizes)
    if operation in SWEPT and dtype == settings.dtypes[0]:  # what libraries look at is bytes
        started = time.monotonic()
        power = 2
        while power <= settings.largest:
            yield from ((settings.rounds, size) for size in (power - 1, power, power + 1))
            power *= 2
            if power > LONG and max(context.exchange(time.monotonic() - started)) > settings.sweep_s:
                break


def _count_calls(
    context: RankContext[Settings], operation: str, dtype: torch.dtype, calls: Counter[str], groups: subgroups.Groups
) -> OperationCounts:
    counts = OperationCounts()
    reduction = f"{operation.removeprefix('all_reduce_')} {dtype}".replace("torch.", "")
    if (reason := context.accelerator.stack.unsupported_reductions.get(reduction)) is not None:
        counts.unsupported = reason
        return counts
    for number, size in _sizes(context, operation, str(dtype).removeprefix("torch.")):
        for case in OPERATIONS[operation](Inputs(context, operation, dtype, size, number, groups)):
            try:
                title = f"{operation} of {size} x {dtype} ({numbered(case.function or operation, calls, case.calls)})"
                _perform(context, case, title.replace("torch.", ""), counts, lead=GUARD + number % 2)
            except (RuntimeError, TypeError, ValueError) as problem:
                if not is_unsupported(problem) and not (operation in OPTIONAL and _UNEVEN.search(str(problem))):
                    raise
                counts.unsupported = describe(problem)
                return counts
    return counts


def numbered(function: str, calls: Counter[str], several: int = 1) -> str:
    """Count a call of torch and name it by its number in this process: some defects depend on it."""
    first = calls[function] + 1
    calls[function] += several
    return f"{function} number {first}" if several == 1 else f"{function} numbers {first} to {calls[function]}"


def _perform(context: RankContext, case: Case, title: str, counts: OperationCounts, lead: int) -> None:
    """Make one call between guard values, and compare everything that it may have written.

    `lead` elements go before the buffer: an odd number of them leaves it aligned to nothing but its type.
    """
    source = _guarded(case.sent, context.device, lead)
    unwritten = torch.full_like(case.expected, largest_exact(case.expected.dtype))
    target = source if case.in_place else _guarded(unwritten, context.device, lead)
    with context.step(title):
        case.call(_inside(source, lead), _inside(target, lead))
        context.accelerator.synchronize()
    counts.calls += 1
    _compare(target, case.expected, case.defined, "output", title, counts, lead)
    if not case.in_place:
        _compare(source, case.sent, True, "input", title, counts, lead)


def _compare(
    buffer: torch.Tensor, expected: torch.Tensor, defined: bool, which: str, title: str, counts: OperationCounts, lead: int
) -> None:
    found, right = exact(buffer.cpu()), exact(_guarded(expected, torch.device("cpu"), lead))
    differs = found != right
    if not defined:
        _inside(differs, lead).fill_(False)
    wrong = differs.nonzero().flatten()
    counts.compared += right.numel() if defined else lead + GUARD
    counts.wrong += wrong.numel()
    if wrong.numel() and counts.first_wrong is None:
        index = int(wrong[0])
        where = which if lead <= index < lead + expected.numel() else f"beside the {which}"
        counts.first_wrong = WrongElement(title, where, index - lead, found[index].item(), right[index].item())


def _guarded(values: torch.Tensor, device: torch.device, lead: int) -> torch.Tensor:
    """Return a buffer on the device with the values between two guards."""
    guard = torch.full((lead + GUARD,), largest_exact(values.dtype), dtype=values.dtype)
    return torch.cat([guard[:lead], values, guard[lead:]]).to(device)


def _inside(buffer: torch.Tensor, lead: int) -> torch.Tensor:
    return buffer[lead : buffer.numel() - GUARD]
