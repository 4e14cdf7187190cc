"""Launcher of rank groups: starts the ranks, and always cleans up their processes and files.

The ranks find each other through a file that has no name and lives in memory, open in each of them. A store behind a
network port takes orders from whoever reaches it, and would add a thread to a process that forks; the file does neither, is
new for every group, and vanishes with the last process. Only where ranks are on several hosts there is no way but the port:
the first rank of this host serves it, on the loopback interface, and the lines to other hosts carry what their ranks say.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import psutil

from readiness.accelerators.base import Accelerator
from readiness.accelerators.remote_devices import Host, host_of
from readiness.distributed import rendezvous as networks
from readiness.distributed.rank_entry import RankPlan
from readiness.distributed.rank_process import ForkedProcess, RankProcess, RemoteRank, kill_and_reap, start_rank
from readiness.distributed.rank_spawn import plan_to_json
from readiness.distributed.remote.client import Connection, close_connection, connections_to
from readiness.distributed.remote.proxy import PipeEnds, remote_rank_process, start_proxy, wait_for_end
from readiness.distributed.start_limits import KILL_S, share_of_cores
from readiness.distributed.status_board import StatusBoard
from readiness.distributed.types import LOOPBACK, Json, Network, Placement, RankFunction
from readiness.host.temp_dirs import anonymous_file

_attempts = itertools.count(1)


@dataclass(frozen=True, slots=True)
class RankGroup:
    """Processes of a rank group, and its status board."""

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
    """Start a rank for each place of the placement; end all processes and remove all files at the end of the block.

    `timeout_s` is the timeout of the default process group; with `short_watchdog_dumps`, watchdogs of libraries end a
    process at once (`flight`). Raises OSError where no process can be started.
    """
    with contextlib.ExitStack() as stack:
        connections = _connections(placement, accelerator.stack.name)
        board_file = stack.enter_context(anonymous_file("board of ranks"))
        board = StatusBoard(board_file.fileno(), len(placement.ranks))
        stack.callback(board.close)
        if network is None and connections:
            network = Network(networks.interface_of(next(iter(connections)).address))
        store = _tcp_store(stack) if connections else _file_store(stack)
        processes = _Processes(connections)
        stack.callback(_end_and_cool_down, processes, accelerator.stack.cooldown_s)
        here = sum(host_of(facts) is None for facts in placement.ranks)
        if not here:
            raise OSError("no rank is on this host, which runs their store")
        plan = RankPlan(
            function=function,
            rank=0,
            world_size=len(placement.ranks),
            accelerator=accelerator,
            settings={} if settings is None else settings,
            backend=accelerator.stack.collective_backend or "",
            store=store.place,
            interface=None if network is None else network.interface,
            namespace=None,
            timeout_s=timeout_s,
            threads=_threads(here),
            short_watchdog_dumps=short_watchdog_dumps,
            addresses=_addresses(placement, connections),
            secret=secrets.token_hex(32),
        )
        for rank, facts in enumerate(placement.ranks):
            own = Accelerator(facts, accelerator.stack, seed=accelerator.seed, peers=accelerator.peers)
            own_plan = replace(plan, rank=rank, accelerator=own)
            if (host := host_of(facts)) is not None:
                processes.add_remote(own_plan, host)
            else:
                namespace = None if network is None else network.namespace_of(rank)
                own_plan = replace(own_plan, namespace=namespace, serves=store.serves)
                process = start_rank(
                    own_plan, board, board_file, processes.all, keep=store.keep, close_in_child=processes.own_descriptors
                )
                processes.all.append(process)
                store = store.served()
        processes.start_proxies(board)
        yield RankGroup(processes.all, board)


class _Processes:
    """All ranks of a group, and the proxies to ranks on other hosts."""

    def __init__(self, connections: Mapping[Host, Connection]) -> None:
        self.connections = connections
        self.all: list[RankProcess] = []
        self.plans: dict[Host, list[Json]] = {host: [] for host in connections}
        self.ends: dict[Host, dict[int, PipeEnds]] = {host: {} for host in connections}
        self.proxies: dict[Host, ForkedProcess] = {}

    @property
    def own_descriptors(self) -> list[int]:
        """Descriptors that no rank may inherit: pipes to other hosts, and the pipe ends of proxies."""
        of_lines = [
            descriptor for connection in self.connections.values() for descriptor in (connection.to, connection.back)
        ]
        return of_lines + [fd for ends in self.ends.values() for end in ends.values() for fd in (end.orders, end.reports)]

    def add_remote(self, plan: RankPlan, host: Host) -> None:
        """Add a rank on another host; a proxy will start it there."""
        process, ends = remote_rank_process(plan.rank, host.name)
        self.all.append(process)
        connection = self.connections[host]
        self.plans[host].append(plan_to_json(replace(plan, clock_s=connection.clock_s, doubt_s=connection.doubt_s)))
        self.ends[host][plan.rank] = ends

    def start_proxies(self, board: StatusBoard) -> None:
        """Start a proxy for each host; it owns the pipe ends from then on."""
        for host, connection in self.connections.items():
            served = {connection.to, connection.back} | {
                fd for end in self.ends[host].values() for fd in (end.orders, end.reports)
            }
            others = [descriptor for descriptor in self.own_descriptors if descriptor not in served]
            self.proxies[host] = start_proxy(connection, self.plans[host], board, self.ends[host], self.all, others)
            for ends_there in self.ends.pop(host).values():
                ends_there.close()

    def end(self) -> None:
        """Kill and reap every rank, and close all pipes."""
        called = {host.name for host in self.proxies}
        for process in self.all:
            if isinstance(process.handle, RemoteRank) and process.handle.host not in called:
                process.handle.update({"code": 255})  # it was never started
        kill_and_reap(self.all, KILL_S)
        for process in self.all:
            process.close()
        for ends in self.ends.values():
            for left in ends.values():
                left.close()
        for host, connection in self.connections.items():
            if host in self.proxies and not wait_for_end(self.proxies[host]):
                close_connection(connection)


def _end_and_cool_down(processes: _Processes, cooldown_s: float) -> None:
    """End all ranks; if one did not exit by itself, leave the devices idle for the cool-down of their stack."""
    processes.end()
    if any(process.handle.poll() for process in processes.all):
        time.sleep(cooldown_s)


def _connections(placement: Placement, stack: str) -> dict[Host, Connection]:
    return connections_to(dict.fromkeys(host for host in map(host_of, placement.ranks) if host is not None), stack)


def _addresses(placement: Placement, connections: Mapping[Host, Connection]) -> tuple[str, ...]:
    """Return the address at which each rank listens."""
    own = next(iter(connections)).address if connections else LOOPBACK
    hosts = map(host_of, placement.ranks)
    return tuple(own if host is None else connections[host].address for host in hosts)


@dataclass(frozen=True, slots=True)
class _Store:
    """Rendezvous store of a group: its address, and the descriptors that a rank must keep open for it.

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

    def served(self) -> _Store:
        """Return the store for all further ranks, without the listening socket, which only its server may hold."""
        if self.socket is not None:
            self.socket.close()
        return replace(self, socket=None)


def _file_store(stack: contextlib.ExitStack) -> _Store:
    """Open a file as the store of ranks on one machine."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        file = stack.enter_context(anonymous_file("store of ranks"))
        return _Store(f"/proc/self/fd/{file.fileno()}", file)
    folder = tempfile.mkdtemp(prefix="readiness-ranks-")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return _Store(str(Path(folder, "store")))


def _tcp_store(stack: contextlib.ExitStack) -> _Store:
    """Open a loopback port as the store of ranks on several hosts; connections wait until a rank serves it."""
    listener = stack.enter_context(networks.listener(LOOPBACK))
    port = listener.getsockname()[1]
    return _Store(f"tcp://{LOOPBACK}:{port}/{os.getpid()}-{next(_attempts)}", socket=listener)


def _threads(ranks: int) -> int:
    """Return each rank's share of the cores; one if this process has started threads, since a fork loses their pool."""
    return 1 if psutil.Process().num_threads() > 1 else share_of_cores(ranks)
