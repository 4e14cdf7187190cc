"""`--failed`: what failed runs again, what passed is taken over, and evidence of anything else is refused with a clear word."""

from __future__ import annotations

import copy
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from readiness import accelerators, package_data
from readiness.__main__ import main
from readiness.check_registry import Scope
from readiness.datamodel import Finding, Level, Outcome, Status, Use
from readiness.documents import assessment
from readiness.engine import run_store
from readiness.engine.journal import Journal
from readiness.engine.last_run import LastRun
from readiness.engine.plan import Job
from readiness.errors import Exit, UsageError
from readiness.host.identity import identity
from readiness.rendering.formats import render
from tests.support import build
from tests.support.engine import without_torch
from tests.unit.engine.test_plan import CHECKLIST, make

CHECKS = """
import os
from collections.abc import Iterator
from readiness import Accelerator, Measurement, check
from readiness.check_registry import Phase

FOLDER = {folder!r}

def note(name):
    with open(os.path.join(FOLDER, "trace"), "a") as stream:
        stream.write(name + "\\n")

@check("{family}.sound", title="Sound", measures={{"figure": "1"}}, typical_s=0.1)
def sound(accelerator: Accelerator) -> Iterator[Measurement]:
    \"\"\"Is it sound?\"\"\"
    note("sound")
    yield Measurement("figure", 1)

@check("{family}.broken", title="Broken", measures={{"figure": "1"}}, typical_s=0.1)
def broken(accelerator: Accelerator) -> Iterator[Measurement]:
    \"\"\"Is it mended?\"\"\"
    note("broken")
    yield Measurement("figure", 1 if os.path.exists(os.path.join(FOLDER, "mended")) else -1)

@check("{family}.back", title="Looks back", measures={{"figure": "1"}}, typical_s=0.1, phase=Phase.LAST)
def back(accelerator: Accelerator) -> Iterator[Measurement]:
    \"\"\"What happened in this run?\"\"\"
    note("back")
    yield Measurement("figure", 1)
"""
#: Modules of one name are imported once in this process: each tool has a family of its own.
FAMILIES = itertools.count()


