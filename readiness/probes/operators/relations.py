"""Relations between results of one operator that hold whatever it computes. They need no reference.

A reference computed by the same library shares its mistakes. That equal inputs give equal results wherever they stand, that
rows may be exchanged, cut apart or followed by others, that a view gives what its copy gives, that memory given as `out=`
holds what the result would, and that a sum is the sum of its parts, holds for every device and every library.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from readiness import numerics
from readiness.probes.operators import comparison, op_semantics, relation_cases, sample_variants, samples
from readiness.probes.operators.known_defects import INTO_OTHER_MEMORY, PARTS, equal_values
from readiness.probes.operators.op_call import CPU, seed_all
from readiness.probes.operators.op_oracle import OpOracle
from readiness.probes.operators.op_trial import OpTrial
from readiness.probes.operators.outcomes import FailedError, Outcome, Phase
from readiness.probes.operators.relation_cases import Case
from readiness.probes.operators.samples import Sample

#: Elements of one value: whole vectors of every width, and a rest.
REPEATED = 67
#: Tried in every run: what vector code and scalar code decide by comparison, or overflow at.
ALWAYS = (math.nan, math.inf, -math.inf, -0.0, 3.0, 88.8)
#: Outputs and gradients, on the host.
_Results = tuple[list[torch.Tensor], list[torch.Tensor | None]]
#: Whole vectors and the rest may round elementary functions otherwise: 9 roundings at most on the CPU, special.i0e apart,
#: which is delicate. What is left where larger terms cancel (the gradient of mish near -1.19) differs by roundings of them.
_ROUNDINGS, _OF_TERMS = 32.0, 4.0
#: Every incoming gradient, a value that all dtypes hold.
_COTANGENT = 0.75

PERMUTED, SPLIT, PADDED = "with rows exchanged", "with rows cut in two", "with more rows behind"
VIEWED = "on every second row"


def broken(trial: OpTrial, drawn: Sequence[Sample], gradients: bool, *, everything: bool) -> Iterator[FailedError]:
    """Yield each call in which the device breaks a relation, for this operator and dtype.

    Without `everything` only equal values are tried.
    """
    if not judges(trial):
        return
    if trial.dtype.is_floating_point and elementwise(trial):
        yield from _equal_values(trial, drawn[0], gradients)
    if not everything:
        return
    if not trial.entry.core and trial.entry.info.supports_out and not trial.dtype.is_complex:
        yield from _written_out(trial, drawn[0])
    for case in relation_cases.of(
        trial.entry.name, trial.dtype, gradients, trial.caller.seed, trial.rotation
    ):
        yield from _RELATIONS[case.relation](trial, case, gradients)


def judges(trial: OpTrial) -> bool:
    """True if the operator's results are defined by its inputs."""
    return not trial.entry.within(op_semantics.RANDOM | op_semantics.UNSPECIFIED | op_semantics.UNORDERED)


def elementwise(trial: OpTrial) -> bool:
    """True if each element of the result depends on one element of each input alone."""
    kinds = ("UnaryUfuncInfo", "BinaryUfuncInfo")
    return type(trial.entry.info).__name__ in kinds or trial.entry.within(op_semantics.ELEMENTWISE)


# ------------------------------------------------------------------------------------------------------- equal values


def _equal_values(trial: OpTrial, sample: Sample, gradients: bool) -> Iterator[FailedError]:
    """Return the sample with each of its floating tensors filled with one value."""
    for value in (*ALWAYS, *trial.rotation.values):
        given = _filled(sample, value)
        where = equal_values(value)
        result = _called(trial, given, gradients, where)
        if result is None:
            continue
        for phase, tensors in ((Phase.FORWARD, result[0]), (Phase.BACKWARD, result[1])):
            for tensor in tensors:
                terms = _COTANGENT if phase is Phase.BACKWARD else min(abs(value), 1.0)
                if tensor is not None and tensor.shape == (REPEATED,) and (wrong := _unequal(trial, tensor, terms)):
                    yield FailedError(Outcome.WRONG, phase, wrong, where)


