"""The documentation says what is so: commands, profiles, codes and examples are held against the tool."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from readiness import check_registry
from readiness.datamodel import Outcome
from readiness.engine import runner
from readiness.errors import Exit
from readiness.isolation.forkserver import LARGEST_MESSAGE_BYTES
from readiness.profile import loader
from readiness.rendering import formats
from tests.engine.support import run, use_checks
from tests.support import checks

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    """The fenced block of the README in this language that contains this text."""
    found: list[str] = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in text]
    assert len(found) == 1, found
    return found[0]


def test_ci_calls_the_readmes_test_command_to_the_letter() -> None:
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("not a checkout: the script of CI is not shipped")
    command = block("", "pytest").strip()
    assert command.replace("pip install", "pip install --quiet") in script.read_text()


def test_the_readmes_examples_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check and the profile of the README, as they stand there, run together."""
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "greeting.py").write_text(block("python", "driver.greeting"))
    (tmp_path / "ours.toml").write_text(block("toml", "ones-add-up"))
    use_checks(monkeypatch, tmp_path)
    assessment = run(tmp_path / "run", tmp_path / "ours.toml", expression="greeting")
    outcomes = {finding.requirement: finding.outcome for finding in assessment.accelerators[0].findings}
    assert outcomes["ones-add-up"] is Outcome.PASS


def test_the_readme_names_every_profile_and_only_those_that_are() -> None:
    named = set(re.findall(r"^\| `([a-z0-9-]+)`(?: \(default\))? \|", README, re.MULTILINE))
    families = {check.family for check in checks().values()}
    assert named == set(loader.names()) | families


def test_the_readme_names_the_exit_codes() -> None:
    text = README[README.index("## What a verdict says") : README.index("## Everyday use")]
    assert {int(number) for number in re.findall(r"\b(\d{1,3})\b(?= \||, with| a mistake| an\b| interrupted)", text)} >= set(Exit) - {0}
    assert "| 0 |" in text


def test_commands_of_the_readme_parse() -> None:
    from typer.main import get_command

    from readiness.cli import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    for line in block("", "readiness devices  ").splitlines():
        words = re.split(r"\s{2,}", line)[0].split()
        assert words[0] == "readiness"
        options = {option for parameter in commands[words[1]].params for option in parameter.opts}
        for word in words[2:]:
            if word.startswith("-"):
                assert word in options, line
    for text in ("json=a.json", "junit=a.xml", "markdown=-"):
        assert formats.parse_request(text)


def test_every_check_says_why_it_matters_and_fits_its_message() -> None:
    """A check's documentation is its docstring; a profile's settings must reach its worker."""
    for check in checks().values():
        first, _, rest = check.documentation.partition("\n")
        assert first.endswith("?"), check.id
        assert len(rest) > 100, check.id
        assert len(check.title) <= 100, check.id
        assert len(str(check.settings)) < LARGEST_MESSAGE_BYTES // 4


def test_the_engines_files_stay_readable() -> None:
    """About 300 lines; beyond 350 a file is probably two things."""
    long = {
        str(file.relative_to(ROOT)): count
        for folder in ("readiness", "checks", "reports")
        for file in (ROOT / folder).rglob("*.py")
        if (count := len(file.read_text(encoding="utf-8").splitlines())) > 350
    }
    assert long == {}


def test_the_modules_that_the_command_line_needs_know_no_family() -> None:
    assert not {name for name in vars(runner) if name in ("catalogue", "ranks", "parity", "driver")}
    assert check_registry.discover().keys() == checks().keys()
