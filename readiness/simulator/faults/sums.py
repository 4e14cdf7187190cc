"""Defects of kernels that sum or round, and of single elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from readiness.simulator.faults import kind
from readiness.simulator.injection import Injection, Stage

if TYPE_CHECKING:
    import torch


@kind("narrow-sums", at=Stage.AFTER, severity=64.0, unit="terms summed in float32 before each rounding")
def narrow_sums(injection: Injection) -> bool:
    """Sums are kept in bfloat16: rounded to it after every so many terms. Matrix products, `sum` and `mean` alone."""
    name = injection.call.name.partition("::")[2].partition(".")[0]
    sums = _SUMS.get(name)
    outputs = injection.floats()
    if sums is None or not outputs:
        return False
    import torch

    with torch.no_grad():
        found = sums([*injection.call.arguments, *injection.call.keywords.values()], max(int(injection.severity), 1))
    outputs[0].copy_(found.reshape(outputs[0].shape))
    return True


@kind("wrong-tail", at=Stage.AFTER, severity=0.5, unit="relative error")
def wrong_tail(injection: Injection) -> bool:
    """Elements after the last multiple of eight are wrong, as if the last block were not masked."""
    acted = False
    for tensor in injection.floats():
        left = tensor.numel() % 8
        if left:
            acted = True
            flat = tensor.reshape(-1).clone()
            flat[-left:] = flat[-left:] * (1 + injection.severity) + injection.severity
            tensor.copy_(flat.view(tensor.shape))
    return acted


@kind("one-element", at=Stage.AFTER, severity=1e-2, unit="share of the largest element")
def one_element(injection: Injection) -> bool:
    """One element, always the same, is off by a share of the largest."""
    found = injection.floats()
    for tensor in found:
        flat = tensor.reshape(-1).clone()
        place = flat.numel() * 3 // 8
        flat[place] = flat[place] + injection.severity * flat.abs().nan_to_num(0.0, 0.0, 0.0).max()
        tensor.copy_(flat.view(tensor.shape))
    return bool(found)


@kind("rounded-result", at=Stage.AFTER, severity=2.0**-8, unit="relative rounding of the result")
def rounded_result(injection: Injection) -> bool:
    """The result went through bfloat16 on its way, whatever dtype it has."""
    import torch

    found = [tensor for tensor in injection.floats() if tensor.itemsize > 2]
    for tensor in found:
        tensor.copy_(tensor.to(torch.bfloat16))
    return bool(found)


def _product(left: torch.Tensor, right: torch.Tensor, terms: int) -> torch.Tensor:
    import torch

    total = torch.zeros((*left.shape[:-1], right.shape[-1]), dtype=torch.float32)
    for start in range(0, left.shape[-1], terms):
        part = left[..., start : start + terms].float() @ right[..., start : start + terms, :].float()
        total = (total + part).bfloat16().float()
    return total


def _added(arguments: Sequence[Any], terms: int) -> torch.Tensor:
    return arguments[0].float() + _product(arguments[1], arguments[2], terms)  # type: ignore[no-any-return]


def _grouped(arguments: Sequence[Any], terms: int) -> torch.Tensor:
    import torch

    left, right, offsets = arguments[:3]
    ends = [0, *offsets.tolist()]
    parts = list(enumerate(pairwise(ends)))
    if left.ndim == 2 and right.ndim == 3:
        found = [_product(left[start:end], right[expert], terms) for expert, (start, end) in parts]
        return torch.cat([*found, torch.zeros(left.shape[0] - ends[-1], right.shape[-1])])
    if left.ndim == 2:
        return torch.stack([_product(left[:, start:end], right[start:end], terms) for _, (start, end) in parts])
    return torch.cat([_product(left[expert], right[:, start:end], terms) for expert, (start, end) in parts], 1)


def _reduced(arguments: Sequence[Any], terms: int, *, mean: bool) -> torch.Tensor:
    import torch

    value = arguments[0]
    given = arguments[1] if len(arguments) > 1 and isinstance(arguments[1], list | tuple) else None
    axes = sorted(axis % value.ndim for axis in (given or range(value.ndim)))
    kept = [axis for axis in range(value.ndim) if axis not in axes]
    flat = value.permute(*kept, *axes).reshape(*(value.shape[axis] for axis in kept), -1)
    total = _product(flat.unsqueeze(-2), torch.ones(flat.shape[-1], 1), terms).squeeze(-1).squeeze(-1)
    return total / max(flat.shape[-1], 1) if mean else total


_SUMS: dict[str, Callable[[Sequence[Any], int], Any]] = {
    "mm": lambda arguments, terms: _product(arguments[0], arguments[1], terms),
    "bmm": lambda arguments, terms: _product(arguments[0], arguments[1], terms),
    "addmm": _added,
    "baddbmm": _added,
    "_grouped_mm": _grouped,
    "sum": lambda arguments, terms: _reduced(arguments, terms, mean=False),
    "mean": lambda arguments, terms: _reduced(arguments, terms, mean=True),
}
