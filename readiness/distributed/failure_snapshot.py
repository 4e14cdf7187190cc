"""Diagnostics of a failed rank group, taken before anything is killed: positions, states, stacks, last calls."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from readiness.distributed import tcp_info
from readiness.distributed.fault_attribution import RankSnapshot, ended_by_watchdog
from readiness.distributed.rank_process import RankProcess, read_reports
from readiness.distributed.status_board import StatusBoard
from readiness.distributed.types import Json

#: How long stacks and diagnostics may take to arrive. A rank that is blocked while it holds the interpreter never answers.
_ANSWER_S = 1.5
#: Stacks are there once a log has grown and then stood still for so long.
_WRITTEN_S = 0.2
#: Where a watchdog's last output stands, with the stacks that may follow it.
_LOG_CHARACTERS = 20_000


def snapshot(processes: Sequence[RankProcess], board: StatusBoard) -> list[RankSnapshot]:
    """Return the position and state of every rank."""
    return [
        RankSnapshot(
            rank=process.rank,
            mark=mark,
            finished=process.finished,
            exit_code=process.handle.poll(),
            error=process.error,
            state=process.state(),
            silent_s=board.silent_s(process.rank),
            lost=process.lost,
            ended_by_watchdog=ended_by_watchdog(process.handle.poll(), process.log_tail(_LOG_CHARACTERS)),
        )
        for process, mark in zip(processes, board.marks(), strict=True)
    ]


def dead_links(processes: Sequence[RankProcess]) -> frozenset[tuple[int, int]]:
    """Return the pairs of ranks between which segments go unanswered, according to their reports (`collect`)."""
    reports = {process.rank: process.tcp_report for process in processes if process.tcp_report is not None}
    return frozenset(tcp_info.dead_links(reports))


def collect(processes: Sequence[RankProcess]) -> Mapping[int, Json]:
    """Let every responsive rank write its stacks into its log and report its last call; return the calls by rank.

    faulthandler writes stacks even while a rank is blocked in C; the flight recorder is read by another thread.
    """
    alive = [process for process in processes if process.handle.poll() is None and process.state() != "stopped"]
    requested = [process for process in alive if process.ready]  # before that, the signal may end it
    before = sizes = {process.rank: process.log_size for process in requested}
    for process in requested:
        process.request_diagnostics()
        process.request_stacks()
    requested_at = grown_at = time.monotonic()
    while alive and (now := time.monotonic()) - requested_at < _ANSWER_S:
        requested = [process for process in requested if process.open]
        last, sizes = sizes, {process.rank: process.log_size for process in requested}
        grown_at = now if any(size != last[rank] for rank, size in sizes.items()) else grown_at
        written = all(size > before[rank] for rank, size in sizes.items()) and now - grown_at > _WRITTEN_S
        if written and all(process.answered for process in requested):
            break
        read_reports(alive, 0.02)
    return {process.rank: process.last_call for process in processes if process.last_call is not None}
