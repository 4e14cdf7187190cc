"""Who is to blame when a world of ranks does not finish. Pure: from what was seen of each rank to a failure.

When one rank goes, the others report their lost connections to it, often before its own end is noticed. So causes are
looked for in a fixed order, and an exception in a victim's words counts only when nothing else explains the end.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from readiness.ranks import flight
from readiness.ranks.board import Mark
from readiness.ranks.values import Failure, Json, Trouble

#: A rank without a sign of life for so long is frozen, if the others give theirs: it should be one every tenth of a second.
SILENT_S = 3.0

#: What a rank says that lost its peer, or was told that ranks call differently: its own doing it is not.
_VICTIM = re.compile(
    r"connection (was )?(closed|reset|refused|aborted)|broken pipe|timed? ?out|timeout|socket|peer|remote process"
    r"|pair closure|communicator was aborted|monitoredbarrier|mismatch between collectives",
    re.IGNORECASE,
)
#: What a library's watchdog prints before it ends a rank's process over a call that is overdue, or over a peer that is gone.
#: Source: ProcessGroupNCCL.cpp of PyTorch; those for other makers' libraries were made from it.
_OVERDUE = re.compile(
    r"watchdog caught collective operation timeout|milliseconds before timing out"
    r"|terminated with exception: \w+ error: remote process exited",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the parent saw of one rank when it decided that the world had failed.

    `exit_code` is negative for a signal and None while the process lives; `error` what the rank raised; `state` the
    process state as psutil names it; `silent_s` how long it has shown no sign of life; `call` its last collective as the
    flight recorder has it (`readiness.ranks.flight`), None where it has none; `lost` why nothing is known any more of a
    rank on another host; `gave_up` that its library ended it since a call was overdue.
    """

    rank: int
    mark: Mark
    finished: bool = False
    exit_code: int | None = None
    error: str | None = None
    state: str | None = None
    silent_s: float = 0.0
    call: Json | None = None
    lost: str | None = None
    gave_up: bool = False

    @property
    def alive(self) -> bool:
        """Whether the process is there and has not given up."""
        return self.exit_code is None and self.error is None

    @property
    def place(self) -> str:
        """Where it is, in words."""
        if self.mark.entered == 0:
            return "before its first operation"
        return f"{'in' if self.mark.entered > self.mark.left else 'after'} {self.mark.operation}"


def is_victim(error: str) -> bool:
    """Whether an exception only says that another rank is gone."""
    return bool(_VICTIM.search(error))


def gave_up(exit_code: int | None, log: str) -> bool:
    """Whether a rank ended as one that waited for another does whose library has a watchdog, by the end of its log."""
    return exit_code == -signal.SIGABRT and bool(_OVERDUE.search(log))


def blame(seen: Sequence[Seen], *, stalled: bool, waited_s: float, dead_links: Collection[tuple[int, int]] = ()) -> Failure:
    """The failure of a world. `stalled` says that nothing moved for `waited_s` seconds.

    `dead_links` are the pairs of ranks between which what is sent goes unanswered (`readiness.ranks.wires`).
    """
    seen = [
        replace(rank, exit_code=None, error=rank.error or "ended by its library: a call timed out") if rank.gave_up else rank
        for rank in seen
    ]
    mismatched = _mismatched(seen)
    if dead := [rank for rank in seen if rank.exit_code is not None and rank.exit_code < 0]:
        if mismatched is not None and all(rank.exit_code == -signal.SIGABRT for rank in dead):
            return mismatched  # a library gave up over what it received: that is a victim's end
        told = "; ".join(f"rank {rank.rank} was ended by {_signal(rank)} {rank.place}" for rank in dead)
        return _failure(Trouble.DIED, dead, told)
    if frozen := [rank for rank in seen if rank.state in ("stopped", "tracing-stop") and not rank.finished]:
        return _failure(Trouble.FROZEN, frozen, "; ".join(f"rank {r.rank} is stopped {r.place}" for r in frozen))
    if lost := [rank for rank in seen if rank.lost is not None]:
        return _failure(Trouble.UNREACHABLE, lost, "; ".join(f"rank {r.rank} was lost {r.place}: {r.lost}" for r in lost))
    if dead_links and not any(rank.error and not is_victim(rank.error) for rank in seen):
        return _unreachable(seen, dead_links)
    if mismatched is not None and not any(rank.error and not is_victim(rank.error) for rank in seen):
        return mismatched
    if stalled:
        return _stalled(seen, waited_s)
    raised = [rank for rank in seen if rank.error is not None]
    if causes := [rank for rank in raised if not is_victim(rank.error or "")]:
        return _failure(Trouble.RAISED, causes, "; ".join(f"rank {r.rank} {r.place}: {r.error}" for r in causes))
    if gone := [rank for rank in seen if rank.exit_code is not None and rank.error is None]:
        told = "; ".join(f"rank {r.rank} left without a word (exit code {r.exit_code}) {r.place}" for r in gone)
        return _failure(Trouble.DIED, gone, told)
    behind = _behind(seen) or _fewer_calls(seen)
    words = "; ".join(f"rank {r.rank} {r.place}: {r.error}" for r in raised)
    if behind:
        return _failure(Trouble.BEHIND, behind, f"{_where(behind)}, and the others lost it: {words}")
    return Failure(Trouble.RAISED, (), f"ranks lost each other, nobody can be named: {words}", _operation(raised))


