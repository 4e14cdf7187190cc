"""Defects around the device: its version stack, its fault counters, its checkpoints."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from readiness.simulator.kinds import Moment, kind

if TYPE_CHECKING:
    from readiness.simulator.strikes import Strike


@kind("version", at=Moment.NEVER, domain="software")
def version(strike: Strike) -> None:
    """Components of the version stack have the versions that `set` names."""


@kind("counter", at=Moment.NEVER, domain="counters")
def counter(strike: Strike) -> None:
    """Fault counters rise during the run by what `set` names."""


@kind("checkpoint-corrupt", at=Moment.AFTER, domain="checkpoint::load", severity=0.01, unit="share of the bytes")
def checkpoint_corrupt(strike: Strike) -> None:
    """What is read back from a checkpoint is not what was written: a share of its bytes is zero.

    With `set = { tensor = "*.exp_avg" }` only of tensors so named, in a distributed checkpoint.
    """
    name = strike.settings.get("tensor")
    if name is not None and not fnmatchcase(str(strike.call.keywords.get("tensor")), str(name)):
        return
    for tensor in strike.integers():
        start = strike.random.randrange(tensor.numel()) if strike.severity < 1 else 0
        tensor[start : start + max(8, int(tensor.numel() * strike.severity))] = 0
