"""The device's kernels: every operator that the CPU has, run by the CPU over the same memory.

Three kinds of operators need more than that. Those that only describe memory (views) are answered by the CPU's kernels
on the device's own tensors, so that views alias. Those that allocate, resize, copy or convolve have kernels here,
because PyTorch asks a device for them under other names. All others go through `Interpreter.run`, which converts the
arguments, lets the chip's defects act, and hands back what the schema promises: the very tensor that was written to,
or a new one. Composite operators are taken apart by PyTorch itself before they arrive, unless the CPU has a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch._C import DispatchKey, DispatchKeySet

from readiness.simulator import storage_views

KIND = "sim"
#: Smaller blocks are not counted against the chip's memory: counting costs more than they do.
COUNTED_BYTES = 2**16
_HOST = torch.device("cpu")
_HOST_KEYS = DispatchKeySet(DispatchKey.CPU)

#: They describe memory and touch none: the CPU's kernel works on any tensor that has storage.
METADATA = (
    "as_strided", "view", "_reshape_alias", "unfold", "view_as_real", "view_as_complex", "set_.source_Storage",
    "set_.source_Storage_storage_offset", "set_.source_Tensor", "set_",
)  # fmt: skip

#: Not to be registered from the CPU's list: written here, or must stay composite.
OWN = frozenset({
    "empty.memory_format", "empty_strided", "resize_", "_copy_from", "_copy_from_and_resize", "_pin_memory", "is_pinned",
    "record_stream", "convolution_overrideable", "convolution_backward_overrideable", "_efficientzerotensor",
})  # fmt: skip


class Chip(Protocol):
    """Protocol of the chip that kernels run on."""

    def call(
        self, name: str, operator: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], given: Sequence[Any]
    ) -> Any:
        """Run an operator on the host's tensors, and inject matching faults. `given` are the device's tensors."""

    def allocate(self, size_bytes: int) -> None:
        """Raise torch.OutOfMemoryError if the chip has too little free memory."""

    def to_chip(self, tensor: torch.Tensor) -> torch.Tensor:
        """Turn a new host tensor into a tensor of the device, and count its memory."""

    def copy(self, source: torch.Tensor, target: torch.Tensor, given: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Copy between host and device memory. `given` are the tensors as the caller has them."""


@dataclass(frozen=True, slots=True)
class _Signature:
    """Aliasing of an operator: for each return the argument that it is, or None if it is a new tensor."""

    returns: tuple[int | str | None, ...]
    single: bool
    written: tuple[int | str, ...]
    out: tuple[str, ...]


def is_simulated(value: Any) -> bool:
    """True if the value is a tensor of the simulated device."""
    return isinstance(value, torch.Tensor) and value.device.type == KIND


def is_traced(value: Any) -> bool:
    """True if the value is a tensor without memory, with which a compiler traces what a function would do."""
    from torch._subclasses.fake_tensor import FakeTensor
    from torch._subclasses.functional_tensor import FunctionalTensor

    return isinstance(value, FakeTensor | FunctionalTensor)


def _is_plain(tensor: torch.Tensor) -> bool:
    """True if a tensor has memory, and its values are those that stand there."""
    return not (tensor.is_neg() or tensor.is_conj() or tensor._is_zerotensor())


def as_host(tensor: torch.Tensor) -> torch.Tensor:
    """Return a host tensor over the same memory, with pending conjugations and negations resolved."""
    if _is_plain(tensor):
        return storage_views.to_host(tensor)
    if tensor._is_zerotensor():  # it has no memory at all
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    conjugated, negated = tensor.is_complex() and tensor.is_conj(), tensor.is_neg()
    plain = torch.ops.aten._conj.default(tensor) if conjugated else tensor
    host = storage_views.to_host(torch.ops.aten._neg_view.default(plain) if negated else plain)
    host = host.conj_physical() if conjugated else host
    return host.neg() if negated else host


