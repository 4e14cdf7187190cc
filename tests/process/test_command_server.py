"""Processes that share the tests have their servers forked from one; any other starts its own."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.paths import ROOT
from tests.support.ranks import wait_for_end

_CLIENT = """
import os, psutil
from tests.support import command_server
server = command_server.command_server(torch=False)
done = server.run("import os, psutil, sys; print(psutil.Process(os.getppid()).ppid()); sys.exit(3)", (), os.environ, 60)
killed = server.run("import os; os.kill(os.getpid(), 9)", (), os.environ, 60)
print(len(command_server.processes()), done.returncode, killed.returncode, done.stdout.strip(), psutil.Process().ppid())
"""


def clients(prelude: str, number: int) -> list[list[int]]:
    """Own servers, exit codes, whose the server is, and whose the client is, of so many clients of one process."""
    code = (
        "import subprocess, sys; from tests.support import command_server\n"
        f"{prelude}\nfor _ in range({number}):\n    subprocess.run([sys.executable, '-P', '-c', {_CLIENT!r}], check=True)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "READINESS_TESTS_SERVERS"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]


def test_servers_of_several_processes_are_forked_from_one_that_leaves_with_them() -> None:
    first, second = clients("command_server.share()", 2)
    assert first[:3] == second[:3] == [0, 3, -9]
    assert first[3] == second[3] != first[4]
    assert wait_for_end([first[3]]) == []


def test_a_process_for_which_none_fits_starts_its_own() -> None:
    """Its environment is another one than that of the shared server when it started."""
    (found,) = clients("command_server.share(); import os; os.environ['OMP_DYNAMIC'] = 'false'", 1)
    assert found[:3] == [1, 3, -9]
    assert found[3] != found[4]