class Tool:
    """The command line in this process, with a state folder and checks of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.family = f"mend{next(FAMILIES)}"
        self.checks = folder / "checks" / self.family / "ways.py"
        self.checks.parent.mkdir(parents=True)
        self.checks.write_text(CHECKS.format(folder=str(folder), family=self.family))
        long_ago = time.time() - 3600
        os.utime(self.checks, (long_ago, long_ago))
        self.profile = folder / "own.toml"
        text = 'schema = "readiness.profile/1"\nname = "own"\ntitle = "Own"\n'
        for name in ("sound", "broken", "back"):
            text += f'[[require]]\nid = "{name}"\ncheck = "{self.family}.{name}"\nmeasure = "figure"\nat_least = 0\n'
        self.profile.write_text(text)
        (folder / "state" / "runs").mkdir(parents=True)
        self.here()

    def here(self) -> None:
        """This process looks for its state there, and for no other accelerator than the CPU."""
        self.monkeypatch.setenv(package_data.CHECKS_VARIABLE, "")
        self.monkeypatch.setattr(accelerators, "NAMES", ("cpu",))
        without_torch(self.monkeypatch)
        self.monkeypatch.setattr(run_store, "folder", lambda: self.folder / "state")

    def copy(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
        """The same after the same run, to be spoilt."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("checks"))
        last = folder / Path((self.folder / "state" / "last").read_text()).relative_to(self.folder)
        (folder / "state" / "last").write_text(str(last))
        other = copy.copy(self)
        other.folder, other.monkeypatch, other.profile = folder, monkeypatch, folder / "own.toml"
        other.here()
        return other

    def run(self, *arguments: str) -> int:
        saved = self.folder / "a.json"
        saved.unlink(missing_ok=True)
        command = ["run", "-d", "cpu", "-p", str(self.profile), "--checks", str(self.checks.parent.parent), "-q"]
        self.monkeypatch.setattr(sys, "argv", ["readiness", *command, "-f", f"json={saved}", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        assert isinstance(left.value.code, int)
        return left.value.code

    def evidence(self) -> dict[str, dict[str, Any]]:
        document = json.loads((self.folder / "a.json").read_text())
        return {item["check"].partition(".")[2]: item for item in document["accelerators"][0]["evidence"]}

    def saved(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "a.json").read_text())
        return document

    def traced(self) -> list[str]:
        """Which checks have run since it was asked last."""
        trace = self.folder / "trace"
        names = trace.read_text().split() if trace.exists() else []
        trace.unlink(missing_ok=True)
        return sorted(names)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    return Tool(tmp_path, monkeypatch)


def test_what_was_mended_turns_the_whole_run_green(tool: Tool) -> None:
    assert tool.run("--seed", "7") == Exit.NOT_READY
    first = tool.saved()
    assert tool.traced() == ["back", "broken", "sound"]
    (tool.folder / "mended").touch()
    assert tool.run("--failed") == Exit.READY
    assert tool.traced() == ["back", "broken"]  # what looks back on the run runs again; what passed does not
    second = tool.saved()
    assert second["tool"]["seed"] == 7
    evidence = tool.evidence()
    assert evidence["sound"]["earlier"] == first["started"]
    assert not {"broken", "back"} & {name for name, item in evidence.items() if "earlier" in item}
    assert all(item["status"] == "measured" for item in evidence.values())
    second_run = assessment.from_json(second, "here")
    expected = f"1 check from the run of {first['started']}"
    for name in ("table", "summary", "markdown", "junit"):
        assert expected in " ".join(render(name, second_run).split()).replace("\\", ""), name


def test_still_broken_it_stays_red_and_whole_and_keeps_where_evidence_is_from(tool: Tool) -> None:
    assert tool.run() == Exit.NOT_READY
    first = tool.saved()["started"]
    for _ in range(2):
        assert tool.run("--failed") == Exit.NOT_READY
        assert tool.evidence()["sound"]["earlier"] == first  # not that of the run in between, which took it over
        assert all(item["status"] == "measured" for item in tool.evidence().values())


def test_what_k_chooses_runs_and_the_rest_is_still_there(tool: Tool) -> None:
    tool.run()
    tool.traced()
    (tool.folder / "mended").touch()
    assert tool.run("--failed", "-k", "broken or back") == Exit.READY
    assert tool.traced() == ["back", "broken"]
    assert tool.run() == Exit.READY
    assert tool.run("--failed") == Exit.USAGE  # nothing failed


def test_what_the_last_run_left_out_stays_left_out(tool: Tool) -> None:
    assert tool.run("-k", "broken") == Exit.NOT_READY
    (tool.folder / "mended").touch()
    assert tool.run("--failed") == Exit.UNDETERMINED
    assert tool.evidence()["sound"]["reason"] == "left out by --failed"


def test_a_check_whose_file_has_changed_since_runs_again(tool: Tool) -> None:
    tool.run()
    tool.traced()
    later = time.time() + 60
    os.utime(tool.checks, (later, later))
    tool.run("--failed")
    assert tool.traced() == ["back", "broken", "sound"]


def test_a_run_that_was_killed_before_it_took_anything_over_measures_it(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    tool.run()
    (tool.folder / "mended").touch()
    taken: list[Callable[..., None]] = [LastRun.take_over]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    tool.monkeypatch.setattr(LastRun, "take_over", killed)
    folder = tool.folder / "going on"
    assert tool.run("--failed", "--resume", str(folder)) == Exit.INTERRUPTED
    tool.monkeypatch.setattr(LastRun, "take_over", taken[0])
    tool.traced()
    assert tool.run("--resume", str(folder)) == Exit.READY
    assert tool.traced() == ["back", "broken", "sound"]
    assert all("earlier" not in item for item in tool.evidence().values())


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def of_last(tool: Tool, name: str) -> Path:
    return Path((tool.folder / "state" / "last").read_text()) / name


def older(tool: Tool) -> None:
    edit(of_last(tool, "assessment.json"), lambda document: document["tool"].update(version="0.0.1"))


def elsewhere(tool: Tool) -> None:
    def change(document: dict[str, Any]) -> None:
        document["asked"]["machine"] = {"name": "node-17", "boot": "f" * 16, "id": "e" * 16}

    edit(of_last(tool, "run.json"), change)


def without_a_machine(tool: Tool) -> None:
    edit(of_last(tool, "run.json"), lambda document: document["asked"].pop("machine"))


def other_model(tool: Tool) -> None:
    edit(of_last(tool, "assessment.json"), lambda document: document["accelerators"][0].update(model="Acme A1"))


def other_software(tool: Tool) -> None:
    edit(of_last(tool, "assessment.json"), lambda document: document["accelerators"][0]["stack"].update(torch="2.6.0"))


def stricter(tool: Tool) -> None:
    tool.profile.write_text(tool.profile.read_text().replace("at_least = 0", "at_least = -1"))


def other_hosts(tool: Tool) -> None:
    edit(of_last(tool, "run.json"), lambda document: document["asked"].update(hosts=["node2"]))


def spoilt(tool: Tool) -> None:
    of_last(tool, "run.json").write_text("{}")


def gone(tool: Tool) -> None:
    of_last(tool, "assessment.json").unlink()


def none(tool: Tool) -> None:
    (tool.folder / "state" / "last").unlink()


REFUSALS: dict[str, tuple[Callable[[Tool], object], tuple[str, ...], str]] = {
    "no last run": (none, (), "there is no last run"),
    "a last run that is gone": (gone, (), "the last run no longer exists"),
    "another version": (older, (), "the last run was made by readiness 0.0.1"),
    "another profile of the name": (stricter, (), "the profile own has other requirements than in the last run"),
    "another machine": (elsewhere, (), "the last run was on node-17, and its accelerators have no serial number"),
    "a machine that nobody knows": (without_a_machine, (), "the last run was on another machine"),
    "another accelerator": (other_model, (), "cpu:0 is no longer the Acme A1"),
    "other software": (other_software, (), "with the software of the last run"),
    "other hosts": (other_hosts, (), "the last run was with node2"),
    "a spoilt run": (spoilt, (), "this is not a run.json of readiness"),
    "another seed": (lambda tool: None, ("--seed", "8"), "the last run's random data had the seed 7, not 8"),
}


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """After one run whose random data had the seed 7."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        tool = Tool(tmp_path_factory.mktemp("one"), monkeypatch)
        assert tool.run("--seed", "7") == Exit.NOT_READY
    return tool


@pytest.mark.parametrize("name", REFUSALS)
def test_what_would_mix_evidence_of_different_things_is_refused(
    one_run: Tool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = one_run.copy(tmp_path / "copy", monkeypatch)
    spoil, arguments, expected = REFUSALS[name]
    spoil(tool)
    capsys.readouterr()
    assert tool.run("--failed", *arguments) == Exit.USAGE
    error = capsys.readouterr().err
    assert expected in error
    assert "remedy:" in error
    assert "Traceback" not in error


def test_uses_that_the_last_run_was_not_for_are_refused_and_fewer_are_fine(
    tool: Tool, capsys: pytest.CaptureFixture[str]
) -> None:
    tool.run("--use", "training")
    capsys.readouterr()
    assert tool.run("--failed") == Exit.USAGE
    assert "the last run was for training only" in capsys.readouterr().err
    assert tool.run("--failed", "--use", "training") == Exit.NOT_READY


# --- What is taken over, piece by piece ----------------------------------------------------------------------------------

GROUP = make("b.group", typical_s=3, scope=Scope.GROUP)


def last(findings: tuple[Finding, ...] = (), count: int = 1, **changes: Any) -> LastRun:
    """A run in which `a.cheap` or `b.group` was measured on so many accelerators."""
    ids = tuple(f"cuda:{number}" for number in range(count))
    check = "b.group" if count > 1 else "a.cheap"
    piece = build.evidence(check, accelerators=ids, settings={"size": 1}, measurements=(), **changes)
    found = findings or build.on(build.BOTH, build.finding, "fine", check=check)
    items = [build.accelerator(found, (piece,), facts_=build.facts(id)) for id in ids]
    started = "2999-01-01T00:00:00Z"  # after the checks of these tests were written
    return LastRun(build.assessment(*items, started=started), {"machine": identity()})


def job(count: int = 1, check: Any = CHECKLIST["a.cheap"], **changes: Any) -> Job:
    return replace(Job(check, tuple(build.facts(f"cuda:{n}") for n in range(count)), {"size": 1}), **changes)


def taken(run: LastRun, wanted: Job, folder: Path) -> bool:
    with Journal(folder) as journal:
        journal.open()
        run.take_over([wanted], wanted.accelerators, journal, 0.0)
        return wanted.key in journal.evidence


def test_sound_evidence_of_the_same_is_taken(tmp_path: Path) -> None:
    assert taken(last(), job(), tmp_path / "one")
    assert taken(last(count=4), job(4, GROUP), tmp_path / "group")


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNKNOWN])
@pytest.mark.parametrize("level", Level)
def test_nothing_is_taken_of_which_any_requirement_is_not_met(tmp_path: Path, outcome: Outcome, level: Level) -> None:
    bad = build.finding("bad", Use.INFERENCE, check="a.cheap", outcome=outcome, level=level, earned=0.0)
    findings = (*build.on(build.BOTH, build.finding, "fine", check="a.cheap"), bad)
    assert not taken(last(findings), job(), tmp_path)


def test_evidence_with_other_settings_is_not_reused(tmp_path: Path) -> None:
    assert not taken(last(), job(settings={"size": 2}), tmp_path / "settings")
    assert not taken(last(count=4), job(3, GROUP), tmp_path / "fewer chips")
    assert not taken(last(), job(check=CHECKLIST["c.last"]), tmp_path / "of the run itself")
    for status in ("skipped", "error", "crashed", "timeout"):
        assert not taken(last(status=Status(status), reason="x"), job(), tmp_path / status)


def test_one_bad_chip_of_a_group_makes_all_of_it_run_again(tmp_path: Path) -> None:
    run = last(count=4)
    items = list(run.saved.accelerators)
    items[2] = build.accelerator(
        build.on(build.BOTH, build.failed, "fine", check="b.group"), items[2].evidence, facts_=items[2].facts
    )
    assert not taken(replace(run, saved=replace(run.saved, accelerators=tuple(items))), job(4, GROUP), tmp_path)


def test_an_accelerator_that_was_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the last run did not include cuda:1"):
        taken(last(), job(2, GROUP), tmp_path)


def test_a_serial_number_identifies_a_device_on_another_machine(tmp_path: Path) -> None:
    moved = replace(last(), request={"machine": {"name": "node-17", "boot": "f" * 16}})
    assert taken(moved, job(), tmp_path)
