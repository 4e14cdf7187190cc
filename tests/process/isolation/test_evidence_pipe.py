"""Messages through the pipe: whole and in order they come out as they went in; whatever else happens to them is a fault."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readiness.datamodel import AcceleratorFacts, Evidence, Measurement, Note, Row, Status
from readiness.documents import assessment
from readiness.documents.schema import first_problem
from readiness.errors import Exit
from readiness.isolation import evidence_pipe
from readiness.isolation.evidence_pipe import End, Message, PipeLostError, Ready, Receiver, Sender
from readiness.judging import measurement_values

FACTS = AcceleratorFacts("cuda:1", "cuda", 1, "cuda", "NVIDIA", "H200", software={"driver": "570", "firmware": None})
MEASUREMENT = Measurement("figure", 1.5, {"dtype": "float32"}, "GB/s", 0.1, 7, "rank 1")
SENT: list[tuple[str, Any, Message]] = [
    ("ready", True, Ready()),
    ("note", "at work", Note("at work")),
    ("measurement", assessment.measurement_to_json(MEASUREMENT), MEASUREMENT),
    ("row", {"op": "add", "deep": [{"x": [1, None, True, 1e300]}]}, Row({"op": "add", "deep": [{"x": [1, None, True, 1e300]}]})),
    ("accelerator", assessment.facts_to_json(FACTS), FACTS),
    (
        "end", {"status": "measured", "reason": None, "environment": {"torch": "2"}, "waited": 0.25},
        End(Status.MEASURED, None, {"torch": "2"}, waited=0.25),
    ),
]
MESSAGES = [message for _, _, message in SENT]
FOREIGN = "something other than readiness wrote to its evidence pipe"


def framed(number: int, payload: bytes) -> bytes:
    return b"%d %08x %s\n" % (number, zlib.crc32(payload, zlib.crc32(b"%d" % number)), payload)


@pytest.fixture(scope="module")
def stream() -> bytes:
    """What a worker sends for `SENT`."""
    reader, writer = os.pipe()
    sender = Sender(writer)
    for kind, value, _ in SENT:
        sender.send(kind, value)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        return file.read()


def received(*chunks: bytes) -> tuple[list[Message], str | None]:
    receiver = Receiver()
    found = [message for chunk in chunks for message in receiver.feed(chunk)]
    receiver.close()
    return found, receiver.fault


def test_what_is_sent_comes_out(stream: bytes) -> None:
    assert received(stream) == (MESSAGES, None)
    assert stream.splitlines(keepends=True)[0] == framed(1, b'{"ready": true}')


@given(data=st.data())
def test_it_comes_out_however_the_pipe_cuts_it(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    chunks = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert received(*chunks) == (MESSAGES, None)


@given(data=st.data())
def test_bytes_in_between_end_the_evidence_where_they_stand(stream: bytes, data: st.DataObject) -> None:
    """Whatever they are and wherever they fall; what was whole before them stands, and nothing after."""
    place = data.draw(st.integers(0, len(stream)))
    stray = data.draw(st.binary(min_size=1, max_size=30))
    found, fault = received(stream[:place] + stray + stream[place:])
    whole = stream[:place].count(b"\n")
    if stray.startswith(b"\n") and stream[place : place + 1] == b"\n":
        whole += 1  # the stray bytes end the message where it ends
    assert found == MESSAGES[:whole]
    assert fault is not None


@given(data=st.data())
def test_bytes_that_change_or_are_lost_are_seen(stream: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(stream) - 2))  # without its last byte the last message has not come at all
    other = data.draw(st.one_of(st.just(b""), st.binary(min_size=1, max_size=1).filter(lambda byte: byte != stream[place : place + 1])))
    found, fault = received(stream[:place] + other + stream[place + 1 :])
    assert found == MESSAGES[: stream[:place].count(b"\n")]
    assert fault is not None


@given(data=st.data())
def test_messages_that_are_lost_doubled_or_swapped_are_seen(stream: bytes, data: st.DataObject) -> None:
    lines = stream.splitlines(keepends=True)
    order = data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=8).filter(lambda order: order != sorted(set(order))))
    _, fault = received(b"".join(lines[number] for number in order))
    assert fault is not None


@given(place=st.integers(0, 10_000))
def test_a_process_may_die_anywhere_and_that_is_no_fault(stream: bytes, place: int) -> None:
    found, fault = received(stream[: place % len(stream)])
    assert found == MESSAGES[: len(found)]
    assert fault is None


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3))
NUMBERS = st.one_of(SCALARS, st.sampled_from(["NaN", "Infinity", "-Infinity", 10**400, -(10**400)]))
NEARLY = st.one_of(
    st.fixed_dictionaries({"measurement": st.fixed_dictionaries(
        {"name": st.just("figure") | VALUES, "value": NUMBERS, "unit": st.just("1") | VALUES,
         "labels": st.dictionaries(st.text(max_size=5), st.text(max_size=5) | VALUES, max_size=3) | VALUES},
        optional={"spread": NUMBERS, "samples": NUMBERS, "about": st.text(max_size=5) | VALUES, "more": VALUES},
    )}),
    st.fixed_dictionaries({"end": st.fixed_dictionaries(
        {"status": st.sampled_from([*Status, "glorious"]) | VALUES, "reason": st.none() | st.text(max_size=5) | VALUES},
        optional={"environment": VALUES, "void": VALUES, "waited": VALUES},
    )}),
    st.fixed_dictionaries({"row": VALUES}),
    st.fixed_dictionaries({"note": VALUES}),
    st.fixed_dictionaries({"ready": VALUES}),
    st.fixed_dictionaries({"accelerator": st.fixed_dictionaries({}, optional={
        name: VALUES | st.just(value) for name, value in assessment.facts_to_json(FACTS).items()
    })}),
    VALUES,
)  # fmt: skip


@given(told=NEARLY)
def test_whatever_a_message_holds_it_is_taken_as_the_schema_has_it_or_refused(told: Any) -> None:
    """Nothing that passes here can spoil a journal, an assessment or a judgement later."""
    try:
        payload = json.dumps(told).encode()
    except ValueError:  # more digits than Python writes
        return
    found, fault = received(framed(1, payload))
    if fault is not None:
        assert (found, fault.startswith("its evidence is malformed: ")) == ([], True)
        return
    (message,) = found
    match message:
        case Measurement():
            evidence = Evidence("a.b", Status.MEASURED, measurements=(message,))
        case Row():
            evidence = Evidence("a.b", Status.MEASURED, rows=(message.cells,))
        case End():
            assert message.status in (Status.MEASURED, Status.SKIPPED, Status.ERROR)
            evidence = Evidence("a.b", message.status, message.reason, environment=message.environment)
        case AcceleratorFacts():
            whole = {**assessment.facts_to_json(message), "evidence": [], "findings": [], "verdicts": {}}
            assert first_problem("assessment", whole, "accelerator") is None
            return
        case _:
            return
    document = assessment.evidence_to_json(evidence)
    assert first_problem("assessment", document, "evidence") is None
    assert assessment.evidence_to_json(assessment.evidence_from_json(json.loads(json.dumps(document, allow_nan=False)))) == document


@pytest.mark.parametrize(("constant", "most"), [("MOST_MEASUREMENTS", 3), ("MOST_ROWS", 2), ("MOST_ACCELERATORS", 3)])
def test_there_is_an_end_to_the_number_of_messages(constant: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_pipe, constant, most)
    kind, value = {"MOST_MEASUREMENTS": SENT[2], "MOST_ROWS": SENT[3], "MOST_ACCELERATORS": SENT[4]}[constant][:2]
    found, fault = received(*(framed(number, json.dumps({kind: value}).encode()) for number in range(1, 6)))
    assert len(found) == 3
    assert "more than 3" in (fault or "")


def test_there_is_an_end_to_all_of_it_and_to_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_pipe, "MOST_BYTES", 2**20)
    row = json.dumps({"row": {"x": "y" * 1000}}).encode()
    found, fault = received(*(framed(number, row) for number in range(1, 2000)))
    assert 900 < len(found) < 1049
    assert fault == "it sent more than 1 MiB of evidence"
    monkeypatch.setattr(evidence_pipe, "MOST_MESSAGE_BYTES", 2**16)
    found, fault = received(b"x" * 2**17)
    assert (found, fault) == ([], "it sent a message of more than 0 MiB")


@pytest.fixture
def pipe() -> Iterator[tuple[int, Sender]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, Sender(writer)
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_what_is_too_large_or_no_json_is_not_begun(pipe: tuple[int, Sender], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, sender = pipe
    monkeypatch.setattr(evidence_pipe, "MOST_MESSAGE_BYTES", 100)
    for value in ({"x": "y" * 100}, {"x": math.nan}):
        with pytest.raises(ValueError, match=r"is more than evidence may have|not JSON compliant"):
            sender.send("row", value)
    sender.send("ready", True)
    assert received(os.read(reader, 1000)) == ([Ready()], None)


def test_a_copy_of_the_process_ends_where_it_comes_back_to_us(pipe: tuple[int, Sender]) -> None:
    reader, sender = pipe
    child = os.fork()
    if child == 0:
        try:
            sender.send("ready", True)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == Exit.INTERNAL
    assert received(os.read(reader, 1000)) == ([], "a copy of its process, made by fork, went on with the check")


def test_a_pipe_that_leads_elsewhere_gets_nothing() -> None:
    reader, writer = os.pipe()
    other, others = os.pipe()
    sender = Sender(writer)
    os.dup2(others, writer)
    with pytest.raises(PipeLostError, match="closed its evidence pipe"):
        sender.send("ready", True)
    os.close(writer)
    with pytest.raises(PipeLostError, match="Bad file descriptor"):
        sender.send("ready", True)
    os.set_blocking(other, False)
    with pytest.raises(BlockingIOError):
        os.read(other, 1)
    for descriptor in (reader, other, others):
        os.close(descriptor)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, 0, -5, 2**70, 1e-300])
def test_these_can_be_figures(value: float) -> None:
    assert measurement_values.number_refusal(value) is None
    assert measurement_values.refusal(Measurement("figure", value)) is None


@pytest.mark.parametrize("value", [10**309, -(10**5000), "1", None, 1j, [1]], ids=lambda value: type(value).__name__)
def test_these_cannot(value: Any) -> None:
    assert measurement_values.number_refusal(value) is not None
    assert measurement_values.refusal(Measurement("figure", value)) is not None
