"""The state of this process's TCP connections as the kernel knows it: what was sent again, and what nobody answers.

A library that waits cannot tell a peer that is slow from a wire that is cut; the kernel can: what it sends is no longer
acknowledged. It acknowledges for a process that is stopped or busy, so silence is the wire's, or a dead machine's.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from readiness.ranks.cutting import connections, opened_socket
from readiness.ranks.values import Json

#: Of `struct tcp_info` (linux/tcp.h): retransmissions since the last answer, segments that wait for one, milliseconds
#: since the last one, round trip in microseconds, retransmissions in all.
_RETRIES, _WAITING, _ANSWERED_MS, _ROUND_TRIP_US, _RESENT = 2, 24, 56, 68, 100
_LONG_MS = 300


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection: the ports of both ends, the round trip in seconds, segments sent again, and whether it is dead."""

    own: int
    other: int
    round_trip_s: float
    resent: int
    unanswered: bool


def conditions() -> list[Connection]:
    """Every TCP connection of this process; none where the kernel is not Linux."""
    return list(_look()) if sys.platform == "linux" else []


def _look() -> Iterator[Connection]:
    for descriptor, own, other in connections():
        with contextlib.suppress(OSError), opened_socket(descriptor) as opened:
            info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            waiting, answered_ms, round_trip_us, resent = (
                struct.unpack_from("=I", info, at)[0] for at in (_WAITING, _ANSWERED_MS, _ROUND_TRIP_US, _RESENT)
            )
            dead = waiting > 0 and (info[_RETRIES] > 1 or answered_ms > _LONG_MS)
            yield Connection(own, other, round_trip_us / 1e6, resent, dead)


def told() -> Json:
    """The ends of this process's connections, and of those that are dead: what a rank tells its parent."""
    found = conditions()
    return {
        "ends": [[one.own, one.other] for one in found],
        "unanswered": [[one.own, one.other] for one in found if one.unanswered],
    }


def dead_links(by_rank: Mapping[int, Json]) -> set[tuple[int, int]]:
    """The pairs of ranks between which something goes unanswered, from what each of them told."""
    owners = {(own, other): rank for rank, wires in by_rank.items() for own, other in wires["ends"]}
    found = set()
    for rank, wires in by_rank.items():
        for own, other in wires["unanswered"]:
            peer = owners.get((other, own))
            if peer is not None and peer != rank:
                found.add((min(rank, peer), max(rank, peer)))
    return found
