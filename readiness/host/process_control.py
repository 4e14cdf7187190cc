"""Interpreters like this one, processes that do not outlive those who started them, and the end of whole trees."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys

from readiness.errors import Exit

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def bootstrap(function: str, *arguments: str) -> list[str]:
    """The command of a fresh interpreter that imports what this one would import and calls `module:function`."""
    module, _, name = function.partition(":")
    code = (
        "import gc; gc.disable(); import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
        f"from {module} import {name}; gc.enable(); sys.exit({name}(*sys.argv[1:]))"
    )
    return [sys.executable, "-P", "-c", code, json.dumps(sys.path), *arguments]


def _prctl(option: int, value: int) -> None:
    """Set an attribute of this process where the kernel is Linux; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent dies (Linux). One that is no child of `parent` any more ends now."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:  # it died before the kernel was told
        os._exit(Exit.INTERNAL)


def take_in_orphans() -> None:
    """Have the kernel hand orphaned descendants to this process, so that it can end them (Linux)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_tree(process: subprocess.Popen[bytes], wait_s: float) -> None:
    """Kill a process of this one with its group and all its descendants, also in sessions of their own; wait for their ends.

    The process is killed before its descendants, so that it starts none of them again.
    """
    import psutil  # each fresh interpreter imports this file, and few end others

    started: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        started = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it leads none, or nobody of it is left
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    for descendant in started:
        with contextlib.suppress(psutil.Error):
            descendant.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(wait_s)
    psutil.wait_procs(started, timeout=wait_s)
