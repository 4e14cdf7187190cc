"""A world of ranks is started, and whatever becomes of it, none of its processes and files is left.

The ranks find each other through a file that has no name and lives in memory, open in each of them. A store behind a
network port would have to listen on every interface without a password, would add a thread to a process that forks, and
its port could be taken; the file needs none of that, is new for every world, and vanishes with the last process. Only
where ranks are on several hosts, there is no way but the port.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from readiness.accelerators.base import Accelerator
from readiness.ranks.board import Board
from readiness.ranks.members import Member, anonymous_file, end, start
from readiness.ranks.rank import RankPlan
from readiness.ranks.values import Network, Placement, RankFunction

#: How long a killed process may take to go. One in an uninterruptible sleep never does.
KILL_S = 5.0
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
        board_file = stack.enter_context(anonymous_file("board of ranks"))
        board = Board(board_file.fileno(), len(placement.ranks))
        stack.callback(board.close)
        store, keep = _meeting_place(stack) if network is None else (f"{network.store}/{os.getpid()}-{next(_attempts)}", [])
        members: list[Member] = []
        stack.callback(_end_all, members)
        threads = _threads(len(placement.ranks))
        for number, facts in enumerate(placement.ranks):
            plan = RankPlan(
                function=function,
                rank=number,
                world_size=len(placement.ranks),
                accelerator=Accelerator(facts, accelerator.stack, seed=accelerator.seed, peers=accelerator.peers),
                settings=dict(settings or {}),
                backend=accelerator.stack.collective_backend or "",
                store=store,
                interface=None if network is None else network.interface,
                namespace=None if network is None else network.namespace_of(number),
                timeout_s=timeout_s,
                threads=threads,
                parent=os.getpid(),
                orders=-1,
                reports=-1,
                log=-1,
            )
            members.append(start(plan, board, board_file, members, keep))
        yield Launched(members, board)


def _end_all(members: list[Member]) -> None:
    end(members, KILL_S)
    for member in members:
        member.close()


def _meeting_place(stack: contextlib.ExitStack) -> tuple[str, list[int]]:
    """The path of the store's file for all ranks of this machine, and the descriptor that they must hold for it."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        file = stack.enter_context(anonymous_file("meeting place of ranks"))
        return f"/proc/self/fd/{file.fileno()}", [file.fileno()]
    folder = tempfile.mkdtemp(prefix="readiness-ranks-")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return str(Path(folder, "store")), []


def _threads(ranks: int) -> int:
    """Each rank's share of the cores; one where this process has threads already, as their pool is lost in a fork."""
    if psutil.Process().num_threads() > 1:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // ranks)
