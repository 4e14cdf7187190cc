"""Parent of `multichip.drills`: injects all faults, one after the other."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Measurement, Note, Yield
from readiness.distributed import flight_recorder
from readiness.distributed.types import Failure, FailureKind, Placement, RanksOutcome, speaks_tcp
from readiness.probes.rank_faults import measurements
from readiness.probes.rank_faults.fault_injection import FaultOutcome, inject
from readiness.probes.rank_faults.faults import RANK_FAULTS, Fault, Settings
from readiness.probes.ranks_common.measurements import completion

#: Where a group fails before its fault, it is tried once more with so much more time: a busy host is no fault of a chip.
_SECOND_CHANCE = 3.0
#: What a busy host never does to a rank.
_CERTAIN = (FailureKind.DIED, FailureKind.LINGERED)


def inject_all(
    accelerator: Accelerator, placement: Placement, *, timeout_s: float, loss: float, patience_s: float, start_s: float
) -> Iterator[Yield]:
    """Inject all faults that this stack and machine support; yield the measurements of each, and whether all finished.

    The first is the control run, with as long a timeout as the group has time to start: where it fails, a rank has failed
    by itself, and the faults would show nothing.
    """
    failure: Failure | None = None
    patience_s += flight_recorder.WATCHDOG_DUMP_S
    for rank_fault in RANK_FAULTS:
        if rank_fault.affects_links and (reason := _no_links_to_cut(accelerator)) is not None:
            yield measurements.not_possible(rank_fault, reason)
            continue
        yield Note(f"drill: {rank_fault.name}")
        culprit = 1 + zlib.crc32(f"{accelerator.seed}/{rank_fault.name}".encode()) % (len(placement.ranks) - 1)
        settings = Settings(rank_fault, culprit, timeout_s, loss)
        outcome = _inject(accelerator, placement, settings, patience_s, start_s)
        if outcome.responses:
            yield from measurements.fault_measurements(outcome, placement)
        if outcome.prevented is None:
            continue
        yield measurements.prevented(rank_fault, outcome.prevented, placement)
        if rank_fault.fault is Fault.NONE or outcome.prevented.kind in _CERTAIN:
            failure = outcome.prevented
        if rank_fault.fault is Fault.NONE:
            break
    completed = list(completion(RanksOutcome((), failure, 0.0), placement))
    yield from (item for item in completed if isinstance(item, Measurement))


def _inject(
    accelerator: Accelerator, placement: Placement, settings: Settings, patience_s: float, start_s: float
) -> FaultOutcome:
    if settings.rank_fault.fault is Fault.NONE:
        # Our own patience ends first, since we can name the rank.
        relaxed = _with_timeout(settings, start_s + 2 * accelerator.stack.connect_timeout_s)
        return inject(accelerator, placement, relaxed, patience_s=patience_s, start_s=start_s / 2)
    outcome = inject(accelerator, placement, settings, patience_s=settings.timeout_s + patience_s, start_s=start_s)
    if outcome.prevented is None or outcome.responses:
        return outcome
    relaxed = _with_timeout(settings, settings.timeout_s * _SECOND_CHANCE)
    return inject(accelerator, placement, relaxed, patience_s=relaxed.timeout_s + patience_s, start_s=start_s)


def _with_timeout(settings: Settings, timeout_s: float) -> Settings:
    return Settings(settings.rank_fault, settings.culprit, timeout_s, settings.loss)


def _no_links_to_cut(accelerator: Accelerator) -> str | None:
    """Return why connections cannot be cut here, or None."""
    if sys.platform != "linux":
        return "connections are cut by a filter that only Linux has"
    if not speaks_tcp(accelerator.stack.collective_backend or ""):
        return f"{accelerator.stack.collective_backend} does not move its data over TCP connections of this process only"
    return None
