"""Moore Threads' GPUs, through torch_musa."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from readiness.accelerators import sysfs
from readiness.accelerators.torch_plugin import PluginStack


class Musa(PluginStack):
    """torch_musa adds the device type `musa`. Its collectives exist on some models only: that is measured, not known."""

    name = "musa"
    makers = ("Moore Threads",)
    kind = "musa"
    plugin = "torch_musa"
    distribution = "torch-musa"
    vendor = "Moore Threads"
    nodes = ("mtgpu*",)
    hiding = ("MUSA_VISIBLE_DEVICES",)
    collective_backend = "mccl"

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def software(self) -> Mapping[str, str | None]:
        """Return the versions of torch, torch_musa, the kernel driver and the MUSA runtime."""
        import torch

        return {
            **super().software(),
            "driver": sysfs.module_version("mtgpu", root=self.root),
            "musa": getattr(torch.version, "musa", None),
        }


STACK = Musa()
