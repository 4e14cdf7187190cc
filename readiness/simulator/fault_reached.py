"""Whether a check has triggered a planted defect in any of its processes: else it cannot have detected it.

The mark is a folder that is swept with the worker. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from readiness.host.temp_dirs import PURGED_VARIABLE

#: The key of the environment of evidence under which it stands.
KEY = "planted_defect_met"


def mark() -> None:
    """A call was made that a defect of this process's chip is about."""
    if (prefix := os.environ.get(PURGED_VARIABLE)) is not None:
        with contextlib.suppress(OSError):  # it is marked already
            Path(f"{prefix}met").mkdir()


def is_marked() -> bool | None:
    """Whether one was; None where nobody would know."""
    prefix = os.environ.get(PURGED_VARIABLE)
    return None if prefix is None else Path(f"{prefix}met").is_dir()