def _host(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value if value.is_cpu or value.device.type != KIND else as_host(value)
    if isinstance(value, list | tuple):
        return type(value)(map(_host, value)) if type(value) in (list, tuple) else value
    if isinstance(value, torch.device):
        return _HOST if value.type == KIND else value
    return value


def list_operators() -> list[str]:
    """Operators on lists of tensors that PyTorch would take apart into single ones: those of optimizers and of clipping."""
    return sorted(
        name.removeprefix("aten::")
        for name in torch._C._dispatch_get_registrations_for_dispatch_key("CompositeExplicitAutograd")
        if name.startswith("aten::_foreach_")
    )


class Interpreter:
    """All kernels of the chip that is set as `chip`. The registrations end with this object."""

    chip: Chip

    def __init__(self) -> None:
        self.lists: torch.library.Library | None = None
        self.library = torch.library.Library("aten", "IMPL")
        self.fallbacks = torch.library.Library("_", "IMPL")
        self.names: list[str] = []

    def register(self) -> None:
        """Register all kernels with the dispatcher. Once per process."""
        for name in METADATA:
            self.library.impl(name, self._metadata(name), "PrivateUse1")
        for key in ("Conjugate", "Negative", "ZeroTensor"):  # else copying such a tensor calls itself for ever
            self.library.impl("_copy_from", torch.library.fallthrough_kernel, key)
        for name, kernel in (
            ("empty.memory_format", self._empty),
            ("empty_strided", self._empty_strided),
            ("resize_", self._resize),
            ("_copy_from", self._copy_from),
            ("_copy_from_and_resize", self._copy_from_and_resize),
            ("record_stream", lambda tensor, stream: None),
            ("convolution_overrideable", self._convolution),
            ("convolution_backward_overrideable", self._convolution_backward),
            ("_efficientzerotensor", self._zeros),
            ("_to_copy", self._to_copy),
        ):
            self.library.impl(name, kernel, "PrivateUse1")
        for overload in torch._C._dispatch_get_registrations_for_dispatch_key("CPU"):
            name = overload.removeprefix("aten::")
            if overload.startswith("aten::") and name not in OWN and name not in METADATA:
                self.names.append(name)
                self.library.impl(name, self._kernel(name), "PrivateUse1")
        self.fallbacks.fallback(self._fallback, "PrivateUse1")

    def take_lists_whole(self, wanted: Callable[[str], bool] | None) -> None:
        """Have operators on lists arrive as such where a defect speaks of them; all others are taken apart, as ever."""
        if self.lists is not None:
            self.lists._destroy()
        self.lists = None
        names = [name for name in list_operators() if wanted(f"aten::{name}")] if wanted is not None else []
        if names:
            self.lists = torch.library.Library("aten", "IMPL")
            for name in names:
                self.lists.impl(name, self._kernel(name), "PrivateUse1")

    def _metadata(self, name: str) -> Callable[..., Any]:
        operator = overload(name)

        def kernel(*arguments: Any, **keywords: Any) -> Any:
            return operator.redispatch(_HOST_KEYS, *arguments, **keywords)

        return kernel

    def _kernel(self, name: str) -> Callable[..., Any]:
        found: list[Any] = []
        full = f"aten::{name}"

        def kernel(*arguments: Any, **keywords: Any) -> Any:
            if not found:  # resolving a thousand overloads at once would cost more than everything else here
                operator = overload(name)
                found.extend((operator, signature(operator)))
            return self.run(full, found[0], found[1], arguments, keywords)

        return kernel

    def _fallback(self, operator: Any, *arguments: Any, **keywords: Any) -> Any:
        name = operator._schema.name + (f".{operator._overloadname}" if operator._overloadname != "default" else "")
        return self.run(name, operator, signature(operator), arguments, keywords)

    def run(
        self, name: str, operator: Any, signature: _Signature, arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> Any:
        """Run an operator on host views of the arguments; return device views of the results."""
        hosted = [_host(argument) for argument in arguments]
        named = {key: _host(value) for key, value in keywords.items()} if keywords else {}
        replaced: list[tuple[torch.Tensor, torch.Tensor]] = []
        for key in signature.out:  # the memory of a relabelled tensor cannot grow: what is empty is made anew
            given = keywords.get(key)
            if given is not None and is_simulated(given) and given.numel() == 0:
                named[key] = torch.empty(0, dtype=given.dtype)
                replaced.append((given, named[key]))
        device_values = (*arguments, *keywords.values())
        try:
            result = self.chip.call(name, operator, hosted, named, device_values)
        except RuntimeError as problem:
            if "Expected a value of type 'Tensor'" in str(problem):  # a number in a tensor's place: another overload's
                return self._back(
                    self.chip.call(name, operator.overloadpacket, hosted, named, device_values), None, arguments, keywords
                )
            if not signature.out or "resize" not in str(problem):
                raise
            replaced = []
            for key in signature.out:
                named[key] = torch.empty(0, dtype=keywords[key].dtype)
                replaced.append((keywords[key], named[key]))
            result = self.chip.call(name, operator, hosted, named, device_values)
        for given, replacement in replaced:
            set_alias(given, self.chip.to_chip(replacement))
        if signature.single:
            if signature.returns[0] is None and isinstance(result, torch.Tensor):  # as of nearly all operators
                return self.chip.to_chip(result)
            return self._back(result, signature.returns[0], arguments, keywords)
        if isinstance(result, tuple):
            return tuple(
                self._back(item, place, arguments, keywords) for item, place in zip(result, signature.returns, strict=True)
            )
        return self._back(result, None, arguments, keywords)

    def _back(self, result: Any, place: int | str | None, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        if place is not None:
            return keywords[place] if isinstance(place, str) else arguments[place]
        if isinstance(result, torch.Tensor):
            return self.chip.to_chip(result)
        if isinstance(result, list):
            return [self._back(item, None, arguments, keywords) for item in result]
        return result

    def _to_copy(self, tensor: torch.Tensor, *, non_blocking: bool = False, **options: Any) -> Any:
        """Copy as usual, but never into pinned host memory: only C++ can register an allocator for it."""
        if options == {"dtype": tensor.dtype, "layout": torch.strided, "device": _HOST} and _is_plain(tensor):
            read = storage_views.to_host(tensor)  # what the dispatcher would come to after two more calls of this device
            found = torch.empty_like(read)
            self.chip.copy(read, found, (tensor, found))
            return found
        return _COPY.redispatch(_HOST_KEYS, tensor, non_blocking=False, **options)

    def _empty(
        self, size: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None,
        memory_format: Any = None,
    ) -> torch.Tensor:  # fmt: skip
        kind = dtype or torch.get_default_dtype()
        if (size_bytes := _product(size) * kind.itemsize) >= COUNTED_BYTES:
            self.chip.allocate(size_bytes)
        memory_layout = {} if memory_format is None else {"memory_format": memory_format}
        return self.chip.to_chip(torch.empty(size, dtype=kind, **memory_layout))

    def _empty_strided(
        self, size: Any, stride: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None
    ) -> torch.Tensor:
        kind = dtype or torch.get_default_dtype()
        if (size_bytes := _product(size) * kind.itemsize) >= COUNTED_BYTES:
            self.chip.allocate(size_bytes)
        return self.chip.to_chip(self.chip.call("layout::strided", torch.empty_strided, (size, stride), {"dtype": kind}, ()))

    def _zeros(
        self, size: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None
    ) -> torch.Tensor:
        return self.chip.to_chip(torch.zeros(size, dtype=dtype or torch.get_default_dtype()))

    def _resize(self, tensor: torch.Tensor, size: Any, *, memory_format: Any = None) -> torch.Tensor:
        shape = tuple(map(int, size))
        if tuple(tensor.shape) == shape:
            return tensor
        model = torch.empty(
            shape, dtype=tensor.dtype, device="meta",
            **({} if memory_format in (None, torch.preserve_format) else {"memory_format": memory_format}),
        )  # fmt: skip
        capacity = tensor.untyped_storage().nbytes() // tensor.itemsize - tensor.storage_offset()
        if _product(shape) <= capacity:
            _set_storage(tensor, tensor.untyped_storage(), int(tensor.storage_offset()), shape, model.stride())
            return tensor
        larger = self._empty_strided(shape, model.stride(), dtype=tensor.dtype)
        if tensor.numel():
            kept = tensor.untyped_storage().nbytes() // tensor.itemsize
            before = torch.as_strided(tensor, (kept,), (1,), 0)
            after = torch.as_strided(larger, (min(kept, _product(shape)),), (1,), 0)
            as_host(after).copy_(as_host(before)[: after.numel()])
        set_alias(tensor, larger)
        return tensor

    def _copy_from(self, source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        written = target if target.is_cpu else storage_views.to_host(target)
        if not source.is_cpu:
            read = as_host(source)
        elif _is_plain(source):
            read = source
        elif source._is_zerotensor():
            read = torch.zeros(source.shape, dtype=source.dtype)
        else:
            read = source.resolve_conj().resolve_neg()
        if not target.is_cpu and target.is_conj():
            written, read = storage_views.to_host(torch.ops.aten._conj.default(target)), read.conj().resolve_conj()
        self.chip.copy(read, written, (source, target))
        return target

    def _copy_from_and_resize(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if target.shape != source.shape:
            target.resize_(source.shape)
        return self._copy_from(source, target)

    def _convolution(self, *arguments: Any) -> Any:
        return self.run(
            "aten::convolution", torch.ops.aten.convolution.default, _ONE_NEW, arguments, {}
        )  # fmt: skip

    def _convolution_backward(self, gradient: Any, inputs: Any, weight: Any, *rest: Any) -> Any:
        *geometry, mask = rest
        outputs = weight.shape[1] * geometry[-1] if geometry[3] else weight.shape[0]
        bias = [outputs] if mask[2] else None
        return self.run(
            "aten::convolution_backward", torch.ops.aten.convolution_backward.default, _THREE_NEW,
            (gradient, inputs, weight, bias, *geometry, mask), {},
        )  # fmt: skip


_COPY = torch.ops.aten._to_copy.default
_ONE_NEW = _Signature((None,), True, (), ())
_THREE_NEW = _Signature((None, None, None), False, (), ())


def overload(name: str) -> Any:
    """Return an ATen overload by name, such as `add.Tensor`."""
    packet, _, variant = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), variant or "default")


_signatures: dict[Any, _Signature] = {}


def signature(operator: Any) -> _Signature:
    """Return which arguments an operator writes to and returns."""
    if operator not in _signatures:
        schema = operator._schema
        places: dict[str, int | str] = {}
        out: list[str] = []
        for index, argument in enumerate(schema.arguments):
            alias = argument.alias_info
            if alias is None or not alias.is_write:
                continue
            place: int | str = argument.name if argument.kwarg_only else index
            for label in alias.before_set:
                places[label] = place
            if argument.kwarg_only and argument.type.isSubtypeOf(torch._C.TensorType.get()):
                out.append(argument.name)
        returns = []
        for given in schema.returns:
            alias = given.alias_info
            labels = list(alias.before_set) if alias is not None and alias.is_write else []
            returns.append(places.get(labels[0]) if labels else None)
        _signatures[operator] = _Signature(
            tuple(returns), len(schema.returns) == 1, tuple(places.values()), tuple(out)
        )  # fmt: skip
    return _signatures[operator]


def set_alias(tensor: torch.Tensor, other: torch.Tensor) -> None:
    """Make a tensor of the device an alias of another one: the same memory and shape."""
    _set_storage(tensor, other.untyped_storage(), int(other.storage_offset()), other.shape, other.stride())


def _set_storage(tensor: torch.Tensor, storage: Any, offset: int, size: Any, stride: Any) -> None:
    operator = torch.ops.aten.set_.source_Storage_storage_offset
    operator.redispatch(_HOST_KEYS, tensor, storage, offset, size, stride)


def _product(size: Any) -> int:
    product = 1
    for extent in size:
        product *= int(extent)
    return product
