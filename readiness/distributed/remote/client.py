"""Client of a remote agent: starts it on another host by a command, and exchanges JSON lines through its pipes.

Whoever may log in there by that command may use that host, nobody else: nothing listens for it. What ranks need to find
each other goes through it too (`readiness.distributed.remote.store_forwarding`). The line is closed by the end of this
process, however that comes, and the remote agent ends with it and all that it has started.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import subprocess
import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from readiness import __version__
from readiness.accelerators.remote_devices import Host
from readiness.distributed.json_lines import Lines, write_message
from readiness.distributed.types import Json
from readiness.host.temp_dirs import bounded_file

#: How long a remote agent may take to come up, which includes a log-in and the import of torch; and to answer afterwards.
START_S, ANSWER_S = 120.0, 20.0
#: While there is a world, boards are looked at so often; signs of life, states and logs are told so often.
TICK_S, STATUS_EVERY_S = 0.001, 0.1
#: Where nothing has moved for long, boards are looked at less often, and never so late that it matters beside that time:
#: ranks that wait would have to share their cores with who looks a thousand times a second.
_SLOWEST_TICK_S, _TICK_SHARE = 0.005, 0.02
#: How often the other host is asked for the time: the fastest answer says most.
_TIMES = 8
#: What a command may print; its last words are told where it ends.
_MOST_PRINTED_BYTES, _OUTPUT_TAIL_BYTES = 16 * 2**20, 4096
_open: dict[tuple[Host, str], Connection] = {}


def tick_s(quiet_s: float) -> float:
    """Return how long to wait before boards are looked at again on which nothing has moved for so long."""
    return min(max(TICK_S, _TICK_SHARE * quiet_s), _SLOWEST_TICK_S)


class Connection:
    """Connection to a remote agent: the pipes of its command, and the offset of its clock.

    `clock_s` is what is added to the monotonic clock there to get this host's, right to `doubt_s`; `address` how that host
    is reached from here.
    """

    def __init__(self, host: Host, stack: str) -> None:
        """Start the remote agent; `wait_ready` waits until it is ready. Raises OSError."""
        self.host = host
        self.is_ready = False
        self.address, self.clock_s, self.doubt_s = "", 0.0, 0.0
        self.log: BinaryIO = bounded_file(f"line to {host.name}", _MOST_PRINTED_BYTES)
        self.lines = Lines()
        try:
            self.process = subprocess.Popen(
                [*host.command, "-m", "readiness.distributed.remote.agent"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, bufsize=0, start_new_session=True,
            )  # fmt: skip
        except OSError as problem:
            self.log.close()
            raise OSError(f"host {host.name} cannot be reached: {problem}") from None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to, self.back = self.process.stdin.fileno(), self.process.stdout.fileno()
        with contextlib.suppress(OSError):  # who waits for the answer will notice
            self.send({"hello": stack, "address": host.address})

    def wait_ready(self) -> None:
        """Wait until the remote agent is ready. Raises OSError with its output, also for different versions."""
        if self.is_ready:
            return
        greeting = self.answer(START_S)
        version, address = greeting.get("version"), greeting.get("address")
        if not isinstance(version, str) or not isinstance(address, str):
            raise self.broken(f"it answers {str(greeting)[:80]}, which no remote agent answers")
        if version != __version__:
            raise OSError(f"host {self.host.name} has readiness {version[:80]}, this one {__version__}: install the same")
        self.address = address
        self.clock_s, self.doubt_s = self._compare_clocks()
        self.is_ready = True

    def send(self, message: Json) -> None:
        """Send a message. Raises OSError on a dead connection."""
        write_message(self.to, message)

    def answer(self, limit_s: float) -> Json:
        """Wait for an answer. Raises OSError if there is none in time."""
        deadline = time.monotonic() + limit_s
        while (left_s := deadline - time.monotonic()) > 0:
            if select.select([self.back], [], [], left_s)[0]:
                for answer in self.receive():
                    if "refused" in answer:
                        raise OSError(f"host {self.host.name}: {answer['refused']}")
                    return answer
        raise self.broken(f"no answer within {limit_s:g} s")

    def receive(self) -> Iterator[Json]:
        """Return the received messages. Raises OSError at the end of the connection."""
        content = os.read(self.back, 1 << 20)
        if not content:
            raise self.broken("the connection ended")
        try:
            lines = self.lines.take(content)
        except ValueError as problem:
            raise self.broken(str(problem)) from None
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            if not isinstance(message, dict):
                raise self.broken(f"it says {line[:80]!r}, which no remote agent says")
            yield message

    def broken(self, why: str) -> OSError:
        """Return the error of a dead connection, with the end of its command's output."""
        end = os.lseek(self.log.fileno(), 0, os.SEEK_CUR)  # of what was printed: that process writes at the same place
        begin = max(end - _OUTPUT_TAIL_BYTES, 0)
        printed = os.pread(self.log.fileno(), end - begin, begin)
        output = " ".join(printed.decode(errors="replace").split())[-300:]
        return OSError(f"host {self.host.name} cannot be reached: {why}" + (f" ({output})" if output else ""))

    def close(self) -> None:
        """Close the connection, which ends the remote agent."""
        for descriptor in (self.process.stdin, self.process.stdout):
            if descriptor is not None:
                descriptor.close()
        try:
            self.process.wait(ANSWER_S / 4)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def _compare_clocks(self) -> tuple[float, float]:
        best = (0.0, float("inf"))
        for _ in range(_TIMES):
            sent_at = time.monotonic()
            self.send({"time": True})
            remote_time = self.answer(ANSWER_S).get("time")
            received_at = time.monotonic()
            if not isinstance(remote_time, float) or not math.isfinite(remote_time):
                raise self.broken("it does not report its time")
            best = min(
                best, ((sent_at + received_at) / 2 - remote_time, (received_at - sent_at) / 2), key=lambda pair: pair[1]
            )
        return best


def connections_to(hosts: Iterable[Host], stack: str) -> dict[Host, Connection]:
    """Return the connections to these hosts; new ones are opened in parallel. Raises OSError."""
    connections: dict[Host, Connection] = {}
    for host in hosts:
        opened = _open.get((host, stack))
        if opened is not None and opened.process.poll() is not None:
            close_connection(opened)
        if (host, stack) not in _open:
            _open[host, stack] = Connection(host, stack)
        connections[host] = _open[host, stack]
    for connection in connections.values():
        try:
            connection.wait_ready()
        except BaseException:
            close_connection(connection)
            raise
    return connections


def close_connection(connection: Connection) -> None:
    """Close a connection that may hold data of an earlier group: the next group opens a new one."""
    with contextlib.suppress(StopIteration):
        del _open[next(key for key, opened in _open.items() if opened is connection)]
    connection.close()


def close_all_connections() -> None:
    """Close every connection of this process."""
    while _open:
        close_connection(next(iter(_open.values())))
