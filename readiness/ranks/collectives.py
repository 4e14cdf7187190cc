"""The ranks' side of `multichip.collectives`: known answers for every collective, and every element compared.

Inputs are random integers that depend on the position, the rank and the run's seed, so small that every order of adding
them up is exact in the type at hand. A constant input would not show chunks that were swapped, and the common way out,
not to check where a constant would overflow, leaves large groups unchecked.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from readiness.ranks.values import Json, RankContext

#: Elements before and after each buffer that no collective may touch.
GUARD = 32

_UNSUPPORTED = re.compile(
    r"(not|n't) (yet |currently )?(been )?(support|implement)|unsupported|unconvertible|no backend type"
    r"|invalid scalar type",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One call: what this rank puts in and must hold afterwards (both on the CPU), and the call on device buffers.

    `call` gets the input and the output, which are the same buffer where `in_place`.
    """

    sent: torch.Tensor
    expected: torch.Tensor
    call: Callable[[torch.Tensor, torch.Tensor], object]
    in_place: bool = False


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


@dataclass(frozen=True, slots=True)
class Inputs:
    """What every rank puts into one operation; each rank can draw all of it and so knows the right answer.

    `size` is the number of elements of one rank's buffer; where that holds a part for each rank, the parts are smaller.
    """

    context: RankContext
    operation: str
    dtype: torch.dtype
    size: int
    round: int = 0
    limit: int = field(init=False)

    def __post_init__(self) -> None:
        """The largest integer of those that inputs and results may reach."""
        object.__setattr__(self, "limit", _largest_exact(self.dtype))

    @property
    def part_size(self) -> int:
        """Elements of the part that goes to one rank; drawing them all would else grow with the square of the ranks."""
        return -(-self.size // self.context.world_size)

    def values(self, rank: int, numel: int, part: object = "", *, summed: bool = False) -> torch.Tensor:
        """A rank's input of `numel` elements. With `summed`, every partial sum over all ranks is exact in the type."""
        world = self.context.world_size
        # One below the limit, which fills guards and outputs beforehand: an element that was never written is seen.
        most = max(1, (self.limit - 1) // world) if summed else self.limit - 1
        lowest = 0 if not self.dtype.is_signed else -most
        labels = (self.operation, self.dtype, self.size, self.round, rank, part)
        generator = self.context.accelerator.generator("collectives", *labels)
        drawn = torch.randint(lowest, most + 1, (numel,), generator=generator)
        if summed and world >= self.limit:  # too many ranks for all of them to put something in at every position
            turns = -(-world // (self.limit - 1))
            drawn *= (torch.arange(numel) + rank) % turns == 0
        return drawn.to(self.dtype)

    def all_values(self, numel: int, *, summed: bool = False) -> list[torch.Tensor]:
        """The inputs of all ranks."""
        return [self.values(rank, numel, summed=summed) for rank in range(self.context.world_size)]


def _reduce(inputs: Inputs, combine: str) -> Iterator[Case]:
    every = inputs.all_values(inputs.size, summed=combine == "sum")
    stacked = torch.stack([_exact(values) for values in every])
    expected = stacked.sum(0) if combine == "sum" else stacked.amax(0) if combine == "max" else stacked.amin(0)
    operator = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}[combine]
    yield Case(
        every[inputs.context.rank],
        expected.to(inputs.dtype),
        lambda _, out: dist.all_reduce(out, op=operator),
        in_place=True,
    )


def _all_gather(inputs: Inputs) -> Iterator[Case]:
    every = inputs.all_values(inputs.size)
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    yield Case(every[inputs.context.rank], torch.cat(every), lambda source, out: gather(out, source))


def _reduce_scatter(inputs: Inputs) -> Iterator[Case]:
    rank, world, size = inputs.context.rank, inputs.context.world_size, inputs.part_size
    every = inputs.all_values(world * size, summed=True)
    total = torch.stack([_exact(values) for values in every]).sum(0)
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    expected = total.view(world, size)[rank].to(inputs.dtype)
    yield Case(every[rank], expected, lambda source, out: scatter(out, source))


def _all_to_all(inputs: Inputs, *, even: bool) -> Iterator[Case]:
    rank, world, size = inputs.context.rank, inputs.context.world_size, inputs.part_size

    def count(source: int, target: int) -> int:
        return size if even else size // (1 + (source + 2 * target) % 3) + (source + target) % 2

    outgoing = [[count(source, target) for target in range(world)] for source in range(world)]
    every = [inputs.values(source, sum(outgoing[source])) for source in range(world)]
    chunks = [torch.split_with_sizes(values, counts) for values, counts in zip(every, outgoing, strict=True)]
    incoming = [outgoing[source][rank] for source in range(world)]
    splits = {} if even else {"output_split_sizes": incoming, "input_split_sizes": outgoing[rank]}
    yield Case(
        every[rank],
        torch.cat([chunks[source][rank] for source in range(world)]),
        lambda source, out: dist.all_to_all_single(out, source, **splits),  # type: ignore[arg-type]
    )


def _broadcast(inputs: Inputs) -> Iterator[Case]:
    for root in range(inputs.context.world_size):
        mine = inputs.values(inputs.context.rank, inputs.size, root)
        yield Case(mine, inputs.values(root, inputs.size, root), _broadcast_from(root), in_place=True)


def _broadcast_from(root: int) -> Callable[[torch.Tensor, torch.Tensor], object]:
    return lambda _, out: dist.broadcast(out, src=root)


def _send_recv(inputs: Inputs) -> Iterator[Case]:
    rank, world = inputs.context.rank, inputs.context.world_size
    if world == 1:
        return
    following, previous = (rank + 1) % world, (rank - 1) % world

    def ring(source: torch.Tensor, out: torch.Tensor) -> None:
        both = [dist.P2POp(dist.isend, source, following), dist.P2POp(dist.irecv, out, previous)]
        for work in dist.batch_isend_irecv(both):
            work.wait()

    yield Case(inputs.values(rank, inputs.size), inputs.values(previous, inputs.size), ring)


#: Every operation by the name in labels.
OPERATIONS: dict[str, Callable[[Inputs], Iterator[Case]]] = {
    "all_reduce_sum": lambda inputs: _reduce(inputs, "sum"),
    "all_reduce_max": lambda inputs: _reduce(inputs, "max"),
    "all_reduce_min": lambda inputs: _reduce(inputs, "min"),
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": lambda inputs: _all_to_all(inputs, even=True),
    "all_to_all_uneven": lambda inputs: _all_to_all(inputs, even=False),
    "broadcast": _broadcast,
    "send_recv": _send_recv,
}


def checked(names: Sequence[str]) -> list[str]:
    """The names of types, all of them known and of numbers that have an order. Raises ValueError: no rank is to blame."""
    for name in names:
        dtype = getattr(torch, name, None)
        if not isinstance(dtype, torch.dtype) or dtype.is_complex or dtype is torch.bool:
            raise ValueError(f"dtypes: {name!r} is not a type of real numbers in torch")
    return list(names)


def rank_main(context: RankContext) -> Iterator[Json]:
    """Every operation in every type and size of the settings, then repetitions and not-a-numbers; a report for each."""
    for name in context.settings["dtypes"]:
        dtype: torch.dtype = getattr(torch, name)
        for operation in OPERATIONS:
            tally = _tally(context, operation, dtype)
            if tally.calls or tally.unsupported:
                yield {"op": operation, "dtype": name, **tally.to_json()}
    for name in context.settings["dtypes"]:
        dtype = getattr(torch, name)
        if dtype.is_floating_point:
            yield from _repetitions(context, dtype, name)
            yield from _not_a_numbers(context, dtype, name)


def _tally(context: RankContext, operation: str, dtype: torch.dtype) -> Tally:
    tally = Tally()
    for number, size in itertools.product(range(context.settings["rounds"]), context.settings["sizes"]):
        for case in OPERATIONS[operation](Inputs(context, operation, dtype, size, number)):
            try:
                _perform(context, case, f"{operation} of {size} x {dtype}".replace("torch.", ""), tally)
            except (RuntimeError, TypeError, ValueError) as problem:
                if not _is_refusal(problem):
                    raise
                tally.unsupported = f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0][:200]}"
                return tally
    return tally


