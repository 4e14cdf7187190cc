"""Defects of the allocator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from readiness.simulator.kinds import Moment, kind

if TYPE_CHECKING:
    from readiness.simulator.strikes import Strike

_held: list[bytearray] = []


@kind("leak", at=Moment.BEFORE, severity=0.25, unit="MiB a call")
def leak(strike: Strike) -> None:
    """Every call keeps some of the chip's memory for good; with `set = { memory = "host" }` some of the host's."""
    size = int(strike.severity * 2**20)
    if strike.settings.get("memory") == "host":
        block = bytearray(size)
        block[::4096] = b"x" * len(block[::4096])  # a page that was never written costs nothing
        _held.append(block)
    else:
        strike.silicon.memory.leaked += size


@kind("oom-sticky", at=Moment.BEFORE, domain="memory::*")
def oom_sticky(strike: Strike) -> None:
    """Once an allocation was refused, every later one is, down to the smallest that is counted (64 KiB)."""
    import torch

    if strike.silicon.memory.refusals:
        raise torch.OutOfMemoryError(f"SIM out of memory (chip {strike.silicon.number} has not recovered from the last)")
