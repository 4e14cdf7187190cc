"""Defects that cost time."""

from __future__ import annotations

import time

from readiness.simulator.faults import kind
from readiness.simulator.injection import Injection, Stage


def _delay(injection: Injection) -> None:
    """Make a call as slow as if only this share of the speed remained."""
    share = min(max(injection.severity, 1e-4), 1.0)
    time.sleep(injection.call.seconds * (1 / share - 1))


@kind("slow", at=Stage.AFTER, severity=0.1, unit="share of the speed that remains")
def slow(injection: Injection) -> None:
    """The call takes longer than it should, always."""
    _delay(injection)


@kind("throttle", at=Stage.AFTER, severity=0.3, unit="share of the speed that remains", warm=True)
def throttle(injection: Injection) -> None:
    """The chip slows down once it is warm: from 80 degrees, or from the moment that `when` names."""
    _delay(injection)


@kind("straggler", at=Stage.BEFORE, severity=0.05, unit="s a call", domain=("c10d::*",))
def straggler(injection: Injection) -> None:
    """The chip comes late to every call."""
    time.sleep(injection.severity)


#: No transfer of the host's memory takes longer, however busy the host: the rest of what a call took was waiting. Where each
#: of several ranks in a row waits for the one before, sleeping as long as one waited would double at each.
_START_S, _SLOWEST_BYTES_A_S = 0.005, 1e8


@kind("link-slow", at=Stage.AROUND, severity=0.25, unit="share of the speed that remains", domain="c10d::*")
def link_slow(injection: Injection) -> None:
    """Transfers of this chip are slower; with `set = { peer = 2 }` those with chip 2 only."""
    call = injection.call
    share = min(max(injection.severity, 1e-4), 1.0)
    # The least that such calls have taken: this one may have waited for a rank that is slowed as well, and so on without
    # end.
    least: dict[tuple[int, str], float] = injection.memory.setdefault("least_s", {})
    size = sum(tensor.nbytes for tensor in call.tensors)
    sends = call.name.endswith("::send")
    if call.ended:
        least[size, call.name] = min(call.seconds, least.get((size, call.name), call.seconds))
    # What is sent must be late at the other end, what is received is late here.
    if sends is not call.ended:
        # A send returns when the data are on their way, and who waits for an answer waits for both ways: on the average of
        # the two it is one.
        ways = [seconds for (other, _), seconds in least.items() if other == size]
        usual = min(sum(ways) / max(len(ways), 1), _START_S + size / _SLOWEST_BYTES_A_S)
        time.sleep(usual * (1 / share - 1))


@kind("link-flap", at=Stage.BEFORE, severity=2.0, unit="s without a link", domain="c10d::*")
def link_flap(injection: Injection) -> None:
    """The link goes down now and then and comes back: a transfer waits so many seconds."""
    time.sleep(injection.severity)
