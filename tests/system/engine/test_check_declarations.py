"""Check files of the user: what they declare is known, and whatever else they do is one clear error, never a verdict."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from readiness import check_registry, package_data
from readiness.check_registry import Check
from readiness.datamodel import Measurement, Row
from readiness.engine import check_declarations, isolated_call
from readiness.errors import CheckFileError, Exit, InternalError, UsageError
from readiness.isolation.worker_pool import WorkerPool
from readiness.profile import loader
from tests.support.command_line import readiness
from tests.support.engine import MISBEHAVING, children, write_profile

LASTING = MISBEHAVING.parent / "lasting"
GOOD = """
import math
from readiness import Measurement, check
def vet(settings):
    from readiness.errors import UsageError
    if settings.get("text") == "bad":
        raise UsageError("this text is bad", place="setting text", remedy="give another")
    if settings.get("text") == "fatal":
        import os
        os._exit(0)
@check("own.good", title="Good", measures={"figure": "1"}, typical_s=0.1, vet=vet, least={"number": 2})
def good(accelerator, *, pair=(1, 2.5), several=("a",), empty=[], table={"key": (1,)}, number=3, infinite=math.inf,
         text="", yes=True, nothing=None):
    \"\"\"Is it good?\"\"\"
    yield Measurement("figure", 1.0)
