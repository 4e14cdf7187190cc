"""Transport baseline: a raw transfer between two ranks without torch, to compare a collective library with.

Where a device is host memory, that is a connection over the loopback interface, or over the network between two hosts; on a
device of its own, a copy within its memory, than which no link is faster.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator

import torch

from readiness.distributed import rendezvous
from readiness.distributed.types import RankContext

#: How long the other end may take to connect.
CONNECT_S = 20.0
#: What the other end says first, as a number that a double holds; and how long it may take to say it.
_WORD_BITS, _WORD_S = 52, 5.0


def kind(context: RankContext) -> str:
    """Return `socket` or `copy`."""
    return "socket" if context.accelerator.stack.host_backed else "copy"


@contextlib.contextmanager
def connection(context: RankContext, pair: tuple[int, ...] | None) -> Iterator[socket.socket | None]:
    """Open a connection between two ranks; None for other ranks, and for all if it fails: that is no chip's fault.

    All ranks must call it: they exchange the port through the status board, and a number by which the other end is known. It
    listens on the loopback interface only, or on the address by which other hosts reach this one, until the other end has
    connected.
    """
    with contextlib.ExitStack() as stack:
        listener = found = None
        if pair is not None and context.rank == pair[0]:
            with contextlib.suppress(OSError):
                listener = stack.enter_context(rendezvous.listener(context.address(context.rank)))
        ports = context.exchange(listener.getsockname()[1] if listener else 0)
        words = context.exchange(secrets.randbits(_WORD_BITS) if listener else 0)
        if pair is not None and (port := int(ports[pair[0]])):
            word = int(words[pair[0]]).to_bytes(8)
            with contextlib.suppress(OSError):
                if listener is not None:
                    found = stack.enter_context(_accepted(listener, word))
                    listener.close()
                else:
                    found = stack.enter_context(socket.create_connection((context.address(pair[0]), port), CONNECT_S))
                    found.sendall(word)
                found.settimeout(CONNECT_S)
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        missing = pair is not None and found is None
        yield None if any(context.exchange(missing)) else found


def _accepted(listener: socket.socket, word: bytes) -> socket.socket:
    """Accept the connection of a peer that knows the secret. Raises OSError on a timeout."""
    deadline = time.monotonic() + CONNECT_S
    while (left_s := deadline - time.monotonic()) > 0:
        listener.settimeout(left_s)
        come, _ = listener.accept()
        with contextlib.suppress(OSError):
            come.settimeout(_WORD_S)
            received = bytearray(len(word))
            _receive(come, memoryview(received))
            if secrets.compare_digest(received, word):
                return come
        come.close()
    raise TimeoutError("no connection with the password arrived")


def synchronize(link: socket.socket) -> None:
    """Wait until both ends are here, so that the first does not time the other's earlier work."""
    link.sendall(b"!")
    _receive(link, memoryview(bytearray(1)))


def there_and_back(link: socket.socket, content: memoryview, into: memoryview, *, first: bool) -> float:
    """Return the seconds of a block to the other end and of one back."""
    began = time.perf_counter()
    if first:
        link.sendall(content)
        _receive(link, into)
    else:
        _receive(link, into)
        link.sendall(content)
    return time.perf_counter() - began


def _receive(link: socket.socket, into: memoryview) -> None:
    while len(into):
        if not (count := link.recv_into(into)):
            raise ConnectionError("the other rank closed the raw connection")
        into = into[count:]


def copy(context: RankContext, block: torch.Tensor, target: torch.Tensor) -> float:
    """Return the seconds of two copies of a block within the device's memory, which is as far as there and back."""
    context.accelerator.synchronize()
    began = time.perf_counter()
    target.copy_(block)
    target.copy_(block)
    context.accelerator.synchronize()
    return time.perf_counter() - began
