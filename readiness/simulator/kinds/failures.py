"""Defects that end a call, or the process, instead of giving a result."""

from __future__ import annotations

import os
import signal
import time
import warnings
from typing import TYPE_CHECKING

from readiness.simulator.kinds import Moment, kind

if TYPE_CHECKING:
    from readiness.simulator.strikes import Strike

#: What C calls a floating type in PyTorch's own messages.
_SCALAR_TYPES = {
    "bfloat16": "BFloat16", "float16": "Half", "float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int",
    "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool", "complex64": "ComplexFloat",
    "float8_e4m3fn": "Float8_e4m3fn", "float8_e5m2": "Float8_e5m2",
}  # fmt: skip


@kind("missing", at=Moment.BEFORE)
def missing(strike: Strike) -> None:
    """The operator has no kernel on this device."""
    name = strike.call.name
    raise NotImplementedError(
        f"Could not run '{name}' with arguments from the 'sim' backend: the operator has no kernel for it."
    )


@kind("dtype-unsupported", at=Moment.BEFORE)
def dtype_unsupported(strike: Strike) -> None:
    """The operator has a kernel, but not for this dtype."""
    tensors = strike.call.tensors
    dtype = str(tensors[0].dtype).removeprefix("torch.") if tensors else "this type"
    name = strike.call.name.partition("::")[2].partition(".")[0]
    raise RuntimeError(f"\"{name}_sim\" not implemented for '{_SCALAR_TYPES.get(dtype, dtype)}'")


@kind("cpu-fallback", at=Moment.BEFORE)
def cpu_fallback(strike: Strike) -> None:
    """The operator runs on the host instead, with the warning that vendors give; `set = { silent = true }` without."""
    if not strike.settings.get("silent", False):
        warnings.warn(
            f"The operator '{strike.call.name}' is not currently supported on the sim backend and will fall back to run "
            "on the CPU. This may have performance implications.",
            UserWarning,
            stacklevel=2,
        )


@kind("raise", at=Moment.BEFORE)
def raise_error(strike: Strike) -> None:
    """The call raises, though it should work."""
    raise RuntimeError(f"SIM error 507015: the execution of {strike.call.name} on chip {strike.silicon.number} failed")


@kind("device-lost", at=Moment.BEFORE)
def device_lost(strike: Strike) -> None:
    """The call fails as a fault of the device, which is lost to the process from then on: whatever it asks fails too."""
    strike.silicon.lost = (
        f"SIM error 507015: misaligned address in {strike.call.name} on chip {strike.silicon.number}; this process can use "
        "the device no more"
    )
    raise RuntimeError(strike.silicon.lost)


@kind("late-error", at=Moment.AFTER, severity=0.0, unit="s until it can surface")
def late_error(strike: Strike) -> None:
    """The result stays unwritten; the error surfaces when the host next waits, or never with `set = { lost = true }`."""
    for tensor in [*strike.floats(), *strike.integers()]:
        tensor.fill_(7)  # what happened to stand in that memory
    if not strike.settings.get("lost", False):
        text = f"SIM error 507035: an asynchronous error on chip {strike.silicon.number}; the device reports it only now"
        strike.silicon.pending.append((time.monotonic() + strike.severity, text))


@kind("hang", at=Moment.BEFORE, severity=0.0, unit="s, 0 for ever", domain="c10d::*")
def hang(strike: Strike) -> None:
    """The call does not come back, or after so many seconds."""
    deadline = time.monotonic() + strike.severity if strike.severity else float("inf")
    while time.monotonic() < deadline:
        time.sleep(min(60.0, max(deadline - time.monotonic(), 0.0)))


@kind("timeout-ignored", at=Moment.RAISED, severity=0.0, unit="s, 0 for ever", domain="c10d::*")
def timeout_ignored(strike: Strike) -> None:
    """A collective whose peers are gone does not raise: it waits on, or for so many seconds."""
    hang(strike)


@kind("crash", at=Moment.BEFORE)
def crash(strike: Strike) -> None:
    """The process dies by a signal: SIGSEGV, or the one that `set = { signal = "SIGABRT" }` names."""
    os.kill(os.getpid(), getattr(signal, str(strike.settings.get("signal", "SIGSEGV")), signal.SIGSEGV))
    time.sleep(10)  # the signal is on its way


@kind("rank-exit", at=Moment.BEFORE, domain="c10d::*", severity=1.0, unit="exit code")
def rank_exit(strike: Strike) -> None:
    """The process of a rank leaves in the middle of a collective."""
    os._exit(int(strike.severity) & 0xFF)
