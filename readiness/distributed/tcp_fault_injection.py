"""Fault injection into this process's TCP connections: cut like a pulled cable, or lossy. Needs no privileges.

A filter on a socket (Linux, SO_ATTACH_FILTER) sees each segment that arrives before TCP does; what it refuses was never
received: no acknowledgement, no error, retransmissions at the other end. That is what a network does that loses frames.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
#: Instructions of the classic packet filter: (code, jump if true, jump if false, operand). Source: linux/filter.h.
_LOAD_WORD, _JUMP_AT_LEAST, _RETURN = 0x20, 0x35, 0x06
_RANDOM_NUMBER = 0xFFFFF000 + 56
_ALL, _NOTHING = 0xFFFFFFFF, 0
_Instruction = tuple[int, int, int, int]


def connections() -> list[tuple[int, int, int]]:
    """Yield the TCP connections of this process: descriptor, local port, remote port."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        descriptor = int(entry.name)
        with contextlib.suppress(OSError), opened_socket(descriptor) as opened:
            if opened.type == socket.SOCK_STREAM and opened.family in (socket.AF_INET, socket.AF_INET6):
                found.append((descriptor, int(opened.getsockname()[1]), int(opened.getpeername()[1])))
    return sorted(found)


def cut(descriptors: list[int]) -> None:
    """Drop everything that arrives on these connections. Raises OSError."""
    _filter(descriptors, [(_RETURN, 0, 0, _NOTHING)])


def drop_share(descriptors: list[int], share: float) -> None:
    """Drop a random share of the segments that arrive on these connections. Raises OSError."""
    threshold = min(int(share * 2**32), 2**32 - 1)
    draw, decide = (_LOAD_WORD, 0, 0, _RANDOM_NUMBER), (_JUMP_AT_LEAST, 0, 1, threshold)
    _filter(descriptors, [draw, decide, (_RETURN, 0, 0, _ALL), (_RETURN, 0, 0, _NOTHING)])


def restore(descriptors: list[int]) -> None:
    """Stop dropping on those of these connections that still exist."""
    for descriptor in descriptors:
        # Another rank may have ended, and the library here has closed its connection to it.
        with contextlib.suppress(OSError), opened_socket(descriptor) as opened:
            opened.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _filter(descriptors: list[int], program: list[_Instruction]) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("@HP", len(program), ctypes.addressof(memory))
    for descriptor in descriptors:
        with opened_socket(descriptor) as opened:
            opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


@contextlib.contextmanager
def opened_socket(descriptor: int) -> Iterator[socket.socket]:
    """Wrap a descriptor that other code owns as a socket, within the block. Raises OSError if it is none."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise OSError(f"descriptor {descriptor} is not a socket")
    copy = os.dup(descriptor)
    try:
        opened = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with opened:
        yield opened
