"""Remote agent: the process on another host that starts ranks there and reports their status.

It is started by a command of the user's (`python -m readiness.distributed.remote.agent` through ssh), takes JSON messages,
one a line, on its standard input and answers on its standard output. With the end of its input it ends, and with it all its
ranks. What it is told: `hello` and `time` (answered), `group` (start these ranks), `records` (what ranks of other hosts
wrote on their board), `order` (one byte for a rank, `K` to kill it, `S` for its stacks), `alive`, `over` (end the world;
answered). What it tells: `records` and `beats` of its own ranks, `line` (a report as the rank wrote it), `log`, `status`.
Both say `store`: what goes between ranks here and the store of their world, which is on the other end (`forwarding`).
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from readiness import __version__, accelerators
from readiness.distributed import rendezvous
from readiness.distributed.json_lines import Lines, write_message
from readiness.distributed.rank_process import RankProcess, kill_and_reap, start_rank
from readiness.distributed.rank_spawn import plan_from_json
from readiness.distributed.remote.client import STATUS_EVERY_S, tick_s
from readiness.distributed.remote.store_forwarding import FromRanks
from readiness.distributed.start_limits import KILL_S, share_of_cores
from readiness.distributed.status_board import StatusBoard
from readiness.distributed.types import Json
from readiness.host.memory import kernel_kills
from readiness.host.temp_dirs import anonymous_file

#: A world is ended when nothing has come for so long, the remote agent when it has had nothing to do.
_LOST_S, _IDLE_S = 60.0, 3600.0
_FRESH_HEARTBEAT_S = 0.3


def main() -> int:
    """Serve until the input ends."""
    # What libraries print must not come among the messages.
    out = os.dup(1)
    os.set_inheritable(out, False)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the end of the input says it, and lets the ranks be ended first
    try:
        return _Agent(0, out).serve()
    except BrokenPipeError:
        return 0


@dataclass(slots=True)
class _LocalRank:
    """Rank on this host: its process, the offset of its reported log, its last record and state."""

    process: RankProcess
    log_offset: int = 0
    record: bytes = b""
    state: str | None = None
    ended: bool = False


@dataclass(slots=True)
class _RankGroup:
    """Ranks of a group that run on this host."""

    board: StatusBoard
    board_file: BinaryIO
    kills: int
    store: FromRanks
    local_ranks: dict[int, _LocalRank] = field(default_factory=dict)

    def end(self) -> None:
        processes = [local_rank.process for local_rank in self.local_ranks.values()]
        kill_and_reap(processes, KILL_S)
        for process in processes:
            process.close()
        self.store.close()
        self.board.close()
        self.board_file.close()


class _Agent:
    def __init__(self, orders: int, out: int) -> None:
        self.orders, self.out = orders, out
        self.selector = selectors.DefaultSelector()
        self.selector.register(orders, selectors.EVENT_READ)
        self.lines = Lines()
        self.last_message = time.monotonic()
        self.last_status = 0.0
        self.moved_at = self.last_message
        self.address = ""
        self.group: _RankGroup | None = None

    def serve(self) -> int:
        """Serve until the input ends, or is silent for too long."""
        try:
            while time.monotonic() - self.last_message < (_IDLE_S if self.group is None else _LOST_S):
                wait_s = 1.0 if self.group is None else tick_s(time.monotonic() - self.moved_at)
                for key, _ in self.selector.select(wait_s):
                    if key.data is not None:
                        self._send_if_any(key.data.ready(key.fileobj))
                    elif not self._receive():
                        return 0
                if self.group is not None:
                    self._send_reports(self.group)
            return 1
        finally:
            if self.group is not None:
                self.group.end()

    def _receive(self) -> bool:
        content = os.read(self.orders, 1 << 20)
        self.last_message = time.monotonic()
        for line in self.lines.take(content):
            self._handle_message(json.loads(line))
        return bool(content)

    def _handle_message(self, message: Json) -> None:
        match message:
            case {"hello": stack, "address": address}:
                self._send(self._prepare(str(stack), str(address)))
            case {"time": _}:
                self._send({"time": time.monotonic()})
            case {"group": plans}:
                self._start_ranks(plans)
            case {"records": records} if self.group is not None:
                self.moved_at = time.monotonic()
                for rank, record in records.items():
                    self.group.board.copy(int(rank), base64.b64decode(record))
            case {"store": [number, content]} if self.group is not None:
                self._send_if_any(self.group.store.take(number, content))
            case {"order": [rank, order]} if self.group is not None and rank in self.group.local_ranks:  # else never started
                _order(self.group.local_ranks[rank].process, order)
            case {"over": _}:
                if self.group is not None:
                    self.group.end()
                    self.group = None
                self._send({"over": True})

    def _prepare(self, name: str, address: str) -> Json:
        """Prepare to start ranks, as a worker does."""
        try:
            accelerators.stack(name)
            import torch  # noqa: F401 - once, and not in each rank that is forked

            self.address = rendezvous.own_address(address)
            return {"version": __version__, "address": self.address}
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is told there
            return {"refused": f"{type(problem).__name__}: {problem}"[:300]}

    def _start_ranks(self, plans: list[Json]) -> None:
        """Start the ranks; one that cannot be started is reported as raised."""
        self.moved_at = time.monotonic()
        board_file = anonymous_file("board of ranks")
        board = StatusBoard(board_file.fileno(), plans[0]["world_size"])
        store = FromRanks(self.selector)
        self.group = group = _RankGroup(board, board_file, kernel_kills(), store)
        for encoded in plans:
            try:
                plan = plan_from_json(encoded)
                # No more threads than a rank has there: equal ranks are to be equally fast.
                threads = min(plan.threads, share_of_cores(len(plans)))
                interface = rendezvous.interface_of(self.address)
                plan = replace(plan, interface=interface, threads=threads, store=store.place(plan.store))
                processes = [local_rank.process for local_rank in group.local_ranks.values()]
                close = [self.out, *store.descriptors]
                group.local_ranks[plan.rank] = _LocalRank(
                    start_rank(plan, board, board_file, processes, close_in_child=close)
                )
            except Exception as problem:  # noqa: BLE001
                raised = json.dumps({"raised": f"{type(problem).__name__}: {problem}"[:300]})
                self._send({"line": [encoded["rank"], raised]})
                self._send({"rank_status": [encoded["rank"], {"code": 1}]})

    def _send_reports(self, group: _RankGroup) -> None:
        records = {}
        for rank, local_rank in group.local_ranks.items():
            self._forward_reports(rank, local_rank)
            record = group.board.record(rank)
            if record != local_rank.record:
                local_rank.record = record
                records[rank] = base64.b64encode(record).decode()
        if records:
            self.moved_at = time.monotonic()
            self._send({"records": records})
        if time.monotonic() - self.last_status > STATUS_EVERY_S:
            self.last_status = time.monotonic()
            self._send({"beats": [rank for rank in group.local_ranks if group.board.silent_s(rank) < _FRESH_HEARTBEAT_S]})
            for rank, local_rank in group.local_ranks.items():
                self._send_status(rank, local_rank, group)

    def _forward_reports(self, rank: int, local_rank: _LocalRank) -> None:
        """Forward the rank's reports unchanged."""
        for line in local_rank.process.lines() or ():
            self._send({"line": [rank, line.decode()]})

    def _send_status(self, rank: int, local_rank: _LocalRank, group: _RankGroup) -> None:
        if local_rank.ended:
            return
        code, state = local_rank.process.handle.poll(), local_rank.process.state()
        log = os.pread(local_rank.process.log.fileno(), 1 << 16, local_rank.log_offset)
        if log:
            local_rank.log_offset += len(log)
            self._send({"log": [rank, base64.b64encode(log).decode()]})
        if code is not None:
            while local_rank.process.open:
                self._forward_reports(rank, local_rank)
            local_rank.ended = True
            starved = kernel_kills() > group.kills
            self._send({"rank_status": [rank, {"code": code, "status": None, "starved": starved}]})
        elif state != local_rank.state:
            local_rank.state = state
            self._send({"rank_status": [rank, {"status": state, "pid": local_rank.process.handle.pid}]})

    def _send_if_any(self, message: Json | None) -> None:
        if message is not None:
            self._send(message)

    def _send(self, message: Json) -> None:
        write_message(self.out, message)


def _order(process: RankProcess, order: str) -> None:
    match order:
        case "K":
            process.kill()
        case "S":
            process.request_stacks()
        case _:
            process.order(order.encode())


if __name__ == "__main__":
    sys.exit(main())
