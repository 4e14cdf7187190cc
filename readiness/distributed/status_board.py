"""Status board in shared memory: ranks mark each operation that they enter and leave; the parent reads the marks.

It works while a rank is blocked in C, and shows which rank stays away from a collective in which the others wait.
Ranks exchange numbers through it too, since a collective under test is no way to agree. Each rank writes a heartbeat
there for as long as any of its threads gets to run. Each host has a board of its own; what ranks write on one is copied
to the others (`readiness.distributed.remote.proxy`).
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

_MARK = struct.Struct("<QQ112s")
#: A number that a rank hands to the others, and how many it has handed out. Two slots take turns: a rank may be one ahead.
_COUNT, _NUMBER = struct.Struct("<Q"), struct.Struct("<d")
_SLOT_BYTES = _COUNT.size + _NUMBER.size
#: The time of the rank's last heartbeat, on the clock that all processes of a machine share; 0 before the first one.
_HEARTBEAT = struct.Struct("<d")
_HEARTBEAT_AT = _MARK.size + 2 * _SLOT_BYTES
_RECORD_BYTES = _HEARTBEAT_AT + _HEARTBEAT.size
#: How often a rank that waits looks for the others: after a long wait seldom, since hundreds of ranks may rest on one host's
#: cores, and never so late that it matters beside the time it has waited.
_POLL_S, _SLOWEST_POLL_S, _POLL_SHARE = 0.0005, 0.004, 0.02


@dataclass(frozen=True, slots=True)
class Mark:
    """Position of a rank: the numbers of operations that it entered and left, and the last one's name."""

    entered: int
    left: int
    operation: str


class StatusBoard:
    """Shared file with one record per rank; a rank writes only its own."""

    def __init__(self, descriptor: int, ranks: int) -> None:
        self.ranks = ranks
        self._exchanged = 0
        size = ranks * _RECORD_BYTES
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        self._memory = mmap.mmap(descriptor, size)

    @contextlib.contextmanager
    def step(self, rank: int, operation: str) -> Iterator[None]:
        """Mark an operation as entered and, unless it raises, as left."""
        mark = self.read(rank)
        self._write(rank, mark.entered + 1, mark.left, operation)
        yield
        self._write(rank, mark.entered + 1, mark.left + 1, operation)

    def read(self, rank: int) -> Mark:
        """Return a rank's record. A concurrent write may mix two states; the next read corrects it."""
        entered, left, name = _MARK.unpack_from(self._memory, rank * _RECORD_BYTES)
        return Mark(entered, left, name.rstrip(b"\0").decode(errors="replace"))

    def marks(self) -> tuple[Mark, ...]:
        """Return all records."""
        return tuple(map(self.read, range(self.ranks)))

    def heartbeat(self, rank: int) -> None:
        """Write a heartbeat of the rank: its process is running."""
        _HEARTBEAT.pack_into(self._memory, rank * _RECORD_BYTES + _HEARTBEAT_AT, time.monotonic())

    def silent_s(self, rank: int) -> float:
        """Return the seconds since the rank's last heartbeat; 0 before the first."""
        (last,) = _HEARTBEAT.unpack_from(self._memory, rank * _RECORD_BYTES + _HEARTBEAT_AT)
        return max(time.monotonic() - last, 0.0) if last else 0.0

    def record(self, rank: int) -> bytes:
        """Return the rank's record without its heartbeat, for `copy` to another board."""
        place = rank * _RECORD_BYTES
        mark = self._memory[place : place + _MARK.size]
        # The count before its number, as `exchange` reads them.
        counts = [self._memory[at : at + _COUNT.size] for at in self._slots(rank)]
        numbers = [self._memory[at + _COUNT.size : at + _SLOT_BYTES] for at in self._slots(rank)]
        return b"".join([mark, *itertools.chain(*zip(counts, numbers, strict=True))])

    def exchanged_bytes(self, rank: int) -> bytes:
        """Return the numbers that a rank has written for `exchange`, as bytes that change with every call."""
        return self.record(rank)[_MARK.size :]

    def copy(self, rank: int, record: bytes) -> None:
        """Copy a rank's record from another board: each number before its count, as `exchange` does."""
        place = rank * _RECORD_BYTES
        for number, at in enumerate(self._slots(rank)):
            begin = _MARK.size + number * _SLOT_BYTES
            self._memory[at + _COUNT.size : at + _SLOT_BYTES] = record[begin + _COUNT.size : begin + _SLOT_BYTES]
            self._memory[at : at + _COUNT.size] = record[begin : begin + _COUNT.size]
        self._memory[place : place + _MARK.size] = record[: _MARK.size]

    def _slots(self, rank: int) -> tuple[int, int]:
        first = rank * _RECORD_BYTES + _MARK.size
        return first, first + _SLOT_BYTES

    def exchange(self, rank: int, number: float, within_s: float = float("inf")) -> tuple[float, ...]:
        """All-gather of one number per rank in shared memory, and a barrier. All ranks must call it equally often.

        Raises TimeoutError after `within_s`; after that no exchange of these ranks can succeed any more.
        """
        began = time.monotonic()
        self._exchanged += 1
        slot = _MARK.size + self._exchanged % 2 * _SLOT_BYTES
        # The number before its count: who sees the count must not find the number of two turns ago.
        _NUMBER.pack_into(self._memory, rank * _RECORD_BYTES + slot + _COUNT.size, number)
        _COUNT.pack_into(self._memory, rank * _RECORD_BYTES + slot, self._exchanged)
        numbers = []
        for other in range(self.ranks):
            place = other * _RECORD_BYTES + slot
            while _COUNT.unpack_from(self._memory, place)[0] < self._exchanged:
                waited_s = time.monotonic() - began
                if waited_s > within_s:
                    raise TimeoutError(f"rank {other} did not arrive within {within_s:g} s")
                time.sleep(min(max(_POLL_S, _POLL_SHARE * waited_s), _SLOWEST_POLL_S))
            numbers.append(_NUMBER.unpack_from(self._memory, place + _COUNT.size)[0])
        return tuple(numbers)

    def close(self) -> None:
        """Unmap the memory."""
        self._memory.close()

    def _write(self, rank: int, entered: int, left: int, operation: str) -> None:
        _MARK.pack_into(self._memory, rank * _RECORD_BYTES, entered, left, operation.encode()[:112])
