"""Recorder of operator calls on the meta device: shapes and dtypes without memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from readiness.tracing.workload_schema import Call, Named, Phase, Spec

META = torch.device("meta")


#: They make no new values and touch no memory, or belong to autograd's bookkeeping: no device can fail at them.
_NOT_RECORDED = frozenset({"aten::detach", "aten::alias", "aten::_local_scalar_dense", "profiler::_record_function_exit"})
#: Kept whole: each device takes them apart in its own way, or not at all. By what torch calls them.
_OPAQUE = {
    torch.nn.functional.scaled_dot_product_attention: "aten::scaled_dot_product_attention",
    torch.nn.functional.linear: "aten::linear",
}
#: Of those, what is taken apart in its gradient too.
_OPAQUE_BACKWARD = frozenset({"aten::scaled_dot_product_attention"})


@dataclass
class CallRecorder:
    """Recorder of operator calls, in order."""

    phase: Phase = Phase.FORWARD
    recorded: list[tuple[Phase, Call]] = field(default_factory=list)
    pauses: int = 0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pause recording within the block."""
        self.pauses += 1
        try:
            yield
        finally:
            self.pauses -= 1

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record all calls on the meta device within the block."""
        with _Functions(self), _Operators(self):
            yield

    def note(self, op: str, arguments: Sequence[Any], keywords: dict[str, Any]) -> Call | None:
        """Record one call; return None if it is not a call of the device."""
        if self.pauses or op in _NOT_RECORDED or not _on_meta((arguments, keywords)):
            return None
        grad = self.phase is Phase.FORWARD and torch.is_grad_enabled()
        specs = tuple(spec(item, grad=grad) for item in arguments)
        named = tuple((name, spec(value, grad=grad)) for name, value in sorted(keywords.items()) if value is not None)
        call = Call(op, specs, named)
        self.recorded.append((self.phase, call))
        return call


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode below autograd: records what reaches the device."""

    def __init__(self, recorder: CallRecorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        self.recorder.note(func.name(), args, keywords)
        return func(*args, **keywords)


class _Functions(TorchFunctionMode):
    """Function mode above autograd: records functions that must not be decomposed."""

    def __init__(self, recorder: CallRecorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        name = _OPAQUE.get(func)
        if name is None or self.recorder.pauses:
            return func(*args, **keywords)
        given = {key: value for key, value in keywords.items() if value is not None}
        call = self.recorder.note(name, args, given)
        if call is None or name not in _OPAQUE_BACKWARD:
            with self.recorder.paused():
                return func(*args, **keywords)
        tensors = [item for item in (*args, *keywords.values()) if isinstance(item, torch.Tensor)]
        return _OpaqueFunction.apply(self.recorder, call, func, args, keywords, *tensors)  # type: ignore[no-untyped-call]


class _OpaqueFunction(torch.autograd.Function):
    """Autograd function whose inner calls are not recorded, neither forward nor backward."""

    @staticmethod
    def forward(
        ctx: Any, recorder: CallRecorder, call: Call, func: Any, args: Any, keywords: Any, *tensors: torch.Tensor
    ) -> Any:
        ctx.recorder, ctx.call = recorder, call
        ctx.shapes = [(tensor.shape, tensor.dtype, tensor.requires_grad) for tensor in tensors]
        with recorder.paused(), torch.no_grad():
            return func(*args, **keywords)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        with ctx.recorder.paused():
            found = [
                torch.empty(shape, dtype=dtype, device=META) if needed else None for shape, dtype, needed in ctx.shapes
            ]
        ctx.recorder.recorded.append((ctx.recorder.phase, ctx.call))
        return (None, None, None, None, None, *found)


def spec(value: Any, *, grad: bool = False) -> Any:
    """Return the recorded form of an argument."""
    match value:
        case torch.Tensor():
            stride = None if value.is_contiguous() else tuple(int(step) for step in value.stride())
            requires_grad = grad and value.requires_grad
            return Spec(
                str(value.dtype).removeprefix("torch."), tuple(int(size) for size in value.shape), stride, requires_grad
            )
        case list() | tuple():
            return tuple(spec(item, grad=grad) for item in value)
        case torch.dtype() | torch.layout() | torch.memory_format():
            return Named(type(value).__name__, str(value).removeprefix("torch."))
        case torch.device():
            return Named("device", "model" if value == META else str(value))
        case float() if value in (float("inf"), float("-inf")) or value != value:
            return Named("float", str(value))
        case None | bool() | int() | float() | str():
            return value
        case _:
            return None


def _on_meta(value: Any) -> bool:
    """True if any tensor is on the meta device, or a new one is created there."""
    tensors = list(_tensors(value))
    if tensors:
        return any(tensor.device.type == "meta" for tensor in tensors)
    _, keywords = value
    return torch.device(keywords.get("device") or "cpu").type == "meta"


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def distinct(call: Call) -> Call:
    """Return the call without equal rows, for calls on lists like those of optimizers.

    They say nothing new, however many layers there are.
    """
    if not call.op.startswith(("aten::_foreach", "aten::_fused")):
        return call
    specs, named = call.arguments, call.keywords
    lists = [item for item in (*specs, *(value for _, value in named)) if _is_list(item)]
    length = max(map(len, lists), default=0)
    full = [item for item in (*specs, *(value for _, value in named)) if isinstance(item, tuple) and len(item) == length]
    seen: dict[tuple[Any, ...], int] = {}
    for position, row in enumerate(zip(*full, strict=True)):
        seen.setdefault(row, position)
    kept = list(seen.values())

    def select_rows(item: Any) -> Any:
        return tuple(item[position] for position in kept) if isinstance(item, tuple) and len(item) == length else item

    return Call(
        call.op, tuple(select_rows(item) for item in specs), tuple((name, select_rows(value)) for name, value in named)
    )


def _is_list(item: Any) -> bool:
    return isinstance(item, tuple) and any(isinstance(entry, Spec) for entry in item)
