"""`diff`, `baseline`, `compare` and `run --baseline` as a person types them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from readiness.documents import assessment as documents
from readiness.errors import Exit
from tests.support import saved
from tests.support.command_line import readiness
from tests.support.paths import CHECKS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four runs of the same chips, as `run` writes them."""
    small = saved.small(tmp_path)
    for number in range(4):
        run = replace(small, started=f"2026-11-23T10:0{number}:00Z", seed=number)
        (tmp_path / f"{number}.json").write_text(documents.dumps(documents.to_json(run)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_baseline_and_what_is_held_against_it(folder: Path) -> None:
    made = readiness("baseline", "0.json", "1.json", "2.json", "-o", "base.json", state=folder)
    assert (made.returncode, made.stdout) == (0, "")
    assert "3 runs" in made.stderr
    assert readiness("diff", "base.json", "3.json", "-q", state=folder).stdout.startswith("NO REGRESSION")
    same = readiness("diff", "0.json", "3.json", "-f", "json", "-f", "markdown=d.md", state=folder)
    assert same.returncode == 0
    assert json.loads(same.stdout)["answer"] == "no regression"
    assert (folder / "d.md").read_text().startswith("## 3.json against 0.json")


def test_machines_side_by_side(folder: Path) -> None:
    formats = [text for name in ("html=c.html", "xlsx=c.xlsx", "json", "markdown=c.md") for text in ("-f", name)]
    done = readiness("compare", "0.json", "1.json", *formats, state=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["order"] == {"training": ["0", "1"], "inference": ["0", "1"]}
    assert "<!DOCTYPE html>" in (folder / "c.html").read_text()[:200]
    assert (folder / "c.xlsx").read_bytes()[:2] == b"PK"
    assert (folder / "c.md").read_text().startswith("## 0 against 1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("diff", "0.json", "none.json"), "there is no such file"),
        (("diff", "0.json", "3.json", "--retest", "x"), "is no share"),
        (("diff", "0.json", "3.json", "-f", "sarif"), "there is no report format"),
        (("baseline", "0.json", "0.json", "-o", "b.json"), "once more"),
        (("baseline", "0.json", "-o", "none/b.json"), "does not exist"),
        (("run", "--baseline", "none.json"), "there is no such file"),
        (("compare", "0.json"), "nothing to compare"),
        (("compare", "0.json", "1.json", "-f", "xlsx"), "name a file"),
        (("compare", "0.json", "1.json", "-f", "junit"), "there is no report format"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    refused = readiness(*arguments, state=folder)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert message in refused.stderr
    assert "remedy" in refused.stderr


def profile(folder: Path, *ways: str) -> str:
    """Each of these checks must have worked; the last one only should."""
    entries = [
        f'[[require]]\nid = "{way}"\ncheck = "trouble.{way}"\nmeasure = "figure"\nat_least = 0\n'
        + ('level = "should"\n' if way == ways[-1] else "")
        for way in ways
    ]
    text = 'schema = "readiness.profile/1"\nname = "own"\ntitle = "Own"\n' + "\n".join(entries)
    (folder / "own.toml").write_text(text)
    return str(folder / "own.toml")


def test_a_run_is_held_against_a_baseline(folder: Path) -> None:
    """Nothing worse is 0; what was met and is not is 1 though the verdict is ready; what was left out is 3."""
    checks = ("-p", profile(folder, "well", "not_a_number"), "--checks", str(CHECKS / "misbehaving"), "-d", "cpu")
    first = readiness("run", *checks, "-f", "json=r0.json", "-q", state=folder)
    assert first.returncode == Exit.READY, first.stderr
    run = json.loads((folder / "r0.json").read_text())
    for number in (1, 2):
        (folder / f"r{number}.json").write_text(json.dumps(run | {"started": f"2026-11-23T10:0{number}:00Z"}))
    assert readiness("baseline", "r0.json", "r1.json", "r2.json", "-o", "usual.json", state=folder).returncode == 0
    usual = json.loads((folder / "usual.json").read_text())
    for entry in usual["models"][0]["requirements"]:
        entry["outcomes"] = {"pass": 3}
    (folder / "better.json").write_text(json.dumps(usual))
    same = readiness("run", *checks, "--baseline", "usual.json", state=folder)
    assert (same.returncode, "NO REGRESSION" in same.stdout) == (Exit.READY, True), same.stderr
    worse = readiness("run", *checks, "--baseline", "better.json", "-f", "line", state=folder)
    assert worse.returncode == Exit.NOT_READY
    assert len(worse.stdout.splitlines()) == 1
    assert "REGRESSION: 1 worse" in worse.stderr
    never = readiness("run", *checks, "--baseline", "better.json", "--fail-on", "never", "-q", state=folder)
    assert (never.returncode, never.stderr) == (Exit.READY, "")
    plugin = readiness("run", *checks, "--baseline", "better.json", "-q", "--exit-style", "nagios", state=folder)
    assert plugin.returncode == 2
    lost = readiness("run", *checks, "-k", "well", "--baseline", "usual.json", "-q", state=folder)
    assert lost.returncode == Exit.UNDETERMINED
