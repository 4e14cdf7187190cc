"""Evidence pipe from a worker to the command line: framing, sending, reading and bounds of messages.

A message is one line: its number from 1 on, the CRC-32 of all the rest, and a JSON object with one key, which says what it
is: `ready` (the time limit starts), `measurement`, `row`, `note`, `accelerator`, `answer`, `end`. A check and its libraries
run in the process that holds this pipe, and may write into it, close it, or fork and go on twice. Whatever is no next
message makes all that comes after it no evidence: a fault, which the reader keeps.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import select
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from readiness.datamodel import AcceleratorFacts, Measurement, Note, Row, Status
from readiness.documents import schema
from readiness.documents.assessment import facts_from_json
from readiness.documents.strict_json import Json, number_from_json
from readiness.errors import Exit
from readiness.judging import measurement_values

#: Rows beyond this are counted, not kept: an assessment must stay readable.
MOST_ROWS = 20_000
MOST_MEASUREMENTS = 10_000
MOST_ACCELERATORS = 10_000
#: More than this from one check is a fault of the check.
MOST_BYTES = 32 * 2**20
MOST_MESSAGE_BYTES = 4 * 2**20

#: Of details, as the schema of the assessment has them.
_DEEPEST, _MOST_ITEMS, _MOST_NAMES, _LONGEST_TEXT = 8, 100_000, 10_000, 1_000_000
_LONGEST_NOTE, _LONGEST_REASON = 10_000, 100_000
_COPY = b"a copy of this process goes on"
_FOREIGN = "something other than readiness wrote to its evidence pipe"


@dataclass(frozen=True, slots=True)
class Ready:
    """Message: the worker is ready, and its time limit starts."""


@dataclass(frozen=True, slots=True)
class End:
    """Message: the worker has ended. `void` means that its measurements are invalid because its environment failed.

    `waited` is the share of its time, from 0 to 1, in which a thread was ready and had no CPU; None if it is not known.
    """

    status: Status
    reason: str | None
    environment: Mapping[str, Any] = field(default_factory=dict)
    void: bool = False
    waited: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Message: the JSON object that a function returned in a worker, or its failure (`readiness.engine.isolated_call`)."""

    value: Mapping[str, Any]


Message = Ready | Measurement | Row | Note | AcceleratorFacts | Answer | End


class PipeLostError(OSError):
    """The evidence pipe is closed or its descriptor was replaced: no message can be delivered any more."""


class Sender:
    """Worker's end of the pipe."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._pipe = _identity(descriptor)
        self._owner = os.getpid()
        self._number = 0

    def send(self, kind: str, value: Any) -> None:
        """Send one complete message. Raises PipeLostError for a lost pipe, ValueError for a message that is too large.

        A copy of the worker that a check made by fork, and that comes back to us, says so and ends here.
        """
        if os.getpid() != self._owner:
            with contextlib.suppress(OSError):
                self._write(_COPY + b"\n")
            os._exit(Exit.INTERNAL)
        payload = json.dumps({kind: value}, allow_nan=False).encode()
        if len(payload) > MOST_MESSAGE_BYTES:
            raise ValueError(f"a {kind} of {len(payload) >> 20} MiB is more than evidence may have")
        self._number += 1
        self._write(b"%d %s %s\n" % (self._number, _check_sum(b"%d" % self._number, payload), payload))

    def _write(self, line: bytes) -> None:
        left = memoryview(line)
        try:
            if _identity(self._descriptor) != self._pipe:  # closed, and the number is another file's now
                raise PipeLostError("the check has closed its evidence pipe")
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # somebody has set it so
                    waiting = select.poll()
                    waiting.register(self._descriptor, select.POLLOUT)
                    waiting.poll()
        except OSError as problem:
            raise PipeLostError(f"the evidence pipe is gone: {problem}") from problem


def _check_sum(number: bytes, payload: bytes) -> bytes:
    return b"%08x" % zlib.crc32(payload, zlib.crc32(number))


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


class Receiver:
    """Command line's end of the pipe: turns bytes into messages, up to the first invalid one.

    `fault` says what that was, in words; None as long as everything was in order. `flooded`: it was too much of all.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self.flooded = False
        self.ended = False
        self._buffer = bytearray()
        self._number = 0
        self._received = 0
        self._counts = {Measurement: 0, Row: 0, AcceleratorFacts: 0, Ready: 0, Answer: 0}

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that these bytes complete."""
        if self.fault is not None:
            return []
        self._received += len(data)
        if self._received > MOST_BYTES:
            self.flooded, self.fault = True, f"it sent more than {MOST_BYTES >> 20} MiB of evidence"
            return []
        searched = len(self._buffer)
        self._buffer += data
        end = self._buffer.rfind(b"\n", searched)
        found: list[Message] = []
        if end >= 0:
            lines = bytes(self._buffer[:end]).split(b"\n")
            del self._buffer[: end + 1]
            try:
                for line in lines:
                    found.append(self._message(line))  # noqa: PERF401 - those before a fault are kept
            except _FaultError as problem:
                self.fault = str(problem)
        if self.fault is None and len(self._buffer) > MOST_MESSAGE_BYTES + 64:
            self.fault = f"it sent a message of more than {MOST_MESSAGE_BYTES >> 20} MiB"
        return found

    def close(self) -> None:
        """Close the stream. A truncated message is normal for a dead process; any other rest is a fault."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        due = b"%d " % (self._number + 1)
        begun = due.startswith(rest) or (rest.startswith(due) and _BEGUN.fullmatch(rest[len(due) :]))
        if self.fault is None and rest and (self.ended or not begun):
            self.fault = _FOREIGN

    def _message(self, line: bytes) -> Message:
        if line == _COPY:
            raise _FaultError("a copy of its process, made by fork, went on with the check")
        number, _, rest = line.partition(b" ")
        crc, _, payload = rest.partition(b" ")
        if not _NUMBER.fullmatch(number) or crc != _check_sum(number, payload):
            raise _FaultError(_FOREIGN)
        if self.ended:
            raise _FaultError("its evidence continues after its end")
        self._number += 1
        if int(number) != self._number:
            raise _FaultError(f"its evidence has a gap or a repetition: message {int(number)} in place of {self._number}")
        try:
            message = parse(payload)
            self._count(message)
        except ValueError as problem:
            raise _FaultError(f"its evidence is malformed: {problem}") from None
        self.ended = isinstance(message, End)
        return message

    def _count(self, message: Message) -> None:
        for kind, most, what in (
            (Measurement, MOST_MEASUREMENTS, "measurements"), (Row, MOST_ROWS + 1, "rows"),
            (AcceleratorFacts, MOST_ACCELERATORS, "accelerators"), (Ready, 1, "ready messages"),
            (Answer, 1, "answer"),
        ):  # fmt: skip
            if isinstance(message, kind):
                self._counts[kind] += 1
                if self._counts[kind] > most:
                    raise ValueError(f"more than {most} {what}")


