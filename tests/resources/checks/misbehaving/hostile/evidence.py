"""Checks that lay hands on the pipe of their evidence, on what looks after them, or on what they may print."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import stat
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from readiness import Accelerator, Measurement, Note, Row, Yield, check

MEASURES = {"figure": "1"}
#: Fails the profile's `at_least = 0`.
BAD = -5.0


def pipe() -> int:
    """The descriptor of the pipe that evidence goes through: the only pipe above the standard ones that can be written."""
    for descriptor in range(3, 256):
        try:
            writable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
            if writable and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                return descriptor
        except OSError:
            continue
    raise AssertionError("there is no such pipe")


def frame(number: int, payload: bytes) -> bytes:
    """A message as a worker would send it."""
    return b"%d %08x %s\n" % (number, zlib.crc32(b"%d%s" % (number, payload)), payload)


def figure(value: float) -> bytes:
    """A measurement as a worker would send it."""
    return json.dumps({"measurement": {"name": "figure", "value": value, "unit": "1", "labels": {}}}).encode()


@check("hostile.glues", title="Writes bytes without a newline before a bad figure", measures=MEASURES)
def glues(accelerator: Accelerator, *, bytes_: str = "stray bytes ") -> Iterator[Measurement]:
    """Is a failing figure lost, and the good one after it believed?"""
    os.write(pipe(), bytes_.encode())
    yield Measurement("figure", BAD)
    yield Measurement("figure", 1.0)


@check("hostile.ends_glued", title="Writes bytes without a newline before its end", measures=MEASURES)
def ends_glued(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is an end that was glued to something an end?"""
    yield Measurement("figure", 1.0)
    os.write(pipe(), b"x")


