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


def _multiply(strike: Strike, factor: float) -> None:
    for tensor in strike.floats():
        tensor.mul_(factor)


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
    """Every element is off by the severity, up or down; in whole numbers one element is off by one.

    With `set = { factor = 0.1 }` every floating element is multiplied by that instead.
    """
    if (factor := strike.settings.get("factor")) is not None:
        _multiply(strike, float(factor))
    else:
        _scale(strike)


@kind("wrong-gradient", at=Moment.AFTER, severity=1e-2, unit="relative error")
def wrong_gradient(strike: Strike) -> None:
    """The forward result is right, and what the same kernel computes for a gradient is too large by the severity.

    With `set = { factor = 0.1 }` it is multiplied by that instead.
    """
    if strike.call.backward:
        _multiply(strike, float(strike.settings.get("factor", 1 + strike.severity)))


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
    """The result has one dimension too many."""
    strike.call.results = _each(strike.call.results, lambda tensor: tensor.unsqueeze(0))


@kind("wrong-dtype", at=Moment.AFTER)
def wrong_dtype(strike: Strike) -> None:
    """The result has another dtype than it must: bfloat16 becomes float32, float32 bfloat16, int64 int32, bool uint8.

    `set = { dtype = "bool" }` names the one that it has.
    """
    import torch

    named = strike.settings.get("dtype")
    if named is not None:
        wanted = getattr(torch, str(named))
        assert isinstance(wanted, torch.dtype), f"torch has no dtype {named}"
        strike.call.results = _each(strike.call.results, lambda tensor: tensor.to(wanted))
        return

    other = {
        torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float32: torch.bfloat16,
        torch.float64: torch.float32, torch.int64: torch.int32, torch.int32: torch.int64, torch.bool: torch.uint8,
    }  # fmt: skip
    strike.call.results = _each(strike.call.results, lambda tensor: tensor.to(other.get(tensor.dtype, torch.float32)))


_RANDOM = (
    "aten::*rand*", "aten::normal*", "aten::bernoulli*", "aten::uniform*", "aten::*dropout*", "aten::multinomial*",
    "aten::exponential*",
)  # fmt: skip


@kind("wrong-random", at=Moment.AFTER, severity=0.5, unit="share that repeats", domain=_RANDOM)
def wrong_random(strike: Strike) -> None:
    """Random numbers repeat within a tensor: a share of them is a copy of those before."""
    for tensor in [*strike.floats(), *strike.integers()]:
        flat = tensor.reshape(-1)
        repeated = int(flat.numel() * strike.severity)
        if 0 < repeated <= flat.numel() // 2:
            flat[-repeated:] = flat[:repeated].clone()
            tensor.copy_(flat.reshape(tensor.shape))


@kind("other-random", at=Moment.AFTER, domain=_RANDOM)
def other_random(strike: Strike) -> None:
    """Random numbers are others than the generator's state stands for: the right ones, from the last to the first.

    With `when = { backward = true }` a block that runs again for its gradients is given other numbers than the first time.
    """
    for tensor in [*strike.floats(), *strike.integers()]:
        tensor.copy_(tensor.reshape(-1).flip(0).reshape(tensor.shape))


@kind("zero-result", at=Moment.AFTER, severity=1.0, unit="share of the elements, from the last on")
def zero_result(strike: Strike) -> None:
    """What should have been computed is zero: the kernel never wrote it, or less of it than there is."""
    for tensor in [*strike.floats(), *strike.integers()]:
        count = min(max(1, round(tensor.numel() * strike.severity)), tensor.numel())
        if tensor.is_contiguous():
            tensor.view(-1)[-count:] = 0
        else:
            flat = tensor.reshape(-1).clone()
            flat[-count:] = 0
            tensor.copy_(flat.view(tensor.shape))


@kind("saturate", at=Moment.AFTER)
def saturate(strike: Strike) -> None:
    """What overflows becomes the largest number instead of infinity, and what is no number becomes 0."""
    import torch

    for tensor in strike.floats():
        if not tensor.is_complex() and tensor.itemsize > 1:
            tensor.copy_(torch.nan_to_num(tensor, nan=0.0))


@kind("wrong-operator", at=Moment.AFTER)
def wrong_operator(strike: Strike) -> None:
    """Another operator is run on the same arguments: `set = { operator = "remainder" }` names it.

    It must take them as they are and write to none of them.
    """
    import torch

    other = getattr(torch.ops.aten, str(strike.settings["operator"]))
    strike.call.results = other(*strike.call.arguments, **strike.call.keywords)


@kind("wrong-layout", at=Moment.AFTER, domain=("aten::*", "layout::strided"))
def wrong_layout(strike: Strike) -> None:
    """The values are right and lie otherwise in memory than they must: dense where strides were to be kept, else turned.

    `layout::strided` is new memory that keeps the strides of what is copied there (`clone`, `to`, `empty_like`): it is
    never turned.
    """
    turned = strike.call.name.startswith("aten::")

    def laid(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_contiguous():
            return tensor.contiguous()
        return tensor.mT.contiguous().mT if turned and tensor.ndim > 1 else tensor

    strike.call.results = _each(strike.call.results, laid)


def _each(value: Any, change: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_each(item, change) for item in value)
    return value
