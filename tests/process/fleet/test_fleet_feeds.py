"""A fleet's database where assessments are asked for: `compare`, `diff`, `baseline` and `pack` take its hosts' ones."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from readiness.documents import host_summary
from readiness.documents.assessment import dumps, to_json
from readiness.errors import Exit
from tests.support import saved
from tests.support.command_line import readiness

HOSTS = ("node-1", "node-2", "node-3")


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Three hosts with whole assessments; the second has an older one too, and a summary of the run that counts."""
    folder = tmp_path / "hosts"
    folder.mkdir()
    made = saved.small(tmp_path)
    for number, name in enumerate(HOSTS):
        one = replace(made, host={"name": name}, started=f"2026-11-2{number}T10:00:00Z")
        (folder / f"{name}.json").write_text(dumps(to_json(one)))
        (folder / f"{name}-short.json").write_text(json.dumps(host_summary.to_json(one)))
    older = replace(made, host={"name": "node-2"}, started="2026-10-01T10:00:00Z", seed=8)
    (folder / "older.json").write_text(dumps(to_json(older)))
    database = tmp_path / "fleet.sqlite"
    merged = readiness("fleet", "merge", str(folder), "-o", str(database), state=tmp_path)
    assert "0 no host's" in merged.stderr, merged.stderr
    return database


def test_compare_takes_all_hosts_of_a_fleet(fleet: Path, tmp_path: Path) -> None:
    done = readiness("compare", str(fleet), "-f", "json", state=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(f'"{name}"' in done.stdout for name in HOSTS)
    assert "older" not in done.stdout
    two = readiness("compare", f"{fleet}:node-1", f"{fleet}:node-3", "-f", "json", state=tmp_path)
    assert two.returncode == 0, two.stderr
    assert '"node-2"' not in two.stdout


def test_diff_takes_a_host_of_two_fleets(fleet: Path, tmp_path: Path) -> None:
    done = readiness("diff", f"{fleet}:node-1", f"{fleet}:node-2", state=tmp_path)
    assert done.returncode in (Exit.READY, Exit.UNDETERMINED), done.stderr
    assert "node-2.json" in done.stdout
    whole = readiness("diff", str(fleet), f"{fleet}:node-2", state=tmp_path)
    assert whole.returncode == Exit.USAGE
    assert "a fleet is not one run" in whole.stderr


def test_pack_and_baseline_take_a_fleet(fleet: Path, tmp_path: Path) -> None:
    packed = readiness("pack", str(fleet), "-o", str(tmp_path / "pack.zip"), state=tmp_path)
    assert packed.returncode == 0, packed.stderr
    with zipfile.ZipFile(tmp_path / "pack.zip") as opened:
        inside = [name for name in opened.namelist() if name.startswith("assessments/") or name.endswith("assessment.json")]
    assert len(inside) >= len(HOSTS), opened.namelist()
    made = readiness("baseline", str(fleet), "-o", str(tmp_path / "baseline.json"), state=tmp_path)
    assert made.returncode in (0, Exit.USAGE), made.stderr
    assert made.returncode == 0 or "Traceback" not in made.stderr


@pytest.mark.parametrize(
    ("what", "says"),
    [(":node-9", "it has no run of 'node-9' that counts"), (":node-2", "there is no whole assessment of node-2")],
)
def test_a_host_that_is_not_there_is_one_clear_error(fleet: Path, tmp_path: Path, what: str, says: str) -> None:
    (tmp_path / "hosts" / "node-2.json").unlink()
    done = readiness("compare", f"{fleet}{what}", str(tmp_path / "hosts" / "node-1.json"), state=tmp_path)
    assert done.returncode == Exit.USAGE
    assert says in done.stderr
    assert "remedy: " in done.stderr