"""


@pytest.fixture(autouse=True)
def no_file_is_imported_here() -> Iterator[None]:
    """What a test imports into this process is not there for the next."""
    yield
    sys.modules.pop("readiness.checks.own.file", None)


def folder_of(folder: Path, text: str, name: str = "own/file.py") -> Path:
    """A folder of checks with one file."""
    file = folder / "checks" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return folder / "checks"


HOSTILE = {
    "leaves": ("import os\nos._exit(0)", "exit code 0 before"),
    "exits": ("raise SystemExit(0)", "file.py:1"),
    "is interrupted": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "crashes": ("import ctypes\n\nctypes.string_at(0)", "file.py:3"),
    "kills its group": ("import os\nos.killpg(0, 9)", "SIGKILL"),
    "talks into every pipe": ("import os\nfor n in range(3, 64):\n  try: os.write(n, b'{}')\n  except OSError: pass", "evidence pipe"),
    "is no Python": ("x = (", "file.py:1"),
    "cannot be found": ("x = 1\nimport no_such_module", "file.py:2"),
    "limits itself to a word": (GOOD.replace("typical_s=0.1", "limit_s='60'"), "limit_s is '60'"),
    "has an object as a setting": (GOOD.replace("number=3", "number=object()"), "the default of setting 'number'"),
    "has a number as its title": (GOOD.replace('"Good"', "7"), "its title"),
    "has a scope that is none": (GOOD.replace('title="Good"', 'title="Good", scope="group"'), "its cost, scope or phase"),
    "has an id that is none": (GOOD.replace('"own.good"', "7"), "FAMILY.TOPIC"),
}


@pytest.mark.parametrize("way", HOSTILE)
def test_a_hostile_file_is_one_clear_error(tmp_path: Path, way: str) -> None:
    text, words = HOSTILE[way]
    result = readiness("list", "checks", "--checks", str(folder_of(tmp_path, text)), state=tmp_path)
    assert result.returncode == Exit.USAGE, result
    assert result.stdout == ""
    assert str(tmp_path / "checks" / "own" / "file.py") in result.stderr
    assert words in result.stderr
    assert "remedy:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("run", "-p", "smoke", "-d", "cpu"), ("judge", "SAVED"), ("explain", "general"), ("explain", "parity.matmul"),
        ("rehearse", "--kinds"), ("rehearse", "--chip", "nan"), ("list",),
    ],
)  # fmt: skip
def test_no_command_takes_the_end_of_a_file_for_its_own(tmp_path: Path, command: tuple[str, ...]) -> None:
    saved = tmp_path / "a.json"
    if "SAVED" in command:
        made = readiness("run", "-d", "cpu", "-p", "smoke", "-k", "driver.stack", "-q", "-f", f"json={saved}", state=tmp_path)
        assert made.returncode == Exit.UNDETERMINED, made.stderr
    folder = folder_of(tmp_path, "import os\nos._exit(0)")
    arguments = [str(saved) if word == "SAVED" else word for word in command]
    result = readiness(*arguments, "--checks", str(folder), state=tmp_path)
    assert (result.returncode, result.stdout) == (Exit.USAGE, ""), result
    assert "own/file.py: this check file cannot be imported" in result.stderr


def test_a_file_that_copies_its_process_makes_no_second_command_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "import os\nos.fork()\n" + GOOD)
    result = readiness("list", "checks", "-f", "json", "--checks", str(folder), state=tmp_path)
    assert result.returncode == Exit.READY, result.stderr
    assert [item["id"] for item in json.loads(result.stdout)["checks"]].count("own.good") == 1


@pytest.mark.parametrize("text", ["while True:\n    pass", "import ctypes\nctypes.PyDLL(None).sleep(600)", "import os\nos.kill(os.getpid(), 19)"])
def test_a_file_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    class Pool(WorkerPool):
        """Its limit begins with the file: a busy host may let it come there late."""

        def poll(self, timeout_s: float) -> None:
            for worker in self.workers.values():
                if worker.rows:
                    worker.limit_s = 1.0
            super().poll(timeout_s)

    monkeypatch.setattr(isolated_call, "WorkerPool", Pool)
    monkeypatch.setenv(package_data.CHECKS_VARIABLE, str(folder_of(tmp_path, text)))
    with pytest.raises(CheckFileError, match="not finished within 1 s") as caught:
        check_declarations.discover(limit_s=100.0)
    assert str(tmp_path / "checks" / "own" / "file.py") in (caught.value.place or "")
    if text.startswith("while"):
        assert (caught.value.place or "").endswith((".py:1", ".py:2"))
    assert not children()


def test_what_a_file_prints_stays_out_of_the_data(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "print('noise')\nimport os\nos.write(1, b'more noise')\n" + GOOD)
    result = readiness("list", "checks", "-f", "json", "--checks", str(folder), state=tmp_path)
    assert "own.good" in {item["id"] for item in json.loads(result.stdout)["checks"]}
    assert "noise" not in result.stderr


def test_declarations_are_the_same_from_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [MISBEHAVING, LASTING, folder_of(tmp_path, GOOD)]
    monkeypatch.setenv(package_data.CHECKS_VARIABLE, os.pathsep.join(map(str, folders)))
    found = check_declarations.discover()
    assert "readiness.checks.own.file" not in sys.modules
    here = check_registry.discover()
    assert list(found) == list(here)
    assert {"own.good", "lasting.steps", "trouble.well", "parity.matmul"} <= set(found)
    callables = ("function", "vet", "recount")
    for id, check in here.items():
        for field in fields(Check):
            one, other = getattr(check, field.name), getattr(found[id], field.name)
            same = (one is None) == (other is None) if field.name in callables else one == other
            assert same, (id, field.name, one, other)
            assert field.name in callables or repr(one) == repr(other)  # a tuple stays one
    with pytest.raises(InternalError, match="by workers only"):
        list(found["own.good"].function(None))


def test_a_shipped_id_is_taken(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, GOOD.replace("own.good", "parity.matmul"))
    result = readiness("list", "checks", "--checks", str(folder), state=tmp_path)
    assert (result.returncode, result.stdout) == (Exit.USAGE, ""), result
    assert "check 'parity.matmul' is declared twice" in result.stderr
    assert str(Path("checks/parity/matmul.py")) in result.stderr
    assert str(folder / "own" / "file.py") in result.stderr


def test_text_of_a_declaration_has_no_terminal_effect(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, GOOD.replace('"Good"', '"Go\\x1b[31mod\\u202e"').replace("Is it good?", "Is it \\x1b[31mgood?"))
    for command in (("list", "checks"), ("list", "checks", "-f", "json"), ("explain", "own.good")):
        result = readiness(*command, "--checks", str(folder), state=tmp_path)
        assert result.returncode == Exit.READY, result
        assert "own.good" in result.stdout
        assert not set(result.stdout) & {"\x1b", "\u202e"}


def test_no_process_starts_without_user_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(package_data.CHECKS_VARIABLE, raising=False)
    monkeypatch.setattr("readiness.engine.isolated_call.call", None)
    assert check_declarations.discover() == check_registry.shipped()


def test_a_check_looks_at_its_settings_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(package_data.CHECKS_VARIABLE, str(folder_of(tmp_path, GOOD)))
    found = check_declarations.discover()
    for text, error, words in (("bad", UsageError, "this text is bad"), ("fatal", CheckFileError, "exit code 0 before")):
        file = write_profile(tmp_path / "test.toml", ["own.good"], settings={"own.good": {"text": text}})
        with pytest.raises(error, match=words):
            loader.load(str(file), found)
    assert loader.load(str(write_profile(tmp_path / "test.toml", ["own.good"], settings={"own.good": {"text": "x"}})), found)
    assert "readiness.checks.own.file" not in sys.modules


def test_what_a_check_kept_is_recounted_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(package_data.CHECKS_VARIABLE, str(LASTING))
    recount = check_declarations.discover()["lasting.steps"].recount
    assert recount is not None
    kept = tmp_path / "kept.jsonl"
    kept.write_text('{"step": 1}\n{"step": 2}\n')
    assert list(recount(kept)) == [Row({"proves": "2 steps", "does_not_prove": "more"}), Measurement("figure", 2, unit="1")]
    kept.write_text("no record\n")
    with pytest.raises(CheckFileError, match="its recount fails: JSONDecodeError"):
        list(recount(kept))


@pytest.mark.parametrize("name", ["parity.py", "parity/__init__.py"])
def test_no_user_file_hides_a_shipped_one(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path, "raise SystemExit('it was imported')", name)
    folder_of(tmp_path, GOOD, "parity/own.py" if name.endswith("__init__.py") else "own/file.py")
    result = readiness("list", "checks", "--checks", str(folder), state=tmp_path)
    assert result.returncode == Exit.USAGE, result
    assert f"{folder / name}: it hides the family" in result.stderr


def test_a_pipe_among_the_files_is_refused_at_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, GOOD)
    os.mkfifo(folder / "own" / "pipe.py")
    result = readiness("list", "checks", "--checks", str(folder), state=tmp_path)
    assert result.returncode == Exit.USAGE, result
    assert "pipe.py: this is not a file" in result.stderr


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path, GOOD)
    listed = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "own":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setenv(package_data.CHECKS_VARIABLE, str(folder))
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(CheckFileError, match="it cannot be listed: Permission denied") as caught:
        check_registry.discover(shipped=False)
    assert caught.value.place == str(folder / "own")
