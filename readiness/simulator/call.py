"""Call of an operator, collective or copy on the simulated device: its arguments by name, its tensors, its results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

#: What a copy's arguments are called, which has no schema.
_COPY = ("source", "target")


@dataclass(slots=True)
class Call:
    """One call of an operator, collective or copy.

    `arguments` and `keywords` are the host's view and may be changed before it runs; `given` are the device's own
    tensors, which alone know their layout. `silenced` is a call that failed and raised nothing.
    `group` is how many ranks a collective is between, `rank` this one's among them,
    `peer` the other one of a transfer. `results` are what it gave, as the host sees it, once it has `ended`;
    `replaced`, in the replay of a captured graph, are the results of the run before, over which these are written.
    """

    name: str
    arguments: list[Any]
    keywords: dict[str, Any]
    given: Sequence[Any] = ()
    peer: int | None = None
    group: int | None = None
    rank: int | None = None
    results: Any = None
    seconds: float = 0.0
    ended: bool = False
    silenced: bool = False
    replaced: Any = None
    _tensors: list[torch.Tensor] | None = None

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Tensors on the device among the arguments."""
        if self._tensors is None:
            self._tensors = list(tensors_in(self.given))
        return self._tensors

    @property
    def backward(self) -> bool:
        """True if a gradient is being computed."""
        return torch._C._current_autograd_node() is not None

    def outputs(self) -> list[torch.Tensor]:
        """Tensors among the results, or those that were written to if the operator returns none, as on lists in place."""
        if self.results is None and self.ended:
            return list(tensors_in([self.argument(name) for name in self._written()]))
        return list(tensors_in((self.results,)))

    def has_dtype(self, names: Sequence[str]) -> bool:
        """True if a tensor of the call, or an argument that is a dtype, has one of these dtypes."""
        wanted = {f"torch.{name}" for name in names}
        found = {str(tensor.dtype) for tensor in self.tensors or self.outputs()}
        found |= {str(value) for value in (*self.arguments, *self.keywords.values()) if isinstance(value, torch.dtype)}
        return bool(wanted & found)

    def read(self) -> list[Any]:
        """The host's view of what the call reads: without what it was given to write its results to."""
        if self.name.startswith("copy::"):
            return self.arguments[:1]
        written = self.outs
        return [*self.arguments, *(value for name, value in self.keywords.items() if name not in written)]

    def only_read(self) -> list[torch.Tensor]:
        """The tensors that the call reads and must leave as they are, over the device's memory."""
        written = {id(tensor) for tensor in tensors_in([self.argument(name) for name in self._written()])}
        return [tensor for tensor in tensors_in(self.read()) if id(tensor) not in written]

    @property
    def outs(self) -> set[str]:
        """The names of the arguments that are `out=`."""
        arguments = self.schema.arguments if self.keywords and self.schema is not None else ()
        written = self._written() if self.keywords else []
        return {item.name for item in arguments if item.kwarg_only and item.name in written}

    def _written(self) -> list[str]:
        """The names of the arguments that the operator writes to."""
        arguments = self.schema.arguments if self.schema is not None else ()
        return [item.name for item in arguments if item.alias_info is not None and item.alias_info.is_write]

    @property
    def schema(self) -> Any:
        """Schema of the operator in PyTorch; None for calls that are no operator (copies, waits)."""
        space, _, name = self.name.partition("::")
        packet, _, variant = name.partition(".")
        found = getattr(getattr(torch.ops, space, None), packet, None) if space in ("aten", "c10d") else None
        return getattr(getattr(found, variant or "default", None), "_schema", None)

    def argument(self, name: str) -> Any:
        """Return the argument of this name as the host has it, or its default; None if the operator has no such argument."""
        return self._find(name, [*self.arguments, *self.keywords.values()])

    def device_argument(self, name: str) -> Any:
        """Return the argument of this name as the device has it."""
        return self._find(name, self.given)

    def _find(self, name: str, values: Sequence[Any]) -> Any:
        if self.name.startswith("copy::"):
            return values[_COPY.index(name)] if name in _COPY else None
        positional = len(self.arguments)
        for position, argument in enumerate(self.schema.arguments if self.schema is not None else ()):
            if argument.name == name:
                if name in self.keywords:
                    return values[positional + list(self.keywords).index(name)]
                return values[position] if position < positional else argument.default_value
        return None


def tensors_in(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    """Yield the tensors among these values, also inside lists."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