def _filled(sample: Sample, value: float) -> Sample:
    """Fill floating tensors with one value, others with their first element, REPEATED times; a number stays one."""
    memo: dict[int, torch.Tensor] = {}

    def change(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if id(leaf) not in memo:
            if leaf.is_floating_point():
                # Rounded once: a conversion of many has vector code of its own, and NaN of another sign in it.
                filled = torch.tensor([value], dtype=torch.float64).to(leaf.dtype).expand(REPEATED).clone()
            else:
                filled = leaf.detach().reshape(-1)[:1].expand(REPEATED if leaf.numel() else 0).clone()
            memo[id(leaf)] = filled.requires_grad_(leaf.requires_grad)
        return memo[id(leaf)]

    return sample.having(samples.map_leaves(change, sample.arguments), samples.map_leaves(change, sample.keywords))


def _unequal(trial: OpTrial, tensor: torch.Tensor, terms: float) -> str | None:
    """Return how elements that must be equal differ, beyond roundings of them and of `terms` that may cancel."""
    host = tensor.detach().cpu()
    if host.is_complex():
        parts = torch.view_as_real(host.resolve_conj())
        return _unequal(trial, parts[..., 0], terms) or _unequal(trial, parts[..., 1], terms)
    if not host.is_floating_point():
        return None if bool((host == host[0]).all()) else _differ(host)
    wide = host.double()
    kinds = _kinds(wide)
    if bool((kinds != kinds[0]).any()):
        return _differ(host)
    finite = wide[torch.isfinite(wide)]
    if not len(finite):
        return None
    delicate = trial.entry.conditioning(trial.dtype)
    info = torch.finfo(host.dtype)
    size = _ROUNDINGS * max(delicate, 1.0) * float(finite.abs().max()) + (_OF_TERMS * terms if math.isfinite(terms) else 0)
    allowed = size * max(info.eps, torch.finfo(trial.dtype).eps) / 2
    apart = float(finite.max() - finite.min())
    return None if apart <= allowed + info.smallest_normal else _differ(host)


def _kinds(wide: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.isnan(wide), 2.0, torch.where(torch.isinf(wide), wide.sign(), 0.0))


def _differ(host: torch.Tensor) -> str:
    """Return a text such as `results are 0.0 and 1.0 within one tensor`."""
    found = list(dict.fromkeys(str(value) for value in host.tolist()))
    return f"results are {' and '.join(found[:2])} within one tensor"


# ---------------------------------------------------------------------------------------------------------------- rows


def _rows(trial: OpTrial, case: Case, gradients: bool) -> Iterator[FailedError]:
    """Compare rows that are exchanged, cut in two, followed by others, and taken from a larger tensor."""
    whole = _called(trial, case.sample, gradients, PERMUTED, case.cotangents)
    if whole is None:
        return
    count = case.rows
    order = torch.randperm(count, generator=torch.Generator().manual_seed(trial.caller.seed % 2**32))
    moved = _called(trial, case.taking(order), gradients, PERMUTED, lambda root: case.cotangents(root, order))
    if moved is not None:
        yield from _compare(trial, case, PERMUTED, _in_order(whole, case, order), moved)
    cut = count // 3
    halves = [torch.arange(cut), torch.arange(cut, count)]
    parts = [
        _called(trial, case.taking(half), gradients, SPLIT, lambda root, half=half: case.cotangents(root, half))  # type: ignore[misc]
        for half in halves
    ]
    if parts[0] is not None and parts[1] is not None:
        yield from _compare(trial, case, SPLIT, whole, _joined(parts[0], parts[1], case))
    padded = _called(trial, case.padded(), False, PADDED)
    if padded is not None:
        yield from _compare(trial, case, PADDED, (whole[0], []), ([out[:count] for out in padded[0]], []))
    every_second = partial(relation_cases.every_second, device=trial.accelerator.device)
    viewed = _called(trial, case.sample, gradients, VIEWED, case.cotangents, every_second)
    if viewed is not None:
        yield from _compare(trial, case, VIEWED, whole, viewed)


def _in_order(whole: _Results, case: Case, order: torch.Tensor) -> _Results:
    outputs, gradients = whole
    taken = [
        None if gradient is None else gradient[order] if rowwise else gradient
        for gradient, rowwise in zip(gradients, case.gradient_rows, strict=True)
    ] if gradients else []  # fmt: skip
    return [out[order] for out in outputs], taken


def _joined(first: _Results, second: _Results, case: Case) -> _Results:
    """Join rows; add up gradients of inputs that all rows share in float64."""
    outputs = [torch.cat(pair) for pair in zip(first[0], second[0], strict=True)]
    gradients: list[torch.Tensor | None] = []
    for one, other, rowwise in zip(first[1], second[1], case.gradient_rows, strict=False):
        if one is None or other is None:
            gradients.append(None)
        else:
            gradients.append(torch.cat([one, other]) if rowwise else (one.double() + other.double()).to(one.dtype))
    return outputs, gradients


def _compare(trial: OpTrial, case: Case, where: str, whole: _Results, other: _Results) -> Iterator[FailedError]:
    for phase, one, two in ((Phase.FORWARD, whole[0], other[0]), (Phase.BACKWARD, whole[1], other[1])):
        for expected, found in zip(one, two, strict=False):
            if expected is None or found is None:
                continue
            exact = phase is Phase.FORWARD and trial.entry.within(op_semantics.EXACT)
            wrong = _apart(trial, case, found, expected)
            if exact and wrong is None and not comparison.identical([found], [expected]):
                wrong = "values that are only moved or chosen are others"
            if wrong:
                yield FailedError(Outcome.WRONG, phase, f"it gives other results: {wrong}", where)


def _apart(trial: OpTrial, case: Case, found: torch.Tensor, expected: torch.Tensor) -> str | None:
    """Return how two results of the device that must be equal differ beyond rounding."""
    if found.shape != expected.shape:
        return f"shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    if found.is_complex() and expected.is_complex():
        found, expected = torch.view_as_real(found.resolve_conj()), torch.view_as_real(expected.resolve_conj())
    if not found.is_floating_point():
        return None if torch.equal(found, expected) else f"{int((found != expected).sum())} of {found.numel()} differ"
    roundoff = max(comparison.roundoff(trial.dtype), comparison.roundoff(found.dtype))
    result = numerics.compare_by_ratio(
        found, expected.double(), roundoff=roundoff, leniency=case.leniency, strictness=trial.strictness
    )
    return None if result.agrees else result.detail


# ----------------------------------------------------------------------------------------------------- out= and parts


def _written_out(trial: OpTrial, sample: Sample) -> Iterator[FailedError]:
    """Compare what the operator writes into memory of another layout with what it returns."""
    def both(function: Callable[..., Any], given: Sample) -> Any:
        plain = _tensors(given.plain(function))
        return [*plain, *sample_variants.into_strided_memory(function, given)]

    given = sample_variants.without_gradients(sample)
    result = _called(trial, given, False, INTO_OTHER_MEMORY, through=both)
    if result is None or len(result[0]) % 3:
        return
    count = len(result[0]) // 3
    plain, written, around = result[0][:count], result[0][count : 2 * count], result[0][2 * count :]
    for one, other, untouched in zip(plain, written, around, strict=True):
        differs = None if comparison.identical([one], [other]) else _apart(trial, _PLAIN, other, one)
        if differs and not ((one.is_floating_point() or one.is_complex()) and _written_right(trial, given)):
            yield FailedError(Outcome.WRONG, Phase.FORWARD, f"it writes other results: {differs}", INTO_OTHER_MEMORY)
        elif len(untouched) and not bool((untouched == untouched[0]).all()):
            beside = "it writes beside the memory that it is given"
            yield FailedError(Outcome.WRONG, Phase.FORWARD, beside, INTO_OTHER_MEMORY)


def _written_right(trial: OpTrial, given: Sample) -> bool:
    """True if what is written agrees with float64, which only returns: another way to the result may round otherwise."""
    def written(function: Callable[..., Any], given: Sample) -> Any:
        plain = _tensors(given.plain(function))
        if trial.dtype is not torch.float64 and any(tensor.dtype is torch.float64 for tensor in given.tensors()):
            return plain
        return sample_variants.into_strided_memory(function, given)[: len(plain)]

    try:
        OpOracle(trial, replace(given, label=INTO_OTHER_MEMORY, through=written), False, []).check()
    except FailedError:
        return False
    return True


def _parts(trial: OpTrial, case: Case, gradients: bool) -> Iterator[FailedError]:  # noqa: ARG001
    """Compare a sum with the sum of its parts, whichever kernel its length chooses."""
    whole = _called(trial, case.sample, False, PARTS)
    parts = [_called(trial, part, False, PARTS) for part in case.parts]
    if whole is None or any(part is None for part in parts):
        return
    expected = case.combine([part[0][0].double() for part in parts if part is not None])
    if wrong := _apart(trial, case, whole[0][0], expected):
        yield FailedError(Outcome.WRONG, Phase.FORWARD, f"it is another than {case.words}: {wrong}", PARTS)


_PLAIN = Case("rows", Sample((), {}, None))
_RELATIONS = {"rows": _rows, "parts": _parts}


def _tensors(result: Any) -> list[torch.Tensor]:
    return [out for out in samples.leaves(result) if isinstance(out, torch.Tensor)]


def _called(
    trial: OpTrial, sample: Sample, gradients: bool, where: str,
    cotangents: Callable[[torch.Tensor], torch.Tensor] | None = None,
    place: samples.Convert | None = None, through: Callable[..., Any] | None = None,
) -> _Results | None:  # fmt: skip
    """Return the device's results of a call, on the host; None if it refuses, which other trials judge."""
    device = trial.accelerator.device
    trial.enter(Phase.FORWARD, where)
    with contextlib.suppress(Exception):
        given = sample.converted(place or (lambda tensor: tensor.clone().to(device)), device)
        seed_all(trial.accelerator, trial.caller.seed)
        result = through(trial.entry.info, given) if through else given.call(trial.entry.info)
        outputs = _tensors(result)
        found: Sequence[torch.Tensor | None] = []
        inputs = [tensor for tensor in given.tensors() if tensor.requires_grad]
        roots = [out for out in outputs if out.requires_grad]
        if gradients and inputs and roots:
            trial.enter(Phase.BACKWARD, where)
            incoming = [
                torch.full_like(root, _COTANGENT) if cotangents is None else cotangents(root).to(root.device, root.dtype)
                for root in roots
            ]
            found = torch.autograd.grad(roots, inputs, incoming, allow_unused=True)
        trial.accelerator.synchronize()
        return [out.detach().to(CPU) for out in outputs], [None if one is None else one.to(CPU) for one in found]
    trial.flush_async_errors()
    return None
