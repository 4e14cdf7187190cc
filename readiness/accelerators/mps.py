"""Apple's GPUs, through Metal."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

from readiness.accelerators import torch_build
from readiness.accelerators.base import Stack
from readiness.datamodel import AcceleratorFacts

if TYPE_CHECKING:
    import torch


class Mps(Stack):
    """`torch.mps`: one device, whose memory is the machine's. The driver is part of macOS and has its version."""

    name = "mps"
    kind = "mps"
    fork_safe = False  # Metal does not survive a fork

    def absence(self) -> str | None:
        """Metal exists on macOS only."""
        if platform.system() != "Darwin":
            return f"Metal exists on macOS only, this is {platform.system()}"
        return "torch is not installed" if torch_build.installed() is None else None

    def discover(self) -> Iterator[AcceleratorFacts]:
        """The one device, where Metal offers it to torch."""
        import torch

        if not torch.backends.mps.is_available():
            return
        yield AcceleratorFacts(
            id="mps:0",
            kind=self.kind,
            index=0,
            stack=self.name,
            vendor="Apple" if platform.machine() == "arm64" else None,  # on Intel's machines it is AMD's or Intel's
            model=_model(),
            memory_bytes=int(torch.mps.recommended_max_memory()),
            software={"torch": torch.__version__, "macos": platform.mac_ver()[0] or None},
            properties={"host_memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")},
        )

    def synchronize(self, device: torch.device) -> None:  # noqa: ARG002
        """Wait for the one device."""
        import torch

        torch.mps.synchronize()

    def memory(self, device: torch.device) -> tuple[int, int]:  # noqa: ARG002
        """Return the memory that Metal recommends as the limit, less what this process holds of it."""
        import torch

        total = int(torch.mps.recommended_max_memory())
        return max(total - int(torch.mps.driver_allocated_memory()), 0), total


def _model() -> str | None:
    try:
        done = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


STACK = Mps()
