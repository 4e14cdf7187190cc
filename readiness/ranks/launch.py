"""Launcher of rank groups: starts the ranks, and leaves none of their processes and files, whatever becomes of them.

The ranks find each other through a file that has no name and lives in memory, open in each of them. A store behind a
network port would have to listen on every interface without a password, would add a thread to a process that forks, and
its port could be taken; the file needs none of that, is new for every group, and vanishes with the last process. Only
where ranks are on several hosts, there is no way but the port.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from readiness.accelerators.base import Accelerator
from readiness.peers import Host, host_of
from readiness.ranks import network as networks
from readiness.ranks.board import StatusBoard
from readiness.ranks.fresh import plan_to_json
from readiness.ranks.line import Line, hang_up, lines_to
from readiness.ranks.members import ForkedProcess, RankProcess, RemoteRank, anonymous_file, kill_and_reap, start_rank
from readiness.ranks.rank import RankPlan
from readiness.ranks.relay import Ends, member_abroad, start_relay, wait_for_end
from readiness.ranks.values import LOOPBACK, Json, Network, Placement, RankFunction

#: How long a killed process may take to go. One in an uninterruptible sleep never does.
KILL_S = 5.0
#: How long processes may take to come up, on stacks that start an interpreter for each.
PROCESSES_S = 120.0
_attempts = itertools.count(1)


@dataclass(frozen=True, slots=True)
class RankGroup:
    """Processes of a group of ranks, and the status board that they write on."""

    processes: list[RankProcess]
    board: StatusBoard


@contextlib.contextmanager
def rank_group(
    function: RankFunction,
    accelerator: Accelerator,
    placement: Placement,
    settings: object,
    *,
    timeout_s: float,
    network: Network | None = None,
    short_watchdog_dumps: bool = False,
) -> Iterator[RankGroup]:
    """Start a rank for each place; at the end of the block every process and file of them is gone.

    `timeout_s` is the timeout of the default process group; with `short_watchdog_dumps`, watchdogs of libraries end a
    process at once (`flight`). Raises OSError where no process can be started.
    """
    with contextlib.ExitStack() as stack:
        lines = _lines(placement, accelerator.stack.name)
        board_file = stack.enter_context(anonymous_file("board of ranks"))
        board = StatusBoard(board_file.fileno(), len(placement.ranks))
        stack.callback(board.close)
        if network is None and lines:
            network = _network(next(iter(lines)).address)
        store, keep = _file_store(stack) if network is None else (f"{network.store}/{os.getpid()}-{next(_attempts)}", [])
        processes = _Processes(lines)
        stack.callback(_end_and_cool_down, processes, accelerator.stack.rest_s)
        here = sum(host_of(facts) is None for facts in placement.ranks)
        plan = RankPlan(
            function=function,
            rank=0,
            world_size=len(placement.ranks),
            accelerator=accelerator,
            settings={} if settings is None else settings,
            backend=accelerator.stack.collective_backend or "",
            store=store,
            interface=None if network is None else network.interface,
            namespace=None,
            timeout_s=timeout_s,
            threads=_threads(here),
            short_watchdog_dumps=short_watchdog_dumps,
            addresses=_addresses(placement, lines),
        )
        for rank, facts in enumerate(placement.ranks):
            own = Accelerator(facts, accelerator.stack, seed=accelerator.seed, peers=accelerator.peers)
            own_plan = replace(plan, rank=rank, accelerator=own)
            if (host := host_of(facts)) is not None:
                processes.add_remote(own_plan, host)
            else:
                namespace = None if network is None else network.namespace_of(rank)
                own_plan = replace(own_plan, namespace=namespace)
                process = start_rank(
                    own_plan, board, board_file, processes.all, keep=keep, close_in_child=processes.own_descriptors
                )
                processes.all.append(process)
        processes.start_relays(board)
        yield RankGroup(processes.all, board)


class _Processes:
    """All ranks of a group, and the relays to those that are on other hosts."""

    def __init__(self, lines: Mapping[Host, Line]) -> None:
        self.lines = lines
        self.all: list[RankProcess] = []
        self.plans: dict[Host, list[Json]] = {host: [] for host in lines}
        self.ends: dict[Host, dict[int, Ends]] = {host: {} for host in lines}
        self.relays: dict[Host, ForkedProcess] = {}

    @property
    def own_descriptors(self) -> list[int]:
        """Descriptors that no rank may hold: pipes to other hosts, and the pipe ends that relays serve."""
        of_lines = [descriptor for line in self.lines.values() for descriptor in (line.to, line.back)]
        return of_lines + [fd for ends in self.ends.values() for end in ends.values() for fd in (end.orders, end.reports)]

    def add_remote(self, plan: RankPlan, host: Host) -> None:
        """Add a rank on another host, which a relay will have started there."""
        process, ends = member_abroad(plan.rank, host.name)
        self.all.append(process)
        line = self.lines[host]
        self.plans[host].append(plan_to_json(replace(plan, clock_s=line.clock_s, doubt_s=line.doubt_s)))
        self.ends[host][plan.rank] = ends

    def start_relays(self, board: StatusBoard) -> None:
        """Start a relay for each host; from now on the pipe ends are its own."""
        for host, line in self.lines.items():
            served = {line.to, line.back} | {fd for end in self.ends[host].values() for fd in (end.orders, end.reports)}
            others = [descriptor for descriptor in self.own_descriptors if descriptor not in served]
            self.relays[host] = start_relay(line, self.plans[host], board, self.ends[host], self.all, others)
            for served_there in self.ends.pop(host).values():
                served_there.close()

    def end(self) -> None:
        """Kill and reap every rank, and close all pipes to them."""
        called = {host.name for host in self.relays}
        for process in self.all:
            if isinstance(process.handle, RemoteRank) and process.handle.host not in called:
                process.handle.update({"code": 255})  # it was never started
        kill_and_reap(self.all, KILL_S)
        for process in self.all:
            process.close()
        for ends in self.ends.values():
            for left in ends.values():
                left.close()
        for host, line in self.lines.items():
            if host in self.relays and not wait_for_end(self.relays[host]):
                hang_up(line)


def _end_and_cool_down(processes: _Processes, rest_s: float) -> None:
    """End all ranks; where one did not leave by itself, leave the devices alone for as long as their stack needs."""
    processes.end()
    if any(process.handle.poll() for process in processes.all):
        time.sleep(rest_s)


def _lines(placement: Placement, stack: str) -> dict[Host, Line]:
    return lines_to(dict.fromkeys(host for host in map(host_of, placement.ranks) if host is not None), stack)


def _network(address: str) -> Network:
    return Network(f"tcp://{address}:{networks.free_port(address)}", networks.interface_of(address))


def _addresses(placement: Placement, lines: Mapping[Host, Line]) -> tuple[str, ...]:
    """The address at which each rank listens for others."""
    own = next(iter(lines)).address if lines else LOOPBACK
    hosts = map(host_of, placement.ranks)
    return tuple(own if host is None else lines[host].address for host in hosts)


def _file_store(stack: contextlib.ExitStack) -> tuple[str, list[int]]:
    """The path of the store's file for all ranks of this machine, and the descriptors that they must hold for it."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        file = stack.enter_context(anonymous_file("store of ranks"))
        return f"/proc/self/fd/{file.fileno()}", [file.fileno()]
    folder = tempfile.mkdtemp(prefix="readiness-ranks-")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return str(Path(folder, "store")), []


def _threads(ranks: int) -> int:
    """Each rank's share of the cores; one where this process has threads already, as their pool is lost in a fork."""
    return 1 if psutil.Process().num_threads() > 1 else share_of_cores(ranks)


def share_of_cores(ranks: int) -> int:
    """How many of this host's cores each of so many ranks has for itself; one at least."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // ranks)
