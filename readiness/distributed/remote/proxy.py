"""Proxy process that forwards orders, reports and the status board between a rank group and a remote host.

To whoever watches the world, a rank abroad is a `RankProcess` like any other. A process of its own carries, since ranks
meet over the board many times a second, and the watch must be free to look at all of them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from readiness.distributed.json_lines import write_line
from readiness.distributed.rank_process import ForkedProcess, RankProcess, RemoteRank, pipe_ends
from readiness.distributed.remote.client import STATUS_EVERY_S, Connection, tick_s
from readiness.distributed.remote.store_forwarding import ToStore
from readiness.distributed.status_board import StatusBoard
from readiness.distributed.types import Json
from readiness.host.process_control import die_with_parent
from readiness.host.temp_dirs import anonymous_file

#: A host that says nothing for so long, though it should ten times a second, is lost; so is one that does not end a rank.
_LOST_S, _KILLED_S = 15.0, 4.0
#: How long the other host may take to end its part of a world.
OVER_S = 10.0
_MOST_LOG_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class PipeEnds:
    """The local pipe ends and log of a remote rank."""

    orders: int
    reports: int
    log: int

    def close(self) -> None:
        """Close the pipes; the log belongs to the rank process."""
        os.close(self.orders)
        os.close(self.reports)


def remote_rank_process(rank: int, host: str) -> tuple[RankProcess, PipeEnds]:
    """Return a rank process for a remote rank, and the pipe ends for its proxy."""
    orders_read, orders_write = os.pipe()
    reports_read, reports_write = os.pipe()
    os.set_blocking(reports_read, False)
    log = anonymous_file(f"rank {rank}")
    process = RankProcess(rank, RemoteRank(host), orders_write, reports_read, log)
    return process, PipeEnds(orders_read, reports_write, log.fileno())


def start_proxy(
    connection: Connection,
    plans: Sequence[Json],
    board: StatusBoard,
    ends: Mapping[int, PipeEnds],
    processes: Sequence[RankProcess],
    inherited: Sequence[int],
) -> ForkedProcess:
    """Start these ranks on the other host, and a proxy process between them and the local board.

    `processes` and `inherited` are what the new process inherits and must close: the other ends of all pipes, other lines.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()
            die_with_parent()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            for descriptor in (*pipe_ends(processes), *inherited):
                os.close(descriptor)
            code = _Proxy(connection, board, ends).forward(plans)
        finally:
            os._exit(code)
    return ForkedProcess(pid)


