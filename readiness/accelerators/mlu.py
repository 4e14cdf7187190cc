"""Cambricon's MLUs, through torch_mlu."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from readiness.accelerators import sysfs
from readiness.accelerators.torch_plugin import PluginStack


class Mlu(PluginStack):
    """Stack of Cambricon: torch_mlu adds the device type `mlu`; the version of the runtime (Neuware) is in a file."""

    name = "mlu"
    makers = ("Cambricon",)
    kind = "mlu"
    plugin = "torch_mlu"
    distribution = "torch-mlu"
    vendor = "Cambricon"
    nodes = ("cambricon_dev*", "cambricon_ctl")
    hiding = ("MLU_VISIBLE_DEVICES",)
    collective_backend = "cncl"

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def software(self) -> Mapping[str, str | None]:
        """torch, torch_mlu, kernel driver and Neuware."""
        text = sysfs.read_text(self.root / "usr/local/neuware/version.txt") or ""
        number = re.search(r"\d+(?:\.\d+)+", text)
        return {
            **super().software(),
            "driver": sysfs.module_version("cambricon_drv", "cambricon", root=self.root),
            "neuware": number[0] if number else None,
        }


STACK = Mlu()
