"""`readiness fleet`: files of many hosts into one database, and what the commands say and exit with."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import warnings
from pathlib import Path

import pytest

from readiness.errors import Exit
from readiness.fleet import merge as merging
from readiness.fleet import store
from readiness.host.identity import host_name
from tests.support import fleets, saved
from tests.support.command_line import readiness

_STARTED = "2026-11-01T10:00:00Z"  # never ahead of the clock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hosts = [fleets.host(f"node-{number:02}", 1, chips=1, count=10, started=_STARTED) for number in range(70)]
    fleets.fail(hosts[3], 0, "device-not-faulty", "fallen off the bus")
    fleets.write(tmp_path / "hosts", hosts)
    (tmp_path / "hosts" / "junk.json").write_text("{")
    return tmp_path / "hosts"


def test_from_files_to_lists_for_a_scheduler(folder: Path, tmp_path: Path) -> None:
    database = str(tmp_path / "fleet.sqlite")
    (tmp_path / "expected.txt").write_text("node-00\nnode-silent  # a remark\nnode-away drained a fan\n\n")
    merged = readiness(
        "fleet", "merge", str(folder), "-o", database, "--expect", str(tmp_path / "expected.txt"), state=tmp_path
    )
    assert merged.returncode == 0, merged.stderr
    assert "70 new, 0 known and unchanged, 1 no host's" in merged.stderr
    assert f"{folder / 'junk.json'}: not JSON" in merged.stderr
    again = readiness("fleet", "merge", str(folder), "-o", database, state=tmp_path)
    assert "0 new, 71 known and unchanged, 1 no host's" in again.stderr
    page, sheet, metrics = (str(tmp_path / f"fleet.{suffix}") for suffix in ("html", "xlsx", "prom"))
    told = readiness(
        "fleet", "report", database, "-f", f"html={page}", "-f", f"xlsx={sheet}", "-f", f"openmetrics={metrics}",
        "-f", "json", state=tmp_path,
    )  # fmt: skip
    assert told.returncode == Exit.NOT_READY, told.stderr
    document = json.loads(told.stdout)
    assert document["uses"]["training"] == {"ready": 69, "not ready": 1, "undetermined": 3, "without a run": 3}
    assert all(Path(file).stat().st_size > 500 for file in (page, sheet, metrics))
    ready = readiness("fleet", "hosts", database, state=tmp_path)
    assert ready.stdout.split() == [f"node-{number:02}" for number in range(70) if number != 3]
    failed = readiness("fleet", "hosts", database, "--failed", state=tmp_path)
    assert failed.stdout.split() == ["junk", "node-03", "node-away", "node-silent"]
    drain = readiness("fleet", "hosts", database, "--drain", "slurm", state=tmp_path)
    assert drain.stdout.startswith("scontrol update nodename=node-03 state=drain reason='readiness: device-not-faulty")


def test_the_exit_code_is_that_of_the_worst_host(tmp_path: Path) -> None:
    fleets.write(tmp_path / "hosts", [fleets.host("node-1", 1, chips=1, count=5, started=_STARTED)])
    database = str(tmp_path / "fleet.sqlite")
    readiness("fleet", "merge", str(tmp_path / "hosts"), "-o", database, state=tmp_path)
    quiet = readiness("fleet", "report", "-q", database, state=tmp_path)
    assert (quiet.returncode, quiet.stdout) == (
        0, "training: 1 of 1 host ready, 0 not, 0 undetermined\ninference: 1 of 1 host ready, 0 not, 0 undetermined\n",
    )  # fmt: skip
    (tmp_path / "expected.txt").write_text("node-2\n")
    readiness("fleet", "merge", str(tmp_path / "hosts"), "-o", database, "--expect", str(tmp_path / "expected.txt"),
              state=tmp_path)  # fmt: skip
    assert readiness("fleet", "report", "-q", database, state=tmp_path).returncode == Exit.UNDETERMINED


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["merge", "{none}", "-o", "{fleet}"], "there is no such folder or file"),
        (["merge", "{empty}", "-o", "{fleet}"], "no JSON file is in there"),
        (["merge", "{hosts}", "-o", "{empty}"], "it cannot be opened"),
        (["merge", "{hosts}", "-o", "{text}"], "not a fleet's database"),
        (["merge", "{hosts}", "-o", "{fleet}", "--expect", "{bad}"], "bad.txt:2: 'no;de' is no name of a host"),
        (["report", "{none}"], "there is no such file"),
        (["report", "{text}"], "not a fleet's database"),
        (["report", "{text}", "-f", "xlsx"], "a workbook is no text"),
        (["report", "{text}", "-f", "htm"], "did you mean html?"),
        (["hosts", "{text}", "--drain", "slurm", "--failed"], "a list and commands at once"),
    ],
)
def test_bad_input_is_one_clear_error(folder: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("text, and no database " * 100)
    (tmp_path / "bad.txt").write_text("node-1\nno;de\n")
    places = {
        "none": tmp_path / "none", "empty": tmp_path / "empty", "fleet": tmp_path / "fleet.sqlite", "hosts": folder,
        "text": tmp_path / "text", "bad": tmp_path / "bad.txt",
    }  # fmt: skip
    done = readiness("fleet", *(one.format(**places) for one in arguments), state=tmp_path)
    assert done.returncode == Exit.USAGE
    assert says in done.stderr
    assert "remedy: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_may_bear_the_hosts_name(tmp_path: Path) -> None:
    from readiness.documents.assessment import dumps, to_json

    (tmp_path / "a.json").write_text(dumps(to_json(saved.small(tmp_path))))
    done = readiness("report", str(tmp_path / "a.json"), "-q", "-f", f"host={tmp_path}/%h.json", state=tmp_path)
    assert done.returncode in (0, 1, 3), done.stderr
    named = readiness("report", str(tmp_path / "a.json"), "-q", "-f", f"host={tmp_path}/%h.json", state=tmp_path,
                      READINESS_HOST="pod-7")  # fmt: skip
    assert named.returncode == done.returncode
    assert (tmp_path / "pod-7.json").exists()
    written = tmp_path / f"{host_name(os.uname().nodename)}.json"
    assert json.loads(written.read_text())["schema"] == "readiness.host/1"


def test_several_processes_add_what_one_adds(folder: Path, tmp_path: Path) -> None:
    files = merging.found_files([folder])
    contents = []
    for processes in (1, 2):
        connection = store.open_store(tmp_path / f"{processes}.sqlite", create=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads of this process, which the children do without
            merged = merging.merge(connection, files, processes=processes)
        assert (merged.added, len(merged.broken)) == (70, 1)
        contents.append(_content(connection))
        connection.close()
    assert contents[0] == contents[1]


def test_a_merge_that_is_killed_at_any_moment_is_finished_by_the_next(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "_BATCH", 8)
    files = merging.found_files([folder])
    whole = store.open_store(tmp_path / "whole.sqlite", create=True)
    statements: list[str] = []
    whole.set_trace_callback(statements.append)
    merging.merge(whole, files, processes=1)
    expected = _content(whole)
    whole.close()
    moments = range(1, len(statements), len(statements) // 20)
    assert len(moments) >= 20
    partial = set()
    for moment in moments:
        database = tmp_path / f"{moment}.sqlite"
        _killed_at(moment, database, files)
        connection = store.open_store(database, create=True)
        partial.add(connection.execute("SELECT count(*) FROM file").fetchone()[0])
        merging.merge(connection, files, processes=1)
        assert _content(connection) == expected, moment
        connection.close()
    assert len(partial) > 5, "they were killed with some files added and others not"


def _killed_at(moment: int, database: Path, files: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            connection = store.open_store(database, create=True)
            seen = 0

            def count(statement: str) -> None:
                nonlocal seen
                seen += 1
                if seen == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

            connection.set_trace_callback(count)
            merging.merge(connection, files, processes=1)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def _content(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for name in ("file", "run", "accelerator", "figures", "expected"):
        found += sorted(connection.execute(f"SELECT * FROM {name}"), key=repr)
    return found
