"""Package data: where checks/, profiles/ and reports/ lie. In a wheel under `readiness/content/`, in a checkout beside
`readiness/`.

The own folder is asked first, so that a foreign `site-packages/checks` is never picked up.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

Kind = Literal["checks", "profiles", "reports"]

#: Further folders with checks, separated by `os.pathsep`; set by `--checks DIR` and inherited by every worker.
CHECKS_VARIABLE = "READINESS_CHECKS"

_HERE = Path(__file__).resolve().parent


def shipped(kind: Kind) -> Path:
    """Return the shipped folder of this kind."""
    inside = _HERE / "content" / kind
    return inside if inside.is_dir() else _HERE.parent / kind


def folders(kind: Kind) -> list[str]:
    """Return all folders of this kind for `__path__`: the shipped one, then the user's (checks only)."""
    own = [str(shipped(kind))]
    if kind == "checks":
        named = os.environ.get(CHECKS_VARIABLE, "").split(os.pathsep)
        own += dict.fromkeys(os.path.abspath(folder) for folder in named if folder)  # noqa: PTH100 - links stay what they are
    return own
