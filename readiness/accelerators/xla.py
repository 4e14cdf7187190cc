"""Devices of torch_xla: Google's TPUs, Amazon's Neuron cores, and others that PJRT drives."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from readiness.accelerators import torch_build
from readiness.accelerators.base import Stack
from readiness.datamodel import AcceleratorFacts

if TYPE_CHECKING:
    import torch

#: PJRT's name of a device type, and whose devices those are. Its `CPU` is the host again and no accelerator.
_VENDORS = {"TPU": "Google", "NEURON": "Amazon"}


class Xla(Stack):
    """Stack of torch_xla, which adds the device type `xla`, records operations and runs them on demand."""

    name = "xla"
    kind = "xla"
    plugin = "torch_xla"
    collective_backend = "xla"
    fork_safe = False

    def absence(self) -> str | None:
        """The plug-in is not installed, or there is no torch."""
        return "torch is not installed" if torch_build.installed() is None else torch_build.missing_module("torch_xla")

    def discover(self) -> Iterator[AcceleratorFacts]:
        """The devices that PJRT lets this process address. Raises what torch_xla raises."""
        runtime = importlib.import_module("torch_xla.runtime")
        kind = str(runtime.device_type())
        if kind == "CPU":
            return
        build = torch_build.installed()
        software = {
            "torch": None if build is None else build.version,
            "torch_xla": torch_build.distribution_version("torch-xla"),
        }
        library = {"TPU": "libtpu", "NEURON": "libneuronxla"}.get(kind)
        if library is not None:
            software[library] = torch_build.distribution_version(library)
        for index in range(int(runtime.addressable_device_count())):
            attributes = _attributes(runtime, index)
            yield AcceleratorFacts(
                id=f"xla:{index}",
                kind=self.kind,
                index=index,
                stack=self.name,
                vendor=_VENDORS.get(kind),
                model=str(attributes.get("device_kind") or attributes.get("name") or kind),
                memory_bytes=_memory_bytes(index),
                software=software,
                properties={"pjrt_device": kind, **attributes},
            )

    def module(self) -> Any:
        """torch_xla itself: it is not a namespace of torch."""
        return importlib.import_module("torch_xla")

    def synchronize(self, device: torch.device) -> None:
        """Run what has been recorded and wait for it."""
        model = importlib.import_module("torch_xla.core.xla_model")
        sync = getattr(self.module(), "sync", None)
        sync() if sync is not None else model.mark_step()
        model.wait_device_ops([str(device)])

    def memory(self, device: torch.device) -> tuple[int, int] | None:
        """Return free and total memory as reported by the runtime; None if it reports neither."""
        info = _memory_info(str(device))
        if info is None:
            return None
        return info["bytes_limit"] - info["bytes_used"], info["bytes_limit"]

    def release(self) -> None:
        """Do nothing: no memory is cached."""


def _memory_info(device: str) -> dict[str, int] | None:
    model = importlib.import_module("torch_xla.core.xla_model")
    try:
        info = model.get_memory_info(device)
    except (AttributeError, RuntimeError):  # not every runtime tells
        return None
    if "bytes_limit" not in info:  # an older form counts in KiB
        info = {"bytes_limit": info["kb_total"] * 1024, "bytes_used": (info["kb_total"] - info["kb_free"]) * 1024}
    return {name: int(info[name]) for name in ("bytes_limit", "bytes_used")}


def _memory_bytes(index: int) -> int | None:
    info = _memory_info(f"xla:{index}")
    return None if info is None else info["bytes_limit"]


def _attributes(runtime: Any, index: int) -> dict[str, Any]:
    try:
        return dict(runtime.global_runtime_device_attributes()[index])
    except (AttributeError, IndexError, RuntimeError):
        return {}


STACK = Xla()