def _perform(context: RankContext, case: Case, title: str, tally: Tally) -> None:
    """One call between guards, and the comparison of all that may have been written."""
    source = _guarded(case.sent, context.device)
    unwritten = torch.full_like(case.expected, _largest_exact(case.expected.dtype))
    target = source if case.in_place else _guarded(unwritten, context.device)
    with context.step(title):
        case.call(_inside(source), _inside(target))
        context.accelerator.synchronize()
    tally.calls += 1
    _compare(target, case.expected, "output", title, tally)
    if not case.in_place:
        _compare(source, case.sent, "input", title, tally)


def _compare(buffer: torch.Tensor, expected: torch.Tensor, which: str, title: str, tally: Tally) -> None:
    found, right = _exact(buffer.cpu()), _exact(_guarded(expected, torch.device("cpu")))
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


def _largest_exact(dtype: torch.dtype) -> int:
    """Up to here the type holds all integers exactly; capped where more would tell no more. No input reaches it."""
    largest = int(2 / torch.finfo(dtype).eps) if dtype.is_floating_point else torch.iinfo(dtype).max
    return min(largest, 2**20)


def _guarded(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A buffer on the device with the values between two guards."""
    guard = torch.full((GUARD,), _largest_exact(values.dtype), dtype=values.dtype)
    return torch.cat([guard, values, guard]).to(device)


def _inside(buffer: torch.Tensor) -> torch.Tensor:
    return buffer[GUARD : buffer.numel() - GUARD]


def _exact(values: torch.Tensor) -> torch.Tensor:
    """The values in a type of the CPU that holds them all and compares."""
    return values.double() if values.dtype.is_floating_point else values.long()


def _repetitions(context: RankContext, dtype: torch.dtype, name: str) -> Iterator[Json]:
    """The same sum of random numbers, which do round, again and again: a digest of each result."""
    generator = context.accelerator.generator("collectives", "repeat", name, context.rank)
    values = torch.randn(context.settings["repeat_size"], generator=generator).to(dtype)
    digests: list[str] = []
    try:
        for number in range(context.settings["repeats"]):
            buffer = values.clone().to(context.device)
            with context.step(f"repetition {number} of all_reduce_sum, {name}"):
                dist.all_reduce(buffer)
                context.accelerator.synchronize()
            digests.append(digest(buffer))
    except (RuntimeError, TypeError, ValueError) as problem:
        if not _is_refusal(problem):
            raise
        return  # told by the operation's own report
    yield {"repeat": name, "digests": digests}


def _not_a_numbers(context: RankContext, dtype: torch.dtype, name: str) -> Iterator[Json]:
    """One NaN from each rank, each at a position of its own: how many of them this rank's result no longer shows.

    The largest gradient of all ranks is looked for so; a NaN that gets lost there lets a broken step through.
    """
    for combine, operator in (("sum", dist.ReduceOp.SUM), ("max", dist.ReduceOp.MAX), ("min", dist.ReduceOp.MIN)):
        values = torch.arange(1, context.world_size + 1).to(dtype)
        values[context.rank] = torch.nan
        buffer = values.to(context.device)
        try:
            with context.step(f"all_reduce_{combine} with NaN, {name}"):
                dist.all_reduce(buffer, op=operator)
                context.accelerator.synchronize()
        except (RuntimeError, TypeError, ValueError) as problem:
            if not _is_refusal(problem):
                raise
            continue
        yield {"nan": f"all_reduce_{combine}", "dtype": name, "lost": int((~buffer.cpu().double().isnan()).sum())}


def _is_refusal(problem: Exception) -> bool:
    """Whether the library says that it cannot do this, rather than that it went wrong."""
    return isinstance(problem, NotImplementedError) or bool(_UNSUPPORTED.search(str(problem)))


def digest(tensor: torch.Tensor) -> str:
    """A short digest of a tensor's bytes."""
    content: Any = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.sha256(content.tobytes()).hexdigest()[:16]
