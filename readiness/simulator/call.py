"""Call of an operator, collective or copy on the simulated device, and whether it meets a fault's conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from readiness.simulator.machine_file import Condition, Value


@dataclass(slots=True)
class Call:
    """One call of an operator, collective or copy.

    `arguments` and `keywords` are the host's view and may be changed before it runs; `given` are the device's own
    tensors, which alone know their layout. `group` is how many ranks a collective is between, `peer` the other one of a
    transfer. `results` are what it gave, as the host sees it, once it has `ended`.
    """

    name: str
    arguments: list[Any]
    keywords: dict[str, Any]
    given: Sequence[Any] = ()
    peer: int | None = None
    group: int | None = None
    results: Any = None
    seconds: float = 0.0
    ended: bool = False
    _tensors: list[torch.Tensor] | None = None

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors among the device's arguments."""
        if self._tensors is None:
            self._tensors = list(tensors_in(self.given))
        return self._tensors

    @property
    def backward(self) -> bool:
        """Whether a gradient is being computed."""
        return torch._C._current_autograd_node() is not None

    def outputs(self) -> list[torch.Tensor]:
        """The tensors among the results."""
        return list(tensors_in((self.results,)))

    def meets(self, when: Condition) -> bool:
        """True where all conditions on the tensors and arguments hold.

        Each is met when one of the tensors meets it; sizes are those of the largest.
        """
        tensors = (
            list(tensors_in([self.device_argument(when.of)])) if when.of is not None else self.tensors or self.outputs()
        )
        if when.of is not None and not tensors:
            return False
        if when.backward is not None and self.backward is not when.backward:
            return False
        return (
            _has_size(tensors, when)
            and _has_layout(tensors, when)
            and all(_argument_is(self, name, wanted) for name, wanted in when.argument.items())
            and (when.negative is None or when.negative is self._has_negatives())
        )

    def has_dtype(self, names: Sequence[str]) -> bool:
        """True where one of its tensors, or an argument that is a dtype, is of one of these."""
        wanted = {f"torch.{name}" for name in names}
        found = {str(tensor.dtype) for tensor in self.tensors or self.outputs()}
        found |= {str(value) for value in (*self.arguments, *self.keywords.values()) if isinstance(value, torch.dtype)}
        return bool(wanted & found)

    def _has_negatives(self) -> bool:
        return any(
            bool((value < 0).any())
            for value in tensors_in((*self.arguments, *self.keywords.values()))
            if value.numel() and not value.is_complex() and value.dtype != torch.bool
        )

    @property
    def schema(self) -> Any:
        """What PyTorch knows of the operator's arguments and results; None for what is no operator (copies, waits)."""
        space, _, name = self.name.partition("::")
        packet, _, variant = name.partition(".")
        found = getattr(getattr(torch.ops, space, None), packet, None) if space in ("aten", "c10d") else None
        return getattr(getattr(found, variant or "default", None), "_schema", None)

    def argument(self, name: str) -> Any:
        """The argument of this name, its default where it was left out; None where the operator has none such."""
        return self._find(name, [*self.arguments, *self.keywords.values()])

    def device_argument(self, name: str) -> Any:
        """The same as the device has it."""
        return self._find(name, self.given)

    def _find(self, name: str, values: Sequence[Any]) -> Any:
        positional = len(self.arguments)
        for position, argument in enumerate(self.schema.arguments if self.schema is not None else ()):
            if argument.name == name:
                if name in self.keywords:
                    return values[positional + list(self.keywords).index(name)]
                return values[position] if position < positional else argument.default_value
        return None


def _has_size(tensors: Sequence[torch.Tensor], when: Condition) -> bool:
    if when.numel_over is not None and max((tensor.numel() for tensor in tensors), default=0) <= when.numel_over:
        return False
    if when.numel_under is not None and max((tensor.numel() for tensor in tensors), default=0) >= when.numel_under:
        return False
    if when.rows_over is not None and max((_rows(tensor) for tensor in tensors), default=0) <= when.rows_over:
        return False
    if when.empty is not None and when.empty is all(tensor.numel() for tensor in tensors):
        return False
    if when.ndim and not any(tensor.ndim in when.ndim for tensor in tensors):
        return False
    return when.multiple_of is None or any(
        -tensor.ndim <= when.dimension < tensor.ndim and tensor.shape[when.dimension] % when.multiple_of == when.remainder
        for tensor in tensors
    )


def _has_layout(tensors: Sequence[torch.Tensor], when: Condition) -> bool:
    if when.noncontiguous is not None and when.noncontiguous is all(tensor.is_contiguous() for tensor in tensors):
        return False
    return when.offset is None or when.offset is not all(tensor.storage_offset() == 0 for tensor in tensors)


def _rows(tensor: torch.Tensor) -> int:
    return tensor.numel() // tensor.shape[-1] if tensor.ndim and tensor.shape[-1] else 0


def _argument_is(call: Call, name: str, wanted: Value) -> bool:
    """Whether an argument is as a condition wants it; one that the operator does not have is not given."""
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


def tensors_in(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    """The tensors among these values, and in lists of them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
