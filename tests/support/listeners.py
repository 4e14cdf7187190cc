"""Which sockets the processes of a command listen on: `python -m tests.support.listeners COMMAND...` lists them, and tells by exit 1
that one of them can be reached from elsewhere.

The kernel tells it (/proc/PID/net/tcp and tcp6, udp and udp6): every network namespace that one of the processes is in is
looked at many times a second. The processes of a command are those with its mark in their environment, whoever became
their parent. A socket that is there for a few milliseconds only may be missed; what libraries listen on stays for as long
as a group of ranks.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: The variable by which the processes of a command are known.
MARK = "READINESS_TESTS_LISTENERS"
#: Of /proc/net/tcp: a socket that listens. Of /proc/net/udp: one without another end, which takes from everybody.
_STATES = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
_PERIOD_S = 0.005
#: A look rests for so many times as long as it has worked: where the kernel's tables are large, one takes longer than a period.
_REST = 9
#: Network namespaces are looked for anew only so often: it takes longer than to look at their sockets.
_LOOKS_AT_ONE_LIST = 20


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """A socket that others can connect to, or send to: kind (`tcp`, `udp6`), address, and what its process is called.

    `port` is left out of comparisons: it is another one each time.
    """

    kind: str
    address: str
    process: str
    port: int = field(compare=False, default=0)

    @property
    def on_loopback(self) -> bool:
        """Whether processes of this machine alone reach it."""
        address = self.address.removeprefix("::ffff:")
        return address.startswith("127.") or address == "::1"

    def __str__(self) -> str:
        """As `ss` writes it, with the process."""
        return f"{self.kind} {self.address}:{self.port} ({self.process})"


class Watch:
    """Looks for listeners of all processes that bear a mark, in a thread of its own, until `stop`."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.seen: set[Listener] = set()
        self.looks = 0
        self._problem: Exception | None = None
        self._known: set[str] = set()  # inodes
        self._others = set(_processes())  # nobody has the mark yet
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def environment(self) -> Mapping[str, str]:
        """What a command is to be started with."""
        return {**os.environ, MARK: self.mark}

    @property
    def reachable(self) -> set[Listener]:
        """Those that not only processes of this machine reach."""
        return {listener for listener in self.seen if not listener.on_loopback}

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End it. Raises RuntimeError where it has not looked to the end: what it has not seen is no good word then."""
        self._over.set()
        self._thread.join()
        if self._problem is not None or not self.looks:
            raise RuntimeError("nobody looked at who listens") from self._problem

    def _watch(self) -> None:
        networks: list[Path] = []
        worked_s = 0.0
        try:
            while not self._over.wait(max(_PERIOD_S, _REST * worked_s)):
                began_s = time.thread_time()
                if self.looks % _LOOKS_AT_ONE_LIST == 0:
                    networks = _networks()
                self._look(networks)
                worked_s = time.thread_time() - began_s
        except Exception as problem:  # noqa: BLE001 - told in `stop`
            self._problem = problem

    def _look(self, networks: Sequence[Path]) -> None:
        self.looks += 1
        every = dict(listening(networks))
        new = every.keys() - self._known
        if new:
            owners = dict(self._owners())
            for inode in new & owners.keys():
                kind, address, port = every[inode]
                self._known.add(inode)
                self.seen.add(Listener(kind, address, owners[inode], port))
        self._known.intersection_update(every)  # numbers are used again

    def _owners(self) -> Iterator[tuple[str, str]]:
        """The sockets of our processes, by inode, each with the name of one that holds it."""
        for process in _processes():
            if process in self._others:
                continue
            with contextlib.suppress(OSError):
                if f"{MARK}={self.mark}".encode() not in (process / "environ").read_bytes().split(b"\0"):
                    continue
                name = _name(process)
                for entry in os.scandir(process / "fd"):
                    with contextlib.suppress(OSError):
                        target = str(Path(entry.path).readlink())
                        if target.startswith("socket:["):
                            yield target[8:-1], name


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """A watch over what is started with its `environment` in the block."""
    watch = Watch()
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def listening(processes: Iterable[Path]) -> Iterator[tuple[str, tuple[str, str, int]]]:
    """Every socket that listens in the networks of these processes: its inode; kind, address and port."""
    for process in processes:
        for kind, state in _STATES.items():
            with contextlib.suppress(OSError), (process / "net" / kind).open() as lines:
                next(lines, None)
                for line in lines:
                    fields = line.split(maxsplit=10)
                    if fields[3] != state and kind.startswith("tcp"):
                        break  # the kernel lists those that listen first; thousands may follow that ended a minute ago
                    if fields[3] == state and fields[9] != "0":
                        address, _, port = fields[1].partition(":")
                        yield fields[9], (kind, _address(address), int(port, 16))


def _networks() -> list[Path]:
    """A process of each network namespace."""
    found: dict[Path, Path] = {}
    for process in _processes():
        with contextlib.suppress(OSError):
            found.setdefault((process / "ns" / "net").readlink(), process)
    return list(found.values())


def _processes() -> Iterator[Path]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            yield Path(entry.path)


def _address(text: str) -> str:
    """An address as the kernel writes it: words of four bytes in the machine's order."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))


def _name(process: Path) -> str:
    words = (process / "cmdline").read_bytes().split(b"\0")
    return " ".join(word.decode(errors="replace") for word in words if b"\n" not in word and len(word) < 100)[:160]


def main(command: Sequence[str]) -> int:
    """Run a command and list all that listened meanwhile."""
    began = time.monotonic()
    with watching() as watch:
        code = subprocess.run(command, env=watch.environment, check=False).returncode
    seconds = time.monotonic() - began
    print(f"\nexit code {code}; {watch.looks} looks in {seconds:.1f} s", file=sys.stderr)
    for listener in sorted(watch.seen):
        print(f"  {'loopback ' if listener.on_loopback else 'REACHABLE'}  {listener}", file=sys.stderr)
    return 1 if watch.reachable else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
