"""What is seen of the ranks of a world that has failed, before anything is killed: marks, states, stacks, last calls."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from readiness.ranks import wires
from readiness.ranks.blame import Seen, gave_up
from readiness.ranks.board import Board
from readiness.ranks.members import Member, listen
from readiness.ranks.values import Json

#: How long stacks take to be written, and how long evidence may take to be told. Who is blocked with the interpreter
#: never answers.
_STACKS_S, _ANSWER_S = 0.2, 1.5
#: Where a watchdog's last words stand, with the stacks that may follow them.
_LOG_CHARACTERS = 20_000


def look(members: Sequence[Member], board: Board) -> list[Seen]:
    """Where every rank is and how it fares."""
    return [
        Seen(
            rank=member.rank,
            mark=mark,
            finished=member.finished,
            exit_code=member.process.poll(),
            error=member.error,
            state=member.state(),
            silent_s=board.silent_s(member.rank),
            lost=member.lost,
            gave_up=gave_up(member.process.poll(), member.log_tail(_LOG_CHARACTERS)),
        )
        for member, mark in zip(members, board.marks(), strict=True)
    ]


def dead_links(members: Sequence[Member]) -> frozenset[tuple[int, int]]:
    """Between which ranks segments go unanswered, as far as they have told (`take`)."""
    return frozenset(wires.dead_links({member.rank: member.wires for member in members if member.wires is not None}))


def take(members: Sequence[Member]) -> Mapping[int, Json]:
    """Have every rank that can still do it write its stacks into its log, and tell what it last called, by rank.

    faulthandler writes stacks even while a rank is blocked in C; the flight recorder is asked from another thread.
    """
    alive = [member for member in members if member.process.poll() is None and member.state() != "stopped"]
    for member in alive:
        if member.ready:  # before that, the signal may end it
            member.ask_for_evidence()
            member.ask_for_stacks()
    asked = time.monotonic()
    while alive and (waited_s := time.monotonic() - asked) < _ANSWER_S:
        if waited_s > _STACKS_S and all(member.answered or not member.ready or not member.open for member in alive):
            break
        listen(alive, 0.02)
    return {member.rank: member.flight for member in members if member.flight is not None}
