"""`readiness fleet links`: what it says and exits with, and runs that a command reaches, each a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from readiness import __version__
from readiness.errors import Exit
from readiness.fleet.coordinator import NodeLostError
from readiness.fleet.links.remote_client import RemoteRun
from readiness.fleet.node_run import Event
from tests.support.command_line import readiness
from tests.support.paths import ROOT


def all_events(run: RemoteRun, within_s: float = 600.0) -> list[Event]:
    """Everything that a run says until it ends or is lost."""
    found: list[Event] = []
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and not any(event[0] == "end" for event in found):
        found += run.events()
        time.sleep(0.01)
    return found


def saying(*lines: str) -> tuple[str, ...]:
    """A command that says this whatever it is asked."""
    return (sys.executable, "-c", f"import sys; print({chr(10).join(lines)!r}, flush=True); sys.stdin.read()")


def test_a_run_there_is_the_ordinary_one_and_says_what_it_prints_and_how_it_ends() -> None:
    command = ("/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable)
    found = all_events(RemoteRun("node-1", command, ["--no-such-option"], 60.0))
    assert ("end", 2) in found
    assert any("no-such-option" in str(event) for event in found if event[0] == "output")


def test_a_file_comes_in_pieces() -> None:
    run = RemoteRun("node-1", saying(
        json.dumps({"file": "assessment.json", "piece": "e30=", "more": True}),
        json.dumps({"file": "assessment.json", "piece": "Cg==", "more": False}), json.dumps({"end": 1}),
    ), [], 60.0)  # fmt: skip
    assert all_events(run) == [("file", "assessment.json", b"{}\n"), ("end", 1)]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("/no/such/command",), "node-1 cannot be reached"),
        (("/bin/sh", "-c", "echo 'Permission denied (publickey)' >&2; exit 255"), "Permission denied"),
        (("/bin/sh", "-c", "true"), "it printed nothing"),
        (saying("Welcome to node-1"), "which no run says"),
        (saying("{}"), "which no run says"),
        (saying("[]"), "which no run says"),
        (saying('{"file": "assessment.json", "piece": "!", "more": 7, "x": 1}'), "which no run says"),
        (saying('{"refused": "readiness 0.0.1 is installed there"}'), "readiness 0.0.1"),
    ],
)
def test_what_is_no_run_is_lost_and_says_why(command: tuple[str, ...], says: str) -> None:
    run = RemoteRun("node-1", command, [], 60.0)
    with pytest.raises(NodeLostError, match=says.replace("(", r"\(")):
        all_events(run)
    run.cancel()


def test_another_version_there_is_refused() -> None:
    order = json.dumps({"host": "node-1", "arguments": [], "limit_s": 60, "version": "0.0.0"}) + "\n"
    done = subprocess.run(
        [sys.executable, "-m", "readiness.fleet.links.remote_agent"], input=order, capture_output=True, text=True, cwd=ROOT,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert __version__ in json.loads(done.stdout)["refused"]


_ENDLESS = """
import os, sys, time
from readiness.fleet import node_run
from readiness.fleet.links import remote_agent
def endless(*_):
    try:
        yield "output", "begun"
        time.sleep(600)
    finally:
        open(sys.argv[1], "w").write("ended")
node_run.assess = endless
sys.exit(remote_agent.main())
"""


def test_with_the_end_of_its_input_a_run_ends_and_cleans_up(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, str(tmp_path / "file")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    order = {"host": "node-1", "arguments": [], "limit_s": 60, "version": __version__}
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == {"output": "begun"}
    process.stdin.close()
    process.stdout.close()
    assert process.wait(600) == 130
    assert (tmp_path / "file").read_text() == "ended"


# ------------------------------------------------------------------------------------------------- the command line


def test_hosts_that_cannot_be_reached_are_unknown_and_stay_in_the_denominator(tmp_path: Path) -> None:
    (tmp_path / "hosts.txt").write_text("node-1\nnode-2\nnode-3\nnode-away drained a fan\n")
    arguments = [
        "fleet", "links", str(tmp_path / "fleet.sqlite"), "--hosts", str(tmp_path / "hosts.txt"), "--reach",
        "/bin/sh -c 'echo no route to {host} >&2' {python}",
    ]  # fmt: skip
    done = readiness(*arguments, state=tmp_path)
    assert done.returncode == Exit.UNDETERMINED, done.stderr
    told = " ".join(done.stdout.split())
    assert "of 3 pairs of 3 hosts, 0 good, 0 bad, 3 unknown" in told
    assert "node-2 is unknown: " in told
    assert "no route to node-" in told
    assert "round 1: 1 trials (every host with another)" in done.stderr
    again = readiness(*arguments, state=tmp_path)
    assert again.returncode == Exit.UNDETERMINED
    assert "every round is made" in again.stderr
    report = readiness("fleet", "report", str(tmp_path / "fleet.sqlite"), "-f", "json", state=tmp_path)
    document = json.loads(report.stdout)
    assert document["between_hosts"]["unknown_hosts"] == ["node-1", "node-2", "node-3"]
    assert {one["host"] for one in document["hosts"]} == {"node-1", "node-2", "node-3", "node-away"}
    (tmp_path / "hosts.txt").write_text("node-1\nnode-2\n")
    other = readiness(*arguments, state=tmp_path)
    assert other.returncode == Exit.USAGE
    assert "other hosts or options were tried before" in other.stderr
    anew = readiness(*arguments, "--again", "-q", state=tmp_path)
    assert anew.returncode == Exit.UNDETERMINED
    assert anew.stdout.startswith("of 1 pair of 2 hosts, 0 good, 0 bad, 1 unknown")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{none}"], "there is no such file"),
        (["{fleet}", "--hosts", "{one}"], "1 host to try"),
        (["{fleet}", "--hosts", "{two}", "--", "--host", "x"], "--host is set by `fleet links` itself"),
        (["{fleet}", "--hosts", "{two}", "--", "--no-such-option"], "No such option"),
        (["{fleet}", "--hosts", "{two}", "--reach", "ssh node-1"], "reaches the same host for every name"),
        (["{fleet}", "--hosts", "{two}", "--limit", "soon"], "is not a duration"),
        (["{fleet}", "--hosts", "{bad}"], "is no name of a host"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "one.txt").write_text("node-1\n")
    (tmp_path / "two.txt").write_text("node-1\nnode-2\n")
    (tmp_path / "bad.txt").write_text("node;1\n")
    places = {name: tmp_path / f"{name}.txt" for name in ("one", "two", "bad", "none")} | {"fleet": tmp_path / "fleet.sqlite"}
    done = readiness("fleet", "links", *(one.format(**places) for one in arguments), state=tmp_path)
    assert done.returncode == Exit.USAGE, done.stdout
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
