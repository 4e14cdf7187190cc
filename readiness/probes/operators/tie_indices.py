"""Tie indices: operators that return indices may return any index of equal values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from readiness.probes.operators import op_semantics
from readiness.probes.operators.samples import Sample


def indices_equivalent(name: str, sample: Sample, have: torch.Tensor, expected: torch.Tensor) -> bool:
    """True if the indices from a device point at the expected values; also for operators without indices."""
    base = name.partition(".")[0]
    given = sample.tensors()
    if base not in op_semantics.INDICES_ALONG or len(given) != 1 or have.shape != expected.shape or not given[0].ndim:
        return True
    chosen, dimension = given[0].detach(), _dimension(base, sample)
    have, expected = have.long(), expected.long()
    if dimension is None:
        chosen, dimension, have, expected = chosen.reshape(-1), 0, have.reshape(-1), expected.reshape(-1)
    if have.ndim == chosen.ndim - 1:
        have, expected = have.unsqueeze(dimension), expected.unsqueeze(dimension)
    if have.ndim != chosen.ndim or not have.numel():
        return True
    if bool((have < 0).any()) or bool((have >= chosen.shape[dimension]).any()):
        return False
    if base in ("argsort", "sort", "topk") and bool((have.sort(dimension).values.diff(dim=dimension) == 0).any()):
        return False  # one place twice
    one, other = chosen.gather(dimension, have), chosen.gather(dimension, expected)
    equal = one == other
    if one.is_floating_point():
        equal |= one.isnan() & other.isnan()
    return bool(equal.all())


def in_any_order(name: str, sample: Sample) -> bool:
    """True if the call allows the largest values in any order."""
    given = sample.arguments
    argument = given[4] if len(given) > 4 else sample.keywords.get("sorted", True)
    return name.removeprefix("aten::") == "topk" and argument is False


def along(sample: Sample) -> int:
    """Return the dimension along which the largest values are chosen."""
    found = _dimension("topk", sample)
    return -1 if found is None else found


def ordered(sample: Sample, found: Sequence[Any]) -> list[Any]:
    """Return the largest values by size, and the values that the indices point at."""
    dimension = along(sample)
    values, indices = found[0].detach().cpu(), found[1].cpu()
    chosen = sample.arguments[0].detach()
    inside = indices.clamp(0, max(chosen.shape[dimension] - 1, 0)) if chosen.ndim else indices
    pointed = chosen.gather(dimension, inside) if chosen.ndim else chosen.expand(indices.shape)
    return [tensor.sort(dimension).values if tensor.ndim else tensor for tensor in (values, pointed)]


def _dimension(base: str, sample: Sample) -> int | None:
    """Return the dimension of the choice; None if it is over all."""
    position = 2 if base in ("kthvalue", "topk") else 1
    usual = None if base in ("argmax", "argmin") else -1
    argument = sample.keywords.get("dim", sample.arguments[position] if len(sample.arguments) > position else usual)
    return argument if isinstance(argument, int) and not isinstance(argument, bool) else usual
