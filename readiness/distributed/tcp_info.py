"""TCP connections of this process from the kernel (TCP_INFO): retransmissions and unacknowledged segments.

A library that waits cannot tell a peer that is slow from a link that is cut; the kernel can: what it sends is no longer
acknowledged. It acknowledges for a process that is stopped or busy, so silence comes from the link or a dead machine.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from readiness.distributed.tcp_fault_injection import connections, opened_socket
from readiness.distributed.types import Json

#: Of `struct tcp_info` (linux/tcp.h): retransmissions since the last answer, segments that wait for one, milliseconds
#: since the last one, round trip in microseconds, retransmissions in all.
_RETRIES, _WAITING, _ANSWERED_MS, _ROUND_TRIP_US, _RESENT = 2, 24, 56, 68, 100
_LONG_MS = 300


@dataclass(frozen=True, slots=True)
class Connection:
    """TCP connection: ports, round trip in seconds, retransmitted segments, and whether it is unanswered."""

    local_port: int
    remote_port: int
    round_trip_s: float
    retransmissions: int
    unanswered: bool


def tcp_connections() -> list[Connection]:
    """Return the TCP connections of this process; none if the kernel is not Linux."""
    return list(_inspect()) if sys.platform == "linux" else []


def _inspect() -> Iterator[Connection]:
    for descriptor, own, other in connections():
        with contextlib.suppress(OSError), opened_socket(descriptor) as opened:
            info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            waiting, answered_ms, round_trip_us, resent = (
                struct.unpack_from("=I", info, at)[0] for at in (_WAITING, _ANSWERED_MS, _ROUND_TRIP_US, _RESENT)
            )
            dead = waiting > 0 and (info[_RETRIES] > 1 or answered_ms > _LONG_MS)
            yield Connection(own, other, round_trip_us / 1e6, resent, dead)


def tcp_report() -> Json:
    """Return the port pairs of all connections and of the unanswered ones, as a rank reports them."""
    found = tcp_connections()
    return {
        "ends": [[one.local_port, one.remote_port] for one in found],
        "unanswered": [[one.local_port, one.remote_port] for one in found if one.unanswered],
    }


def dead_links(by_rank: Mapping[int, Json]) -> set[tuple[int, int]]:
    """Return the pairs of ranks with an unanswered connection, from the reports of all ranks."""
    owners = {(own, other): rank for rank, report in by_rank.items() for own, other in report["ends"]}
    found = set()
    for rank, report in by_rank.items():
        for own, other in report["unanswered"]:
            peer = owners.get((other, own))
            if peer is not None and peer != rank:
                found.add((min(rank, peer), max(rank, peer)))
    return found
