"""What tests of further hosts share: this machine once more, reached by a command of its own."""

from __future__ import annotations

import sys

from readiness.accelerators.base import Accelerator
from readiness.accelerators.remote_devices import Host, on_host
from tests.support import cpu
from tests.support.paths import ROOT

#: What starts Python with these tests in reach: a remote agent imports the function that its ranks run.
PYTHON = ("/usr/bin/env", f"PYTHONPATH={ROOT}", "OMP_NUM_THREADS=1", sys.executable)
#: The same, but without the seconds in which it imports torch.
_FORKED = (*PYTHON, "-P", str(ROOT / "tests" / "support" / "forked_python.py"))


def another(name: str = "other", *, address: str = "127.0.0.1", command: tuple[str, ...] = _FORKED) -> Host:
    """A host that is this machine."""
    return Host(name, command, address)


def with_hosts(*hosts: Host) -> Accelerator:
    """This machine's CPU, and that of each of these hosts as its peer."""
    own = cpu()
    return Accelerator(own.facts, own.stack, seed=own.seed, peers=[own.facts, *(on_host(host, own.facts) for host in hosts)])
