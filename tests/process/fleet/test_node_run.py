"""A run on one node as events, with a program of the tests' own in the place of readiness."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from readiness.fleet.node_run import Event, assess
from tests.support.paths import ROOT

#: Writes a journal, then what the last argument but the folder's says.
PROGRAM = """
import os, pathlib, signal, sys, time
arguments = sys.argv[1:]
folder = pathlib.Path(arguments[arguments.index("--resume") + 1])
files = [argument.partition("=")[2] for argument in arguments if argument.startswith(("json=", "host="))]
journal = folder / "journal.jsonl"
before = journal.read_text() if journal.exists() else ""
(folder / "run.json").write_text("{}")
journal.write_text(before + "one\\n")
print("a line of", os.environ["READINESS_HOST"], flush=True)
what = arguments[1]
if what == "hang":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    while True:
        time.sleep(60)
if what == "stop":
    def leave(*_):
        pathlib.Path(files[0]).write_text("what was known")
        sys.exit(130)
    signal.signal(signal.SIGTERM, leave)
    print("ready to stop", flush=True)
    while True:
        time.sleep(60)
if what == "crash":
    os.kill(os.getpid(), signal.SIGKILL)
with journal.open("a") as stream:
    stream.write("two\\n")
for file in files:
    pathlib.Path(file).write_text(file.rpartition("/")[2])
sys.exit(1)
"""


def events(tmp_path: Path, what: str, limit_s: float = 300.0, **kept: bytes) -> list[Event]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    files = {name.replace("_", "."): content for name, content in kept.items()}
    return list(assess("node", [what], files, limit_s, [sys.executable, str(program)]))


def journal_of(found: list[Event]) -> bytes:
    content = b""
    for event in found:
        if event[:2] == ("journal", "journal.jsonl"):
            offset, piece = event[2], event[3]
            assert isinstance(offset, int)
            assert isinstance(piece, bytes)
            content = content[:offset] + piece
    return content


def test_a_run_hands_on_its_lines_its_journal_and_its_files(tmp_path: Path) -> None:
    found = events(tmp_path, "work")
    assert ("output", "a line of node") in found
    assert journal_of(found) == b"one\ntwo\n"
    assert found[-3:] == [
        ("file", "assessment.json", b"assessment.json"), ("file", "host.json", b"host.json"), ("end", 1),
    ]  # fmt: skip


def test_an_earlier_journal_is_gone_on_with_and_only_what_is_new_is_handed_on(tmp_path: Path) -> None:
    found = events(tmp_path, "work", journal_jsonl=b"zero\n")
    pieces = [event for event in found if event[:2] == ("journal", "journal.jsonl")]
    assert pieces[0][2] == len(b"zero\n")
    assert b"".join(piece[3] for piece in pieces if isinstance(piece[3], bytes)) == b"one\ntwo\n"


def test_a_run_that_dies_has_handed_on_what_it_had_measured(tmp_path: Path) -> None:
    found = events(tmp_path, "crash")
    assert journal_of(found) == b"one\n"
    assert found[-1] == ("end", -9)
    assert not any(event[0] == "file" for event in found)


def test_a_run_beyond_its_limit_is_stopped_and_its_files_count(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    # Its limit is over from the start: it may be stopped before it can write.
    found = list(assess("node", ["stop"], {}, 0.0, [sys.executable, str(program)]))
    assert ("limit", 0.0) in found
    assert found[-1] in (("end", 130), ("end", -15))
    if found[-1] == ("end", 130):
        assert ("file", "assessment.json", b"what was known") in found


def test_a_run_ends_with_the_process_that_began_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    code = (
        "import os, sys; from readiness.fleet.node_run import assess\n"
        f"for event in assess('node', ['hang'], {{}}, 300.0, [sys.executable, {str(tmp_path / 'program.py')!r}]):\n"
        "    if event[0] == 'output' and event[1].isdecimal():\n"
        "        print(event[1], flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    number = int(done.stdout)
    while _is_alive(number):
        time.sleep(0.05)  # the test's own limit of time is the deadline


def _is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_generator_that_is_dropped_leaves_no_process(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    stream = assess("node", ["hang"], {}, 300.0, [sys.executable, str(program)])
    number = 0
    for event in stream:
        if event[0] == "output" and str(event[1]).isdecimal():
            number = int(str(event[1]))
            break
    stream.close()  # type: ignore[attr-defined]
    assert number
    assert not _is_alive(number)
    assert os.getpid() != number
