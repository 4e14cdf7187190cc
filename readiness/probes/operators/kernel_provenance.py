"""Kernel provenance: which kernel runs for an operator on a device, from PyTorch's dispatch table.

PyTorch fills each place of the table (one overload, one kind of device) from the first of these that there is: a kernel
registered for the device itself; one composite of other operators, which serves every device; the device's fallback,
which vendors use to run on the host. The table marks them `[kernel]`, `[default backend kernel]` or `[math kernel]`, and
`[backend fallback]`. Source: aten/src/ATen/core/dispatch/OperatorEntry.cpp, computeDispatchTableEntryWithDebug.

A vendor who registers its CPU fallback overload by overload, as torch-xpu-ops does, looks native here: such a fallback
is heard by its warning (`fallback`). The mere presence of a kernel says nothing of whether it works.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Provenance(StrEnum):
    """Provenance of the kernel of one overload on one kind of device."""

    #: A kernel of the device's own.
    NATIVE = "native"
    #: PyTorch's composite of other operators, whatever those are on this device.
    DECOMPOSED = "decomposed"
    #: What the device does with every operator that it lacks: nearly always a copy to the host and back.
    FALLBACK = "CPU fallback"
    #: The overload exists and the device has nothing for it.
    ABSENT = "absent"
    #: No such overload, no such device, or a torch whose table cannot be asked.
    UNKNOWN = "unknown"


_KEYS = {
    "cpu": "CPU", "cuda": "CUDA", "hpu": "HPU", "ipu": "IPU", "meta": "Meta", "mps": "MPS", "mtia": "MTIA", "xla": "XLA",
    "xpu": "XPU",
}  # fmt: skip
#: Of one line of the table: `PrivateUse1: registered at ... [backend fallback]`.
_MARK = re.compile(r"\[([a-z ]+)\]\s*$")
_MARKED = {
    "kernel": Provenance.NATIVE, "default backend kernel": Provenance.DECOMPOSED, "math kernel": Provenance.DECOMPOSED,
    "backend fallback": Provenance.FALLBACK,
}  # fmt: skip
_ONE_VENDORS = ("_cudnn_ctc_loss", "miopen_convolution", "mkldnn_max_pool2d")
#: The best first: what is said of a name that has several overloads.
_ORDER = (
    Provenance.NATIVE, Provenance.DECOMPOSED, Provenance.FALLBACK, Provenance.ABSENT, Provenance.UNKNOWN,
)  # fmt: skip


def dispatch_key(device_type: str) -> str | None:
    """Return the dispatch key: `CUDA` for `cuda` (also ROCm), `PrivateUse1` for a plug-in's device; None for others."""
    if device_type in _KEYS:
        return _KEYS[device_type]
    backend_name = getattr(torch._C, "_get_privateuse1_backend_name", None)
    return (
        "PrivateUse1"
        if device_type == "privateuseone" or (backend_name is not None and backend_name() == device_type)
        else None
    )


def of_overload(device_type: str, name: str) -> Provenance:
    """Return the provenance of an overload (`aten::add.Tensor`, `aten::gelu`: the name of an OpOverload).

    A functional overload that PyTorch makes of the same operator's `out=` kernel is where that one is.
    """
    key = dispatch_key(device_type)
    if key is None:
        return Provenance.UNKNOWN
    try:
        if not _known(name):
            return Provenance.UNKNOWN
        if _has_own(name, key):
            return Provenance.NATIVE
        # One of these allocates the result and calls the structured kernel, which is registered as out=.
        structured = _has(name, "CompositeExplicitAutogradNonFunctional")
        if structured and any(_has_own(other, key) for other in _out_overloads(name)):
            return Provenance.NATIVE
        if not torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, key):
            return Provenance.ABSENT
        return _marked(torch._C._dispatch_dump_table(name), key)
    except (AttributeError, RuntimeError):  # private to PyTorch: another one may not have it
        return Provenance.UNKNOWN


def falls_back(device_type: str) -> bool:
    """True if the device has a fallback for all operators that it lacks, judged by operators of single vendors."""
    return any(of_overload(device_type, f"aten::{name}") is Provenance.FALLBACK for name in _ONE_VENDORS)


def of_operator(device_type: str, base: str) -> Provenance:
    """Return the best provenance of all overloads of an operator: native if the device has any kernel under this name."""
    return best(of_overload(device_type, name) for name in overloads(base))


