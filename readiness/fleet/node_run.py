"""`readiness run` on one node of a fleet, as a generator of events. Needs Python and an installed readiness alone.

An engine carries this module to its nodes and runs `assess` there. The run is a process of its own: whatever it does, the
engine's worker stays alive and reports. What it writes into its journal is handed on at once, so that a node that dies has
lost nothing that it had measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

#: (`output`, line), (`journal`, name, offset, bytes), (`file`, name, bytes), (`end`, exit code), (`limit`, seconds).
Event = tuple[object, ...]
_PERIOD_S = 0.5
_MOST_OUTPUT = 64 * 1024
_LARGEST_FILE_BYTES = 64 * 2**20
_PIECE_BYTES = 2**20
#: Has the kernel end the run with the process of the engine (Linux): a driver that is killed ends that one, and nobody else.
_TIED = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9) if sys.platform == 'linux' else None; "
    "os.getppid() == int(sys.argv[1]) or sys.exit(70); os.execvp(sys.argv[2], sys.argv[2:])"
)
#: A run that is told to stop writes what it knows; after so long it is killed.
_STOPPING_S = 20.0


def assess(
    host: str, arguments: Sequence[str], kept: Mapping[str, bytes], limit_s: float, command: Sequence[str] = ()
) -> Iterator[Event]:
    """Run readiness with these arguments and yield events; `kept` are the files of an earlier journal, to go on with.

    `host` is the node's name in the assessment: several nodes may be containers of one name.

    The last event is `end`, after the assessment and its summary as `file` events where they were written. A run that
    takes longer than `limit_s` is stopped, then killed, and what it had written by then is handed on like any other's.
    """
    with tempfile.TemporaryDirectory(prefix="readiness-fleet-") as name:
        folder, journal = Path(name), Path(name, "journal")
        journal.mkdir()
        for file, content in kept.items():
            (journal / Path(file).name).write_bytes(content)
        written = {"assessment.json": folder / "assessment.json", "host.json": folder / "host.json"}
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                [
                    sys.executable, "-c", _TIED, str(os.getpid()),
                    *(command or (sys.executable, "-m", "readiness")), "run", *arguments, "--resume", str(journal),
                    "-f", f"json={written['assessment.json']}", "-f", f"host={written['host.json']}", "-q",
                ],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | {"READINESS_HOST": host},
            )  # fmt: skip
        try:
            yield from _watched(process, folder / "output", journal, dict(kept), limit_s)
        finally:
            _kill(process)
        for file, path in written.items():
            if path.is_file() and path.stat().st_size <= _LARGEST_FILE_BYTES:
                yield "file", file, path.read_bytes()
        yield "end", process.returncode


def _watched(
    process: subprocess.Popen[bytes], output: Path, journal: Path, kept: Mapping[str, bytes], limit_s: float
) -> Iterator[Event]:
    sent = {name: len(content) for name, content in kept.items()}
    shown = 0
    ends = time.monotonic() + limit_s
    stopped: float | None = None
    while True:
        ended = process.poll() is not None
        for file in sorted(journal.glob("[!.]*.json*")):  # a hidden one is being written
            yield from _grown(file, sent)
        with output.open("rb") as stream:
            stream.seek(shown)
            lines = stream.read(_MOST_OUTPUT)
        if not ended:
            lines = lines[: lines.rfind(b"\n") + 1]
        shown += len(lines)
        for line in lines.decode("utf-8", "replace").splitlines():
            yield "output", line
        if ended:
            return
        now = time.monotonic()
        if stopped is None and now > ends:
            stopped = now
            yield "limit", limit_s
            _signal(process, signal.SIGTERM)
        elif stopped is not None and now > stopped + _STOPPING_S:
            _kill(process)
        time.sleep(_PERIOD_S)


def _grown(file: Path, sent: dict[str, int]) -> Iterator[Event]:
    """Yield what a file has more than was sent; one that was written anew, from its beginning."""
    if file.is_symlink() or not file.is_file():
        return
    start = sent.get(file.name, 0)
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size < start or (file.suffix == ".json" and size != start):
            start = 0
        stream.seek(start)
        while start < size and (piece := stream.read(min(_PIECE_BYTES, size - start))):
            yield "journal", file.name, start, piece
            start += len(piece)
    sent[file.name] = start


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        _signal(process, signal.SIGKILL)
        process.wait(10)
