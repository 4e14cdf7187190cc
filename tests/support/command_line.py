"""The command line as tests start it: in a process of its own, with a folder of its own for what it keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.command_server import command_server
from tests.support.paths import CHECKS, ROOT

#: As `python -m readiness`, but looking for no other accelerator than the CPU.
CODE = (
    "import sys; from readiness import accelerators; accelerators.NAMES = ('cpu',); "
    "from readiness.__main__ import main; main()"
)
#: What a prepared process imports first where no check needs torch.
WITHOUT_TORCH = "tests.support.stand_in_torch,readiness.engine.worker"
#: The same for runs of the tests' own checks.
CODE_WITHOUT_TORCH = (
    f"from readiness.isolation.worker_pool import WorkerPool; WorkerPool.__init__.__kwdefaults__['preload'] = {WITHOUT_TORCH!r}; {CODE}"
)
#: Less than pytest gives a test, and long enough for a busy host.
_LIMIT_S = 240


def readiness(
    *arguments: str, state: Path, code: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `readiness` with these arguments to its end: without torch where it runs checks of the tests' own on the CPU.

    A server forks it (`command_server`). With code of the test's own it is a fresh interpreter.
    """
    simulated = any(argument.startswith("sim:") or argument in ("rehearse", "--rehearse") for argument in arguments)
    own = not simulated and any(Path(argument).is_relative_to(CHECKS) for argument in arguments)
    variables = _variables(state, environment)
    if code is None:
        from_torch = not own and (simulated or arguments[:1] in (("run",), ("trace",)))
        server = command_server(torch=from_torch)
        if server.can(arguments, variables):
            return server.run(CODE_WITHOUT_TORCH if own else CODE, arguments, variables, _LIMIT_S)
    return subprocess.run(
        [sys.executable, "-P", "-c", code or (CODE_WITHOUT_TORCH if own else CODE), *arguments],
        env=variables, capture_output=True, text=True, timeout=_LIMIT_S, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def forked(code: str, *arguments: str, state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code of the test's own in a fork of the command that has no torch.

    For code that patches nothing which is read when a module is imported.
    """
    variables = _variables(state, environment)
    server = command_server(torch=False)
    if not server.can(arguments, variables):
        return readiness(*arguments, state=state, code=code, **environment)
    return server.run(code, arguments, variables, _LIMIT_S)


def _variables(state: Path, environment: dict[str, str]) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(state), "COLUMNS": "100"} | environment
