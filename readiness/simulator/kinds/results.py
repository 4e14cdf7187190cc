"""Defects of kernels that write the wrong result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from readiness.simulator.kinds import Moment, kind

if TYPE_CHECKING:
    import torch

    from readiness.simulator.strikes import Strike


def _scale(strike: Strike) -> None:
    """Every floating element off by the severity, up or down; of whole numbers one element by one."""
    import torch

    for tensor in strike.floats():
        signs = torch.randint(0, 2, tensor.shape, generator=strike.generator()).mul_(2).sub_(1)
        # At least one unit in the last place: a smaller error would be rounded away in narrow dtypes.
        size = max(strike.severity, torch.finfo(tensor.dtype).eps) if strike.severity else 0.0
        tensor.copy_(tensor * (1 + size * signs))
    if not strike.floats():
        _bump(strike)


def _bump(strike: Strike) -> None:
    for tensor in strike.integers():
        position = strike.random.randrange(tensor.numel())
        cell = tensor[_place(tensor, position)]
        cell.copy_(~cell if cell.dtype == _bool() else cell + 1)


def _bool() -> torch.dtype:
    import torch

    return torch.bool


def _place(tensor: torch.Tensor, position: int) -> tuple[int, ...]:
    place = []
    for extent in reversed(tensor.shape):
        place.append(position % extent)
        position //= extent
    return tuple(reversed(place))


@kind("wrong-result", at=Moment.AFTER, severity=1e-2, unit="relative error")
def wrong_result(strike: Strike) -> None:
    """Every element is off by the severity, up or down; in whole numbers one element is off by one."""
    _scale(strike)


@kind("wrong-gradient", at=Moment.AFTER, severity=1e-2, unit="relative error")
def wrong_gradient(strike: Strike) -> None:
    """The forward result is right, and what the same kernel computes for a gradient is off by the severity."""
    if strike.call.backward:
        for tensor in strike.floats():
            tensor.mul_(1 + strike.severity)


@kind("nan", at=Moment.AFTER, severity=0.0, unit="share of the elements, one at least")
def nan(strike: Strike) -> None:
    """Some elements are not a number."""
    import torch

    for tensor in strike.floats():
        count = max(1, int(strike.severity * tensor.numel()))
        for _ in range(min(count, 1000)):
            tensor[_place(tensor, strike.random.randrange(tensor.numel()))] = torch.nan


@kind("nondeterministic", at=Moment.AFTER, severity=1e-6, unit="relative spread")
def nondeterministic(strike: Strike) -> None:
    """The same call gives another result each time, as sums in no fixed order do."""
    import torch

    for tensor in strike.floats():
        size = max(strike.severity, torch.finfo(tensor.dtype).eps)
        noise = torch.rand(tensor.shape, generator=strike.generator()) * 2 - 1
        tensor.copy_(tensor * (1 + size * noise))


@kind("bit-flip", at=Moment.AFTER, severity=1.0, unit="bits", domain=("aten::*",))
def bit_flip(strike: Strike) -> None:
    """Some bits of one element change, as a particle or a weak cell changes them; no error is counted."""
    import torch

    for tensor in [*strike.floats(), *strike.integers()][:1]:
        cell = tensor[_place(tensor, strike.random.randrange(tensor.numel()))]
        raw = torch.empty(1, dtype=tensor.dtype).copy_(cell).view(torch.uint8)
        for _ in range(max(1, int(strike.severity))):
            # Not the lowest bits of a mantissa alone: the upper half of the element is where a flip matters.
            index = strike.random.randrange(raw.numel() // 2, raw.numel())
            raw[index] ^= 1 << strike.random.randrange(7)
        cell.copy_(raw.view(tensor.dtype)[0])


@kind("wrong-shape", at=Moment.AFTER)
def wrong_shape(strike: Strike) -> None:
    """The result has one dimension too many, or has lost the last row where that cannot be."""
    strike.call.results = _each(strike.call.results, lambda tensor: tensor.unsqueeze(0))


@kind("wrong-dtype", at=Moment.AFTER)
def wrong_dtype(strike: Strike) -> None:
    """The result has another dtype than it must: bfloat16 becomes float32, float32 bfloat16, int64 int32, bool uint8."""
    import torch

    other = {
        torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float32: torch.bfloat16,
        torch.float64: torch.float32, torch.int64: torch.int32, torch.int32: torch.int64, torch.bool: torch.uint8,
    }  # fmt: skip
    strike.call.results = _each(strike.call.results, lambda tensor: tensor.to(other.get(tensor.dtype, torch.float32)))


@kind(
    "wrong-random", at=Moment.AFTER, severity=0.5, unit="share that repeats",
    domain=("aten::*rand*", "aten::normal*", "aten::bernoulli*", "aten::uniform*", "aten::*dropout*", "aten::multinomial*",
            "aten::exponential*"),
)  # fmt: skip
def wrong_random(strike: Strike) -> None:
    """Random numbers repeat within a tensor: a share of them is a copy of those before."""
    for tensor in [*strike.floats(), *strike.integers()]:
        flat = tensor.reshape(-1)
        repeated = int(flat.numel() * strike.severity)
        if 0 < repeated <= flat.numel() // 2:
            flat[-repeated:] = flat[:repeated].clone()
            tensor.copy_(flat.reshape(tensor.shape))


def _each(value: Any, change: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_each(item, change) for item in value)
    return value
