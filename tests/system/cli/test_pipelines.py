"""Reports for pipelines as a pipeline sees them: what the runner of GitHub is given, and the exit codes of a plugin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from readiness.datamodel import Assessment
from readiness.documents import assessment as documents
from tests.support import saved
from tests.support.command_line import readiness

COMMAND = re.compile(r"::(error|warning|notice) [^\n]*?::[^\n]*")


def written(assessment: Assessment, file: Path) -> str:
    file.write_text(documents.dumps(documents.to_json(assessment)))
    return str(file)


def test_the_runner_is_given_its_commands_and_the_summary(tmp_path: Path) -> None:
    file, summary = written(saved.small(tmp_path), tmp_path / "a.json"), tmp_path / "summary.md"
    summary.write_text("of an earlier step\n")
    done = readiness("report", file, "-f", "github", state=tmp_path, GITHUB_STEP_SUMMARY=str(summary))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines
    assert all(COMMAND.fullmatch(line) for line in lines)
    text = summary.read_text()
    assert text.startswith("of an earlier step\n## Readiness for")
    into_file = tmp_path / "own.md"
    assert readiness("report", file, "-f", f"github={into_file}", state=tmp_path).returncode == 0
    assert into_file.read_text() == text.removeprefix("of an earlier step\n")


def test_a_summary_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    file = written(saved.small(tmp_path), tmp_path / "a.json")
    done = readiness("report", file, "-f", "github", state=tmp_path, GITHUB_STEP_SUMMARY=str(tmp_path / "none" / "summary.md"))
    assert done.returncode == 2
    assert "GITHUB_STEP_SUMMARY" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["report", "FILE", "-f", "nagios"], 0, "READINESS WARNING"),
        (["report", "FILE", "-f", "nagios", "--exit-style", "nagios"], 1, "READINESS WARNING"),
        (["report", "FILE", "-f", "nagios", "--exit-style", "nagios", "--fail-on", "should"], 2, "READINESS CRITICAL"),
        (["report", "FILE", "-f", "nagios", "--exit-style=nagios", "--fail-on", "never"], 0, "READINESS OK"),
        (["report", "nowhere.json", "--exit-style", "nagios"], 3, "READINESS UNKNOWN - nowhere.json: there is no such file"),
        (["report", "FILE", "--exit-style", "nagios", "--such"], 3, "READINESS UNKNOWN - No such option: --such"),
        (["judge", "FILE", "-p", "no|ne", "--exit-style=nagios"], 3, "READINESS UNKNOWN - --profile: there is no profile 'no/ne'"),
        (["report", "nowhere.json"], 2, ""),
    ],
)
def test_exit_codes_of_a_plugin(arguments: list[str], code: int, line: str, tmp_path: Path) -> None:
    file = written(saved.small(tmp_path), tmp_path / "a.json")
    done = readiness(*(file if argument == "FILE" else argument for argument in arguments), state=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith(line)
