"""Profiler traffic: where a call was computed, from PyTorch's profiler: kernels on the device, and bytes copied.

A vendor may run an operator on the host without a word and under a kernel of its own in the dispatch table. Then all of
its inputs go to the host and its result comes back; an operator that is the device's own copies a few numbers at most
(sizes, pivots, whether a matrix was singular). Seen on an H100 (torch 2.11, CUDA 13.0): of 697 operators of the database
57 copy something to or from the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.probes.operators.samples import Sample

#: Inputs of fewer bytes say nothing: a copied size or status is as large.
LEAST_BYTES = 128
_TO_HOST = re.compile(r"D(evice)?(to|2)H(ost)?|Device -> (Pageable|Pinned|Host)", re.IGNORECASE)
_TO_DEVICE = re.compile(r"H(ost)?(to|2)D(evice)?|(Pageable|Pinned|Host) -> Device", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Work of a device during a call: kernels, and bytes copied to the host and from it."""

    kernels: int = 0
    to_host: int = 0
    to_device: int = 0


def activity(accelerator: Accelerator) -> torch.profiler.ProfilerActivity | None:
    """Return the profiler activity of this device; None if this torch has none, or there is nothing to see.

    A plug-in's device has an activity of its name, whether or not its maker brings what would watch it.
    """
    found = getattr(torch.profiler.ProfilerActivity, accelerator.device.type.upper(), None)
    if found is None or accelerator.stack.host_backed:
        return None
    return found if found in torch.profiler.supported_activities() else None  # type: ignore[no-untyped-call]


def watched(accelerator: Accelerator, call: Callable[[], object]) -> Traffic | None:
    """Call a function under the profiler, synchronise, and return the device's work; None if it is not visible.

    Raises what the call raises. A profiler that cannot start (one is running already, or counters are not for this user),
    or cannot write down what it saw, costs its evidence only.
    """
    kind = activity(accelerator)
    if kind is None:
        call()
        return None
    accelerator.synchronize()  # what went before is not this call's
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU, kind])
    try:
        with _silence():
            profiler.start()
    except RuntimeError:
        call()
        return None
    try:
        call()
        accelerator.synchronize()
    finally:
        with _silence():
            profiler.stop()
    with contextlib.suppress(OSError, RuntimeError, ValueError), tempfile.TemporaryDirectory(prefix="readiness-") as folder:
        file = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(file))
        return of_trace(json.loads(file.read_text(encoding="utf-8", errors="replace"), strict=False))
    return None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence Kineto, which logs each start and stop to standard error from C++ (torch 2.13)."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def of_trace(trace: Mapping[str, Any]) -> Traffic | None:
    """Return a device's work from a Chrome trace; None if it contains no device."""
    events = [event for event in trace.get("traceEvents", ()) if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    if not events:
        return None
    copies = [event for event in events if event["cat"] == "gpu_memcpy"]
    return Traffic(
        sum(event["cat"] == "kernel" for event in events), _bytes(copies, _TO_HOST), _bytes(copies, _TO_DEVICE)
    )


def _bytes(copies: Iterable[Mapping[str, Any]], direction: re.Pattern[str]) -> int:
    return sum(int(event.get("args", {}).get("bytes", 0)) for event in copies if direction.search(event.get("name", "")))


def on_host(traffic: Traffic | None, inputs: int, outputs: int) -> str | None:
    """Return why a call with so many bytes of inputs and outputs was computed on the host; None if unknown."""
    if traffic is None or inputs < LEAST_BYTES or not outputs:
        return None
    if traffic.to_host < inputs or traffic.to_device < outputs:
        return None
    return f"the profiler saw {traffic.to_host} bytes of {inputs} go to the host and {traffic.to_device} come back"


def host_work_reason(
    accelerator: Accelerator, make_inputs: Callable[[], Sample], call: Callable[[Sample], Iterable[object]]
) -> str | None:
    """Return why a call was computed on the host, if there is a profiler for this device.

    `make_inputs` returns its inputs on the device, `call` its outputs for them. Without a profiler neither is called.
    """
    if activity(accelerator) is None:
        return None
    given, outputs = make_inputs(), list[object]()
    traffic = watched(accelerator, lambda: outputs.extend(call(given)))
    return on_host(traffic, size(given.tensors()), size(outputs))


def size(tensors: Iterable[Any]) -> int:
    """Return the bytes of all tensors among these values."""
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors if isinstance(tensor, torch.Tensor))
