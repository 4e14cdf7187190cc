"""What holds for every test.

One thread a process, since tests run side by side and spinning threads starve each other; those of ranks, which take more, do
not spin (a training of one rank then takes a fifth of the processor time on busy cores). Hypothesis has no deadline and no
limit for drawing examples, since a busy machine is no fault, and draws the same examples in CI every time, new ones at home.
"""

from __future__ import annotations

import compileall
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from pytest_rerunfailures import StatusDB

from tests.support import command_server, postponed_parsers
from tests.support.paths import ROOT

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
postponed_parsers.postpone()

settings.register_profile(
    "readiness", deadline=None, derandomize=bool(os.environ.get("CI")), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("readiness")


#: The files that take longest, longest first: begun last, they would leave one process at work and the others idle.
LONGEST = (
    "system/test_goldens.py", "process/checks/operators/test_another_arithmetic.py", "process/checks/multichip/test_links.py",
    "process/checks/multichip/test_elastic.py", "process/checks/multichip/test_parallelism.py", "process/documents/test_limits_of_files.py",
    "process/checks/operators/test_workload.py", "process/checks/multichip/test_recovery.py", "process/engine/test_stress.py",
    "system/hosts/test_other_hosts.py", "process/checks/multichip/test_bandwidth.py", "process/simulator/test_several_chips.py",
    "system/cli/test_cli.py", "process/checks/multichip/test_drills.py", "process/checks/multichip/test_integrity.py",
)  # fmt: skip
_BYTECODE = pytest.StashKey[bool]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile readiness and tests once, also where interpreters are told to keep nothing compiled: hundreds import it."""
    session.config.stash[_BYTECODE] = sys.dont_write_bytecode
    if session.config.getoption("tx", None):  # several processes share the tests
        command_server.share()
    gc.disable()  # until all tests are collected: nearly all that is made until then stays
    if sys.dont_write_bytecode:
        sys.dont_write_bytecode = False  # until all tests are collected: pytest keeps what it makes of their assertions
        if not hasattr(session.config, "workerinput"):
            for folder in ("readiness", "checks", "reports", "tests/support"):
                compileall.compile_dir(ROOT / folder, quiet=2)


#: Tests of processes, clocks and speeds of this machine: of these a host that stops a process for seconds may spoil one.
#: It is tried once more, and the summary names it (RERUN). What tests/unit tests depends on no host: it must pass at once.
TRIED_AGAIN = (ROOT / "tests/process", ROOT / "tests/system")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """What is tried again is counted in each process for itself, not over a connection to the first one.

    Tests cut the connections of processes that they forked, and this one would be among them. Without it a process that dies
    with its test is not replaced, which then counts as the failure that it is.
    """
    if hasattr(config, "workerinput"):
        kept: Any = config  # an attribute that pytest does not declare
        kept.failures_db.sock.close()
        kept.failures_db = StatusDB()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests, each begins with long ones: xdist gives each as many, in this order."""
    for item in items:
        if any(folder in item.path.parents for folder in TRIED_AGAIN):
            item.add_marker(pytest.mark.flaky(reruns=1))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        items[:] = dealt(items, [ROOT / "tests" / file for file in LONGEST], workers)


def dealt(items: Sequence[pytest.Item], files: Sequence[Path], workers: int) -> list[pytest.Item]:
    """The items so that each of so many equal parts begins with the items of some of these files; the first are the first's."""
    long = [[item for item in items if item.path == file] for file in files]
    rest = [item for item in items if item.path not in files]
    found: list[pytest.Item] = []
    for worker in range(workers):
        whole = (len(items) - len(found)) // (workers - worker)
        first = [item for share in long[worker::workers] for item in share]
        more = max(0, whole - len(first))
        found += first + rest[:more]
        rest = rest[more:]
    return found + rest


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep what is there by now out of every garbage collection: of this process, and of those that are forked from it."""
    sys.dont_write_bytecode = session.config.stash[_BYTECODE]
    gc.collect()
    gc.freeze()
    gc.enable()
