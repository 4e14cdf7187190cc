"""Defects around the device: its version stack, its health, its fault counters, its checkpoints."""

from __future__ import annotations

from fnmatch import fnmatchcase

from readiness.simulator.faults import kind
from readiness.simulator.injection import Injection, Stage


@kind("version", at=Stage.NEVER, domain="software")
def version(injection: Injection) -> None:
    """Components of the version stack have the versions that `set` names."""


@kind("counter", at=Stage.NEVER, domain="counters")
def counter(injection: Injection) -> None:
    """Fault counters rise during the run by what `set` names."""


@kind("counter-under-load", at=Stage.NEVER, domain="counters")
def counter_under_load(injection: Injection) -> None:
    """Fault counters rise while the chip works, by what `set` names a second, and stand still when it is idle."""


@kind("health", at=Stage.NEVER, domain="health")
def health(injection: Injection) -> None:
    """The chip's management library reports that it is unhealthy.

    `set` may name the vendor's word (`health = "Alarm"`), fault codes of an Ascend that stand (`codes = "80E18005"`), a
    reason of throttling (`throttle = "thermal"`), and what its power sensor says (`power_w = 6553.5`).
    """


@kind("management-library", at=Stage.NEVER, domain="health")
def management_library(injection: Injection) -> None:
    """A function of the chip's management library fails, gives a figure that is none, or does not come back.

    For chips with `management = "libdcmi"`. `set` names the function (`function = "get_device_power_info"`), and with which
    code it fails (`answer = -8010`), what it gives (`value = 65535`), or that it never answers (`hangs = true`).
    """


@kind("kernel-log", at=Stage.NEVER, domain="health", severity=1.0, unit="s after the run began")
def kernel_log(injection: Injection) -> None:
    """The kernel's log gains the line that `set` names while the run goes on, as `line = "NVRM: Xid (PCI:...): 79"`."""


@kind("wrong-autocast", at=Stage.BEFORE, domain="autocast::*")
def wrong_autocast(injection: Injection) -> bool:
    """Mixed precision runs an operator in the wrong dtype: in float32 what belongs into the lower one, all else in that.

    `set = { dtype = "float16" }` names the one that it runs in. The call's name is `autocast::linear`, and its only argument
    the dtype that was chosen.
    """
    import torch

    call = injection.call
    lower = torch.get_autocast_dtype("sim")
    named = injection.settings.get("dtype")
    other = getattr(torch, str(named)) if named is not None else torch.float32 if call.arguments[0] == lower else lower
    before, call.arguments[0] = call.arguments[0], other
    return bool(before != other)


@kind("checkpoint-corrupt", at=Stage.AFTER, domain="checkpoint::load", severity=0.01, unit="share of the bytes")
def checkpoint_corrupt(injection: Injection) -> bool:
    """A checkpoint is read back wrongly: a share of its bytes is zero.

    With `set = { tensor = "*.exp_avg" }` only of tensors so named, in a distributed checkpoint.
    """
    name = injection.settings.get("tensor")
    if name is not None and not fnmatchcase(str(injection.call.keywords.get("tensor")), str(name)):
        return False
    found = injection.integers()
    for tensor in found:
        start = injection.random.randrange(tensor.numel()) if injection.severity < 1 else 0
        tensor[start : start + max(8, int(tensor.numel() * injection.severity))] = 0
    return bool(found)
