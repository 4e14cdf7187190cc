"""Stale memory: contents before the last write, for defects that read too early. Kept only if such a defect exists."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch

from readiness.simulator.call import Call

#: Writes remembered at most, and the largest tensor of which a copy is kept.
_MOST_WRITES, _MOST_ELEMENTS = 512, 2**22


class StaleMemory:
    """Contents of memory before it was overwritten in place, and the stream that produced each tensor."""

    def __init__(self) -> None:
        self.unsynchronised = False  # a wait between streams was skipped
        self._before: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._stream_of: OrderedDict[int, int] = OrderedDict()

    def last_content(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the contents before the last write to this tensor's memory; None if they were not kept."""
        found = self._before.get(tensor.data_ptr())
        fits = found is not None and found.shape == tensor.shape and found.dtype == tensor.dtype
        return found if fits else None

    def begin_call(self, call: Call, stream: int) -> None:
        """Handle the start of a call: make unsynchronised inputs stale, and keep what the call overwrites."""
        if self.unsynchronised:
            call.arguments = [self._stale(value, stream) for value in call.arguments]
        for tensor in _written(call):
            if 0 < tensor.numel() <= _MOST_ELEMENTS:
                self._before[tensor.data_ptr()] = tensor.clone()
                self._before.move_to_end(tensor.data_ptr())
                if len(self._before) > _MOST_WRITES:
                    self._before.popitem(last=False)

    def end_call(self, call: Call, stream: int) -> None:
        """Handle the end of a call: its results belong to its stream."""
        for tensor in call.outputs():
            self._stream_of[tensor.data_ptr()] = stream
            if len(self._stream_of) > _MOST_WRITES:
                self._stream_of.popitem(last=False)

    def forget_all(self) -> None:
        """Handle a synchronisation: no memory is stale any more."""
        self.unsynchronised = False
        self._stream_of.clear()

    def _stale(self, value: Any, stream: int) -> Any:
        if isinstance(value, torch.Tensor) and self._stream_of.get(value.data_ptr(), stream) != stream:
            return torch.zeros_like(value)
        return value


def _written(call: Call) -> Iterator[torch.Tensor]:
    if call.name.startswith("copy::"):
        yield call.arguments[1]
    elif call.name.partition("::")[2].partition(".")[0].endswith("_") and call.arguments:
        first = call.arguments[0]
        as_list = first if isinstance(first, list | tuple) else [first]
        yield from (item for item in as_list if isinstance(item, torch.Tensor))
    elif isinstance(out := call.keywords.get("out"), torch.Tensor):
        yield out
