"""Defects of kernels that read their arguments wrongly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from readiness.simulator.faults import kind
from readiness.simulator.injection import Injection, Stage

if TYPE_CHECKING:
    import torch

    from readiness.simulator.call import Call


def replaced(call: Call, change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> bool:
    """Change every argument that is a tensor of the device and is not written to; `change` gets the host's and its own.

    Returns whether any is another now.
    """
    import torch

    others: list[bool] = []

    def changed(hosted: Any, given: Any) -> Any:
        if isinstance(given, torch.Tensor) and isinstance(hosted, torch.Tensor):
            found = change(hosted, given)
            others.append(found is not hosted)
            return found
        if isinstance(hosted, list | tuple) and isinstance(given, list | tuple):
            return type(hosted)(changed(one, other) for one, other in zip(hosted, given, strict=True))
        return hosted

    if call.name.startswith("copy::"):
        call.arguments[0] = changed(call.arguments[0], call.given[0])
        return any(others)
    positional = len(call.arguments)
    written = call.name.rpartition("::")[2].partition(".")[0].endswith("_")
    for index in range(positional):
        if not (written and index == 0):
            call.arguments[index] = changed(call.arguments[index], call.given[index])
    for (key, value), given in zip(list(call.keywords.items()), call.given[positional:], strict=True):
        if key != "out":
            call.keywords[key] = changed(value, given)
    return any(others)


@kind("low-precision", at=Stage.BEFORE, severity=2.0**-11, unit="relative rounding of the inputs")
def low_precision(injection: Injection) -> bool:
    """Inputs are rounded to fewer bits than their dtype has, as TF32 and bfloat16 modes of matrix units do."""
    import torch

    bits = max(1, round(-math.log2(max(injection.severity, 1e-12))))

    def rounded(value: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point() or not value.numel():
            return value
        mantissa, exponent = torch.frexp(value.double())
        return torch.ldexp(torch.round(mantissa * 2.0**bits) / 2.0**bits, exponent).to(value.dtype)

    return replaced(injection.call, rounded)


@kind("flush-denormals", at=Stage.BEFORE, severity=1.0, unit="multiples of the smallest normal number")
def flush_denormals(injection: Injection) -> bool:
    """Inputs below the smallest normal number are read as zero."""
    import torch

    def flushed(value: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point() or not value.numel() or value.itemsize == 1:
            return value
        limit = torch.finfo(value.dtype).tiny * injection.severity
        small = value.abs() < limit
        return torch.where(small, torch.zeros((), dtype=value.dtype), value) if bool((small & (value != 0)).any()) else value

    return replaced(injection.call, flushed)


@kind("ignore-strides", at=Stage.BEFORE)
def ignore_strides(injection: Injection) -> bool:
    """Inputs are read as if they were contiguous, from where they begin."""
    import torch

    from readiness.simulator.kernels import as_host

    def misread(value: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        if given.is_contiguous() or not value.numel():
            return value
        start = int(given.storage_offset())
        room = min(given.untyped_storage().nbytes() // given.itemsize - start, value.numel())
        flat = as_host(torch.as_strided(given, (room,), (1,), start))
        return flat.repeat(-(-value.numel() // room))[: value.numel()].reshape(value.shape)

    return replaced(injection.call, misread)


@kind("ignore-offset", at=Stage.BEFORE)
def ignore_offset(injection: Injection) -> bool:
    """Inputs are read from the start of their storage, wherever the view begins."""
    import torch

    from readiness.simulator.kernels import as_host

    def misread(value: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        if given.storage_offset() == 0 or not value.numel():
            return value
        return as_host(torch.as_strided(given, given.shape, given.stride(), 0))

    return replaced(injection.call, misread)


@kind("unwritten", at=Stage.BEFORE)
def unwritten(injection: Injection) -> bool:
    """The operator does not write to its arguments, in place or as `out=`; new results are right."""
    call = injection.call
    if call.name.startswith("copy::"):
        call.arguments[1] = _copied(call.arguments[1])
        return True
    left = False
    for position, argument in enumerate(call.schema.arguments if call.schema is not None else ()):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        if argument.name in call.keywords:
            call.keywords[argument.name] = _copied(call.keywords[argument.name])
            left = True
        elif position < len(call.arguments):
            call.arguments[position] = _copied(call.arguments[position])
            left = True
    return left


def _copied(value: Any) -> Any:
    import torch

    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value))
    return value.clone(memory_format=torch.preserve_format) if isinstance(value, torch.Tensor) else value


@kind("ignore-argument", at=Stage.BEFORE)
def ignore_argument(injection: Injection) -> bool:
    """An argument is ignored: `set = { argument = "attn_mask" }` names it, as the operator's schema does.

    The operator runs with the argument's default, or with false or nothing where it has none.
    """
    call, name = injection.call, str(injection.settings.get("argument", ""))
    for position, argument in enumerate(call.schema.arguments if call.schema is not None else ()):
        if argument.name == name:
            plain = False if str(argument.type) == "bool" else None
            default = argument.default_value if argument.has_default_value() else plain
            if name in call.keywords:
                before, call.keywords[name] = call.keywords[name], default
                return _differs(before, default)
            if position < len(call.arguments):
                before, call.arguments[position] = call.arguments[position], default
                return _differs(before, default)
    return False


def _differs(before: Any, default: Any) -> bool:
    import torch

    return isinstance(before, torch.Tensor) or isinstance(default, torch.Tensor) or bool(before != default)


@kind("stale-read", at=Stage.BEFORE, domain=("aten::*", "stream::*"))
def stale_read(injection: Injection) -> bool:
    """A kernel starts before the write it depends on has ended: it reads what stood there before.

    On `aten::...` and `copy::...` it misses the last write in place of each input; on `stream::wait` a stream does not
    wait for another's event, and what the other wrote since is read as it was before.
    """
    memory = injection.device.stale
    if injection.call.name.startswith("stream::"):
        memory.unsynchronised = True
        return True

    def before(value: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        found = memory.last_content(value)
        return value if found is None else found

    return replaced(injection.call, before)
