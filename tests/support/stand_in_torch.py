"""Importing this puts a stand-in in the place of torch: for workers whose checks use none, as the real one takes seconds.

A prepared process that imports it first hands out workers that take it for torch. It knows what a worker says of its
surroundings, and nothing else: a check that wants more of it fails, and says so.
"""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.util import find_spec
from types import ModuleType
from typing import NoReturn


class StandIn(ModuleType):
    """What `import torch` finds."""

    __version__ = metadata.version("torch")

    def get_num_threads(self) -> int:
        return 1

    def are_deterministic_algorithms_enabled(self) -> bool:
        return False

    def get_float32_matmul_precision(self) -> str:
        return "highest"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"the tests' stand-in for torch has no {name!r}: what asks for it needs the real one")


assert "torch" not in sys.modules, "it was to come before torch"
_torch = StandIn("torch")
_torch.__spec__ = find_spec("torch")  # by which it is found where the real one lies: what build it is, is read from its files
sys.modules["torch"] = _torch
