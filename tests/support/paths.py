"""Where the checkout lies, and the files that tests share."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Data, and folders of checks as a user would bring them.
RESOURCES = ROOT / "tests" / "resources"
CHECKS = RESOURCES / "checks"
