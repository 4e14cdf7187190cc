"""A board in shared memory on which every rank marks the operation it enters and leaves; the parent reads it.

It goes on working while a rank is blocked in C, and it is what tells the rank that stays away from a collective from
those that wait for it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_RECORD = struct.Struct("<QQ112s")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a rank is: how many operations it entered and left, and the last one's name."""

    entered: int
    left: int
    operation: str


class Board:
    """One record for each rank over an open file of the right size; a rank writes its own record only."""

    def __init__(self, descriptor: int, ranks: int) -> None:
        self.ranks = ranks
        size = ranks * _RECORD.size
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        self._memory = mmap.mmap(descriptor, size)

    @contextlib.contextmanager
    def step(self, rank: int, operation: str) -> Iterator[None]:
        """Mark the operation entered and, unless it raises, left."""
        mark = self.read(rank)
        self._write(rank, mark.entered + 1, mark.left, operation)
        yield
        self._write(rank, mark.entered + 1, mark.left + 1, operation)

    def read(self, rank: int) -> Mark:
        """A rank's record. One read while it is being written may mix two states: the next read mends it."""
        entered, left, name = _RECORD.unpack_from(self._memory, rank * _RECORD.size)
        return Mark(entered, left, name.rstrip(b"\0").decode(errors="replace"))

    def marks(self) -> tuple[Mark, ...]:
        """All records."""
        return tuple(map(self.read, range(self.ranks)))

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()

    def _write(self, rank: int, entered: int, left: int, operation: str) -> None:
        _RECORD.pack_into(self._memory, rank * _RECORD.size, entered, left, operation.encode()[:112])