def overloads(base: str) -> tuple[str, ...]:
    """Return all overloads of an operator, such as `aten::add.Tensor` of `aten::add`; none if it does not exist."""
    namespace, _, packet = base.partition("::")
    found = getattr(getattr(torch.ops, namespace), packet, None)
    names = [] if found is None else found.overloads()
    return tuple(base if name == "default" else f"{base}.{name}" for name in names)


def best(found: Iterable[Provenance]) -> Provenance:
    """Return the provenance nearest to a native kernel; UNKNOWN if there is none."""
    return min(found, key=_ORDER.index, default=Provenance.UNKNOWN)


def worst(found: Iterable[Provenance]) -> Provenance:
    """Return the provenance farthest from a native kernel; UNKNOWN if there is none."""
    return max(found, key=_ORDER.index, default=Provenance.UNKNOWN)


def _known(name: str) -> bool:
    return bool(torch._C._dispatch_find_schema_or_throw(*_parted(name)))


def _parted(name: str) -> tuple[str, str]:
    base, _, overload = name.partition(".")
    return base, overload


def _has(name: str, key: str) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(name, key))


def _has_own(name: str, key: str) -> bool:
    # Some plug-ins register what they fuse one step earlier, where autograd would take it apart.
    return _has(name, key) or _has(name, f"Autograd{key}")


def _out_overloads(name: str) -> list[str]:
    base, overload = _parted(name)
    outs = [other for other in overloads(base) if _parted(other)[1].endswith("out")]
    exact = [other for other in outs if overload and _parted(other)[1] == f"{overload}_out"]
    return exact or outs


def _marked(table: str, key: str) -> Provenance:
    for line in table.splitlines():
        if line.startswith(f"{key}:"):
            mark = _MARK.search(line)
            return Provenance.UNKNOWN if mark is None else _MARKED.get(mark[1], Provenance.UNKNOWN)
    return Provenance.ABSENT


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode that records every overload that reaches a device (`recorded`), in the order of first calls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recorded: dict[str, None] = {}

    @property
    def recorded(self) -> tuple[str, ...]:
        """Names of the recorded overloads, each once."""
        return tuple(self._recorded)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record the name and call the function."""
        self._recorded[function.name()] = None
        return function(*args, **(kwargs or {}))


def of_call(device_type: str, operator: str, recorded: Sequence[str], also: Sequence[str] = ()) -> tuple[Provenance, str]:
    """Return the provenance of a call that reached the device as these overloads, and the overload that decides it.

    `also` are those of its gradient, which may only show a fallback.

    Native where a kernel of the device's own runs under the operator's name (`gelu`: `aten::gelu`, `softmax`:
    `aten::_softmax`), a fallback where any of the overloads is; else it is made of other operators: decomposed.
    """
    for name in dict.fromkeys((*recorded, *also)):
        if of_overload(device_type, name) is Provenance.FALLBACK:
            return Provenance.FALLBACK, name
    named = [name for name in recorded if _is_kernel_of(operator, name)]
    if not recorded:
        named = list(overloads(f"aten::{operator.rpartition('.')[2]}"))
    # An overload made of another one of the same operator (`sum` of `sum.dim_IntList`) is no composite of others.
    own = next((name for name in named if of_operator(device_type, _parted(name)[0]) is Provenance.NATIVE), "")
    return (Provenance.NATIVE if own else Provenance.DECOMPOSED), own


#: Kernels that go by another name than the operators that they do.
_KERNELS = {
    "batch_norm": ("batch_norm", "cudnn_batch_norm", "miopen_batch_norm"),
    "conv": ("convolution", "cudnn_convolution", "miopen_convolution", "mkldnn_convolution", "slow_conv"),
    "cross_entropy": ("log_softmax",),
    "scaled_dot_product_attention": ("scaled_dot_product",),
    "rms_norm": ("fused_rms_norm",),
    "getitem": ("index", "select", "slice"),
}  # fmt: skip


def _is_kernel_of(operator: str, name: str) -> bool:
    """True if `aten::_softmax` counts as a kernel of `softmax`."""
    kernel = _parted(name.rpartition("::")[2])[0].strip("_").removeprefix("native_")
    wanted = operator.removeprefix("nn.functional.").replace(".", "_").strip("_").removeprefix("native_")
    names = next((names for start, names in _KERNELS.items() if wanted.startswith(start)), (wanted,))
    return any(kernel == one or kernel.startswith(f"{one}_") for one in (*names, wanted))
