"""Two hosts on one machine: network namespaces, with a wire between them that this process carries and may spoil.

Each host is a namespace that lives as long as the process that made it, and has one TAP device; the wire is a process that
takes every frame of one device to the other, late, never, or changed. Everything is gone with these processes, however
they end. It takes CAP_NET_ADMIN and CAP_SYS_ADMIN; netem, which would do some of it, is not in every kernel.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import mmap
import os
import random
import select
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from readiness.distributed import rendezvous
from readiness.host.process_control import die_with_parent

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
#: What a spoilt wire does, in shared memory, so that it can change while frames pass: shares of frames lost and changed,
#: delay in seconds, and until when (on the clock of all processes) nothing passes at all.
_SPOILT = struct.Struct("<dddd")
ADDRESSES = ("10.203.0.1", "10.203.0.2")
DEVICE = "host0"


def refusal() -> str | None:
    """Why this machine has no two hosts, or None."""
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            _unshare()
            os.close(_tap())
            code = 0
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return None if status == 0 else "network namespaces and TAP devices take CAP_SYS_ADMIN and CAP_NET_ADMIN"


@dataclass(slots=True)
class Wire:
    """The two hosts and what lies between them; `namespaces` are paths."""

    namespaces: tuple[str, str]
    _memory: mmap.mmap
    _kept: dict[str, float] = field(default_factory=lambda: {"loss": 0.0, "swap": 0.0, "delay_s": 0.0, "until": 0.0})

    def spoil(self, *, loss: float = 0.0, swap: float = 0.0, delay_s: float = 0.0) -> None:
        """Lose and change shares of the frames; hold every frame back for so long, each way."""
        self._kept |= {"loss": loss, "swap": swap, "delay_s": delay_s}
        self._write()

    def cut(self, seconds: float) -> None:
        """Nothing passes for so long from now on."""
        self._kept["until"] = time.monotonic() + seconds
        self._write()

    def _write(self) -> None:
        _SPOILT.pack_into(self._memory, 0, *self._kept.values())


@contextlib.contextmanager
def hosts() -> Iterator[Wire]:
    """Two hosts with a good wire between them; at the end of the block nothing is left of them."""
    memory = mmap.mmap(-1, _SPOILT.size)
    with contextlib.ExitStack() as stack:
        holders = [_start(stack, _hold) for _ in range(2)]
        namespaces = (f"/proc/{holders[0]}/ns/net", f"/proc/{holders[1]}/ns/net")
        ready, writer = os.pipe()
        stack.callback(os.close, ready)
        _start(stack, lambda _: _carry(namespaces, memory, writer), ready_by_itself=True)
        os.close(writer)
        assert os.read(ready, 1) == b"r", "the wire could not be laid"
        yield Wire(namespaces, memory)


def _start(stack: contextlib.ExitStack, work: object, *, ready_by_itself: bool = False) -> int:
    """A process that does this and dies with us; its id once it is ready."""
    ready, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            die_with_parent()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            work(writer)  # type: ignore[operator]
        os._exit(1)
    os.close(writer)
    stack.callback(_end, pid)
    if not ready_by_itself:
        assert os.read(ready, 1) == b"r", "a namespace could not be made"
    os.close(ready)
    return pid


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _unshare() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace of one's own")


def _hold(writer: int) -> None:
    """Be a host: hold a namespace until killed."""
    _unshare()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.write(writer, b"r")
    signal.pause()


def _tap() -> int:
    """A new TAP device of the namespace that this process is in."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", DEVICE.encode(), _IFF_TAP | _IFF_NO_PI))
    return device


def _carry(namespaces: tuple[str, str], memory: mmap.mmap, writer: int) -> None:
    """Be the wire: take frames from each host to the other until killed."""
    devices = []
    for namespace, address in zip(namespaces, ADDRESSES, strict=True):
        rendezvous.enter(namespace)
        devices.append(_tap())
        for command in (
            # The checksums of TCP must be in the frames: a wire that changes them is to be caught by nobody else.
            ["ip", "addr", "add", f"{address}/24", "dev", DEVICE],
            ["ip", "link", "set", DEVICE, "mtu", "1500", "up"],
        ):
            subprocess.run(command, check=True)
    os.write(writer, b"r")
    chance = random.Random(7)
    waiting: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        left_s = max(waiting[0][0] - time.monotonic(), 0.0) if waiting else None
        ready, _, _ = select.select(devices, [], [], left_s)
        loss, swap, delay_s, until = _SPOILT.unpack_from(memory, 0)
        now = time.monotonic()
        for device in ready:
            other = devices[1 - devices.index(device)]
            for frame in _frames(device):
                if now < until or chance.random() < loss:
                    continue
                number += 1
                sent = swapped(frame) if chance.random() < swap else frame
                heapq.heappush(waiting, (now + delay_s, number, other, sent))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, device, frame = heapq.heappop(waiting)
            with contextlib.suppress(BlockingIOError, OSError):  # a full queue loses frames, as queues do
                os.write(device, frame)


def _frames(device: int) -> Iterator[bytes]:
    for _ in range(64):
        try:
            yield os.read(device, 65536)
        except BlockingIOError:
            return


def swapped(frame: bytes) -> bytes:
    """A frame of TCP data with two 16-bit words of its data exchanged: a sum of words, as TCP's checksum is, stays the same.

    Frames of less than a kilobyte are left alone: they carry what the libraries tell each other, and end the run at once.
    """
    if len(frame) < 1000 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return frame
    internet = 14 + (frame[14] & 15) * 4
    data = internet + (frame[internet + 12] >> 4) * 4
    middle = data + (len(frame) - data) // 2 // 2 * 2
    one, other = slice(middle, middle + 2), slice(middle + 6, middle + 8)
    changed = bytearray(frame)
    changed[one], changed[other] = frame[other], frame[one]
    return bytes(changed)
