"""`explain`, `report` and `judge` over the run that was the last to end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from readiness.datamodel import AcceleratorAssessment, Assessment, Evidence, Status
from readiness.errors import Exit
from readiness.profile import shipped
from readiness.rendering import rows
from tests.support.command_line import readiness
from tests.support.engine import MISBEHAVING, write_profile
from tests.support.rehearsal import host

CHECKS = ("--checks", str(MISBEHAVING))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder after one run of a shipped profile."""
    folder = tmp_path_factory.mktemp("state")
    result = readiness("run", "-p", "smoke", "-k", "driver.stack", "-q", state=folder)
    assert result.returncode == Exit.UNDETERMINED, result.stderr
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A state folder after one run of a profile of the user's, with a check that failed and one that could not tell."""
    file = write_profile(tmp_path / "test.toml", ["trouble.well", "trouble.segfaults", "trouble.raises"])
    file.write_text(file.read_text() + 'why = "since it matters"\nremedy = "do something"\n')
    result = readiness("run", "-p", str(file), *CHECKS, "-q", state=tmp_path)
    assert result.returncode == Exit.NOT_READY, result.stderr
    return tmp_path


def test_report_and_judge_take_it(state: Path) -> None:
    last = (state / "readiness" / "last").read_text()
    named = f"readiness: the last run: {last}/assessment.json\n"
    for command, code in (("report", Exit.READY), ("judge", Exit.UNDETERMINED)):
        result = readiness(command, state=state)
        assert result.returncode == code, result
        assert "UNDETERMINED" in result.stdout
        assert result.stderr == named
        assert readiness(command, "-q", state=state).stderr == ""
    again = readiness("report", f"{last}/assessment.json", state=state)
    assert again.stdout == readiness("report", state=state).stdout
    assert again.stderr == ""


