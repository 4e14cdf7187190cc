"""PyTorch's flight recorder: the last collective of a rank with its number, sizes and dtypes.

It works while the rank is blocked in the collective, and shows what no process state can: that ranks wait for each other
in different calls. PyTorch 2.13 keeps one for NCCL and another for gloo; where there is none, nothing is reported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from readiness.distributed.types import Json

#: How many calls are kept. The recorder is off where the environment does not set it; a choice of the user's stands.
_CALLS = "64"
#: Libraries, by the names in their settings for how long a watchdog may dump what ranks last did, once a call is overdue.
#: PyTorch's for NCCL then waits four times as long, and ends the process only after that: a minute where nothing is set.
#: Sources: ProcessGroupNCCL.cpp of PyTorch, and what XCCL, MCCL and torch_npu made of it.
_WATCHDOGS = ("FR", "NCCL", "XCCL", "MCCL", "HCCL")
_DUMP_MS = 250
#: Functions that dump the calls of the device's library and of the host's: most calls are in the device's, and beside NCCL
#: gloo may be used. Source: init.cpp of PyTorch.
_RECORDERS = ("_dump_nccl_trace_json", "_dump_fr_trace_json")
#: For how long a watchdog with a shortened dump keeps a process after the timeout, at most.
WATCHDOG_DUMP_S = (1 + 4) * _DUMP_MS / 1000


def enable() -> None:
    """Enable the flight recorder of this process. Must be called before its first group."""
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", _CALLS)


def shorten_watchdog_dumps() -> None:
    """Let watchdogs of later groups end this process at once on an overdue call, without writing files.

    What they notice stays the same. It overrides the user's settings: what ranks last did is read from outside.
    """
    for library in _WATCHDOGS:
        os.environ[f"TORCH_{library}_WAIT_TIMEOUT_DUMP_MILSEC"] = str(_DUMP_MS)
        os.environ[f"TORCH_{library}_DUMP_ON_TIMEOUT"] = "0"


def last_call() -> Json | None:
    """Return the last collective of this process: `number` in its `group`, `operation`, `sizes` and `dtypes` of its inputs.

    `numbers` has the last one's in each group that it called anything in. None where nothing was recorded. Source of the
    fields: FlightRecorder.hpp of PyTorch.
    """
    import torch

    distributed = getattr(torch._C, "_distributed_c10d", None)
    recorders = (getattr(distributed, name, None) for name in _RECORDERS)
    return next((call for dump in recorders if dump is not None and (call := _last_of(dump)) is not None), None)


def _last_of(dump: Callable[[], str | bytes]) -> Json | None:
    try:
        entries = json.loads(dump()).get("entries", [])
        together = [entry for entry in entries if not entry["is_p2p"]]
        if not together:
            return None
        together.sort(key=lambda entry: int(entry["record_id"]))
        last = together[-1]
        return {
            "numbers": {entry["process_group"][0]: entry["collective_seq_id"] for entry in together},
            "group": last["process_group"][0],
            "number": last["collective_seq_id"],
            "operation": str(last["profiling_name"]).rpartition(":")[2],
            "sizes": last["input_sizes"],
            "dtypes": last["input_dtypes"],
        }
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError):  # another version's fields: no evidence
        return None


def describe(call: Json) -> str:
    """Describe a call without its number: what must be equal on all ranks of the group.

    Sizes are left out where ranks may well have different ones: in whatever gathers, scatters or exchanges parts.
    """
    operation = str(call["operation"])
    if any(part in operation for part in ("gather", "scatter", "to_all", "toall")):
        return " ".join([operation, "of", *sorted(set(call["dtypes"]))])
    tensors = zip(call["sizes"], call["dtypes"], strict=False)
    parts = [f"{'x'.join(map(str, size))} {dtype}".strip() for size, dtype in tensors]
    return f"{operation} of {', '.join(parts)}" if parts else operation
