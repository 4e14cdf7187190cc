"""Conditions of a defect on a call: on its tensors, their values, its arguments and PyTorch's modes.

A condition becomes a few functions once, so that a call pays for no more than the file says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from readiness.simulator import graphs
from readiness.simulator.call import Call, tensors_in
from readiness.simulator.machine_file import Condition, Value

Tensors = Sequence[torch.Tensor]
_OnTensors = Callable[[Tensors], bool]
#: The formats that a condition may name, by how many dimensions their tensors have.
_FORMATS = {"channels_last": (4, torch.channels_last), "channels_last_3d": (5, torch.channels_last_3d)}


def compiled(when: Condition) -> Callable[[Call], bool]:
    """Return a function that says if a call meets all conditions on tensors, values, arguments and PyTorch's modes.

    Each is met when one of the tensors meets it, and sizes are those of the largest; where `of` names arguments, each of
    them must meet all.
    """
    on_call = tuple(_on_call(when))
    on_tensors = tuple(_on_tensors(when))
    on_values = _on_values(when)

    def of_arguments(call: Call) -> bool:
        for name in when.of:
            tensors = list(tensors_in([call.device_argument(name)]))
            if not tensors or not all(test(tensors) for test in on_tensors):
                return False
            if on_values is not None and not on_values([call.argument(name)]):
                return False
        return True

    def meets(call: Call) -> bool:
        for test in on_call:
            if not test(call):
                return False
        if when.of:
            return of_arguments(call)
        if on_tensors:
            tensors = call.tensors or call.outputs()
            for about in on_tensors:
                if not about(tensors):
                    return False
        return on_values is None or on_values(call.read())

    return meets


def reads_values(when: Condition) -> bool:
    """True if a condition concerns values of the inputs, which a call may overwrite."""
    return _on_values(when) is not None


def seen_key(call: Call, what: str) -> tuple[Any, ...] | None:
    """Return the key of a call in a cache by shapes or by numbers; None if it has neither."""
    if what == "shape":
        shapes = tuple(tuple(tensor.shape) for tensor in call.tensors or call.outputs())
        return (call.name, shapes) if shapes else None
    numbers = tuple(_numbers(call.given))
    return (call.name, numbers) if numbers else None


def _numbers(values: Sequence[Any]) -> Iterator[float]:
    """Yield the numbers among arguments, also in host tensors of one number, in which PyTorch wraps them."""
    for value in values:
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield value
        elif isinstance(value, torch.Tensor) and value.device.type == "cpu" and not value.ndim:
            yield value.item()


def _on_call(when: Condition) -> Iterator[Callable[[Call], bool]]:
    if when.backward is not None:
        yield lambda call: call.backward is when.backward
    if when.compiled is not None:
        yield lambda _: graphs.is_compiled() is when.compiled
    if when.replayed is not None:
        yield lambda call: (call.replaced is not None) is when.replayed
    if when.deterministic is not None:
        yield lambda _: torch.are_deterministic_algorithms_enabled() is when.deterministic
    if when.argument:
        yield lambda call: all(_argument_is(call, name, wanted) for name, wanted in when.argument.items())


def _on_tensors(when: Condition) -> Iterator[_OnTensors]:
    yield from _on_sizes(when)
    yield from _on_layouts(when)
    if when.dtype:
        dtypes = {f"torch.{name}" for name in when.dtype}
        yield lambda tensors: any(str(tensor.dtype) in dtypes for tensor in tensors)


def _on_sizes(when: Condition) -> Iterator[_OnTensors]:
    if (over := when.numel_over) is not None:
        yield lambda tensors: max((tensor.numel() for tensor in tensors), default=0) > over
    if (under := when.numel_under) is not None:
        yield lambda tensors: max((tensor.numel() for tensor in tensors), default=0) < under
    if (rows := when.rows_over) is not None:
        yield lambda tensors: max((_rows(tensor) for tensor in tensors), default=0) > rows
    if (most := when.tensors_over) is not None:
        yield lambda tensors: len(tensors) > most
    if when.empty is not None:
        yield lambda tensors: when.empty is not all(tensor.numel() for tensor in tensors)
    if when.ndim:
        yield lambda tensors: any(tensor.ndim in when.ndim for tensor in tensors)
    if (divisor := when.multiple_of) is not None:
        place, remainder = when.dimension, when.remainder
        yield lambda tensors: any(
            -tensor.ndim <= place < tensor.ndim and tensor.shape[place] % divisor == remainder for tensor in tensors
        )


def _on_layouts(when: Condition) -> Iterator[_OnTensors]:
    if when.noncontiguous is not None:
        yield lambda tensors: when.noncontiguous is not all(tensor.is_contiguous() for tensor in tensors)
    if when.offset is not None:
        yield lambda tensors: when.offset is not all(tensor.storage_offset() == 0 for tensor in tensors)
    if (format := when.memory_format) is not None:
        yield lambda tensors: any(_lies_in(tensor, format) for tensor in tensors)
    if when.conjugate is not None:
        yield lambda tensors: when.conjugate is any(tensor.is_complex() and tensor.is_conj() for tensor in tensors)
    if when.expanded is not None:
        yield lambda tensors: when.expanded is any(map(_is_expanded, tensors))


def _lies_in(tensor: torch.Tensor, name: str) -> bool:
    ndim, format = _FORMATS[name]
    return tensor.ndim == ndim and tensor.is_contiguous(memory_format=format) and not tensor.is_contiguous()


def _is_expanded(tensor: torch.Tensor) -> bool:
    return any(stride == 0 and extent > 1 for stride, extent in zip(tensor.stride(), tensor.shape, strict=True))


def _rows(tensor: torch.Tensor) -> int:
    return tensor.numel() // tensor.shape[-1] if tensor.ndim and tensor.shape[-1] else 0


def _on_values(when: Condition) -> Callable[[Sequence[Any]], bool] | None:
    """Return a function that says if the values that a call reads meet a condition; None if there is none."""
    tests: list[Callable[[list[torch.Tensor]], bool]] = []
    low, high = when.value_over, when.value_under
    if low is not None or high is not None:
        tests.append(lambda tensors: any(_has_between(tensor, low, high) for tensor in tensors))
    if when.negative is not None:
        tests.append(lambda tensors: when.negative is any(_has_between(tensor, None, 0.0) for tensor in tensors))
    if when.nan is not None:
        tests.append(lambda tensors: when.nan is any(_has(tensor, torch.isnan) for tensor in tensors))
    if when.infinite is not None:
        tests.append(lambda tensors: when.infinite is any(_has(tensor, torch.isinf) for tensor in tensors))
    if not tests:
        return None

    def hold(values: Sequence[Any]) -> bool:
        found = list(tensors_in(values))
        return all(test(found) for test in tests)

    return hold


def _has_between(tensor: torch.Tensor, low: float | None, high: float | None) -> bool:
    if not tensor.numel() or tensor.is_complex() or tensor.dtype == torch.bool:
        return False
    value = _readable(tensor)
    inside = torch.ones((), dtype=torch.bool)
    inside = inside if low is None else inside & (value > low)
    return bool((inside if high is None else inside & (value < high)).any())


def _has(tensor: torch.Tensor, test: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    floating = tensor.is_floating_point() or tensor.is_complex()
    return bool(floating and tensor.numel() and test(_readable(tensor)).any())


def _readable(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, 8-bit floats as float32, since PyTorch does not compare those."""
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize == 1 else tensor.detach()


def _argument_is(call: Call, name: str, wanted: Value) -> bool:
    """True if an argument meets a condition. An argument that the operator does not have counts as not given."""
    value = call.argument(name)
    if isinstance(wanted, str):
        return str(value) == wanted
    if isinstance(wanted, bool):
        return _is_something(value) is wanted
    return isinstance(value, int | float) and value == wanted


def _is_something(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_is_something(item) for item in value)
    return isinstance(value, torch.Tensor) or (value is not None and value is not False and value != 0)