@pytest.mark.parametrize("command", [("report",), ("judge",), ("report", "--rows", "driver.stack")])
def test_without_a_last_run_is_an_error(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = readiness(*command, state=tmp_path)
    assert (result.returncode, result.stdout) == (Exit.USAGE, "")
    assert "there is no last run" in result.stderr
    assert "remedy: name an assessment" in result.stderr


def _folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _link_instead(file: Path) -> None:
    file.symlink_to(file.replace(file.with_name("another")))


def _give_away(file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(file, 4711, -1)


HOSTILE_STATES: dict[str, Callable[[Path, Path], object]] = {
    "empty": lambda last, _: last.write_text(""),
    "a NUL": lambda last, _: last.write_text("a\0b"),
    "no text": lambda last, _: last.write_bytes(b"\xff\xfe\xff"),
    "too large": lambda last, _: last.write_text("x" * 10**6),
    "a folder": lambda last, _: _folder_instead(last),
    "gone": lambda _, run: shutil.rmtree(run),
    "not JSON": lambda _, run: (run / "assessment.json").write_text("{"),
    "open to others": lambda _, run: run.chmod(0o777),
    "a file that is open to others": lambda _, run: (run / "assessment.json").chmod(0o666),
    "a link": lambda _, run: _link_instead(run / "assessment.json"),
    "of another user": lambda _, run: _give_away(run),
    "a file of another user": lambda _, run: _give_away(run / "assessment.json"),
    "a folder for a file": lambda _, run: _folder_instead(run / "assessment.json"),
}


@pytest.mark.parametrize("way", HOSTILE_STATES)
def test_a_last_run_that_is_broken_is_one_clear_error(state: Path, tmp_path: Path, way: str) -> None:
    shutil.copytree(state, tmp_path / "state")
    last = tmp_path / "state" / "readiness" / "last"
    (run,) = (last.parent / "runs").iterdir()
    last.write_text(str(run))
    HOSTILE_STATES[way](last, run)
    for command in ("report", "judge"):
        result = readiness(command, state=tmp_path / "state")
        assert (result.returncode, result.stdout) == (Exit.USAGE, ""), result
        assert "remedy:" in result.stderr
        assert "Traceback" not in result.stderr
    result = readiness("explain", "stack-consistent", state=tmp_path / "state")
    assert result.returncode == Exit.READY, result
    none_is_named = way in ("too large", "a folder")
    words = "No run is saved on this machine" if none_is_named else "The last run cannot be read, so what it measured is not known"
    assert words in result.stdout


def test_judge_finds_the_users_profile_of_the_run(own: Path) -> None:
    result = readiness("judge", *CHECKS, "-q", state=own)
    assert result.returncode == Exit.NOT_READY, result
    unknown = readiness("judge", "-q", state=own)
    assert unknown.returncode == Exit.USAGE
    assert "there is no check 'trouble.well'" in unknown.stderr
    assert "--checks DIR" in unknown.stderr
    file = own / "test.toml"
    file.write_text(file.read_text().replace("at_least = 0", "at_least = 5", 1))
    changed = readiness("judge", *CHECKS, "-q", state=own)
    assert changed.returncode == Exit.USAGE
    assert "with other requirements than" in changed.stderr
    assert "--profile NAME|FILE" in changed.stderr
    file.unlink()
    gone = readiness("judge", *CHECKS, "-q", state=own)
    assert gone.returncode == Exit.USAGE
    assert str(file) in gone.stderr


def test_a_requirement_is_explained_with_what_was_measured(state: Path) -> None:
    result = readiness("explain", "stack-consistent", state=state)
    assert result.returncode == Exit.READY, result.stderr
    for words in (
        "stack-consistent  (must for training and inference, weight 12)", "driver.stack: inconsistencies at_most 0", "why: ",
        "source: ", "remedy: ", "check: driver.stack, ", "profile: smoke, at ", "profile smoke):",
        "cpu:0 (training, inference): ", "inconsistencies is ", "`readiness report --rows driver.stack`",
    ):  # fmt: skip
        assert words in result.stdout, words
    unknown = readiness("explain", "device-opens", state=state).stdout
    assert "cpu:0 (training, inference): unknown; driver.lifecycle: left out by -k" in unknown


def test_a_requirement_is_explained_without_any_run(tmp_path: Path) -> None:
    result = readiness("explain", "stack-consistent", state=tmp_path)
    assert result.returncode == Exit.READY, result.stderr
    assert "profile: general, at " in result.stdout
    assert "No run is saved on this machine" in result.stdout


def test_a_requirement_of_which_profile(state: Path) -> None:
    """One that only some profiles have; and one that the profile asked for does not have."""
    every = shipped.stated()
    (id, *_) = [id for id in every["deepseek-v3"] if all(id not in ids for name, ids in every.items() if name != "deepseek-v3")]
    found = readiness("explain", id, state=state)
    assert "profile: deepseek-v3, at " in found.stdout
    assert "Not required in the last run" in found.stdout
    refused = readiness("explain", id, "--profile", "smoke", state=state)
    assert refused.returncode == Exit.USAGE
    assert f"the profile smoke has no requirement '{id}'" in refused.stderr
    mistyped = readiness("explain", id[:-1] + "zz", state=state)
    assert mistyped.returncode == Exit.USAGE
    assert "--profile FILE" in mistyped.stderr
    assert "--checks DIR" in mistyped.stderr


def test_a_requirement_of_the_users_profile(own: Path) -> None:
    whole = readiness("explain", "trouble.raises", "--profile", str(own / "test.toml"), *CHECKS, state=own)
    assert whole.returncode == Exit.READY, whole.stderr
    for words in ("why: since it matters", "remedy: do something", "profile: test, at ", "cpu:0 (training, inference): unknown"):
        assert words in whole.stdout
    (own / "test.toml").write_text((own / "test.toml").read_text().replace('id = "trouble.raises"', 'id = "mine"'))
    first = readiness("run", "-p", str(own / "test.toml"), *CHECKS, "-q", state=own)
    assert first.returncode == Exit.NOT_READY, first.stderr
    assert "profile: test, at " in readiness("explain", "mine", *CHECKS, state=own).stdout
    alone = readiness("explain", "mine", state=own)  # without --checks the profile cannot be had, and the run tells it all
    assert alone.returncode == Exit.READY, alone.stderr
    for words in ("mine  (must, weight 1)", "why: since it matters", "remedy: ", "cpu:0 (training, inference): unknown"):
        assert words in alone.stdout


def test_rows_of_a_check(state: Path) -> None:
    result = readiness("report", "--rows", "driver.stack", state=state)
    assert result.returncode == Exit.READY, result.stderr
    assert result.stdout.startswith("driver.stack on cpu:0: ")
    assert "component" in result.stdout
    (entry,) = json.loads(readiness("report", "--rows", "driver.stack", "-f", "json", state=state).stdout)
    assert (entry["accelerator"], entry["check"], entry["status"]) == ("cpu:0", "driver.stack", "measured")
    assert {"component", "version"} <= set(entry["rows"][0])
    none = readiness("report", "--rows", "driver.memory", state=state)
    assert none.stdout == "driver.memory on cpu:0: no rows, skipped: left out by -k\n"
    for arguments, words in (
        (("--rows", "driver.stak"), "did you mean driver.stack?"), (("--rows", ""), "no evidence of a check ''"),
        (("--rows", "driver.stack", "-f", "html"), "rows are shown as a table or as json"),
    ):  # fmt: skip
        refused = readiness("report", *arguments, state=state)
        assert (refused.returncode, refused.stdout) == (Exit.USAGE, ""), refused
        assert words in refused.stderr


def assessed(*evidence: Evidence) -> Assessment:
    """An assessment of as many accelerators, each with this evidence of one check."""
    items = []
    for number, piece in enumerate(evidence):
        facts: Any = host()
        items.append(AcceleratorAssessment(type(facts)(f"cpu:{number}", "cpu", number, "cpu", None, None), (piece,), (), {}))
    return Assessment("1", 1, "2027-01-01T00:00:00Z", 1.0, {}, "p", "P", "", (), tuple(items))


def test_equal_rows_are_shown_once_without_terminal_effects() -> None:
    same = Evidence("a.b", Status.MEASURED, rows=({"op": "add\x1b[2J\u202e", "error": float("inf")}, {"op": "mul", "why": [1, None]}))
    other = Evidence("a.b", Status.TIMEOUT, reason="no end\x07", rows=({"op": "sub"},))
    found = rows.of_check(assessed(same, same, other), "a.b")
    text = rows.as_text(found, None)
    assert text.splitlines()[0] == "a.b on cpu:0, cpu:1: 2 rows"
    assert "a.b on cpu:2: 1 row, timeout: no end" in text
    assert text.count("mul") == 1
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    narrow = rows.as_text(rows.of_check(assessed(Evidence("a.b", Status.MEASURED, rows=({"op": "x" * 50, "why": "y " * 50},))), "a.b"), 60)
    assert all(len(line) <= 60 for line in narrow.splitlines())
    assert "op: " in narrow
    assert rows.checks(assessed(Evidence("a.a", Status.SKIPPED), same)) == ["a.b", "a.a"]
