"""Huawei's Ascend NPUs, through torch_npu. Their collective backend is called `hccl`, as Habana's is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readiness.accelerators import ascend_install
from readiness.accelerators.torch_plugin import PluggedStack


class Ascend(PluggedStack):
    """torch_npu adds the device type `npu`; driver, firmware and CANN tell their versions in files."""

    name = "ascend"
    kind = "npu"
    plugin = "torch_npu"
    distribution = "torch-npu"
    vendor = "Huawei"
    nodes = ("davinci[0-9]*", "davinci_manager")
    hiding = ("ASCEND_RT_VISIBLE_DEVICES",)
    collective_backend = "hccl"
    unsupported_reductions = dict.fromkeys(("prod bfloat16", "prod int16"), "HCCL: CheckReduceDataType, for 910B and 910_93")
    cooldown_s = 10.0  # EJ0001 before that: github.com/hiyouga/LlamaFactory/issues/3839

    def __init__(self, root: Path = ascend_install.ROOT) -> None:
        self.root = root

    def software(self) -> Mapping[str, str | None]:
        """torch, torch_npu, driver, firmware and CANN."""
        return {**super().software(), **self._files().software()}

    def surroundings(self) -> Mapping[str, Any]:
        """Whether driver, firmware and CANN list each other as compatible."""
        return {"compatibility": self._files().compatibility()}

    def _files(self) -> ascend_install.AscendFiles:
        home = next((value for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME") if (value := os.environ.get(name))), None)
        return ascend_install.read(self.root, home)


STACK = Ascend()
