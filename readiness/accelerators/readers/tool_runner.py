"""Vendors' command line tools: run one with a time limit and a bound on what it may print."""

from __future__ import annotations

import codecs
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

#: No vendor's tool prints more about a host with sixteen devices.
MOST_OUTPUT_BYTES = 8 * 2**20


#: Where a tool lies that its installation does not put on PATH.
_PLACES = {"hccn_tool": "usr/local/Ascend/driver/tools/hccn_tool", "amd-smi": "opt/rocm/bin/amd-smi"}


class SourceError(Exception):
    """A source gives no answer; the text is the reason."""


class NotMineError(SourceError):
    """The tool or driver is another vendor's, or there is no device: nothing to report, and no problem either."""


@dataclass(frozen=True, slots=True)
class Output:
    """A tool's output on both streams, and its exit code."""

    text: str
    errors: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Context:
    """A reader's context: the root of the host's files, its time limit, and the name of its source.

    `settings` are the reader's own: the address of an exporter, the device to look at.
    """

    root: Path = Path("/")
    limit_s: float = 2.0
    settings: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def remaining_s(self) -> float:
        """Return the rest of its time limit."""
        return max(self.started + self.limit_s - time.monotonic(), 0.0)

    def tool(self, name: str, *arguments: str, may_fail: bool = False) -> str:
        """Return the standard output of a tool on PATH. Raises SourceError if it is missing, fails, hangs or prints too
        much.
        """
        path = find(name, self.root)
        if path is None:
            raise SourceError(f"{name} is not on PATH")
        done = run([path, *arguments], max(self.remaining_s - 0.1, 0.1))
        if done.exit_code != 0 and not may_fail:
            words = " ".join((done.errors or done.text).split())[:300]
            raise SourceError(f"{name} {_end(done.exit_code)}" + (f": {words}" if words else ""))
        if not done.text.strip() and not may_fail:
            raise SourceError(f"{name} printed nothing")
        return done.text


def find(name: str, root: Path = Path("/")) -> str | None:
    """Return the path of a tool: on PATH, or where its installation puts it; None if it is nowhere."""
    if (found := shutil.which(name)) is not None or name not in _PLACES:
        return found
    file = root / _PLACES[name]
    return str(file) if os.access(file, os.X_OK) else None


def run(command: Sequence[str], limit_s: float) -> Output:
    """Run a tool. Raises SourceError where it cannot be run, hangs or floods.

    It stays in the process group of its reader, with which whatever it started is killed.
    """
    name = Path(command[0]).name
    # English: what a tool prints in the language of its user cannot be read.
    environment = os.environ | {"LC_ALL": "C", "LANG": "C", "LANGUAGE": "C", "NO_COLOR": "1"}
    try:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
    except OSError as problem:
        raise SourceError(f"{name} cannot be run: {problem.strerror or problem}") from None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        return _listen(name, process, process.stdout, process.stderr, limit_s)
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()
        with suppress(subprocess.TimeoutExpired):  # one that waits in its driver is left to whoever started us
            process.wait(1.0)


def _listen(
    name: str, process: subprocess.Popen[bytes], stdout: IO[bytes], stderr: IO[bytes], limit_s: float
) -> Output:
    deadline = time.monotonic() + limit_s
    parts: dict[int, list[bytes]] = {stdout.fileno(): [], stderr.fileno(): []}
    size = 0
    with selectors.DefaultSelector() as waiting:
        for stream in (stdout, stderr):
            waiting.register(stream, selectors.EVENT_READ)
        while waiting.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise SourceError(f"{name} did not answer within {limit_s:.1f} s")
            for key, _ in waiting.select(left_s):
                data = os.read(key.fd, 2**16)
                if not data:
                    waiting.unregister(key.fileobj)
                    continue
                parts[key.fd].append(data)
                size += len(data)
                if size > MOST_OUTPUT_BYTES:
                    raise SourceError(f"{name} printed more than {MOST_OUTPUT_BYTES >> 20} MiB")
    try:
        code = process.wait(max(deadline - time.monotonic(), 0.05))
    except subprocess.TimeoutExpired:
        raise SourceError(f"{name} did not finish within {limit_s:.1f} s") from None
    text, errors = (decoded(b"".join(parts[stream.fileno()])) for stream in (stdout, stderr))
    return Output(text, errors, code)


#: Sequences with which a tool colours its words or moves the cursor, though nobody watches.
_TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_]")


def decoded(data: bytes) -> str:
    """Return what a tool printed as text: UTF-8, or UTF-16 where it says so, without the control sequences of terminals."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if wide else "utf-8-sig", "replace")
    return _TERMINAL.sub("", text) if "\x1b" in text else text


def _end(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"died by {signal.Signals(-code).name}"
    return f"left with exit code {code}"
