"""Forkserver process as the command line sees it: started, resumed when stopped, replaced when dead."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from readiness.host import process_control
from readiness.isolation import forkserver

#: The states of a process that somebody has stopped, as psutil names them.
STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
#: How long it may take to end, and whatever it left behind.
VANISH_LIMIT_S = 5.0
#: How long it may leave a message untaken.
_ANSWER_LIMIT_S = 300.0
#: An environment variable by which its descendants are known, wherever they went.
_MARK = "READINESS_RUN"


class ForkserverProcess:
    """A forkserver process and the socket to it."""

    def __init__(self, modules: Sequence[str]) -> None:
        """Start the forkserver, which imports `modules` first. Returns at once."""
        self._mark = secrets.token_hex(16)
        self.control, child_end = socket.socketpair(socket.AF_UNIX, getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM))
        self.control.settimeout(_ANSWER_LIMIT_S)
        with child_end:
            self._popen = subprocess.Popen(
                process_control.bootstrap("readiness.isolation.forkserver:main", str(child_end.fileno()), ",".join(modules)),
                pass_fds=[child_end.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Plug-ins load themselves with torch: they must not touch a device in the process that is forked from.
                env=os.environ | {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
                | {_MARK: self._mark},
            )  # fmt: skip
        self._process = psutil.Process(self._popen.pid)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message, with descriptors for its worker. Raises OSError if the forkserver is dead."""
        self.resume()
        socket.send_fds(self.control, [json.dumps(message).encode()], list(descriptors))

    def has_message(self) -> bool:
        """True if there is a message or the end of the connection."""
        waiting = select.poll()
        waiting.register(self.control, select.POLLIN)
        return bool(waiting.poll(0))

    def receive(self) -> dict[str, Any] | None:
        """Return the next message; None at the end of the connection."""
        try:
            data = self.control.recv(forkserver.LARGEST_MESSAGE_BYTES)
        except OSError:
            return None
        return dict(json.loads(data)) if data else None

    def resume(self) -> None:
        """Resume the forkserver if a check has stopped it: otherwise no end of a worker would be noticed."""
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if self._process.status() in STOPPED:
                os.kill(self.pid, signal.SIGCONT)

    def kill_worker(self, pid: int | None) -> None:
        """Kill a worker with its group, in case the forkserver does not."""
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if pid is not None and psutil.Process(pid).ppid() == self.pid:
                os.kill(pid, signal.SIGKILL)
                os.killpg(pid, signal.SIGKILL)

    def end(self) -> None:
        """Let the forkserver end all workers and exit; kill what remains."""
        self.control.close()
        self.resume()
        try:
            self._popen.wait(VANISH_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(VANISH_LIMIT_S)
        if self._popen.returncode != 0:
            self._clear()

    def _clear(self) -> None:
        """Kill all processes that the forkserver left: its workers die with it, but not what they started."""
        deadline = time.monotonic() + VANISH_LIMIT_S
        while (left := self._descendants()) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.01)

    def _descendants(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(_MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found
