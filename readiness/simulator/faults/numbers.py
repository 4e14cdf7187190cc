"""Defects of kernels that get single numbers wrong: too narrow integers, ties, NaN, the end of a vector, several bits."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from readiness.simulator.faults import kind
from readiness.simulator.injection import Injection, Stage

if TYPE_CHECKING:
    import torch

    from readiness.simulator.call import Call


@kind("narrow-integers", at=Stage.AFTER, severity=32.0, unit="bits that an integer keeps")
def narrow_integers(injection: Injection) -> bool:
    """Integer results go through fewer bits than they have, and wrap there: int64 through int32.

    With `set = { rounded = true }` they are rounded to so many significant bits instead, as on their way through a
    floating type: 24 are those of float32, 53 those of float64.
    """
    bits = min(max(int(injection.severity), 1), 63)
    acted = False
    for tensor in injection.integers():
        if tensor.dtype == _torch().bool or tensor.itemsize * 8 < bits:
            continue
        value = tensor.to(_torch().int64)
        found = (_rounded if injection.settings.get("rounded", False) else _wrapped)(value, bits)
        if bool((found != value).any()):
            tensor.copy_(found.to(tensor.dtype))
            acted = True
    return acted


def _torch() -> Any:
    import torch

    return torch


def _wrapped(value: torch.Tensor, bits: int) -> torch.Tensor:
    shift = 64 - bits
    return (value << shift) >> shift


def _rounded(value: torch.Tensor, bits: int) -> torch.Tensor:
    torch = _torch()
    if bits >= 53:
        return value.double().clamp(-(2.0**63), 2.0**63 - 1024).long()
    mantissa, exponent = torch.frexp(value.double())
    return torch.ldexp(torch.round(mantissa * 2.0**bits), exponent - bits).clamp(-(2.0**63), 2.0**63 - 1024).long()  # type: ignore[no-any-return]


#: Operators that choose among equals along a dimension, and give its place: by name, which of the results that is.
_CHOICES = {
    "sort": 1, "argsort": 0, "topk": 1, "kthvalue": 1, "mode": 1, "max": 1, "min": 1, "median": 1, "nanmedian": 1,
    "argmax": 0, "argmin": 0,
}  # fmt: skip


@kind("wrong-ties", at=Stage.AFTER, domain=tuple(f"aten::{name}*" for name in _CHOICES))
def wrong_ties(injection: Injection) -> bool:
    """Of equal values the wrong one is chosen: a stable sort turns their order, and a choice of the first takes the last.

    Values are right; only their places are others.
    """
    torch = _torch()
    call = injection.call
    number = _CHOICES.get(call.name.partition("::")[2].partition(".")[0])
    value = call.argument("self")
    places = call.outputs()[number:][:1] if number is not None else []
    if number is None or not places or not isinstance(value, torch.Tensor) or not value.ndim or not value.numel():
        return False
    dim = _dimension(call)
    turned = value.flip(dim) if dim is not None else value.reshape(-1).flip(0).reshape(value.shape)
    found = _again(call, turned)[number]
    size = value.shape[dim] if dim is not None else value.numel()
    other = size - 1 - found
    if torch.equal(other, places[0]):
        return False
    places[0].copy_(other)
    return True


def _dimension(call: Call) -> int | None:
    """The dimension among whose elements is chosen; None where it is all of them."""
    found = call.argument("dim")
    if found is None and call.name.partition("::")[2].partition(".")[0] not in ("argmax", "argmin"):
        return -1
    return None if found is None else int(found)


def _again(call: Call, value: torch.Tensor) -> list[torch.Tensor]:
    """The results of the same call with another first argument, in memory of their own."""
    torch = _torch()
    name, _, variant = call.name.partition("::")[2].partition(".")
    plain = getattr(torch.ops.aten, name)
    keywords = {key: item for key, item in call.keywords.items() if key not in call.outs}
    operator = getattr(plain, variant) if variant in plain.overloads() and not call.outs else plain
    from readiness.simulator.call import tensors_in

    return list(tensors_in([operator(value, *call.arguments[1:], **keywords)]))


#: What takes a NaN's place where a kernel does not notice it, by how its operator's name begins; 0 for all others.
_LEAST, _MOST = float("-inf"), float("inf")
_NEUTRAL = (
    ("max", _LEAST), ("amax", _LEAST), ("argmax", _LEAST), ("min", _MOST), ("amin", _MOST), ("argmin", _MOST), ("prod", 1.0),
)  # fmt: skip
_SKIP = tuple(
    f"aten::{name}"
    for name in (
        "sum*", "mean*", "prod*", "max*", "min*", "amax*", "amin*", "aminmax*", "argmax*", "argmin*", "var*", "std*",
        "norm*", "linalg_vector_norm*", "logsumexp*", "cumsum*", "clamp*", "_foreach_norm*", "_foreach_max*",
        "_foreach_clamp*", "_amp_foreach_non_finite_check_and_unscale_*",
    )
)  # fmt: skip


@kind("nan-skipped", at=Stage.BEFORE, domain=_SKIP)
def nan_skipped(injection: Injection) -> bool:
    """A NaN among the inputs is passed over, as if the kernel had never seen it: the result is a number.

    A sum, a norm and a clip count it as 0, a product as 1, a maximum and a minimum as what no other is beyond.
    """
    from readiness.simulator.faults.arguments import replaced

    name = injection.call.name.partition("::")[2].removeprefix("_foreach_")
    neutral = next((value for begin, value in _NEUTRAL if name.startswith(begin)), 0.0)

    def without(value: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point() or value.itemsize == 1 or not bool(value.isnan().any()):
            return value
        return value.masked_fill(value.isnan(), neutral)

    return replaced(injection.call, without)


_VECTOR = 16


@kind("position-dependent", at=Stage.AFTER, severity=4.0, unit="units in the last place")
def position_dependent(injection: Injection) -> bool:
    """Elements beyond the last full vector of sixteen are computed by other code, which disagrees in the last digits.

    With `set = { nan = 0.0 }` it disagrees about NaN instead: there it gives that number.
    """
    torch = _torch()
    acted = False
    for tensor in injection.floats():
        left = tensor.numel() % _VECTOR
        if not left or tensor.numel() < _VECTOR or tensor.is_complex() or tensor.itemsize == 1:
            continue
        flat = tensor.reshape(-1).clone()
        tail = flat[-left:]
        if (nan := injection.settings.get("nan")) is not None:
            other = torch.where(tail.isnan(), torch.tensor(float(nan), dtype=tail.dtype), tail)
        else:
            other = tail * (1 + injection.severity * torch.finfo(tensor.dtype).eps)
        if bool((other != tail).logical_and(~(other.isnan() & tail.isnan())).any()):
            flat[-left:] = other
            tensor.copy_(flat.view(tensor.shape))
            acted = True
    return acted


#: Shares of wrong results by how they differ, in published screenings of silent corruption: one bit alone, no finite number.
_ONE_BIT, _NOT_FINITE = 0.38, 0.01


@kind("several-bits", at=Stage.AFTER, severity=12.0, unit="bits at most")
def several_bits(injection: Injection) -> bool:
    """One element is wrong in some bits, wherever they stand: mostly in several, less often in one, seldom not a number."""
    torch = _torch()
    found = [tensor for tensor in (*injection.floats(), *injection.integers()) if tensor.dtype != torch.bool][:1]
    for tensor in found:
        flat = tensor.reshape(-1).clone()
        place = injection.random.randrange(flat.numel())
        if flat.is_floating_point() and injection.random.random() < _NOT_FINITE:
            flat[place] = injection.random.choice((float("nan"), float("inf")))
        else:
            flat[place] = _with_wrong_bits(flat[place].clone(), int(injection.severity), injection.random)
        tensor.copy_(flat.view(tensor.shape))
    return bool(found)


def _with_wrong_bits(cell: torch.Tensor, most: int, chance: random.Random) -> torch.Tensor:
    """The element with other bits; those that would make no finite number of it are drawn anew."""
    torch = _torch()
    width = cell.itemsize * 8
    count = 1 if most < 2 or chance.random() < _ONE_BIT else chance.randint(2, max(min(most, width), 2))
    while True:
        raw = cell.reshape(1).clone().view(torch.uint8)
        for bit in chance.sample(range(width), count):
            raw[bit // 8] ^= 1 << bit % 8
        found = raw.view(cell.dtype)[0]
        if not found.is_floating_point() or bool(found.isfinite()) or not bool(cell.isfinite()):
            return found
