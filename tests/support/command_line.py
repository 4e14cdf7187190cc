"""The command line as tests start it: in a process of its own, with a folder of its own for what it keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def readiness(
    *arguments: str, state: Path, code: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `readiness` with these arguments to its end: without torch where it runs checks of the tests' own on the CPU."""
    simulated = any(argument.startswith("sim:") or argument in ("rehearse", "--rehearse") for argument in arguments)
    own = not simulated and any(Path(argument).is_relative_to(CHECKS) for argument in arguments)
    return subprocess.run(
        [sys.executable, "-P", "-c", code or (CODE_WITHOUT_TORCH if own else CODE), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(state), "COLUMNS": "100"} | environment,
        capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
