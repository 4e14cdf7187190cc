"""Task processes: whatever a child does, its parent learns how the task ended and goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from readiness.isolation import task_process
from readiness.isolation.task_process import ProcessEnd, SharedPhase, TaskProcess, TaskServer
from tests.support.isolation import serve


@contextmanager
def started(**options: Any) -> Iterator[TaskProcess]:
    """A forked child that is ready, killed at the end."""
    process = TaskProcess.fork(serve, **options)
    try:
        assert process.recv(60.0) == {"ready": True}
        yield process
    finally:
        process.reap(kill=True)


def answer(process: TaskProcess, *task: Any) -> Any:
    process.submit(task)
    message = process.recv(60.0)
    assert message is not None
    return message["result"]


def test_a_child_does_one_task_after_the_other() -> None:
    with started() as process:
        found = [answer(process, "echo", number) for number in range(3)]
    assert [result["task"] for result in found] == [["echo", 0], ["echo", 1], ["echo", 2]]
    assert {result["pid"] for result in found} == {process.pid}
    assert not psutil.pid_exists(process.pid)


def test_a_fresh_interpreter_serves_the_request_like_a_fork() -> None:
    process = TaskProcess.spawn("tests.support.isolation:serve", {"seed": 7}, capture=True)
    assert process.recv(60.0) == {"ready": True}
    assert answer(process, "print") == {"pid": process.pid, "task": ["print"], "request": {"seed": 7}, "collects": True}
    process.submit(["crash", "here"])
    assert process.recv(60.0) is None
    assert str(process.reap()) == "died by SIGSEGV"
    assert process.phase.read() == ("crash", "here")
    assert "printed by a program" in process.output()
    assert "Fatal Python error: Segmentation fault" in process.output()


@pytest.mark.parametrize(
    ("task", "words"),
    [(("crash",), "died by SIGSEGV"), (("leave", 3), "exited with code 3"), (("raise",), "exited with code 70")],
)
def test_how_a_child_ended_and_the_phase_that_it_was_in(task: tuple[Any, ...], words: str) -> None:
    with started(capture=True) as process:
        process.submit(task)
        assert process.recv(60.0) is None
        assert str(process.reap()) == words
        assert process.phase.read() == (task[0], " ".join(map(str, task[1:])))
        assert ("the driver said no" in process.output()) == (task[0] == "raise")


def test_one_that_blocks_in_c_with_the_interpreters_lock_is_killed_from_outside() -> None:
    with started() as process:
        process.submit(["block"])
        while process.phase.read() != ("block", ""):
            with pytest.raises(TimeoutError):
                process.recv(0.01)
        with pytest.raises(TimeoutError):
            process.recv(0.5)
        assert str(process.reap(kill=True)) == "died by SIGKILL (perhaps out of memory)"


def test_what_is_printed_is_captured_and_never_mixes_with_the_answers() -> None:
    with started(capture=True) as process:
        assert answer(process, "print")["task"] == ["print"]
        assert process.output() == "printed by Python\nprinted by a program\n"
    assert process.output() == "printed by Python\nprinted by a program\n"


def test_what_is_not_captured_goes_where_the_parents_output_goes(capfd: pytest.CaptureFixture[str]) -> None:
    with started() as process:
        answer(process, "print")
        assert process.output() == ""
    assert "printed by a program\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("flood", "printed more than 1 MiB"),
        ("babble", "sent something that is not a message"),
        ("garble", "sent something that is not a message"),
    ],
)
def test_a_message_out_of_turn_breaks_the_connection(task: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_process, "MOST_BYTES", 2**20)
    with started(capture=True) as process:
        process.submit([task])
        assert process.recv(60.0) is None
        assert str(process.reap()) == words
    assert len(process.output()) <= task_process.OUTPUT_TAIL_BYTES


@pytest.mark.parametrize("own_group", [True, False])
def test_programs_of_its_own_group_are_killed_with_it(own_group: bool) -> None:
    with started(own_group=own_group) as process:
        process.submit(["start"])
        while process.phase.read()[0] != "started":
            with pytest.raises(TimeoutError):
                process.recv(0.01)
        program = psutil.Process(int(process.phase.read()[1]))
        process.reap(kill=True)
        if own_group:
            _, alive = psutil.wait_procs([program], timeout=30)
            assert not [left for left in alive if left.status() != psutil.STATUS_ZOMBIE]
        else:
            assert program.is_running()
            program.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_children_die_with_their_parent() -> None:
    code = """
import time
from readiness.isolation.task_process import TaskProcess
from tests.support.isolation import serve
children = [TaskProcess.fork(serve), TaskProcess.spawn("tests.support.isolation:serve", {})]
for child in children:
    child.recv(60.0)
    child.submit(["block"])
    while not child.phase.read()[0]:
        time.sleep(0.01)
print("blocked", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "blocked\n"
        children = psutil.Process(parent.pid).children()
        parent.kill()
    assert len(children) == 2
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


def test_a_fork_holds_nothing_of_its_parent_open() -> None:
    """Whoever waits for the end of a connection waits for this process alone."""
    ours, theirs = socket.socketpair()
    with started():
        ours.close()
        assert theirs.recv(1) == b""
    theirs.close()


def test_a_message_to_one_that_is_dead_is_no_error() -> None:
    with started() as process:
        os.kill(process.pid, signal.SIGKILL)
        process.submit(["echo"])
        process.submit(["echo"])
        assert process.recv(60.0) is None


def test_ends_in_words() -> None:
    assert str(ProcessEnd(None, "printed too much")) == "could not be killed: it is blocked in the kernel"
    assert str(ProcessEnd(-40)) == "died by signal 40"
    assert str(ProcessEnd(0)) == "exited with code 0"


def test_a_phase_is_cut_where_it_is_too_long_and_empty_before_any() -> None:
    phase = SharedPhase()
    assert (phase.read(), phase.entered) == (("", ""), 0)
    phase.enter("backward", "ä" * 300)
    name, detail = phase.read()
    assert name == "backward"
    assert len(detail.encode()) <= SharedPhase.BYTES
    assert detail.startswith("ä" * 100)
    phase.enter("forward")
    assert phase.read() == ("forward", "")
    assert phase.entered > 0


def test_importing_it_needs_no_torch() -> None:
    code = "import sys; import readiness.isolation.task_supervisor; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_end_of_input_ends_the_server() -> None:
    ours, theirs = socket.socketpair()
    ours.shutdown(socket.SHUT_WR)
    assert TaskServer(theirs, SharedPhase()).serve(lambda task: (task, False)) == 0
    ours.close()
    theirs.close()
