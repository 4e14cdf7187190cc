"""The ranks' side of `multichip.collectives`: every operation is called between guards, and every element compared."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from readiness.ranks.known_answers import OPERATIONS, Case, Inputs, exact, largest_exact
from readiness.ranks.values import Json, RankContext

#: Elements before and after each buffer that no collective may touch.
GUARD = 32

_UNSUPPORTED = re.compile(
    r"(not|n't) (yet |currently )?(been )?(support|implement)|unsupported|unconvertible|no backend type"
    r"|invalid scalar type",
    re.IGNORECASE,
)


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
    """Every operation in every type and size of the settings, then repetitions and not-a-numbers; a report for each."""
    calls: Counter[str] = Counter()
    for name in context.settings["dtypes"]:
        dtype: torch.dtype = getattr(torch, name)
        for operation in OPERATIONS:
            tally = _tally(context, operation, dtype, calls)
            if tally.calls or tally.unsupported:
                yield {"op": operation, "dtype": name, **tally.to_json()}
    for name in context.settings["dtypes"]:
        dtype = getattr(torch, name)
        if dtype.is_floating_point:
            yield from _repetitions(context, dtype, name, calls)
            yield from _not_a_numbers(context, dtype, name, calls)


def _numbered(operation: str, calls: Counter[str]) -> str:
    """The call of torch and its number since the process began: defects that come with use are told by it."""
    function = "all_reduce" if operation.startswith("all_reduce") else operation
    calls[function] += 1
    return f"{function} number {calls[function]}"


def _tally(context: RankContext, operation: str, dtype: torch.dtype, calls: Counter[str]) -> Tally:
    tally = Tally()
    for number, size in itertools.product(range(context.settings["rounds"]), context.settings["sizes"]):
        for case in OPERATIONS[operation](Inputs(context, operation, dtype, size, number)):
            try:
                title = f"{operation} of {size} x {dtype} ({_numbered(operation, calls)})"
                _perform(context, case, title.replace("torch.", ""), tally)
            except (RuntimeError, TypeError, ValueError) as problem:
                if not is_refusal(problem):
                    raise
                tally.unsupported = f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0][:200]}"
                return tally
    return tally


def _perform(context: RankContext, case: Case, title: str, tally: Tally) -> None:
    """One call between guards, and the comparison of all that may have been written."""
    source = _guarded(case.sent, context.device)
    unwritten = torch.full_like(case.expected, largest_exact(case.expected.dtype))
    target = source if case.in_place else _guarded(unwritten, context.device)
    with context.step(title):
        case.call(_inside(source), _inside(target))
        context.accelerator.synchronize()
    tally.calls += 1
    _compare(target, case.expected, "output", title, tally)
    if not case.in_place:
        _compare(source, case.sent, "input", title, tally)


def _compare(buffer: torch.Tensor, expected: torch.Tensor, which: str, title: str, tally: Tally) -> None:
    found, right = exact(buffer.cpu()), exact(_guarded(expected, torch.device("cpu")))
    wrong = (found != right).nonzero().flatten()
    tally.compared += right.numel()
    tally.wrong += wrong.numel()
    if wrong.numel() and tally.first_wrong is None:
        index = int(wrong[0])
        tally.first_wrong = {
            "call": title,
            "buffer": which if GUARD <= index < GUARD + expected.numel() else f"beside the {which}",
            "index": index - GUARD,
            "found": found[index].item(),
            "expected": right[index].item(),
        }


def _guarded(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A buffer on the device with the values between two guards."""
    guard = torch.full((GUARD,), largest_exact(values.dtype), dtype=values.dtype)
    return torch.cat([guard, values, guard]).to(device)


def _inside(buffer: torch.Tensor) -> torch.Tensor:
    return buffer[GUARD : buffer.numel() - GUARD]


def _repetitions(context: RankContext, dtype: torch.dtype, name: str, calls: Counter[str]) -> Iterator[Json]:
    """The same sum of random numbers, which do round, again and again: a digest of each result."""
    generator = context.accelerator.generator("collectives", "repeat", name, context.rank)
    values = torch.randn(context.settings["repeat_size"], generator=generator).to(dtype)
    digests: list[str] = []
    try:
        for number in range(context.settings["repeats"]):
            buffer = values.clone().to(context.device)
            with context.step(f"repetition {number} of all_reduce_sum, {name} ({_numbered('all_reduce', calls)})"):
                dist.all_reduce(buffer)
                context.accelerator.synchronize()
            digests.append(digest(buffer))
    except (RuntimeError, TypeError, ValueError) as problem:
        if not is_refusal(problem):
            raise
        return  # told by the operation's own report
    yield {"repeat": name, "digests": digests}


def _not_a_numbers(context: RankContext, dtype: torch.dtype, name: str, calls: Counter[str]) -> Iterator[Json]:
    """One NaN from each rank, each at a position of its own: how many of them this rank's result no longer shows.

    The largest gradient of all ranks is looked for so; a NaN that gets lost there lets a broken step through.
    """
    for combine, operator in (("sum", dist.ReduceOp.SUM), ("max", dist.ReduceOp.MAX), ("min", dist.ReduceOp.MIN)):
        values = torch.arange(1, context.world_size + 1).to(dtype)
        values[context.rank] = torch.nan
        buffer = values.to(context.device)
        try:
            with context.step(f"all_reduce_{combine} with NaN, {name} ({_numbered('all_reduce', calls)})"):
                dist.all_reduce(buffer, op=operator)
                context.accelerator.synchronize()
        except (RuntimeError, TypeError, ValueError) as problem:
            if not is_refusal(problem):
                raise
            continue
        yield {"nan": f"all_reduce_{combine}", "dtype": name, "lost": int((~buffer.cpu().double().isnan()).sum())}


def is_refusal(problem: Exception) -> bool:
    """Whether the library says that it cannot do this, rather than that it went wrong."""
    return isinstance(problem, NotImplementedError) or bool(_UNSUPPORTED.search(str(problem)))


def difference(found: torch.Tensor, expected: torch.Tensor) -> Json:
    """How a result (on the CPU) differs from the right one, with the first wrong element; empty where it does not."""
    if torch.equal(found, expected):
        return {}
    wrong = (found != expected).nonzero().flatten()
    index = int(wrong[0])
    return {
        "wrong": wrong.numel(),
        "index": index,
        "found": found[index].item(),
        "expected": expected[index].item(),
        "digest": digest(found),
    }


def digest(tensor: torch.Tensor) -> str:
    """A short digest of a tensor's bytes."""
    content: Any = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.sha256(content.tobytes()).hexdigest()[:16]
