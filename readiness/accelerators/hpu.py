"""Habana's Gaudi, through habana_frameworks. Its collective backend is called `hccl`, as Huawei's is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from readiness.accelerators import sysfs, torch_build
from readiness.accelerators.torch_plugin import PluginStack

if TYPE_CHECKING:
    import torch


class Hpu(PluginStack):
    """habana_frameworks adds the device type `hpu`; a process holds one device at a time."""

    name = "hpu"
    makers = ("Habana",)
    kind = "hpu"
    plugin = "habana_frameworks.torch"
    distribution = "habana-torch-plugin"
    vendor = "Habana"
    nodes = ("hl[0-9]*",)
    hiding = ("HABANA_VISIBLE_MODULES", "HABANA_VISIBLE_DEVICES", "HLS_MODULE_ID")
    collective_backend = "hccl"

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def module(self) -> object:
        """`torch.hpu`, which its own package brings."""
        import importlib

        return importlib.import_module("habana_frameworks.torch.hpu")

    def synchronize(self, device: torch.device) -> None:  # noqa: ARG002
        """Wait for the device of this process; the plug-in's function takes none."""
        self.module().synchronize()  # type: ignore[attr-defined]

    def software(self) -> Mapping[str, str | None]:
        """torch, the plug-in, its media package where installed, and the kernel driver."""
        found = {**super().software(), "driver": sysfs.module_version("habanalabs", root=self.root)}
        media = torch_build.distribution_version("habana-media-loader")
        return {**found, "habana_media_loader": media} if media is not None else found


STACK = Hpu()
