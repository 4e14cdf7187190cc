"""Defects of the allocator."""

from __future__ import annotations

from readiness.simulator.faults import kind
from readiness.simulator.injection import Injection, Stage

_held: list[bytearray] = []


@kind("leak", at=Stage.BEFORE, severity=0.25, unit="MiB a call")
def leak(injection: Injection) -> None:
    """Every call keeps some of the chip's memory for good; with `set = { memory = "host" }` some of the host's."""
    size = int(injection.severity * 2**20)
    if injection.settings.get("memory") == "host":
        block = bytearray(size)
        block[::4096] = b"x" * len(block[::4096])  # a page that was never written costs nothing
        _held.append(block)
    else:
        injection.device.memory.leaked += size


@kind("oom-sticky", at=Stage.BEFORE, domain="memory::*")
def oom_sticky(injection: Injection) -> bool:
    """Once an allocation was refused, every later one is, down to the smallest that is counted (64 KiB)."""
    import torch

    if injection.device.memory.refusals:
        raise torch.OutOfMemoryError(f"SIM out of memory (chip {injection.device.number} has not recovered from the last)")
    return False
