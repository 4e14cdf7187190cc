"""Client of a fleet's trials: runs on hosts that a command reaches (ssh, srun, kubectl exec), each with two pipes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from readiness import __version__
from readiness.distributed.json_lines import Lines
from readiness.fleet.coordinator import NodeLostError
from readiness.fleet.node_run import Event
from readiness.host.temp_dirs import bounded_file

#: What a command may print on standard error; its end says why it ended.
_MOST_PRINTED_BYTES, _TAIL_BYTES = 16 * 2**20, 600
_MOST_FILE_BYTES = 64 * 2**20
_WAIT_S = 5.0


class RemoteRun:
    """A run on another host, as a `Task` of the coordinator. Closing its pipes ends it there."""

    def __init__(self, host: str, command: Sequence[str], arguments: Sequence[str], limit_s: float) -> None:
        """Start it; a command that cannot be started is told by `events`."""
        self._lines = Lines()
        self._files: dict[str, bytearray] = {}
        self._ended = False
        self._lost: str | None = None
        self._log: BinaryIO = bounded_file(f"run on {host}", _MOST_PRINTED_BYTES)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                [*command, "-m", "readiness.fleet.links.remote_agent"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, bufsize=0, start_new_session=True,
            )  # fmt: skip
        except OSError as problem:
            self._log.close()
            self._lost = f"{host} cannot be reached: {problem}"
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        order = {"host": host, "arguments": list(arguments), "limit_s": limit_s, "version": __version__}
        with contextlib.suppress(OSError):  # its end will be noticed
            self._process.stdin.write(json.dumps(order).encode() + b"\n")

    def events(self) -> list[Event]:
        """Return what is new, without waiting. Raises NodeLostError where it ended without saying how."""
        found: list[Event] = []
        while self._lost is None and not self._ended:
            assert self._process is not None
            assert self._process.stdout is not None
            try:
                content = os.read(self._process.stdout.fileno(), 1 << 20)
            except BlockingIOError:
                return found
            if not content:
                self._lost = f"the command ended: {self._printed() or 'it printed nothing'}"
                break
            try:
                for line in self._lines.take(content):
                    found += self._event(json.loads(line))
            except (ValueError, LookupError, TypeError, AttributeError):
                self._lost = f"it says {content[:60]!r}, which no run says"
        if self._lost is not None or self._ended:
            self.cancel()
        if self._lost is not None and not found:
            raise NodeLostError(self._lost)
        return found

    def cancel(self) -> None:
        """End it, whatever it does."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(_WAIT_S if self._ended else 0.2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._log.close()

    def _event(self, message: Mapping[str, Any]) -> list[Event]:
        match message:
            case {"file": str(name), "piece": str(piece), "more": bool(more)}:
                content = self._files.setdefault(name, bytearray())
                content += base64.b64decode(piece, validate=True)
                if len(content) > _MOST_FILE_BYTES:
                    raise ValueError("a file is too large")
                return [] if more else [("file", name, bytes(self._files.pop(name)))]
            case {"output": str(line)}:
                return [("output", line)]
            case {"limit": limit_s}:
                return [("limit", limit_s)]
            case {"refused": why}:
                self._lost = str(why)[:300]
                return []
            case {"end": code}:
                self._ended = True
                return [("end", code)]
        raise ValueError("an unknown message")

    def _printed(self) -> str:
        end = os.lseek(self._log.fileno(), 0, os.SEEK_CUR)
        begin = max(end - _TAIL_BYTES, 0)
        return " ".join(os.pread(self._log.fileno(), end - begin, begin).decode(errors="replace").split())[-300:]
