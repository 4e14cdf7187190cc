"""The stacks readiness supports, one file each, joined with the reports of their vendors' libraries."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from readiness.lazy_names import lazy_names

if TYPE_CHECKING:
    from readiness.accelerators.base import Accelerator, OutOfReachError, Stack

#: In order of discovery: plug-ins that patch `torch.cuda` come before it, the CPU is always there and last.
NAMES = ("ascend", "mlu", "musa", "hpu", "xla", "xpu", "rocm", "cuda", "mps", "cpu")

#: What a profile may name; NAMES may be narrowed for a run, this never. Simulated chips are never discovered: they are
#: under test only where `--device` asks for them.
KNOWN = (*NAMES, "sim")


def stack(name: str) -> Stack:
    """The stack of this name. Imports its file only. Raises KeyError for a name not in KNOWN."""
    if name not in KNOWN:
        raise KeyError(name)
    from readiness.accelerators.base import Stack

    found = importlib.import_module(f"readiness.accelerators.{name}").STACK
    assert isinstance(found, Stack)
    return found


#: The processes that read sources of device health import this package, and need none of these.
__getattr__ = lazy_names(globals(), dict.fromkeys(("Accelerator", "OutOfReachError", "Stack"), "base"))

__all__ = ["KNOWN", "NAMES", "Accelerator", "OutOfReachError", "Stack", "stack"]
