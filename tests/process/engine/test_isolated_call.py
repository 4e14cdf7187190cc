"""What others' code may do to the process that calls it, and what the command line is told of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from readiness.engine.isolated_call import FailedCallError, call
from readiness.errors import BadFileError, UsageError
from tests.support.engine import alive, children

HERE = "tests.support.isolated_functions"


def ask(function: str, arguments: Mapping[str, Any], limit_s: float = 60.0, note: Callable[[str], object] = lambda _: None) -> Any:
    """With one GiB of memory."""
    return call(f"{HERE}:{function}", arguments, limit_s=limit_s, memory_bytes=2**30, note=note)


def test_result_and_notes_come_back() -> None:
    notes: list[str] = []
    found = ask("adds", {"one": 1, "other": 2}, note=notes.append)
    assert (found["sum"], found["torch"]) == (3, False)
    assert found["pid"] != os.getpid()
    assert notes == ["began", "went on", "is done"]
    assert not children()


@pytest.mark.parametrize("kind", [UsageError, BadFileError])
def test_a_readiness_error_is_raised_in_the_caller(kind: type[UsageError]) -> None:
    with pytest.raises(kind) as caught:
        ask("refuses", {"kind": kind.__name__})
    assert type(caught.value) is kind
    assert (caught.value.what, caught.value.place, caught.value.remedy) == ("it is wrong", "a place", "fix it")


WRONG = {
    "leaves": "exit code 0 before",
    "exits": "SystemExit: 0",
    "is interrupted": "KeyboardInterrupt",
    "raises what is no exception": "OddError: odd",
    "crashes": "died by SIGSEGV",
    "kills itself": "killed from outside by SIGKILL",
    "takes all memory": "more than 1024 MiB",
    "talks into every pipe": "something other than readiness wrote",
    "closes every pipe": "exit code 70 before",
    "answers what is no JSON": "exit code 70 before",
    "recurs": "RecursionError",
}


@pytest.mark.parametrize("way", WRONG)
def test_whatever_goes_wrong_is_one_error(way: str) -> None:
    with pytest.raises(FailedCallError, match=WRONG[way]) as caught:
        ask("goes_wrong", {"way": way})
    assert caught.value.note == f"about to: {way}"
    assert not caught.value.timed_out
    assert not children()


@pytest.mark.parametrize("way", ["hangs", "holds the interpreter", "stops"])
def test_what_does_not_end_is_ended(way: str) -> None:
    with pytest.raises(FailedCallError, match="not finished within 1 s") as caught:
        ask("goes_wrong", {"way": way}, limit_s=1.0)
    assert caught.value.timed_out
    assert not children()


def test_two_answers_are_none() -> None:
    with pytest.raises(FailedCallError):
        ask("goes_wrong", {"way": "says an answer of its own"})


def test_a_copy_of_the_process_gives_no_second_answer() -> None:
    assert ask("copies_itself", {}) == "one answer"
    assert not children()


def test_what_it_started_goes_with_it() -> None:
    assert not alive([ask("leaves_somebody", {})])


def test_the_line_of_a_crash_is_known() -> None:
    with pytest.raises(FailedCallError) as caught:
        ask("goes_wrong", {"way": "crashes"})
    from tests.support import isolated_functions

    line = caught.value.line_in(isolated_functions.__file__)
    assert line is not None
    assert "string_at" in Path(isolated_functions.__file__).read_text(encoding="utf-8").splitlines()[line - 1]
    assert caught.value.line_in("/another.py") is None
