"""Defects that end a call, or the process, instead of giving a result."""

from __future__ import annotations

import os
import signal
import time
import warnings
from typing import Any

from readiness.simulator.faults import kind
from readiness.simulator.injection import Injection, Stage

#: What C calls a floating type in PyTorch's own messages.
_SCALAR_TYPES = {
    "bfloat16": "BFloat16", "float16": "Half", "float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int",
    "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool", "complex64": "ComplexFloat",
    "float8_e4m3fn": "Float8_e4m3fn", "float8_e5m2": "Float8_e5m2",
}  # fmt: skip


@kind("missing", at=Stage.BEFORE)
def missing(injection: Injection) -> None:
    """The operator has no kernel on this device."""
    name = injection.call.name
    raise NotImplementedError(
        f"Could not run '{name}' with arguments from the 'sim' backend: the operator has no kernel for it."
    )


@kind("dtype-unsupported", at=Stage.BEFORE)
def dtype_unsupported(injection: Injection) -> None:
    """The operator has a kernel, but not for this dtype."""
    tensors = injection.call.tensors
    dtype = str(tensors[0].dtype).removeprefix("torch.") if tensors else "this type"
    name = injection.call.name.partition("::")[2].partition(".")[0]
    raise RuntimeError(f"\"{name}_sim\" not implemented for '{_SCALAR_TYPES.get(dtype, dtype)}'")


@kind("cpu-fallback", at=Stage.BEFORE)
def cpu_fallback(injection: Injection) -> None:
    """The operator runs on the host instead, with the warning that vendors give; `set = { silent = true }` without."""
    if not injection.settings.get("silent", False):
        warnings.warn(
            f"The operator '{injection.call.name}' is not currently supported on the sim backend and will fall back to run "
            "on the CPU. This may have performance implications.",
            UserWarning,
            stacklevel=2,
        )


@kind("raise", at=Stage.BEFORE)
def raise_error(injection: Injection) -> None:
    """The call raises, though it should work."""
    raise RuntimeError(f"SIM error 507015: the execution of {injection.call.name} on chip {injection.device.number} failed")


@kind("device-lost", at=Stage.BEFORE)
def device_lost(injection: Injection) -> None:
    """The call fails as a fault of the device, which is lost to the process from then on: whatever it asks fails too."""
    call, device = injection.call, injection.device
    device.lost = (
        f"SIM error 507015: misaligned address in {call.name} on chip {device.number}; this process can use the device no "
        "more"
    )
    raise RuntimeError(device.lost)


@kind("late-error", at=Stage.AFTER, severity=0.0, unit="s until it can surface")
def late_error(injection: Injection) -> None:
    """The result stays unwritten; the error surfaces when the host next waits, or never with `set = { lost = true }`."""
    for tensor in [*injection.floats(), *injection.integers()]:
        tensor.fill_(7)  # what happened to stand in that memory
    if not injection.settings.get("lost", False):
        text = f"SIM error 507035: an asynchronous error on chip {injection.device.number}; the device reports it only now"
        injection.device.pending.append((time.monotonic() + injection.severity, text))


@kind("hang", at=Stage.BEFORE, severity=0.0, unit="s, 0 for ever", domain="c10d::*")
def hang(injection: Injection) -> None:
    """The call does not come back, or after so many seconds."""
    deadline = time.monotonic() + injection.severity if injection.severity else float("inf")
    while time.monotonic() < deadline:
        time.sleep(min(60.0, max(deadline - time.monotonic(), 0.0)))


@kind("timeout-ignored", at=Stage.RAISED, severity=0.0, unit="s, 0 for ever", domain="c10d::*")
def timeout_ignored(injection: Injection) -> None:
    """A collective whose peers are gone does not raise: it waits on, or for so many seconds."""
    hang(injection)


@kind("crash", at=Stage.BEFORE)
def crash(injection: Injection) -> None:
    """The process dies by a signal: SIGSEGV, or the one that `set = { signal = "SIGABRT" }` names."""
    os.kill(os.getpid(), getattr(signal, str(injection.settings.get("signal", "SIGSEGV")), signal.SIGSEGV))
    time.sleep(10)  # the signal is on its way


@kind("silent-failure", at=Stage.RAISED)
def silent_failure(injection: Injection) -> bool:
    """A call that fails raises nothing: its result is what happened to stand in that memory."""
    import torch
    from torch.utils._pytree import tree_map

    call = injection.call
    space, _, name = call.name.partition("::")
    packet, _, variant = name.partition(".")
    operator = getattr(getattr(getattr(torch.ops, space), packet), variant or "default")

    def described(value: Any) -> Any:
        return value.to("meta") if isinstance(value, torch.Tensor) else value

    if packet.endswith("_"):
        call.results = call.arguments[0]
    else:
        try:
            keywords = {key: described(item) for key, item in call.keywords.items()}
            shaped = operator(*map(described, call.arguments), **keywords)
        except Exception:  # noqa: BLE001 - a shape that cannot be: the error is a program's mistake, not the device's
            return False
        call.results = tree_map(lambda item: torch.full(item.shape, 7, dtype=item.dtype), shaped)
    call.silenced = True
    return True


@kind("rank-exit", at=Stage.BEFORE, domain="c10d::*", severity=1.0, unit="exit code")
def rank_exit(injection: Injection) -> None:
    """The process of a rank leaves in the middle of a collective."""
    os._exit(int(injection.severity) & 0xFF)
