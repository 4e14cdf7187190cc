"""All drills of `multichip.drills`, one after the other."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.model import Measurement, Note, Yield
from readiness.multichip import telling_drills
from readiness.multichip.drilling import Held, hold
from readiness.multichip.drills import DRILLS, Drill, Fault
from readiness.multichip.measurements import completion
from readiness.ranks import flight
from readiness.ranks.values import Failure, Placement, RanksOutcome, Trouble, speaks_tcp

#: Where a world fails before its fault, it is tried once more with so much more time: a busy host is no fault of a chip.
_SECOND_CHANCE = 3.0
#: What a busy host never does to a rank.
_CERTAIN = (Trouble.DIED, Trouble.LINGERED)


def every(
    accelerator: Accelerator, placement: Placement, settings: Mapping[str, Any], *, patience_s: float, start_s: float
) -> Iterator[Yield]:
    """Hold all drills that this stack and machine have the means for; tell each, and at the end whether all came about.

    The first has no fault, and as long a timeout as the world has time to start: where it fails, a rank has failed by
    itself, and the other drills would show nothing.
    """
    failure: Failure | None = None
    patience_s += flight.WATCHDOG_DUMP_S
    for drill in DRILLS:
        if drill.of_the_link and (reason := _no_link(accelerator)) is not None:
            yield telling_drills.not_held(drill, reason)
            continue
        yield Note(f"drill: {drill.name}")
        held = _held(drill, accelerator, placement, settings, patience_s, start_s)
        if held.told:
            yield from telling_drills.drill(held, placement)
        if held.broken is None:
            continue
        yield telling_drills.broken(drill, held.broken, placement)
        if drill.fault is Fault.NONE or held.broken.trouble in _CERTAIN:
            failure = held.broken
        if drill.fault is Fault.NONE:
            break
    completed = list(completion(RanksOutcome((), failure, 0.0), placement))
    yield from (item for item in completed if isinstance(item, Measurement))


def _held(
    drill: Drill,
    accelerator: Accelerator,
    placement: Placement,
    settings: Mapping[str, Any],
    patience_s: float,
    start_s: float,
) -> Held:
    seed = zlib.crc32(f"{accelerator.seed}/{drill.name}".encode())
    told = {**settings, "culprit": 1 + seed % (len(placement.ranks) - 1)}
    if drill.fault is Fault.NONE:
        told["timeout_s"] = start_s + 2 * accelerator.stack.connects_s  # we notice first, who can name the rank
        return hold(drill, accelerator, placement, told, patience_s=patience_s, start_s=start_s / 2)
    held = hold(drill, accelerator, placement, told, patience_s=told["timeout_s"] + patience_s, start_s=start_s)
    if held.broken is None or held.told:
        return held
    told["timeout_s"] *= _SECOND_CHANCE
    return hold(drill, accelerator, placement, told, patience_s=told["timeout_s"] + patience_s, start_s=start_s)


def _no_link(accelerator: Accelerator) -> str | None:
    """Why connections cannot be cut here, or None."""
    if sys.platform != "linux":
        return "connections are cut by a filter that Linux alone has"
    if not speaks_tcp(accelerator.stack.collective_backend or ""):
        return f"{accelerator.stack.collective_backend} does not move its data over this process's TCP connections alone"
    return None
