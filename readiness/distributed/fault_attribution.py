"""Fault attribution: why a rank group failed and which ranks are to blame, from a snapshot of each rank. Pure.

When one rank ends, the others report lost connections to it, often before its own end is noticed. So causes are looked
for in a fixed order, and an exception that reads like a victim's counts only when nothing else explains the end.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from readiness.distributed import flight_recorder
from readiness.distributed.status_board import Mark
from readiness.distributed.types import Failure, FailureKind, Json

#: A rank without a heartbeat for so long is frozen, if the others have theirs: there should be one every tenth of a second.
SILENT_S = 3.0

#: Errors of a rank that lost its peer, or whose library found that ranks call differently: the fault is not its own.
_VICTIM = re.compile(
    r"connection (was )?(closed|reset|refused|aborted)|broken pipe|timed? ?out|timeout|socket|peer|remote process"
    r"|pair closure|communicator was aborted|monitoredbarrier|mismatch between collectives",
    re.IGNORECASE,
)
#: What a library's watchdog prints before it ends a rank's process over an overdue call or a peer that is gone.
#: Source: ProcessGroupNCCL.cpp of PyTorch; those for other vendors' libraries were made from it.
_OVERDUE = re.compile(
    r"watchdog caught collective operation timeout|milliseconds before timing out"
    r"|terminated with exception: \w+ error: remote process exited",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class RankSnapshot:
    """State of one rank when its group failed, as the parent saw it.

    `exit_code` is negative for a signal and None while the process lives; `error` what the rank raised; `state` the process
    state as psutil names it; `silent_s` the time since its last heartbeat; `call` its last collective as the flight
    recorder has it (`readiness.distributed.flight_recorder`), None where it has none; `lost` why the status of a rank on
    another host is unknown; `ended_by_watchdog` that its library ended it because a call was overdue.
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
    ended_by_watchdog: bool = False

    @property
    def alive(self) -> bool:
        """True if the process exists and has not raised."""
        return self.exit_code is None and self.error is None

    @property
    def position(self) -> str:
        """The operation that the rank is in, or after which it is, as text."""
        if self.mark.entered == 0:
            return "before its first operation"
        return f"{'in' if self.mark.entered > self.mark.left else 'after'} {self.mark.operation}"


def is_victim(error: str) -> bool:
    """True if an error only says that another rank is gone."""
    return bool(_VICTIM.search(error))


def ended_by_watchdog(exit_code: int | None, log: str) -> bool:
    """True if, by the end of the log, a library's watchdog ended the rank because another rank did not arrive."""
    return exit_code == -signal.SIGABRT and bool(_OVERDUE.search(log))


def attribute_fault(
    snapshots: Sequence[RankSnapshot], *, stalled: bool, waited_s: float, dead_links: Collection[tuple[int, int]] = ()
) -> Failure:
    """Return why a rank group failed and who is to blame. `stalled` means that nothing moved for `waited_s` seconds.

    `dead_links` are the pairs of ranks between which what is sent goes unanswered (`readiness.distributed.tcp_info`).
    """
    snapshots = [
        replace(rank, exit_code=None, error=rank.error or "ended by its library: a call timed out")
        if rank.ended_by_watchdog
        else rank
        for rank in snapshots
    ]
    mismatched = _mismatched(snapshots)
    if dead := [rank for rank in snapshots if rank.exit_code is not None and rank.exit_code < 0]:
        if mismatched is not None and all(rank.exit_code == -signal.SIGABRT for rank in dead):
            return mismatched  # a library gave up over what it received: that is a victim's end
        reason = "; ".join(f"rank {rank.rank} was ended by {_signal(rank)} {rank.position}" for rank in dead)
        return _failure(FailureKind.DIED, dead, reason)
    if frozen := [rank for rank in snapshots if rank.state in ("stopped", "tracing-stop") and not rank.finished]:
        return _failure(FailureKind.FROZEN, frozen, "; ".join(f"rank {r.rank} is stopped {r.position}" for r in frozen))
    if lost := [rank for rank in snapshots if rank.lost is not None]:
        return _failure(
            FailureKind.UNREACHABLE, lost, "; ".join(f"rank {r.rank} was lost {r.position}: {r.lost}" for r in lost)
        )
    if dead_links and not any(rank.error and not is_victim(rank.error) for rank in snapshots):
        return _unreachable(snapshots, dead_links)
    if mismatched is not None and not any(rank.error and not is_victim(rank.error) for rank in snapshots):
        return mismatched
    if stalled:
        return _stalled(snapshots, waited_s)
    raised = [rank for rank in snapshots if rank.error is not None]
    if causes := [rank for rank in raised if not is_victim(rank.error or "")]:
        return _failure(FailureKind.RAISED, causes, "; ".join(f"rank {r.rank} {r.position}: {r.error}" for r in causes))
    if gone := [rank for rank in snapshots if rank.exit_code is not None and rank.error is None]:
        reason = "; ".join(f"rank {r.rank} exited without a report (exit code {r.exit_code}) {r.position}" for r in gone)
        return _failure(FailureKind.DIED, gone, reason)
    behind = _behind(snapshots) or _fewer_calls(snapshots)
    errors = "; ".join(f"rank {r.rank} {r.position}: {r.error}" for r in raised)
    if behind:
        return _failure(
            FailureKind.BEHIND, behind, f"{_positions(behind)}; the others lost their connection to it: {errors}"
        )
    reason = f"ranks lost their connections to each other; the culprit is unknown: {errors}"
    return Failure(FailureKind.RAISED, (), reason, _operation(raised))


