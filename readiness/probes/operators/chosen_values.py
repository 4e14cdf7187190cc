"""Chosen values: elementwise operators at knees, extremes and tails, each element held against its own truth.

The comparison of all operators is by the size of a whole result, in which what is wrong at one small value is lost. Here
each element has its own bound. The truth is float64, and for special functions also mpmath, which shares no formula with
PyTorch: what float64 itself gets wrong there is a finding about the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle

import torch

from readiness.numerics import name_of
from readiness.probes.operators import comparison, known_values, op_semantics, relations
from readiness.probes.operators.edge_inputs import EdgeSample
from readiness.probes.operators.known_defects import AT_KNOWN_VALUES, AT_VALUES, BESIDE_WHOLE
from readiness.probes.operators.known_values import Function
from readiness.probes.operators.op_trial import OpTrial
from readiness.probes.operators.outcomes import FailedError, Outcome, Phase
from readiness.probes.operators.samples import Convert, Sample, map_leaves, widened

#: Where formulas change, overflow in float32 (88.8) or float16 (11.09, 65,504), or lose their digits.
KNEES = (
    0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0, 11.09, -11.09, 20.5, -20.5, 88.8, -88.8, 65504.0,
    -65504.0, 1e-6, -1e-6, 0.25, 127.0, -128.0,
)  # fmt: skip
#: Whole numbers beside floats: exponents and orders of both signs.
WHOLE = (0, 1, -1, 2, -2, 3, -3, 7)
#: So many further arguments of each special function the seed chooses.
CHOSEN = 4
#: So many roundings each element may be off, where honest ones are off by a few: in float32 and wider, and in 16 bits.
_ROUNDINGS, _ROUNDINGS_NARROW = 64.0, 4.0
#: Values that small are lost where steps on the way overflow or underflow, in float32 and wider; what computes in float32
#: for 16 bits loses so much.
_SMALLEST, _SMALLEST_NARROW = 32.0, 2.0**-22
#: Knees beyond this are asked of what models call and of what computes nothing: half a rounding of them moves the phase of
#: what oscillates.
_FAR = 1000.0
#: No library is asked for more digits of a special function than this.
_LEAST = 2.0**-32


def broken(trial: OpTrial, drawn: Sequence[Sample], gradients: bool) -> Iterator[FailedError]:
    """Yield each failure of an elementwise operator at the chosen values, in a floating dtype."""
    for label, sample in samples(trial, drawn, gradients) if relations.elementwise(trial) else ():
        yield from _broken(trial, sample, gradients, label)
    if (function := known_values.of(trial.entry.name, trial.entry.base)) is not None and known_values.available():
        yield from _known(trial, function)


def samples(trial: OpTrial, drawn: Sequence[Sample], gradients: bool) -> Iterator[tuple[str, Sample]]:
    """Yield the calls at knees, and with whole numbers as second argument, with what each is about."""
    if "polynomial" in trial.entry.name:
        return  # of whole orders, which the database's samples have
    values = knees(trial)
    if not (trial.entry.core or trial.entry.within(op_semantics.EXACT) or trial.entry.name.startswith("nn.functional.")):
        values = values[values.abs() < _FAR]
    if _floats(drawn[0]):
        yield AT_VALUES, _having(trial, drawn[0], [values, values.flip(0), values.roll(5)], gradients)
    pair = next((sample for sample in drawn if _floats(sample) == 2), None)
    if pair is not None and type(trial.entry.info).__name__ == "BinaryUfuncInfo":
        whole = torch.tensor(WHOLE)
        pairs = torch.cartesian_prod(torch.arange(len(values)), torch.arange(len(whole)))
        yield BESIDE_WHOLE, _having(trial, pair, [values[pairs[:, 0]], whole[pairs[:, 1]]], gradients)


def _floats(sample: Sample) -> int:
    """Return how many tensors the call has, if all of them are floating; else 0."""
    tensors = sample.tensors()
    return len(tensors) if all(tensor.is_floating_point() for tensor in tensors) else 0


def knees(trial: OpTrial) -> torch.Tensor:
    """Return the values in float64, the seed's own at the end."""
    return torch.tensor((*KNEES, *trial.rotation.knees), dtype=torch.float64)


