"""A board in shared memory on which every rank marks the operation it enters and leaves; the parent reads it.

It goes on working while a rank is blocked in C, and it is what tells the rank that stays away from a collective from
those that wait for it. Ranks agree with each other over it as well: a collective under test is no way to agree. And each
rank's heart beats there, for as long as any thread of it gets to run. Each host has a board of its own; what ranks write
on one is carried to the others (`readiness.ranks.relay`).
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
#: A number that a rank tells the others, and how many it has told. Two of them take turns: a rank may be one ahead.
_COUNT, _NUMBER = struct.Struct("<Q"), struct.Struct("<d")
_TURN_BYTES = _COUNT.size + _NUMBER.size
#: When the rank last showed that it is alive, on the clock that all processes of a machine share; 0 before the first time.
_BEAT = struct.Struct("<d")
_BEAT_AT = _MARK.size + 2 * _TURN_BYTES
_RECORD_BYTES = _BEAT_AT + _BEAT.size
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

    def beat(self, rank: int) -> None:
        """Show that the rank's process gets to run."""
        _BEAT.pack_into(self._memory, rank * _RECORD_BYTES + _BEAT_AT, time.monotonic())

    def silent_s(self, rank: int) -> float:
        """For how long the rank has shown no sign of life; 0 where it never has."""
        (last,) = _BEAT.unpack_from(self._memory, rank * _RECORD_BYTES + _BEAT_AT)
        return max(time.monotonic() - last, 0.0) if last else 0.0

    def record(self, rank: int) -> bytes:
        """All that a rank has written, to be carried to another board (`copy`)."""
        place = rank * _RECORD_BYTES
        mark = self._memory[place : place + _MARK.size]
        # The count before its number, as whoever reads them does.
        counts = [self._memory[at : at + _COUNT.size] for at in self._turns(rank)]
        numbers = [self._memory[at + _COUNT.size : at + _TURN_BYTES] for at in self._turns(rank)]
        return b"".join([mark, *itertools.chain(*zip(counts, numbers, strict=True))])

    def turns(self, rank: int) -> bytes:
        """What a rank has told the others (`share`), as bytes that change with it."""
        return self.record(rank)[_MARK.size :]

    def copy(self, rank: int, record: bytes) -> None:
        """Write what a rank wrote on another board: a number before its count, as `share` does."""
        place = rank * _RECORD_BYTES
        for number, at in enumerate(self._turns(rank)):
            begin = _MARK.size + number * _TURN_BYTES
            self._memory[at + _COUNT.size : at + _TURN_BYTES] = record[begin + _COUNT.size : begin + _TURN_BYTES]
            self._memory[at : at + _COUNT.size] = record[begin : begin + _COUNT.size]
        self._memory[place : place + _MARK.size] = record[: _MARK.size]

    def _turns(self, rank: int) -> tuple[int, int]:
        first = rank * _RECORD_BYTES + _MARK.size
        return first, first + _TURN_BYTES

    def share(self, rank: int, number: float, within_s: float = float("inf")) -> tuple[float, ...]:
        """Every rank's number, by rank. Waits until all of them have told theirs; they must all call it as often.

        Raises TimeoutError after `within_s`, with which the meetings of these ranks are over for good.
        """
        until = time.monotonic() + within_s
        self._told += 1
        turn = _MARK.size + self._told % 2 * _TURN_BYTES
        # The number before its count: who sees the count must not find the number of two turns ago.
        _NUMBER.pack_into(self._memory, rank * _RECORD_BYTES + turn + _COUNT.size, number)
        _COUNT.pack_into(self._memory, rank * _RECORD_BYTES + turn, self._told)
        numbers = []
        for other in range(self.ranks):
            place = other * _RECORD_BYTES + turn
            while _COUNT.unpack_from(self._memory, place)[0] < self._told:
                if time.monotonic() > until:
                    raise TimeoutError(f"rank {other} has not come within {within_s:g} s")
                time.sleep(_POLL_S)
            numbers.append(_NUMBER.unpack_from(self._memory, place + _COUNT.size)[0])
        return tuple(numbers)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()

    def _write(self, rank: int, entered: int, left: int, operation: str) -> None:
        _MARK.pack_into(self._memory, rank * _RECORD_BYTES, entered, left, operation.encode()[:112])
