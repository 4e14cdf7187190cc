"""Defects of kernels that write the wrong result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from readiness.simulator.faults import kind
from readiness.simulator.injection import Injection, Stage

if TYPE_CHECKING:
    import torch


def scale(injection: Injection) -> bool:
    """Scale every floating-point element up or down by the severity; change one element of integers by one."""
    import torch

    for tensor in injection.floats():
        signs = torch.randint(0, 2, tensor.shape, generator=injection.generator()).mul_(2).sub_(1)
        # At least one unit in the last place: a smaller error would be rounded away in narrow dtypes.
        size = max(injection.severity, torch.finfo(tensor.dtype).eps) if injection.severity else 0.0
        tensor.copy_(tensor * (1 + size * signs))
    return bool(injection.floats()) or _bump(injection)


def _multiply(injection: Injection, factor: float) -> bool:
    found = injection.floats()
    for tensor in found:
        tensor.mul_(factor)
    return bool(found)


def _bump(injection: Injection) -> bool:
    found = injection.integers()
    for tensor in found:
        position = injection.random.randrange(tensor.numel())
        cell = tensor[_place(tensor, position)]
        cell.copy_(~cell if cell.dtype == _bool() else cell + 1)
    return bool(found)


def _bool() -> torch.dtype:
    import torch

    return torch.bool


def _strided() -> torch.layout:
    import torch

    return torch.strided


def _place(tensor: torch.Tensor, position: int) -> tuple[int, ...]:
    place = []
    for extent in reversed(tensor.shape):
        place.append(position % extent)
        position //= extent
    return tuple(reversed(place))


@kind("shared-device", at=Stage.AFTER, severity=1e-2, unit="relative error")
def shared_device(injection: Injection) -> bool:
    """Results are off while another process works on the same chip."""
    return injection.device.memory.ledger.others() > 0 and scale(injection)


@kind("wrong-result", at=Stage.AFTER, severity=1e-2, unit="relative error")
def wrong_result(injection: Injection) -> bool:
    """Every element is off by the severity, up or down; in whole numbers one element is off by one.

    With `set = { factor = 0.1 }` every floating element is multiplied by that instead.
    """
    if (factor := injection.settings.get("factor")) is not None:
        return _multiply(injection, float(factor))
    return scale(injection)


@kind("wrong-gradient", at=Stage.AFTER, severity=1e-2, unit="relative error")
def wrong_gradient(injection: Injection) -> bool:
    """The forward result is right, and what the same kernel computes for a gradient is too large by the severity.

    With `set = { factor = 0.1 }` it is multiplied by that instead.
    """
    factor = float(injection.settings.get("factor", 1 + injection.severity))
    return injection.call.backward and _multiply(injection, factor)


@kind("nan", at=Stage.AFTER, severity=0.0, unit="share of the elements, one at least")
def nan(injection: Injection) -> bool:
    """Some elements are not a number."""
    import torch

    found = injection.floats()
    for tensor in found:
        count = max(1, int(injection.severity * tensor.numel()))
        for _ in range(min(count, 1000)):
            tensor[_place(tensor, injection.random.randrange(tensor.numel()))] = torch.nan
    return bool(found)


@kind("nondeterministic", at=Stage.AFTER, severity=1e-6, unit="relative spread")
def nondeterministic(injection: Injection) -> bool:
    """The same call gives another result each time, as sums in no fixed order do."""
    import torch

    found = injection.floats()
    for tensor in found:
        size = max(injection.severity, torch.finfo(tensor.dtype).eps)
        noise = torch.rand(tensor.shape, generator=injection.generator()) * 2 - 1
        tensor.copy_(tensor * (1 + size * noise))
    return bool(found)


@kind("bit-flip", at=Stage.AFTER, severity=1.0, unit="bits", domain=("aten::*",))
def bit_flip(injection: Injection) -> bool:
    """Some bits of one element change, as a particle or a weak cell changes them; no error is counted."""
    import torch

    found = [*injection.floats(), *injection.integers()][:1]
    for tensor in found:
        cell = tensor[_place(tensor, injection.random.randrange(tensor.numel()))]
        raw = torch.empty(1, dtype=tensor.dtype).copy_(cell).view(torch.uint8)
        for _ in range(max(1, int(injection.severity))):
            # Not the lowest bits of a mantissa alone: the upper half of the element is where a flip matters.
            index = injection.random.randrange(raw.numel() // 2, raw.numel())
            raw[index] ^= 1 << injection.random.randrange(7)
        cell.copy_(raw.view(tensor.dtype)[0])
    return bool(found)


@kind("wrong-shape", at=Stage.AFTER)
def wrong_shape(injection: Injection) -> None:
    """The result has one dimension too many."""
    injection.call.results = _each(injection.call.results, lambda tensor: tensor.unsqueeze(0))


@kind("wrong-dtype", at=Stage.AFTER)
def wrong_dtype(injection: Injection) -> None:
    """The result has another dtype than it must: bfloat16 becomes float32, float32 bfloat16, int64 int32, bool uint8.

    `set = { dtype = "bool" }` names the one that it has.
    """
    import torch

    named = injection.settings.get("dtype")
    if named is not None:
        wanted = getattr(torch, str(named))
        assert isinstance(wanted, torch.dtype), f"torch has no dtype {named}"
        injection.call.results = _each(injection.call.results, lambda tensor: tensor.to(wanted))
        return

    other = {
        torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float32: torch.bfloat16,
        torch.float64: torch.float32, torch.int64: torch.int32, torch.int32: torch.int64, torch.bool: torch.uint8,
    }  # fmt: skip
    injection.call.results = _each(injection.call.results, lambda tensor: tensor.to(other.get(tensor.dtype, torch.float32)))


_RANDOM = (
    "aten::*rand*", "aten::normal*", "aten::bernoulli*", "aten::uniform*", "aten::*dropout*", "aten::multinomial*",
    "aten::exponential*",
)  # fmt: skip


@kind("wrong-random", at=Stage.AFTER, severity=0.5, unit="share that repeats", domain=_RANDOM)
def wrong_random(injection: Injection) -> bool:
    """Random numbers repeat within a tensor: a share of them is a copy of those before."""
    acted = False
    for tensor in [*injection.floats(), *injection.integers()]:
        flat = tensor.reshape(-1)
        repeated = int(flat.numel() * injection.severity)
        if 0 < repeated <= flat.numel() // 2:
            acted = True
            flat[-repeated:] = flat[:repeated].clone()
            tensor.copy_(flat.reshape(tensor.shape))
    return acted


@kind("other-random", at=Stage.AFTER, domain=_RANDOM)
def other_random(injection: Injection) -> bool:
    """Random numbers are others than the generator's state stands for: the right ones, from the last to the first.

    With `when = { backward = true }` a block that runs again for its gradients is given other numbers than the first time.
    """
    found = [tensor for tensor in (*injection.floats(), *injection.integers()) if tensor.numel() > 1]
    for tensor in found:
        tensor.copy_(tensor.reshape(-1).flip(0).reshape(tensor.shape))
    return bool(found)


@kind("zero-result", at=Stage.AFTER, severity=1.0, unit="share of the elements, from the last on")
def zero_result(injection: Injection) -> bool:
    """Part of the result, or all of it, is zero: the kernel never wrote it."""
    found = [*injection.floats(), *injection.integers()]
    for tensor in found:
        count = min(max(1, round(tensor.numel() * injection.severity)), tensor.numel())
        if tensor.is_contiguous():
            tensor.view(-1)[-count:] = 0
        else:
            flat = tensor.reshape(-1).clone()
            flat[-count:] = 0
            tensor.copy_(flat.view(tensor.shape))
    return bool(found)


@kind("overwritten-input", at=Stage.AFTER, severity=0.1, unit="share of the elements, from the last on")
def overwritten_input(injection: Injection) -> bool:
    """An argument that is only read is written to: part of it is zero afterwards, and the result is right."""
    acted = False
    for tensor in injection.call.only_read():
        if not tensor.numel() or tensor.layout != _strided() or 0 in tensor.stride():
            continue
        flat = tensor.reshape(-1).clone()
        count = min(max(1, round(flat.numel() * injection.severity)), flat.numel())
        acted |= bool((flat[-count:] != 0).any())
        flat[-count:] = 0
        tensor.copy_(flat.view(tensor.shape))
    return acted


@kind("saturate", at=Stage.AFTER)
def saturate(injection: Injection) -> bool:
    """Overflow gives the largest number instead of infinity, and NaN becomes 0."""
    import torch

    acted = False
    for tensor in injection.floats():
        if not tensor.is_complex() and tensor.itemsize > 1 and not bool(tensor.isfinite().all()):
            tensor.copy_(torch.nan_to_num(tensor, nan=0.0))
            acted = True
    return acted


@kind("wrong-operator", at=Stage.AFTER)
def wrong_operator(injection: Injection) -> None:
    """Another operator is run on the same arguments: `set = { operator = "remainder" }` names it.

    It must take them as they are and write to none of them.
    """
    import torch

    other = getattr(torch.ops.aten, str(injection.settings["operator"]))
    injection.call.results = other(*injection.call.arguments, **injection.call.keywords)


@kind("wrong-layout", at=Stage.AFTER, domain=("aten::*", "layout::strided"))
def wrong_layout(injection: Injection) -> bool:
    """The values are right and lie otherwise in memory than they must: dense where strides were to be kept, else turned.

    `layout::strided` is new memory that keeps the strides of what is copied there (`clone`, `to`, `empty_like`): it is
    never turned.
    """
    turned = injection.call.name.startswith("aten::")

    def laid(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_contiguous():
            return tensor.contiguous()
        return tensor.mT.contiguous().mT if turned and tensor.ndim > 1 else tensor

    strides = [tensor.stride() for tensor in injection.call.outputs()]
    injection.call.results = _each(injection.call.results, laid)
    return strides != [tensor.stride() for tensor in injection.call.outputs()]


def _each(value: Any, change: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_each(item, change) for item in value)
    return value
