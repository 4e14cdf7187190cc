"""The CPU, from files that tests bring."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
import torch

from readiness.accelerators import cpu
from readiness.documents.assessment import facts_to_json
from readiness.host import memory

X86 = """processor\t: 0
vendor_id\t: ExampleVendor
model name\t: Example 9000 Processor
microcode\t: 0xabc
physical id\t: 0
flags\t\t: fpu sse avx avx2 fma avx512f amx_bf16

processor\t: 1
vendor_id\t: ExampleVendor
physical id\t: 1
"""
ARM = """processor\t: 0
Features\t: fp asimd sve bf16
CPU implementer\t: 0x48
CPU part\t: 0xd01
"""


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_this_machine() -> None:
    [facts] = cpu.STACK.discover()
    assert facts.id == "cpu:0"
    assert facts.memory_bytes is not None
    assert facts.memory_bytes > 0
    assert all(facts.software.values())
    json.dumps(facts_to_json(facts), allow_nan=False)


def test_x86(tmp_path: Path) -> None:
    _write(tmp_path / "proc/cpuinfo", X86)
    processor = cpu.read_processor(tmp_path)
    assert (processor.vendor, processor.model, processor.sockets) == ("ExampleVendor", "Example 9000 Processor", 2)
    assert processor.microcode == "0xabc"
    assert processor.instruction_sets == ("avx", "avx2", "fma", "avx512f", "amx_bf16")


def test_arm(tmp_path: Path) -> None:
    _write(tmp_path / "proc/cpuinfo", ARM)
    processor = cpu.read_processor(tmp_path)
    assert (processor.vendor, processor.instruction_sets) == ("HiSilicon", ("asimd", "bf16", "sve"))
    _write(tmp_path / "proc/cpuinfo", ARM.replace("0x48", "0x99"))
    assert cpu.read_processor(tmp_path).vendor == "0x99"


def test_a_kernel_without_processor_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "processor", lambda: "riscv64")  # it may start `uname`
    assert cpu.read_processor(tmp_path) == cpu.Processor(model="riscv64")
    assert cpu.fault_counters(tmp_path) is None
    assert memory.control_group_limit(tmp_path) is None
    assert cpu.control_group_cores(tmp_path) is None


def test_memory_errors_and_machine_checks(tmp_path: Path) -> None:
    _write(tmp_path / "sys/devices/system/edac/mc/mc0/ce_count", "5\n")
    _write(tmp_path / "sys/devices/system/edac/mc/mc0/ue_count", "1\n")
    _write(tmp_path / "sys/devices/system/edac/mc/mc1/ce_count", "nonsense\n")
    _write(
        tmp_path / "proc/interrupts",
        "            CPU0       CPU1\n   0:         12          0   timer\n"
        " THR:          2          3   Threshold APIC interrupts\n MCE:          0          1   Machine check exceptions\n",
    )
    assert cpu.fault_counters(tmp_path) == {
        "mc0_corrected": 5, "mc0_uncorrected": 1, "machine_check_uncorrected": 1, "machine_check_corrected": 5
    }  # fmt: skip


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "1000", "memory.current": "400"}, (600, 1000)),
        ({"memory.max": "max", "memory.current": "400"}, None),
        ({"memory/memory.limit_in_bytes": "50", "memory/memory.usage_in_bytes": "60"}, (0, 50)),
        ({"memory.max": "1000"}, None),
    ],
)
def test_control_groups(tmp_path: Path, files: dict[str, str], limit: tuple[int, int] | None) -> None:
    for name, text in files.items():
        _write(tmp_path / "sys/fs/cgroup" / name, text)
    assert memory.control_group_limit(tmp_path) == limit


def test_a_quota_of_cores(tmp_path: Path) -> None:
    _write(tmp_path / "sys/fs/cgroup/cpu.max", "150000 100000\n")
    assert cpu.control_group_cores(tmp_path) == 1.5
    _write(tmp_path / "sys/fs/cgroup/cpu.max", "max 100000\n")
    assert cpu.control_group_cores(tmp_path) is None


def test_memory_within_a_control_group(tmp_path: Path) -> None:
    import torch

    _write(tmp_path / "sys/fs/cgroup/memory.max", "4096")
    _write(tmp_path / "sys/fs/cgroup/memory.current", "1096")
    assert cpu.Cpu(tmp_path).memory(torch.device("cpu")) == (3000, 4096)


def test_without_events_of_the_cpu_nothing_is_fully_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in torch 2.6: https://github.com/pytorch/pytorch/pull/145935."""
    assert cpu.Cpu().unsupported_modes == {}
    monkeypatch.delattr(torch.cpu.Stream, "record_event")
    reasons = cpu.Cpu().unsupported_modes
    assert set(reasons) == {"fsdp", "hsdp", "fsdp+tensor", "fsdp+expert"}
    assert "not a finding about this CPU" in reasons["fsdp"]