def _having(trial: OpTrial, sample: Sample, values: Sequence[torch.Tensor], gradients: bool) -> Sample:
    """Return the call with its tensors, in their order, replaced by these values."""
    memo: dict[int, torch.Tensor] = {}

    def change(leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if id(leaf) not in memo:
            given = values[len(memo) % len(values)]
            given = given.to(trial.dtype) if given.is_floating_point() else given
            memo[id(leaf)] = given.clone().requires_grad_(gradients and leaf.requires_grad and given.is_floating_point())
        return memo[id(leaf)]

    return sample.having(map_leaves(change, sample.arguments), map_leaves(change, sample.keywords))


def _broken(trial: OpTrial, sample: Sample, gradients: bool, label: str) -> Iterator[FailedError]:
    sample = replace(sample, label=label, leniency=1.0)
    share = _bound(trial, trial.dtype)
    try:
        truth = trial.on_host(sample, gradients, widened)
    except FailedError:
        return
    native = None if trial.on_cpu else trial.benchmark(sample, gradients)
    try:
        called = trial.on_device(sample, gradients)
    except FailedError as failure:
        if failure.outcome is not Outcome.UNJUDGED and (trial.on_cpu or native is not None):
            yield failure
        return
    try:
        moved = [trial.on_host(sample, gradients, _moving(by)) for by in (share, -share)]
    except FailedError:
        return
    lost = [out for out in called.comparable if isinstance(out, torch.Tensor) and out.is_floating_point()]
    subnormal = _subnormal(sample)
    # Nor is a gradient of float16 finite that takes the square of what has none.
    lost += [tensor.detach().square() for tensor in sample.tensors() if tensor.is_floating_point()]
    for phase, outs, wants, others, natives in (
        (
            Phase.FORWARD, called.comparable, truth.comparable, [one.comparable for one in moved],
            native and native.comparable,
        ),
        (Phase.BACKWARD, called.gradients, truth.gradients, [one.gradients for one in moved], native and native.gradients),
    ):  # fmt: skip
        for position, (out, want) in enumerate(zip(outs, wants, strict=False)):
            if not isinstance(out, torch.Tensor) or not isinstance(want, torch.Tensor) or out.shape != want.shape:
                continue
            excused = natives[position] if natives and position < len(natives) else None
            nearby = [_distance(moved_by, want) for other in others if isinstance(moved_by := other[position], torch.Tensor)]
            if len(sample.tensors()) > 1:  # what is rounded on the way may step: a quotient that is truncated
                nearby = [torch.maximum(*nearby)] * 2
            place = _first_off(
                trial, out, want, nearby, excused, exact=phase is Phase.FORWARD and trial.entry.within(op_semantics.EXACT),
                terms=_terms(trial, sample, phase), overflown=lost if phase is Phase.BACKWARD else (),
                unjudged=subnormal if phase is Phase.BACKWARD else None,
            )  # fmt: skip
            if place is not None:
                given = ", ".join(f"{float(tensor.detach()[place]):.9g}" for tensor in sample.tensors())
                detail = f"at {given} it is {_at(out, place)} instead of {_at(want, place)}"
                yield FailedError(Outcome.WRONG, phase, detail, label)


def _subnormal(sample: Sample) -> torch.Tensor | None:
    """Return where a call has a subnormal argument; None where its tensors differ in shape.

    A gradient may take a product with it on the way, of which few digits are left: grad * x / hypot(x, y) in float16.
    """
    found: torch.Tensor | None = None
    for tensor in sample.tensors():
        if tensor.is_floating_point():
            size = tensor.detach().double().abs()
            here = (size > 0) & (size < torch.finfo(tensor.dtype).smallest_normal)
            if found is not None and found.shape != here.shape:
                return None
            found = here if found is None else found | here
    return found


def _known(trial: OpTrial, function: Function) -> Iterator[FailedError]:
    """Hold a special function, and its float64 reference, against mpmath."""
    generator = trial.accelerator.generator("known values", trial.entry.name)
    drawn = torch.rand(CHOSEN, len(function.ranges), generator=generator, dtype=torch.float64).tolist()
    chosen = [[low + share * (high - low) for share, (low, high) in zip(row, function.ranges, strict=True)] for row in drawn]
    rows = [*function.tried, *function.at, *chosen]
    given = tuple(torch.tensor(column, dtype=torch.float64).to(trial.dtype) for column in zip(*rows, strict=True))
    arguments = list(zip(*(tensor.double().tolist() for tensor in given), strict=True))
    due = torch.tensor([known_values.value(function, numbers) for numbers in arguments], dtype=torch.float64)
    sample = Sample(given, function.keywords, EdgeSample(), label=AT_KNOWN_VALUES)
    try:
        called, truth = trial.on_device(sample, False), trial.on_host(sample, False, widened)
        share = _bound(trial, trial.dtype)
        moved = [trial.on_host(sample, False, _moving(by)) for by in (share, -share)]
    except FailedError:
        return  # which other trials judge
    out, wide = called.comparable[0], truth.comparable[0]
    nearby = [_distance(other.comparable[0], wide) for other in moved]
    due = torch.where(due.isnan(), wide, due)  # of what mpmath does not say, nothing is known
    wrong = _first_off(trial, out, due, nearby, None)
    doubtful = _first_off(trial, wide.to(out.dtype), due, nearby, None)
    for place, found, of in ((wrong, out, ""), (doubtful, wide, "in float64 ")):
        if place is None:
            continue
        numbers = ", ".join(f"{number:.9g}" for number in arguments[place])
        detail = f"{of}at {numbers} it is {_at(found, place)} instead of {_at(due, place)}"
        failure = FailedError(Outcome.WRONG, Phase.FORWARD, detail, AT_KNOWN_VALUES)
        if of or (doubtful is not None and not trial.on_cpu):
            trial.doubt(failure)
        else:
            yield failure


def _bound(trial: OpTrial, dtype: torch.dtype) -> float:
    """Return the relative bound of each element."""
    roundoff = max(comparison.roundoff(trial.dtype), comparison.roundoff(dtype), _LEAST if dtype is torch.float64 else 0.0)
    narrow = roundoff > comparison.roundoff(torch.float32)
    digits = trial.entry.conditioning(trial.dtype)
    return (_ROUNDINGS_NARROW if narrow else _ROUNDINGS) * roundoff * max(1.0, digits) * trial.strictness.roundoffs


def _moving(share: float) -> Convert:
    """Return a conversion to float64 that moves every element by this share of it, of every second tensor the other way.

    Else a quotient would stand still.
    """
    signs = cycle((1, -1))

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        wide = widened(tensor)
        return wide * (1 + next(signs) * share) if wide.is_floating_point() else wide

    return convert


def _terms(trial: OpTrial, sample: Sample, phase: Phase) -> torch.Tensor | float:
    """Return the size of terms that cancel in each element."""
    if phase is Phase.BACKWARD:
        lost = trial.entry.within(op_semantics.CANCELS_NEAR_ZERO)
        return 1.0 + sample.tensors()[0].detach().double().reciprocal().abs().nan_to_num(0.0, 0.0) if lost else 1.0
    if trial.entry.within(op_semantics.SHRINKS | op_semantics.LOSES_TAILS):
        return sample.tensors()[0].detach().double().abs()
    return 0.0


def _distance(other: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    """Return how far each result moves where its arguments move; nothing where that cannot be told."""
    return (other.detach().double() - want.detach().double()).abs().nan_to_num(0.0, 0.0, 0.0)


def _first_off(
    trial: OpTrial, out: torch.Tensor, want: torch.Tensor, nearby: Sequence[torch.Tensor], native: torch.Tensor | None,
    *, exact: bool = False, terms: torch.Tensor | float = 0.0, overflown: Sequence[torch.Tensor] = (),
    unjudged: torch.Tensor | None = None,
) -> int | None:
    """Return the first place in which `out` is not what is wanted; None if there is none.

    `nearby` is how far what is wanted moves with its arguments, up and down: what moves to one side alone has a step or a
    kink there, and its value is its convention. `native` is what the CPU makes of it in this dtype, `terms` the size of
    what may cancel, `overflown` results of the same call of whose infinities no gradient need be finite;
    `unjudged` are places of which nothing is said.
    """
    have = out.detach().cpu()
    if not have.is_floating_point():
        wrong = have != want.to(have.dtype)
        return int(wrong.nonzero()[0]) if bool(wrong.any()) and not have.is_complex() else None
    info, wide, due = torch.finfo(have.dtype), have.double(), want.detach().double()
    steep = torch.minimum(nearby[0], nearby[1])
    narrow = have.itemsize < torch.float32.itemsize
    smallest = max(info.smallest_normal, _SMALLEST_NARROW) if narrow else info.smallest_normal * _SMALLEST
    allowed = _bound(trial, have.dtype) * (due.abs() + terms) + 2 * steep + smallest
    if exact:
        due, allowed = due.to(have.dtype).double(), torch.zeros_like(due)
    right = ((wide - due).abs() <= allowed) | (wide == due) | (wide.isnan() & due.isnan())
    right |= (due.abs() >= info.max / 2) & (wide.abs() >= info.max / 2) & (wide.sign() == due.sign())
    if trial.entry.within(op_semantics.OVERFLOWS.get(name_of(trial.dtype), frozenset())):
        right |= ~wide.isfinite() | ~due.isfinite()
    for result in overflown:
        if result.shape == have.shape:
            right |= ~wide.isfinite() & ~result.detach().cpu().isfinite()
    if native is not None:
        other = native.detach().double()
        right |= ~wide.isfinite() & ((wide == other) | (wide.isnan() & other.isnan()))
    if unjudged is not None and unjudged.shape == right.shape:
        right |= unjudged.cpu()
    wrong = ~right
    return int(wrong.nonzero()[0]) if bool(wrong.any()) else None


def _at(tensor: torch.Tensor, place: int) -> str:
    return f"{float(tensor.detach()[place]):.6g}"
