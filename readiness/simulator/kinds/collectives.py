"""Defects of collectives. They act on the results of a finished call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from readiness.simulator.kinds import Moment, kind

if TYPE_CHECKING:
    from readiness.simulator.strikes import Strike


@kind("collective-corrupt", at=Moment.AFTER, severity=1e-2, unit="relative error", domain="c10d::*")
def collective_corrupt(strike: Strike) -> None:
    """One element of what a rank receives is wrong by the severity (of whole numbers: by one at least)."""
    for tensor in [*strike.floats(), *strike.integers()][:1]:
        flat = tensor.view(-1) if tensor.is_contiguous() else tensor.reshape(-1)
        index = strike.random.randrange(flat.numel())
        if tensor.is_floating_point():
            value = float(flat[index])
            flat[index] = value + (abs(value) * strike.severity or strike.severity)
        elif not tensor.is_complex():
            count = int(flat[index])
            flat[index] = count + max(1, int(abs(count) * strike.severity)) if tensor.dtype.is_signed else count ^ 1


@kind("collective-mismatch", at=Moment.AFTER, severity=1e-6, unit="relative difference", domain="c10d::*")
def collective_mismatch(strike: Strike) -> None:
    """The ranks end with different results: all elements of this one's differ in the last digits."""
    import torch

    if strike.silicon.number == 0 and not strike.settings.get("first", False):
        return  # somebody must keep the right result for the others to differ from
    for tensor in strike.floats():
        tensor.mul_(1 + max(strike.severity, 2 * torch.finfo(tensor.dtype).eps))
