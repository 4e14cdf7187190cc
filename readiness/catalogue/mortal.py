"""Processes that may die or hang of what they try: forked, made ready, and told how they ended."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import socket
import subprocess
import traceback
import warnings
from collections.abc import Callable

import torch

from readiness import spawning
from readiness.accelerators.base import Accelerator


def fork(serve: Callable[[socket.socket], int]) -> tuple[int, socket.socket]:
    """A child that has everything this process has imported, its id and our end of its connection.

    It serves the other end and leaves with the code that `serve` returns. Only for devices that survive a fork.
    """
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads: the child keeps to one
        pid = os.fork()
    if pid == 0:
        code = 70
        try:
            # Nothing of the parent's may be held open: whoever waits for those ends would wait for this child too.
            connection = socket.socket(fileno=os.dup2(theirs.fileno(), 3))
            os.closerange(4, os.sysconf("SC_OPEN_MAX"))
            settle(parent)
            torch.set_num_threads(1)  # the pool of threads is not there
            code = serve(connection)
        except BaseException:  # noqa: BLE001 - nothing may return into the parent's code
            traceback.print_exc()
        finally:
            os._exit(code)
    theirs.close()
    return pid, ours


def settle(parent: int) -> None:
    """In a child: die with the parent, leave no core, tell where it crashed, and hear every warning of a fallback."""
    spawning.die_with_parent()
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(file=2)
    warnings.simplefilter("ignore")
    torch.set_warn_always(True)  # else only the first operator that falls back to the host would say so


def exit_code(pid: int, popen: subprocess.Popen[bytes] | None) -> int | None:
    """How a child ended, negative for a signal; None while it lives. 0 where somebody else has waited for it."""
    if popen is not None:
        return popen.poll()
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if reaped else None


def ending(code: int) -> str:
    """An exit code in words that follow `the process`."""
    if code >= 0:
        return f"left with exit code {code}"
    with contextlib.suppress(ValueError):
        hint = " (perhaps for want of memory)" if -code == signal.SIGKILL else ""
        return f"died by {signal.Signals(-code).name}{hint}"
    return f"died by signal {-code}"


def usable(accelerator: Accelerator) -> bool:
    """Whether the device still takes and gives in this process: an error of some devices stays for good."""
    try:
        back = torch.arange(8).to(accelerator.device).cpu()
        accelerator.synchronize()
    except Exception:  # noqa: BLE001 - whatever it raises, it does not work
        return False
    return bool(torch.equal(back, torch.arange(8)))
