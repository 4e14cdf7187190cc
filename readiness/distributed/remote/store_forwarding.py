"""Forwarding of the rendezvous store to ranks on other hosts.

It listens on the loopback interface of the run's host. On another host the agent listens, on loopback too, and what ranks
there send goes through the line to a connection here, as it is: nothing of the store can be reached through a network.
"""

from __future__ import annotations

import base64
import contextlib
import os
import selectors
import socket
import sys
from pathlib import Path

from readiness.distributed import rendezvous
from readiness.distributed.types import LOOPBACK, Json

#: What one message carries, and how long a process may take to read what was sent to it.
_BYTES, _PATIENCE_S = 1 << 16, 5.0
#: A rank has one connection for each group that it is in.
_MOST_CONNECTIONS = 4096


class Forwarding:
    """Store connections of a rank group at one end, by number. Registers its sockets with a selector, as their data.

    Messages are `{"store": [number, base64 of what came]}`, with nothing in them where the connection has ended.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._connections: dict[int, socket.socket] = {}

    def ready(self, opened: object) -> Json | None:
        """Return the data of a ready socket as a message to the other end; None if there is none."""
        number, known = next((pair for pair in self._connections.items() if pair[1] is opened), (0, None))
        if known is None:
            return None
        content = b""
        with contextlib.suppress(OSError):
            content = known.recv(_BYTES)
        if not content:
            self._end(number)
        return {"store": [number, base64.b64encode(content).decode()]}

    def take(self, number: int, text: str) -> Json | None:
        """Forward data from the other end; return an end message if that fails.

        Raises ValueError for what no other end says.
        """
        try:
            content = base64.b64decode(text, validate=True)
        except (ValueError, TypeError) as problem:
            raise ValueError(f"not base64: {problem}") from None
        if not content:
            self._end(number)
            return None
        try:
            self._connection(number).sendall(content)
        except OSError:
            self._end(number)
            return {"store": [number, ""]}
        return None

    def close(self) -> None:
        """End all connections."""
        for number in list(self._connections):
            self._end(number)

    def _connection(self, number: int) -> socket.socket:
        """Return a connection by number. Raises OSError if there is none."""
        if number not in self._connections:
            raise ConnectionError("this connection has ended")
        return self._connections[number]

    def _add(self, number: int, opened: socket.socket) -> None:
        opened.settimeout(_PATIENCE_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[number] = opened
        self._selector.register(opened, selectors.EVENT_READ, self)

    def _end(self, number: int) -> None:
        if (opened := self._connections.pop(number, None)) is not None:
            self._selector.unregister(opened)
            opened.close()


class ToStore(Forwarding):
    """End on the run's host: one connection to the store for each connection on the other host."""

    def __init__(self, selector: selectors.BaseSelector, place: str) -> None:
        super().__init__(selector)
        self._address, _ = rendezvous.served_at(place)
        self._last = 0

    def _connection(self, number: int) -> socket.socket:
        if number > self._last:  # numbers only grow: one that ended here does not begin anew
            if len(self._connections) >= _MOST_CONNECTIONS:
                raise ConnectionError("too many connections")
            self._last = number
            self._add(number, socket.create_connection(self._address, _PATIENCE_S))
        return super()._connection(number)


class FromRanks(Forwarding):
    """End on another host: accepts connections of local ranks on the loopback interface, and rejects other users."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self._listener = rendezvous.listener(LOOPBACK)
        self._port = self._listener.getsockname()[1]
        self._number = 0
        selector.register(self._listener, selectors.EVENT_READ, self)

    def place(self, place: str) -> str:
        """Return the local address of the store that the run's host serves."""
        _, attempt = rendezvous.served_at(place)
        return f"tcp://{LOOPBACK}:{self._port}/{attempt}"

    @property
    def descriptors(self) -> list[int]:
        """Descriptors that a forked rank must close."""
        return [self._listener.fileno(), *(opened.fileno() for opened in self._connections.values())]

    def ready(self, opened: object) -> Json | None:
        """Extend the base class: a new connection is announced by its first data."""
        if opened is not self._listener:
            return super().ready(opened)
        with contextlib.suppress(OSError):
            made, other = self._listener.accept()
            if len(self._connections) < _MOST_CONNECTIONS and of_this_user(other[1], self._port):
                self._number += 1
                self._add(self._number, made)
            else:
                made.close()
        return None

    def close(self) -> None:
        """End all connections, and do not listen any more."""
        super().close()
        self._selector.unregister(self._listener)
        self._listener.close()


def of_this_user(port: int, to: int, tables: Path = Path("/proc/self/net")) -> bool:
    """True if a process of this user made the connection between these ports of the loopback interface.

    The kernel knows the owner of each end (proc(5)). Where it does not tell, everybody is believed.
    """
    try:
        lines = [line for table in ("tcp", "tcp6") for line in (tables / table).read_text().splitlines()[1:]]
    except OSError:
        return True
    loopback = int.from_bytes(socket.inet_aton(LOOPBACK), sys.byteorder)
    wanted = [f"{loopback:08X}:{end:04X}" for end in (port, to)]
    for fields in map(str.split, lines):
        # An address of IPv4 is the end of one of IPv6, as which most libraries use it.
        if [end[-len(wanted[0]) :] for end in fields[1:3]] == wanted:
            # Of an end that its process has closed already, the kernel says that it is root's.
            return int(fields[7]) in (0, os.geteuid()) and fields[9] != "0"
    return False
