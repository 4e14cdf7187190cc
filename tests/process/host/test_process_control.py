"""The end of a process with all that it started, also in sessions of their own."""

from __future__ import annotations

import subprocess
import sys

import psutil

from readiness.host.process_control import kill_tree

_PARENT = """
import subprocess, sys
for session in (False, True):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=session)
    print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_process_ends_with_its_children_in_every_session() -> None:
    for own_session in (False, True):
        process = subprocess.Popen(
            [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=own_session
        )
        assert process.stdout is not None
        assert process.stdin is not None
        children = [psutil.Process(int(process.stdout.readline())) for _ in range(2)]
        kill_tree(process, 60.0)
        assert process.returncode == -9
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
        kill_tree(process, 60.0)  # of one that has ended there is nothing to end
        process.stdin.close()
        process.stdout.close()