@check("hostile.blank_line", title="Writes an empty line", measures=MEASURES)
def blank_line(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a byte that changes nothing foreign all the same?"""
    os.write(pipe(), b"\n")
    yield Measurement("figure", 1.0)


@check("hostile.dies_glued", title="Writes bytes and leaves with exit code 0", measures=MEASURES)
def dies_glued(accelerator: Accelerator) -> Iterator[Measurement]:
    """Are foreign bytes seen at the very end too?"""
    yield Measurement("figure", 1.0)
    os.write(pipe(), b"x")
    os._exit(0)


@check("hostile.malformed", title="Sends a message that is none", measures=MEASURES)
def malformed(accelerator: Accelerator, *, payload: str = "") -> Iterator[Measurement]:
    """Does a malformed message end more than its check?"""
    os.write(pipe(), frame(2, payload.encode()))
    os._exit(0)
    yield Measurement("figure", 1.0)


@check("hostile.brackets", title="Sends 100,000 brackets", measures=MEASURES)
def brackets(accelerator: Accelerator) -> Iterator[Measurement]:
    """Does nesting end more than its check?"""
    os.write(pipe(), frame(2, b'{"row": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"))
    os._exit(0)
    yield Measurement("figure", 1.0)


@check("hostile.skips_one", title="Sends a message under the number after the next", measures=MEASURES)
def skips_one(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a gap seen?"""
    os.write(pipe(), frame(3, figure(1.0)))
    yield Measurement("figure", 1.0)


@check("hostile.replays", title="Sends its end twice", measures=MEASURES)
def replays(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is anything after an end believed?"""
    yield Measurement("figure", BAD)
    end = json.dumps({"end": {"status": "measured", "reason": None}}).encode()
    os.write(pipe(), frame(3, end) + frame(3, end))
    os._exit(0)


@check("hostile.goes_on_twice", title="Forks, and both go on", measures=MEASURES)
def goes_on_twice(accelerator: Accelerator) -> Iterator[Measurement]:
    """Do two processes tell one evidence?"""
    child = os.fork()
    yield Measurement("figure", 1.0)
    if child:
        os.waitpid(child, 0)


@check("hostile.daemon_writes", title="Leaves a daemon that writes into the pipe", measures=MEASURES)
def daemon_writes(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is what somebody else writes into the pipe evidence?"""
    descriptor = pipe()
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(descriptor, b"daemon ")
            os.close(writer)
            time.sleep(600)
        os._exit(0)
    os.close(writer)
    os.read(reader, 1)  # until it has written
    yield Measurement("figure", 1.0)


@check("hostile.thread_writes", title="A thread writes into the pipe all the while", measures=MEASURES)
def thread_writes(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is it seen wherever it falls?"""
    descriptor = pipe()
    begun = threading.Event()

    def write() -> None:
        for _ in range(1000):
            os.write(descriptor, b"1")
            begun.set()

    threading.Thread(target=write, daemon=True).start()
    for _ in range(500):
        yield Measurement("figure", 1.0, {"text": "x" * 500})
    begun.wait()  # it may not have had a processor yet


@check("hostile.closes", title="Closes every descriptor but the standard ones", measures=MEASURES)
def closes(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is evidence that cannot be delivered laid on the device?"""
    os.closerange(3, 256)
    yield Measurement("figure", 1.0)


@check("hostile.takes_the_number", title="Opens a file under the number of the pipe", measures=MEASURES)
def takes_the_number(accelerator: Accelerator, *, marker: str = "") -> Iterator[Measurement]:
    """Does evidence go into a file of somebody's?"""
    descriptor = pipe()
    file = os.open(marker, os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(file, descriptor)
    yield Measurement("figure", 1.0)


@check("hostile.sets_nonblocking", title="Sets the pipe to not blocking", measures=MEASURES)
def sets_nonblocking(accelerator: Accelerator) -> Iterator[Yield]:
    """Is a full pipe waited for whatever its flags?"""
    os.set_blocking(pipe(), False)
    for number in range(300):
        yield Row({"number": number, "text": "x" * 9_000})
    yield Measurement("figure", 1.0)


@check("hostile.huge_line", title="Sends a line without an end", measures=MEASURES, limit_s=60.0)
def huge_line(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is there an end to one message?"""
    while True:
        os.write(pipe(), b"x" * 2**16)
    yield Measurement("figure", 1.0)


@check("hostile.dies_halfway", title="Dies within a message", measures=MEASURES)
def dies_halfway(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a message that a crash cut short a crash?"""
    os.write(pipe(), frame(2, figure(1.0))[:40])
    ctypes.string_at(0)
    yield Measurement("figure", 1.0)


@check("hostile.stops_its_parent", title="Stops the process that looks after it", measures=MEASURES)
def stops_its_parent(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a lost exit code laid on the device?"""
    os.kill(os.getppid(), signal.SIGSTOP)
    yield Measurement("figure", 1.0)


@check("hostile.kills_its_parent", title="Kills the process that looks after it, and leaves a daemon", measures=MEASURES)
def kills_its_parent(accelerator: Accelerator, *, marker: str = "") -> Iterator[Measurement]:
    """Does anything stay behind?"""
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
        os._exit(0)
    Path(marker).touch()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)
    yield Measurement("figure", 1.0)


@check("hostile.is_ended", title="Ends itself by a signal", measures=MEASURES)
def is_ended(accelerator: Accelerator, *, number: int = 9) -> Iterator[Measurement]:
    """Is a signal that somebody sends laid on the device?"""
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)  # whoever started the tests may have had it ignored, as nohup does
    os.kill(os.getpid(), number)
    time.sleep(600)
    yield Measurement("figure", 1.0)


@check("hostile.prints_in_one_breath", title="Prints 200 MB at once", measures=MEASURES)
def prints_in_one_breath(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is there an end to what may be printed, however fast?"""
    os.write(1, b"x" * 200_000_000)
    yield Measurement("figure", 1.0)


@check("hostile.disk_is_full", title="Fails to print, and raises", measures=MEASURES)
def disk_is_full(accelerator: Accelerator, *, how: str = "") -> Iterator[Yield]:
    """Is a full disk laid on the device?"""
    if how == "device":
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, 1)
        os.dup2(full, 2)
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    print("x" * 100_000, flush=True)
    print("y" * 100_000, flush=True, file=sys.stderr)
    yield Note("still there")
    raise ValueError("something else")


@check("hostile.wants_disk", title="Measures badly for want of disk, and says so", measures=MEASURES)
def wants_disk(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a figure that a full disk spoiled a failure of the device?"""
    yield Measurement("figure", BAD)
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as problem:
        raise RuntimeError("[enforce fail at inline_container.cc] . unexpected pos 64 vs 0") from problem


@check("hostile.breaks_streams", title="Puts streams that raise in place of stdout and stderr, and raises", measures=MEASURES)
def breaks_streams(accelerator: Accelerator) -> Iterator[Measurement]:
    """Does telling of an error raise another?"""

    class Broken:
        def write(self, text: str) -> int:
            raise BrokenPipeError("nobody reads")

        def flush(self) -> None:
            raise ValueError("closed")

    for name in ("stdout", "stderr"):
        setattr(sys, name, Broken())
    yield Measurement("figure", 1.0)
    raise ValueError("something else")


class MuteError(Exception):
    """Cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("no output")


class PanicError(BaseException):
    """As libraries in Rust raise it."""


@check("hostile.raises_oddly", title="Raises what is no usual exception", measures=MEASURES)
def raises_oddly(accelerator: Accelerator, *, how: str = "") -> Iterator[Measurement]:
    """Is whatever is raised evidence?"""
    yield Measurement("figure", 1.0)
    raise {"mute": MuteError(), "panic": PanicError("index out of range"), "interrupt": KeyboardInterrupt()}[how]


@check("hostile.odd_figure", title="Yields what is no figure", measures=MEASURES)
def odd_figure(accelerator: Accelerator, *, how: str = "") -> Iterator[Yield]:
    """Is it refused where it is made?"""
    match how:
        case "digits":
            yield Measurement("figure", 10**5000)
        case "text":
            yield Measurement("figure", "1")  # type: ignore[arg-type]
        case "samples":
            yield Measurement("figure", 1.0, samples="many")  # type: ignore[arg-type]
        case "negative samples":
            yield Measurement("figure", 1.0, samples=-1)
        case "spread":
            yield Measurement("figure", 1.0, spread=10**400)
        case "labels":
            yield Measurement("figure", 1.0, {str(number): "x" for number in range(101)})
        case "row":
            yield Row(["no", "cells"])  # type: ignore[arg-type]
        case "huge row":
            yield Row({str(number): "x" * 9_000 for number in range(1000)})