def _unreachable(snapshots: Sequence[RankSnapshot], links: Collection[tuple[int, int]]) -> Failure:
    """Return the failure of a link. A rank is to blame if it is at an end of every dead link, and there are at least two."""
    common = set.intersection(*(set(link) for link in links)) if len(links) > 1 else set()
    pairs = ", ".join(f"rank {one} and rank {other}" for one, other in sorted(links))
    culprits = [rank for rank in snapshots if rank.rank in common]
    return _failure(FailureKind.UNREACHABLE, culprits, f"no acknowledgement between {pairs}", snapshots)


def _mismatched(snapshots: Sequence[RankSnapshot]) -> Failure | None:
    """Return the failure if ranks made different calls under the same number, else None.

    The minority is to blame; where neither side is the smaller one, nobody can be named.
    """
    calls: Mapping[int, Json] = {rank.rank: rank.call for rank in snapshots if rank.call is not None}
    if len({(call["group"], call["number"]) for call in calls.values()}) != 1:
        return None
    texts = {rank: flight_recorder.describe(call) for rank, call in calls.items()}
    counts = Counter(texts.values()).most_common()
    if len(counts) < 2:
        return None
    usual = counts[0][0] if counts[0][1] > len(texts) / 2 else None
    odd = [rank for rank in snapshots if usual is not None and texts.get(rank.rank, usual) != usual]
    number = next(iter(calls.values()))["number"]
    each = "; ".join(f"rank {rank} calls {text}" for rank, text in texts.items())
    return _failure(FailureKind.MISMATCHED, odd, f"collective number {number} differs between ranks: {each}", snapshots)


def _stalled(snapshots: Sequence[RankSnapshot], waited_s: float) -> Failure:
    stalled = f"no progress for {waited_s:.0f} s"
    alive = [rank for rank in snapshots if rank.alive]
    silent = [rank for rank in alive if not rank.finished and rank.silent_s >= SILENT_S]
    if silent and any(rank.silent_s < SILENT_S for rank in alive):
        where = "; ".join(f"rank {rank.rank} {rank.position}" for rank in silent)
        return _failure(FailureKind.FROZEN, silent, f"{stalled}; no thread of any rank makes progress: {where}")
    if behind := _behind(snapshots):
        return _failure(FailureKind.BEHIND, behind, f"{stalled}: the others wait, {_positions(behind)}")
    where = "; ".join(f"rank {rank.rank} {rank.position}" for rank in snapshots)
    if fewer := _fewer_calls(snapshots):
        names = ", ".join(f"rank {rank.rank}" for rank in fewer)
        reason = f"{stalled}, and on {names} the library has no record of the call of the others: {where}"
        return _failure(FailureKind.BEHIND, fewer, reason)
    return Failure(FailureKind.HUNG, (), f"{stalled}: {where}", _operation(snapshots))


def _behind(snapshots: Sequence[RankSnapshot]) -> list[RankSnapshot]:
    """Return the ranks that have not entered the operation in which the others wait."""
    alive = [rank for rank in snapshots if rank.alive and not rank.finished]
    most = max((rank.mark.entered for rank in snapshots), default=0)
    if late := [rank for rank in alive if rank.mark.entered < most]:
        least = min(rank.mark.entered for rank in late)
        return [rank for rank in late if rank.mark.entered == least]
    outside = [rank for rank in alive if rank.mark.entered == rank.mark.left]
    return outside if len(outside) < len(snapshots) else []


def _fewer_calls(snapshots: Sequence[RankSnapshot]) -> list[RankSnapshot]:
    """Return the ranks that made fewer calls than others in a common group, according to their flight recorders.

    What holds them up lies before the library: in the driver, in a kernel, in an adapter.
    """
    known = [rank for rank in snapshots if rank.call is not None]
    numbers = [rank.call.get("numbers", {}) for rank in known if rank.call is not None]
    most = {group: max(own.get(group, 0) for own in numbers) for own in numbers for group in own}
    fewer = [
        rank for rank, own in zip(known, numbers, strict=True) if any(number < most[group] for group, number in own.items())
    ]
    return fewer if len(fewer) < len(known) else []


def _positions(ranks: Sequence[RankSnapshot]) -> str:
    return "; ".join(
        f"rank {rank.rank} is {rank.position}" + (", uninterruptible in the kernel" if rank.state == "disk-sleep" else "")
        for rank in ranks
    )


def _failure(
    kind: FailureKind, culprits: Sequence[RankSnapshot], reason: str, where: Sequence[RankSnapshot] = ()
) -> Failure:
    return Failure(kind, tuple(rank.rank for rank in culprits), reason, _operation(culprits or where))


def _operation(snapshots: Sequence[RankSnapshot]) -> str | None:
    return next((rank.mark.operation for rank in snapshots if rank.mark.operation), None)


def _signal(rank: RankSnapshot) -> str:
    number = -(rank.exit_code or 0)
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
