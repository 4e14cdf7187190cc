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


@kind("memory-kept", at=Stage.BEFORE, domain="memory::info")
def memory_kept(injection: Injection) -> bool:
    """The memory of a process that ended without giving it back, as one that was killed, stays taken."""
    memory = injection.device.memory
    memory.kept, _ = memory.ledger.left_behind()
    return memory.kept > 0


@kind("wedged-after-kill", at=Stage.BEFORE, domain="memory::allocate", severity=0.0, unit="s, 0 for ever")
def wedged_after_kill(injection: Injection) -> bool:
    """After a process was killed at work no other can use the chip, or not for so many seconds."""
    left, age_s = injection.device.memory.ledger.left_behind()
    if not left or (injection.severity and age_s > injection.severity):
        return False
    raise RuntimeError("SIM error 507033: the chip still waits for a process that has ended")


@kind("wrong-figure", at=Stage.AFTER, domain=("memory::*", "event::elapsed_time"), severity=0.5, unit="factor")
def wrong_figure(injection: Injection) -> bool:
    """A figure that the stack reports is wrong by this factor: memory in use, or the time between two events."""
    call = injection.call
    if not isinstance(call.results, int | float):
        return False
    call.results *= injection.severity
    return True


@kind("less-memory", at=Stage.NEVER, severity=0.5, unit="share of the memory that remains", domain="memory")
def less_memory(injection: Injection) -> None:
    """The chip has a part of the memory that it is sold with."""


@kind("oom-sticky", at=Stage.BEFORE, domain="memory::*")
def oom_sticky(injection: Injection) -> bool:
    """Once an allocation was refused, every later one is, down to the smallest that is counted (64 KiB)."""
    import torch

    if injection.device.memory.refusals:
        raise torch.OutOfMemoryError(f"SIM out of memory (chip {injection.device.number} has not recovered from the last)")
    return False
