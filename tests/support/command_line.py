"""The command line as tests start it: in a process of its own, with a folder of its own for what it keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

#: As `python -m readiness`, but looking for no other accelerator than the CPU.
CODE = (
    "import sys; from readiness import accelerators; accelerators.NAMES = ('cpu',); "
    "from readiness.__main__ import main; main()"
)


def readiness(
    *arguments: str, state: Path, code: str = CODE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `readiness` with these arguments to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(state), "COLUMNS": "100"} | environment,
        capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
