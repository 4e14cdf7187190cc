"""The sources of device health, one line of data each: whose devices, what it takes, and which function reads it.

Nothing is imported before a source is read, and that happens in a process of its own (`source_process`).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from readiness.accelerators.readers import tool_runner
from readiness.accelerators.readers.contract import Reading
from readiness.accelerators.readers.tool_runner import Context


@dataclass(frozen=True, slots=True)
class Source:
    """A source. `glance` and `detail` are functions of `module`, None where it has no such stage.

    What it takes is one of: a program (`tool`), a variable of the environment, a function of its module that says whether
    it is here (`needs`), or one match of globs below the root (`files`). Where none is given it is always tried. Sources of
    a vendor that stand first here are believed before the others.
    """

    name: str
    vendor: str
    module: str
    glance: str | None = "glance"
    detail: str | None = None
    tool: str | None = None
    needs: str | None = None
    variable: str | None = None
    files: tuple[str, ...] = ()

    def is_here(self, root: Path = Path("/")) -> bool:
        """True if it is worth starting a process for it."""
        if self.tool is not None:
            return tool_runner.find(self.tool, root) is not None
        if self.variable is not None:
            return bool(os.environ.get(self.variable))
        if self.needs is not None:
            return bool(getattr(self._module(), self.needs)(root))
        return not self.files or any(next(root.glob(pattern), None) is not None for pattern in self.files)

    def read(self, stage: str, context: Context) -> list[Reading]:
        """Read the source. Raises SourceError, and whatever its module raises."""
        name = {"glance": self.glance, "detail": self.detail}[stage]
        function: Callable[[Context], list[Reading]] = getattr(self._module(), name or "")
        return function(context)

    def _module(self) -> object:
        return importlib.import_module(f"readiness.accelerators.readers.{self.module}")


SOURCES: tuple[Source, ...] = (
    Source("libdcmi", "Huawei", "ascend_dcmi", needs="find"),
    Source("npu-smi", "Huawei", "npu_smi", detail="detail", tool="npu-smi"),
    Source("hccn_tool", "Huawei", "npu_smi", glance=None, detail="links", tool="hccn_tool"),
    Source("Ascend logs", "Huawei", "ascend_logs", files=("usr/slog", "var/log/npu/slog")),
    Source("NVML", "NVIDIA", "nvidia", glance="library", files=("dev/nvidiactl", "dev/nvidia0", "dev/dxg", "dev/nvmap")),
    Source("nvidia-smi", "NVIDIA", "nvidia", glance="tool", detail="links", tool="nvidia-smi"),
    Source("AMD sysfs", "AMD", "amd", glance="files", files=("sys/module/amdgpu",)),
    Source("amd-smi", "AMD", "amd", glance="tool", tool="amd-smi"),
    Source("rocm-smi", "AMD", "amd", glance="older_tool", tool="rocm-smi"),
    Source("Intel sysfs", "Intel", "intel", glance="files", files=("sys/module/xe", "sys/module/i915")),
    Source("xpu-smi", "Intel", "intel", glance="tool", tool="xpu-smi"),
    Source("cnmon", "Cambricon", "other_makers", tool="cnmon"),
    Source("hy-smi", "Hygon", "other_makers", tool="hy-smi"),
    Source("ixsmi", "Iluvatar", "other_makers", tool="ixsmi"),
    Source("mx-smi", "MetaX", "other_makers", detail="metax_detail", tool="mx-smi"),
    Source("MTML", "Moore Threads", "management_libraries", glance="moore_threads", needs="has_mtml"),
    Source("mthreads-gmi", "Moore Threads", "other_makers", tool="mthreads-gmi"),
    Source("HLML", "Habana", "management_libraries", glance="gaudi", needs="has_hlml"),
    Source("hl-smi", "Habana", "other_makers", tool="hl-smi"),
    Source("xpu-smi (Kunlunxin)", "Kunlunxin", "other_makers", tool="xpu-smi"),
    Source("exporter", "", "prometheus", variable="READINESS_EXPORTERS"),
    Source("kernel log", "", "kernel_log", files=("dev/kmsg",)),
)

#: The management library of simulated chips whose files name it: on no host, and read for such a chip alone.
SIMULATED = Source("simulated libdcmi", "Huawei", "simulated")

BY_NAME = {source.name: source for source in (*SOURCES, SIMULATED)}