@dataclass(slots=True)
class _Proxy:
    connection: Connection
    board: StatusBoard
    ends: Mapping[int, PipeEnds]
    sent: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    killed: dict[int, float] = field(default_factory=dict)
    last_message: float = field(default_factory=time.monotonic)
    moved_at: float = field(default_factory=time.monotonic)
    ended_there: bool = False
    store: ToStore | None = None

    def forward(self, plans: Sequence[Json]) -> int:
        """Forward until the group ends or the host is lost; return 0 if the connection can be used again."""
        try:
            self.connection.send({"group": list(plans)})
            self._forward(plans[0]["store"])
        except OSError as problem:
            self._report_lost(str(problem))
            return 1
        except (LookupError, TypeError, ValueError, AttributeError) as problem:
            self._report_lost(
                str(self.connection.broken(f"it sent an unknown message: {type(problem).__name__}: {problem}"))
            )
            return 1
        return 0

    def _forward(self, place: str) -> None:
        last_status = 0.0
        with selectors.DefaultSelector() as selector, contextlib.closing(ToStore(selector, place)) as self.store:
            selector.register(self.connection.back, selectors.EVENT_READ, None)
            for rank, end in self.ends.items():
                selector.register(end.orders, selectors.EVENT_READ, rank)
            served = len(self.ends)
            while not self.ended_there:
                for key, _ in selector.select(tick_s(time.monotonic() - self.moved_at)):
                    if key.data is None:
                        self.last_message = time.monotonic()
                        for message in self.connection.receive():
                            self._handle_message(message)
                    elif key.data is self.store:
                        self._send(self.store.ready(key.fileobj))
                    elif not self._forward_orders(key.data):
                        selector.unregister(key.fileobj)
                        served -= 1
                        if not served:
                            self.connection.send({"over": True})
                self._send_records()
                now = time.monotonic()
                if now - last_status > STATUS_EVERY_S:
                    last_status = now
                    self.connection.send({"alive": True})
                self._check_connection(now)

    def _send(self, message: Json | None) -> None:
        if message is not None:
            self.connection.send(message)

    def _forward_orders(self, rank: int) -> bool:
        """Forward the orders for a rank; return False after the last one."""
        orders = os.read(self.ends[rank].orders, 64)
        for order in orders.decode():
            self.connection.send({"order": [rank, order]})
            if order == "K":
                self.killed.setdefault(rank, time.monotonic())
        return bool(orders)

    def _send_records(self) -> None:
        """Send new records of all ranks that are not on that host."""
        records = {}
        for rank in range(self.board.ranks):
            if rank not in self.ends and (exchanged_bytes := self.board.exchanged_bytes(rank)) != self.sent.get(rank):
                self.sent[rank] = exchanged_bytes
                records[rank] = base64.b64encode(self.board.record(rank)).decode()
        if records:
            self.moved_at = time.monotonic()
            self.connection.send({"records": records})

    def _handle_message(self, message: Json) -> None:
        match message:
            case {"records": records}:
                self.moved_at = time.monotonic()
                for rank, record in records.items():
                    self.board.copy(self._local_index(int(rank)), base64.b64decode(record))
            case {"store": [number, content]} if self.store is not None:
                self._send(self.store.take(number, content))
            case {"beats": ranks}:
                for rank in ranks:
                    self.board.heartbeat(self._local_index(rank))
            case {"line": [rank, line]}:
                self._report(rank, line)
            case {"log": [rank, log]}:
                self._log(rank, base64.b64decode(log))
            case {"rank_status": [rank, status]}:
                RemoteRank(self.connection.host.name).update(status)  # raises for what is no status, before it is believed
                if "code" in status:
                    self.ended.add(rank)
                self._report(rank, json.dumps({"rank_status": status}))
            case {"over": _}:
                self.ended_there = True

    def _local_index(self, rank: int) -> int:
        """Return the local index of a rank of that host. Raises KeyError for any other rank."""
        if rank not in self.ends:
            raise KeyError(f"rank {rank!r:.20} does not exist")
        return rank

    def _log(self, rank: int, printed: bytes) -> None:
        """Keep the end of a rank's output, which is in memory."""
        log = self.ends[rank].log
        if os.fstat(log).st_size < _MOST_LOG_BYTES:
            os.write(log, printed)

    def _report(self, rank: int, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # the world is being ended
            write_line(self.ends[rank].reports, line)

    def _check_connection(self, now: float) -> None:
        if now - self.last_message > _LOST_S:
            raise self.connection.broken(f"it sent nothing for {_LOST_S:g} s")
        for rank, since in self.killed.items():
            if rank not in self.ended and now - since > _KILLED_S:
                raise self.connection.broken(f"it has not ended rank {rank} within {_KILLED_S:g} s")

    def _report_lost(self, why: str) -> None:
        for rank in self.ends.keys() - self.ended:
            self._report(rank, json.dumps({"rank_status": {"code": 255, "lost": why}}))


def wait_for_end(proxy: ForkedProcess) -> bool:
    """Wait until a proxy with closed pipes has ended; return whether its connection can be used again."""
    deadline = time.monotonic() + OVER_S
    while proxy.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    if proxy.poll() is None:
        os.kill(proxy.pid, signal.SIGKILL)
        while proxy.poll() is None:
            time.sleep(0.002)
    return proxy.poll() == 0

