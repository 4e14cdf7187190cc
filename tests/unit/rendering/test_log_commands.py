"""What a pipeline's log would obey stays text, however it is written and whoever wrote it."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readiness.__main__ import Standard
from readiness.documents.assessment import dumps
from readiness.rendering.log_commands import Neutraliser, neutralise

#: As the runners read a line; each from its source or documentation.
OBEYED = re.compile(
    r"^\s*::"                                           # GitHub: TrimStart, then `::`
    r"|##\["                                            # GitHub's older form, anywhere
    r"|##vso\[|##teamcity\["                            # Azure, TeamCity: anywhere
    r"|^(?:---|\+\+\+|~~~|\^\^\^)[ \t]",                # Buildkite
    re.IGNORECASE,
)  # fmt: skip
COMMANDS = [
    "::error file=a.py::boom", "   ::set-output name=a::b", "\t ::add-mask::x", "\u3000::stop-commands::x", "##[error]boom",
    "text ##[group]x", "##vso[task.setvariable variable=a]b", "x ##VSO[task.complete result=Succeeded]", "###vso[a]",
    "##teamcity[buildStatus status='SUCCESS']", "--- fold", "+++ open", "~~~ fold", "^^^ +++", "\r::error::x", "\r--- a",
    "a\n  ::error::b\n--- c",
]  # fmt: skip
HARMLESS = [
    "std::vector", "aten::mm", "# heading", "## heading", "a: b", "------", "---", "--- \n".strip(), "-- -", "## `general`",
    "[1/2] cpu:0", "x == 0 ::", "+++",
]  # fmt: skip
PIECES = st.sampled_from([":", "::", "#", "##", "[", "vso", "-", "---", "+++", " ", "\t", "\n", "\r", "error", "\x1b[31m", "é"])


def lines(text: str) -> list[str]:
    """As runners split what they read."""
    return re.split(r"\r\n|\r|\n", re.sub(r"\x1b\[[\d;]*m", "", text))


def obeyed(text: str) -> list[str]:
    return [line for line in lines(text) if OBEYED.search(line)]


@pytest.mark.parametrize("text", COMMANDS)
def test_commands_are_broken_and_can_still_be_read(text: str) -> None:
    assert obeyed(text)
    assert not obeyed(neutralise(text))
    assert re.sub(r"[\s+~^-]", "", neutralise(text)) == re.sub(r"[\s+~^-]", "", text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_command_stays(text: str) -> None:
    assert not obeyed(text)
    assert neutralise(text) == text


@given(st.lists(PIECES, max_size=12))
def test_a_stream_that_is_written_in_pieces_obeys_no_more(pieces: list[str]) -> None:
    breaker = Neutraliser()
    assert not obeyed("".join(breaker(piece) for piece in pieces))


@given(st.text(st.sampled_from(":#[-+ \nvso"), max_size=40))
def test_whole_text_and_single_characters_give_the_same(text: str) -> None:
    one, many = Neutraliser(), Neutraliser()
    assert one(text) == "".join(many(character) for character in text) == neutralise(text)


def test_a_command_far_out_in_a_line_is_found() -> None:
    breaker = Neutraliser()
    assert breaker("x" * 500) + breaker(" ##vs") + breaker("o[a]") == "x" * 500 + " ##vso [a]"
    blank = Neutraliser()
    assert blank(" " * 500) + blank("\t" * 9) + blank("::error") == " " * 500 + "\t" * 9 + ": :error"


def test_standard_streams_break_them() -> None:
    stream = io.StringIO()
    standard = Standard(stream, None)
    print("::error", "::x", file=standard)  # as `print` writes: word by word
    print("##vso", "[x]", sep="", file=standard)
    assert stream.getvalue() == ": :error ::x\n##vso [x]\n"


HOSTILE: Any = {
    "controls": "\x7f\x9b\x00\x1b[2J", "direction": "\u202e\u2066\u200f", "invisible": "\u200b\ufeff\u2028\u2029\xad",
    "tags": "\U000e0041", "private": "\ue000\U0010fffd", "commands": ["::error::x", "##vso[x]", "##[error]", "####teamcity[x]"],
    "letters": "Grün 昇腾 é \xa0\u3000", "marks": "## title # ##",
}  # fmt: skip


def test_json_is_unchanged_and_runs_no_command() -> None:
    text = dumps(HOSTILE)
    assert json.loads(text) == HOSTILE
    assert not obeyed(text)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2066-\u2069\ue000\ufeff\U000e0041]", text)
    assert "Grün 昇腾 é \xa0\u3000" in text
    assert "## title # ##" in text


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text(st.sampled_from('#[:v"\\\x7f\u202e'), max_size=20))))
def test_json_of_any_text_is_the_same_document(document: dict[str, Any]) -> None:
    text = dumps(document)
    assert json.loads(text) == document
    assert neutralise(text) == text  # so that a stream leaves it as it is
