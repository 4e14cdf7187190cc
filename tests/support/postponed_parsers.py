"""Postpone the parsers of international addresses until one is asked: jsonschema has 39 of them built when it is imported.

They are there where its extra for formats is installed, and take 1.5 s of each process; no schema of readiness needs them.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_NAME = "rfc3987_syntax"


def postpone() -> None:
    """Call it before jsonschema is imported. What is asked of a parser later is answered by the real one."""
    if _NAME in sys.modules or (spec := find_spec(_NAME)) is None:
        return
    found: list[Any] = []

    def is_valid_syntax(rule: str, text: str) -> bool:
        if not found:
            sys.modules.pop(_NAME, None)
            found.append(importlib.import_module(_NAME))
        return bool(found[0].is_valid_syntax(rule, text))

    module = ModuleType(_NAME)
    module.__spec__ = spec
    vars(module)["is_valid_syntax"] = is_valid_syntax
    sys.modules[_NAME] = module
