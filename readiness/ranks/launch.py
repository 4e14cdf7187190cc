"""A world of ranks is started, and whatever becomes of it, none of its processes and files is left.

The ranks find each other through a file that has no name and lives in memory, open in each of them. A store behind a
network port takes orders from whoever reaches it, and would add a thread to a process that forks; the file does neither, is
new for every world, and vanishes with the last process. Only where ranks are on several hosts there is no way but the port:
the first rank of this host serves it, on the loopback interface, and the lines to other hosts carry what their ranks say.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from readiness.accelerators.base import Accelerator
from readiness.peers import Host, host_of
from readiness.ranks import network as networks
from readiness.ranks.board import Board
from readiness.ranks.fresh import plan_to_json
from readiness.ranks.line import Line, hang_up, lines_to
from readiness.ranks.members import Abroad, Forked, Member, end, start
from readiness.ranks.rank import RankPlan
from readiness.ranks.relay import Ends, member_abroad, start_relay, wait_for_end
from readiness.ranks.values import LOOPBACK, Json, Network, Placement, RankFunction
from readiness.scratch import anonymous_file

#: How long a killed process may take to go. One in an uninterruptible sleep never does.
KILL_S = 5.0
#: How long processes may take to come up, on stacks that start an interpreter for each.
PROCESSES_S = 120.0
_attempts = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Launched:
    """The ranks of a world, as their parent holds them, and the board that they write on."""

    members: list[Member]
    board: Board


@contextlib.contextmanager
def launched(
    function: RankFunction,
    accelerator: Accelerator,
    placement: Placement,
    settings: Mapping[str, Any] | None,
    *,
    timeout_s: float,
    network: Network | None = None,
) -> Iterator[Launched]:
    """Start a rank for each place; at the end of the block every process and file of them is gone.

    `timeout_s` is what the group of all ranks is given as its own. Raises OSError where no process can be started.
    """
    with contextlib.ExitStack() as stack:
        lines = _lines(placement, accelerator.stack.name)
        board_file = stack.enter_context(anonymous_file("board of ranks"))
        board = Board(board_file.fileno(), len(placement.ranks))
        stack.callback(board.close)
        if network is None and lines:
            network = Network(networks.interface_of(next(iter(lines)).address))
        meeting = _store(stack) if lines else _file(stack)
        world = _World(lines)
        stack.callback(_end_and_rest, world, accelerator.stack.rest_s)
        here = sum(host_of(facts) is None for facts in placement.ranks)
        if not here:
            raise OSError("no rank is on this host, which serves the store of them all")
        plan = RankPlan(
            function=function,
            rank=0,
            world_size=len(placement.ranks),
            accelerator=accelerator,
            settings=dict(settings or {}),
            backend=accelerator.stack.collective_backend or "",
            store=meeting.place,
            interface=None if network is None else network.interface,
            namespace=None,
            timeout_s=timeout_s,
            threads=_threads(here),
            addresses=_addresses(placement, lines),
        )
        for rank, facts in enumerate(placement.ranks):
            own = Accelerator(facts, accelerator.stack, seed=accelerator.seed, peers=accelerator.peers)
            own_plan = replace(plan, rank=rank, accelerator=own)
            if (host := host_of(facts)) is not None:
                world.add_abroad(own_plan, host)
            else:
                namespace = None if network is None else network.namespace_of(rank)
                own_plan = replace(own_plan, namespace=namespace, serves=meeting.serves)
                world.members.append(start(own_plan, board, board_file, world.members, keep=meeting.keep, ours=world.ours))
                meeting = meeting.served()
        world.relay(board)
        yield Launched(world.members, board)


class _World:
    """The ranks of a world, and what carries between here and those that are on other hosts."""

    def __init__(self, lines: Mapping[Host, Line]) -> None:
        self.lines = lines
        self.members: list[Member] = []
        self.plans: dict[Host, list[Json]] = {host: [] for host in lines}
        self.ends: dict[Host, dict[int, Ends]] = {host: {} for host in lines}
        self.relays: dict[Host, Forked] = {}

    @property
    def ours(self) -> list[int]:
        """What no rank may hold: pipes to other hosts, and the ends that are to be served from there."""
        of_lines = [descriptor for line in self.lines.values() for descriptor in (line.to, line.back)]
        return of_lines + [fd for ends in self.ends.values() for end in ends.values() for fd in (end.orders, end.reports)]

    def add_abroad(self, plan: RankPlan, host: Host) -> None:
        """A rank on another host, which a relay will have started there."""
        member, ends = member_abroad(plan.rank, host.name)
        self.members.append(member)
        line = self.lines[host]
        self.plans[host].append(plan_to_json(replace(plan, clock_s=line.clock_s, doubt_s=line.doubt_s)))
        self.ends[host][plan.rank] = ends

    def relay(self, board: Board) -> None:
        """Start what carries, one for each host; from now on the ends are its own."""
        for host, line in self.lines.items():
            served = {line.to, line.back} | {fd for end in self.ends[host].values() for fd in (end.orders, end.reports)}
            others = [descriptor for descriptor in self.ours if descriptor not in served]
            self.relays[host] = start_relay(line, self.plans[host], board, self.ends[host], self.members, others)
            for served_there in self.ends.pop(host).values():
                served_there.close()

    def end(self) -> None:
        """Kill and reap every rank, and close what leads to them."""
        called = {host.name for host in self.relays}
        for member in self.members:
            if isinstance(member.process, Abroad) and member.process.host not in called:
                member.process.take({"code": 255})  # it was never started
        end(self.members, KILL_S)
        for member in self.members:
            member.close()
        for ends in self.ends.values():
            for left in ends.values():
                left.close()
        for host, line in self.lines.items():
            if host in self.relays and not wait_for_end(self.relays[host]):
                hang_up(line)


def _end_and_rest(world: _World, rest_s: float) -> None:
    """Where a rank did not leave by itself, the devices are left alone for as long as their stack wants."""
    world.end()
    if any(member.process.poll() for member in world.members):
        time.sleep(rest_s)


def _lines(placement: Placement, stack: str) -> dict[Host, Line]:
    return lines_to(dict.fromkeys(host for host in map(host_of, placement.ranks) if host is not None), stack)


def _addresses(placement: Placement, lines: Mapping[Host, Line]) -> tuple[str, ...]:
    """Where each rank listens for others."""
    own = next(iter(lines)).address if lines else LOOPBACK
    hosts = map(host_of, placement.ranks)
    return tuple(own if host is None else lines[host].address for host in hosts)


@dataclass(frozen=True, slots=True)
class _Meeting:
    """Where the ranks of a world find each other: the place of their store, and what a rank must hold of it.

    `socket` is what it listens with, for the first rank that is started here.
    """

    place: str
    file: BinaryIO | None = None
    socket: socket.socket | None = None

    @property
    def serves(self) -> int:
        return -1 if self.socket is None else self.socket.fileno()

    @property
    def keep(self) -> list[int]:
        return [opened.fileno() for opened in (self.file, self.socket) if opened is not None]

    def served(self) -> _Meeting:
        """The same for all further ranks: where the one that serves is gone, nobody must be able to connect."""
        if self.socket is not None:
            self.socket.close()
        return replace(self, socket=None)


def _file(stack: contextlib.ExitStack) -> _Meeting:
    """For ranks that are all on this machine."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        file = stack.enter_context(anonymous_file("meeting place of ranks"))
        return _Meeting(f"/proc/self/fd/{file.fileno()}", file)
    folder = tempfile.mkdtemp(prefix="readiness-ranks-")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return _Meeting(str(Path(folder, "store")))


def _store(stack: contextlib.ExitStack) -> _Meeting:
    """For ranks on several hosts. Connections wait until a rank serves it."""
    listener = stack.enter_context(networks.listener(LOOPBACK))
    port = listener.getsockname()[1]
    return _Meeting(f"tcp://{LOOPBACK}:{port}/{os.getpid()}-{next(_attempts)}", socket=listener)


def _threads(ranks: int) -> int:
    """Each rank's share of the cores; one where this process has threads already, as their pool is lost in a fork."""
    return 1 if psutil.Process().num_threads() > 1 else share_of_cores(ranks)


def share_of_cores(ranks: int) -> int:
    """How many of this host's cores each of so many ranks has for itself; one at least."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // ranks)