def _unreachable(seen: Sequence[Seen], links: Collection[tuple[int, int]]) -> Failure:
    """The failure of a wire: a rank is to blame that is at the end of every dead link, of two at least."""
    common = set.intersection(*(set(link) for link in links)) if len(links) > 1 else set()
    told = ", ".join(f"rank {one} and rank {other}" for one, other in sorted(links))
    culprits = [rank for rank in seen if rank.rank in common]
    return _failure(Trouble.UNREACHABLE, culprits, f"what they send goes unanswered between {told}", seen)


def _mismatched(seen: Sequence[Seen]) -> Failure | None:
    """The failure where ranks have made different calls under the same number; None where that is not known.

    The few are to blame; where neither side is the smaller one, nobody can be named.
    """
    calls: Mapping[int, Json] = {rank.rank: rank.call for rank in seen if rank.call is not None}
    if len({(call["group"], call["number"]) for call in calls.values()}) != 1:
        return None
    texts = {rank: flight.words(call) for rank, call in calls.items()}
    counts = Counter(texts.values()).most_common()
    if len(counts) < 2:
        return None
    usual = counts[0][0] if counts[0][1] > len(texts) / 2 else None
    odd = [rank for rank in seen if usual is not None and texts.get(rank.rank, usual) != usual]
    number = next(iter(calls.values()))["number"]
    told = "; ".join(f"rank {rank} calls {text}" for rank, text in texts.items())
    return _failure(Trouble.MISMATCHED, odd, f"collective number {number} is not the same everywhere: {told}", seen)


def _stalled(seen: Sequence[Seen], waited_s: float) -> Failure:
    beating = [rank for rank in seen if rank.alive and rank.silent_s < SILENT_S]
    if beating and (silent := [rank for rank in seen if rank.alive and not rank.finished and rank.silent_s >= SILENT_S]):
        told = "; ".join(f"rank {rank.rank} {rank.place}" for rank in silent)
        told = f"nothing moved for {waited_s:.0f} s, and no thread of a rank gets to run: {told}"
        return _failure(Trouble.FROZEN, silent, told)
    if behind := _behind(seen):
        told = f"nothing moved for {waited_s:.0f} s: the others wait, {_where(behind)}"
        return _failure(Trouble.BEHIND, behind, told)
    words = "; ".join(f"rank {rank.rank} {rank.place}" for rank in seen)
    if fewer := _fewer_calls(seen):
        names = ", ".join(f"rank {rank.rank}" for rank in fewer)
        told = f"nothing moved for {waited_s:.0f} s, and on {names} the library knows nothing of the call of the others"
        return _failure(Trouble.BEHIND, fewer, f"{told}: {words}")
    return Failure(Trouble.HUNG, (), f"nothing moved for {waited_s:.0f} s: {words}", _operation(seen))


def _behind(seen: Sequence[Seen]) -> list[Seen]:
    """The ranks that have not entered the operation in which others wait, or stay away from the next one."""
    alive = [rank for rank in seen if rank.alive and not rank.finished]
    most = max((rank.mark.entered for rank in seen), default=0)
    if late := [rank for rank in alive if rank.mark.entered < most]:
        least = min(rank.mark.entered for rank in late)
        return [rank for rank in late if rank.mark.entered == least]
    outside = [rank for rank in alive if rank.mark.entered == rank.mark.left]
    return outside if len(outside) < len(seen) else []


def _fewer_calls(seen: Sequence[Seen]) -> list[Seen]:
    """The ranks that have made fewer calls than others in a group that they share, as their flight recorders have it.

    What keeps them lies before the library: in the driver, in a kernel, in an adapter.
    """
    known = [rank for rank in seen if rank.call is not None]
    numbers = [rank.call.get("numbers", {}) for rank in known if rank.call is not None]
    most = {group: max(own.get(group, 0) for own in numbers) for own in numbers for group in own}
    fewer = [
        rank for rank, own in zip(known, numbers, strict=True) if any(number < most[group] for group, number in own.items())
    ]
    return fewer if len(fewer) < len(known) else []


def _where(ranks: Sequence[Seen]) -> str:
    return "; ".join(
        f"rank {rank.rank} is {rank.place}" + (", uninterruptible in the kernel" if rank.state == "disk-sleep" else "")
        for rank in ranks
    )


def _failure(trouble: Trouble, culprits: Sequence[Seen], reason: str, where: Sequence[Seen] = ()) -> Failure:
    return Failure(trouble, tuple(rank.rank for rank in culprits), reason, _operation(culprits or where))


def _operation(seen: Sequence[Seen]) -> str | None:
    return next((rank.mark.operation for rank in seen if rank.mark.operation), None)


def _signal(rank: Seen) -> str:
    number = -(rank.exit_code or 0)
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
