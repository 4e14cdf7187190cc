"""The CPU: an accelerator like any other, and the reference for all of them."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from readiness.accelerators import sysfs, torch_build
from readiness.accelerators.base import FULLY_SHARDED_MODES, Stack
from readiness.datamodel import AcceleratorFacts
from readiness.host import memory

if TYPE_CHECKING:
    import torch

#: Instruction sets that decide which kernels torch and oneDNN pick; as /proc/cpuinfo spells them.
_INSTRUCTION_SETS = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_bf16", "avx512_fp16", "avx_vnni",
    "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16", "asimd", "bf16", "i8mm", "sve", "sve2", "fphp",
)  # fmt: skip

#: Makers of Arm processors by the `CPU implementer` that the kernel shows. Source: Linux, arch/arm64/include/asm/cputype.h.
_ARM_MAKERS = {
    "0x41": "Arm", "0x46": "Fujitsu", "0x48": "HiSilicon", "0x4e": "NVIDIA", "0x51": "Qualcomm", "0x61": "Apple",
    "0x6d": "Microsoft", "0x70": "Phytium", "0xc0": "Ampere",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Processor:
    """The kernel's description of the processors; None for what it does not report."""

    vendor: str | None = None
    model: str | None = None
    sockets: int | None = None
    microcode: str | None = None
    instruction_sets: tuple[str, ...] | None = None


class Cpu(Stack):
    """All sockets together are one accelerator, `cpu:0`, as they are one device in torch."""

    name = "cpu"
    needs_torch = False
    kind = "cpu"
    collective_backend = "gloo"
    asynchronous = False
    host_backed = True
    connect_timeout_s = 0.0

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def absence(self) -> str | None:
        """Return why torch is missing: the machine always has a CPU."""
        return "torch is not installed" if torch_build.installed() is None else None

    @property
    def unsupported_modes(self) -> Mapping[str, str]:
        """`fully_shard` records events on streams of the CPU, which torch 2.6 has not."""
        import torch

        if hasattr(torch.cpu.Stream, "record_event"):
            return {}
        reason = f"torch {torch.__version__} lacks events of the CPU, which fully_shard needs: not a finding about this CPU"
        return dict.fromkeys(FULLY_SHARDED_MODES, reason)

    def discover(self) -> Iterator[AcceleratorFacts]:
        """One accelerator, always; needs no torch. It has no driver of its own: the kernel is it."""
        processor = read_processor(self.root)
        build = torch_build.installed()
        limit = memory.control_group_limit(self.root)
        total = psutil.virtual_memory().total
        yield AcceleratorFacts(
            id="cpu:0",
            kind=self.kind,
            index=0,
            stack=self.name,
            vendor=processor.vendor,
            model=processor.model,
            memory_bytes=total if limit is None else min(total, limit[1]),
            software={"torch": None if build is None else build.version, "kernel": platform.release() or None},
            properties={
                "architecture": platform.machine(),
                "sockets": processor.sockets,
                "cores": psutil.cpu_count(logical=False),
                "threads": psutil.cpu_count(),
                "usable_threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
                "quota_cores": control_group_cores(self.root),
                "numa_nodes": len(list((self.root / "sys/devices/system/node").glob("node[0-9]*"))) or None,
                "instruction_sets": None if processor.instruction_sets is None else list(processor.instruction_sets),
                "microcode": processor.microcode,
                "swap_bytes": psutil.swap_memory().total,
            },
            counters=fault_counters(self.root),
        )

    def counters(self, facts: AcceleratorFacts) -> Mapping[str, int] | None:  # noqa: ARG002
        """Memory errors and machine checks that the kernel has counted; None where it counts neither."""
        return fault_counters(self.root)

    def sensors(self, facts: AcceleratorFacts) -> Mapping[str, float]:  # noqa: ARG002
        """Return the machine's hottest temperature and its processors' mean clock, as far as the kernel reports them."""
        found: dict[str, float] = {}
        query: Any = getattr(psutil, "sensors_temperatures", dict)  # not everywhere
        readings = query()
        if hottest := [item.current for sensor in readings.values() for item in sensor if item.current is not None]:
            found["temperature_c"] = float(max(hottest))
        with contextlib.suppress(OSError, RuntimeError, NotImplementedError):
            if (clock := psutil.cpu_freq()) is not None:
                found["clock_mhz"] = float(clock.current)
        return found

    def torch_device(self, facts: AcceleratorFacts) -> torch.device:  # noqa: ARG002
        """`cpu`, which carries no index in torch."""
        import torch

        return torch.device("cpu")

    def synchronize(self, device: torch.device) -> None:
        """Do nothing: work on the CPU is finished when the call returns."""

    def memory(self, device: torch.device) -> tuple[int, int]:  # noqa: ARG002
        """Available and total memory of the machine, within the control group's limit where there is one."""
        machine = psutil.virtual_memory()
        limit = memory.control_group_limit(self.root)
        if limit is None or limit[1] >= machine.total:
            return machine.available, machine.total
        return min(machine.available, limit[0]), limit[1]

    def release(self) -> None:
        """Do nothing: torch caches no memory of the CPU."""


def read_processor(root: Path = Path("/")) -> Processor:
    """Return the first processor in /proc/cpuinfo and the number of sockets; elsewhere what the platform module reports."""
    text = sysfs.read_text(root / "proc/cpuinfo")
    if text is None:
        return Processor(model=platform.processor() or None)

    def first(*keys: str) -> str | None:
        for key in keys:
            if match := re.search(rf"^{key}\s*:\s*(\S.*?)\s*$", text, re.MULTILINE):
                return match[1]
        return None

    flags = first("flags", "Features")
    implementer = first("CPU implementer")
    return Processor(
        vendor=first("vendor_id") or _ARM_MAKERS.get(implementer or "", implementer),
        model=first("model name", "Model", "Hardware", "cpu model"),
        sockets=len(set(re.findall(r"^physical id\s*:\s*(\d+)", text, re.MULTILINE))) or None,
        microcode=first("microcode"),
        instruction_sets=None if flags is None else tuple(name for name in _INSTRUCTION_SETS if name in flags.split()),
    )


def fault_counters(root: Path = Path("/")) -> dict[str, int] | None:
    """Memory errors from the EDAC drivers, and machine check exceptions from the interrupt table; None without either."""
    counters: dict[str, int] = {}
    words = {"ce_count": "corrected", "ue_count": "uncorrected"}
    for file in sorted((root / "sys/devices/system/edac/mc").glob("mc*/[cu]e_count")):
        count = sysfs.read_text(file)
        if count is not None and count.isdigit():
            counters[f"{file.parent.name}_{words[file.name]}"] = int(count)
    interrupts = sysfs.read_text(root / "proc/interrupts") or ""
    # MCE counts exceptions, DFR deferred errors, THR corrected ones that passed the processor's threshold.
    names = {"MCE": "machine_check_uncorrected", "DFR": "machine_check_deferred", "THR": "machine_check_corrected"}
    for key, counts in re.findall(r"^\s*(MCE|DFR|THR):\s+((?:\d+\s+)*\d+)", interrupts, re.MULTILINE):
        counters[names[key]] = sum(map(int, counts.split()))
    return counters or None


def control_group_cores(root: Path = Path("/")) -> float | None:
    """Return how many cores' worth of time a control group of version 2 allows; None without such a limit."""
    match = re.fullmatch(r"(\d+) (\d+)", sysfs.read_text(root / "sys/fs/cgroup/cpu.max") or "")
    return int(match[1]) / int(match[2]) if match and int(match[2]) else None


STACK = Cpu()