class _FaultError(Exception):
    """The message stream is invalid from here on."""


_NUMBER = re.compile(rb"[1-9][0-9]{0,15}")
#: The part of a message behind its number, cut short anywhere.
_BEGUN = re.compile(rb"[0-9a-f]{0,8}|[0-9a-f]{8} [\x20-\x7e]*")


def prepare() -> None:
    """Import and build in advance what messages about accelerators need."""
    schema.first_problem("assessment", {}, "accelerator")


def parse(payload: bytes) -> Message:
    """Parse and validate a JSON message. Raises ValueError with the reason."""
    try:
        message = json.loads(payload, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(message, dict) or len(message) != 1:
        raise ValueError("it is not an object of one key")
    ((kind, value),) = message.items()
    match kind:
        case "ready" if value is True:
            return Ready()
        case "measurement":
            return _measurement(value)
        case "row":
            return Row(_details(value, "a row"))
        case "note":
            return Note(_text(value, "a note", _LONGEST_NOTE))
        case "accelerator":
            return _accelerator(value)
        case "answer" if isinstance(value, dict):
            return Answer(value)
        case "end":
            return _end(value)
    raise ValueError(f"{kind[:50]!r} is not a message")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _measurement(value: Any) -> Measurement:
    message = _object(value, "a measurement", ("name", "value", "unit", "labels"), ("spread", "samples", "about"))
    numbers = {}
    for name in ("value", "spread"):
        number = message.get(name)
        if isinstance(number, str):
            try:
                number = number_from_json(number)
            except KeyError:
                raise ValueError(f"a measurement whose {name} is a text") from None
        numbers[name] = number
    found = Measurement(**{**message, **numbers})
    if (problem := measurement_values.refusal(found)) is not None:
        raise ValueError(f"a measurement: {problem}")
    return found


def _accelerator(value: Any) -> AcceleratorFacts:
    whole = {**value, "evidence": [], "findings": [], "verdicts": {}} if isinstance(value, dict) else value
    if (problem := schema.first_problem("assessment", whole, "accelerator")) is not None:
        raise ValueError(f"an accelerator: {problem.path_text}: {problem.message}")
    return facts_from_json(value)


def _end(value: Any) -> End:
    message = _object(value, "an end", ("status", "reason"), ("environment", "void", "waited"))
    status, reason = message["status"], message["reason"]
    if status not in (Status.MEASURED, Status.SKIPPED, Status.ERROR):  # the others are for us to tell
        raise ValueError("an end with an unknown status")
    if (reason is None) is not (status == Status.MEASURED):
        raise ValueError("an end whose reason does not fit its status")
    if reason is not None:
        _text(reason, "a reason", _LONGEST_REASON)
    if type(message.get("void", False)) is not bool:
        raise ValueError("an end whose `void` is not a boolean")
    waited = message.get("waited")
    if waited is not None and (type(waited) not in (int, float) or not 0 <= waited <= 1):
        raise ValueError("an end whose `waited` is no share")
    environment = _details(message.get("environment", {}), "an environment")
    return End(Status(status), reason, environment, message.get("void", False), waited)


def _object(value: Any, what: str, needed: Sequence[str], allowed: Sequence[str]) -> Json:
    if not isinstance(value, dict):
        raise ValueError(f"{what} that is not an object")
    if not set(needed) <= value.keys() <= {*needed, *allowed}:
        raise ValueError(f"{what} with other keys than {', '.join((*needed, *allowed))}")
    return value


def _text(value: Any, what: str, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{what} that is not a text of at most {longest} characters")
    return value


def _details(value: Any, what: str) -> Json:
    """Validate details for people within the bounds of the assessment's schema."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} that is not an object")
    left: list[tuple[Any, int]] = [(value, 0)]
    while left:
        item, depth = left.pop()
        match item:
            case dict() | list() if depth == _DEEPEST:
                raise ValueError(f"{what} of more than {_DEEPEST} levels")
            case dict() if len(item) <= _MOST_NAMES:
                left += ((inner, depth + 1) for inner in item.values())
            case list() if len(item) <= _MOST_ITEMS:
                left += ((inner, depth + 1) for inner in item)
            case str() if len(item) <= _LONGEST_TEXT:
                pass
            case float() if math.isfinite(item):
                pass
            case None | bool() | int():
                pass
            case _:
                raise ValueError(f"{what} with something in it that is too large")
    return value
