"""A board in shared memory on which every rank marks the operation it enters and leaves; the parent reads it.

It goes on working while a rank is blocked in C, and it is what tells the rank that stays away from a collective from
those that wait for it. Ranks agree with each other over it as well: a collective under test is no way to agree.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

_MARK = struct.Struct("<QQ112s")
#: A number that a rank tells the others, and how many it has told. Two of them take turns: a rank may be one ahead.
_NUMBER = struct.Struct("<Qd")
_COUNT, _VALUE = struct.Struct("<Q"), struct.Struct("<d")
_RECORD_BYTES = _MARK.size + 2 * _NUMBER.size
_POLL_S = 0.0005


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
        self._told = 0
        size = ranks * _RECORD_BYTES
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
        entered, left, name = _MARK.unpack_from(self._memory, rank * _RECORD_BYTES)
        return Mark(entered, left, name.rstrip(b"\0").decode(errors="replace"))

    def marks(self) -> tuple[Mark, ...]:
        """All records."""
        return tuple(map(self.read, range(self.ranks)))

    def share(self, rank: int, number: float) -> tuple[float, ...]:
        """Every rank's number, by rank. Waits until all of them have told theirs; they must all call it as often."""
        self._told += 1
        turn = _MARK.size + self._told % 2 * _NUMBER.size
        place = rank * _RECORD_BYTES + turn
        # The number before the count that says it is there: who sees the one has the other as well.
        _VALUE.pack_into(self._memory, place + _COUNT.size, number)
        _COUNT.pack_into(self._memory, place, self._told)
        numbers = []
        for other in range(self.ranks):
            while (told := _NUMBER.unpack_from(self._memory, other * _RECORD_BYTES + turn))[0] < self._told:
                time.sleep(_POLL_S)
            numbers.append(told[1])
        return tuple(numbers)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()

    def _write(self, rank: int, entered: int, left: int, operation: str) -> None:
        _MARK.pack_into(self._memory, rank * _RECORD_BYTES, entered, left, operation.encode()[:112])
