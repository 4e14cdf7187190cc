"""Types of rank groups: context, placement, outcome and failure. No torch, no processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic

from readiness.accelerators.base import Accelerator
from readiness.accelerators.remote_devices import host_of
from readiness.check_registry import Skip
from readiness.datamodel import AcceleratorFacts, Labels
from readiness.distributed.rank_messages import Report
from readiness.distributed.status_board import StatusBoard

if TYPE_CHECKING:
    import torch
    from typing_extensions import TypeVar

    Settings_co = TypeVar("Settings_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    Settings_co = TypeVar("Settings_co", covariant=True)

Json = dict[str, Any]
ReportT = TypeVar("ReportT")


@dataclass(frozen=True, slots=True)
class RankContext(Generic[Settings_co]):
    """Argument of a rank function: rank, number of ranks, device and settings.

    What the function yields (`Report`s, or plain JSON objects) reaches the parent through a pipe of its own, never through
    the collectives under test. `settings` are a dataclass, or a plain JSON object. `addresses` are where each rank can be
    connected to, `clock_s` is added to this host's monotonic clock to get that of the run's host, `doubt_s` how far that
    may be off.
    """

    rank: int
    world_size: int
    accelerator: Accelerator
    settings: Settings_co
    board: StatusBoard
    addresses: Sequence[str] = ()
    clock_s: float = 0.0
    doubt_s: float = 0.0

    @property
    def device(self) -> torch.device:
        """Device of this rank."""
        return self.accelerator.device

    def step(self, operation: str) -> AbstractContextManager[None]:
        """Mark an operation that may block or fail on the status board, so that the parent knows each rank's position."""
        return self.board.step(self.rank, operation)

    def clock(self) -> float:
        """Return the time in seconds on a clock that all ranks share, accurate to `doubt_s`."""
        return time.monotonic() + self.clock_s

    def address(self, rank: int) -> str:
        """Address at which this rank listens."""
        return self.addresses[rank] if self.addresses else LOOPBACK

    def exchange(self, number: float = 0.0, within_s: float = float("inf")) -> tuple[float, ...]:
        """Return every rank's number, by rank: an all-gather in shared memory without a collective. All ranks must call it.

        Raises TimeoutError where one has not called it `within_s`.
        """
        with self.step("exchanging numbers with the other ranks"):
            return self.board.exchange(self.rank, number, within_s)


#: Address by which ranks find each other that are all on this machine.
LOOPBACK = "127.0.0.1"
#: The subject of a measurement is one line of a report.
LONGEST_ABOUT = 290
#: Where no number of ranks is asked for, there is one on each chip, but no fewer, and on a host no more, than these.
LEAST_RANKS, MOST_RANKS = 2, 16

#: A module-level function of a check file or of `readiness.distributed`; a fresh interpreter must be able to import it.
RankFunction = Callable[[RankContext], Iterator[Report] | Iterator[Json] | None]


class FailureKind(StrEnum):
    """Kind of failure of a rank group. Causes are examined in this order."""

    DIED = "died"            # a rank's process was ended by a signal, or left without reporting
    FROZEN = "frozen"        # a rank's process is stopped, or none of its threads gets to run
    UNREACHABLE = "unreachable"  # what ranks send each other is not acknowledged: the link between them, or a machine
    MISMATCHED = "mismatched"  # ranks wait for each other in different calls
    BEHIND = "behind"        # some ranks wait in an operation that another has not entered
    RAISED = "raised"        # a rank raised
    HUNG = "hung"            # every rank is in the same operation and none of them comes back
    OVERDUE = "overdue"      # all went on, but not to the end within the time limit
    LINGERED = "lingered"    # all work was done, and then a rank could not leave the group


@dataclass(frozen=True, slots=True)
class Failure:
    """Failure of a rank group: what happened, the ranks to blame (if known), and the operation.

    `after_s` counts from the start of the group. `log` is the tail of what the culprits printed, with the stacks that
    were taken before the end.
    """

    kind: FailureKind
    culprits: tuple[int, ...]
    reason: str
    operation: str | None
    after_s: float = 0.0
    log: str = ""


@dataclass(frozen=True, slots=True)
class RanksOutcome:
    """Outcome of a rank group: the reports of each rank in order, and the failure, if any."""

    reports: tuple[tuple[Any, ...], ...]
    failure: Failure | None
    seconds: float

    def of(self, kind: type[ReportT]) -> list[tuple[int, ReportT]]:
        """Return the reports of one type, each with its rank."""
        every = ((rank, report) for rank, reports in enumerate(self.reports) for report in reports)
        return [(rank, report) for rank, report in every if isinstance(report, kind)]


@dataclass(frozen=True, slots=True)
class Network:
    """Network of ranks on several hosts that communicate over TCP.

    `interface` is what the ranks of this host bind to; `namespaces` the network namespace of each rank (a path such as
    `/run/netns/NAME` or `/proc/PID/ns/net`), for ranks that are on other hosts than this process as far as the network
    goes. It needs CAP_SYS_ADMIN to enter one.
    """

    interface: str
    namespaces: tuple[str | None, ...] = ()

    def namespace_of(self, rank: int) -> str | None:
        """Return the network namespace of a rank; None if it stays in its parent's."""
        return self.namespaces[rank] if rank < len(self.namespaces) else None


@dataclass(frozen=True, slots=True)
class Placement:
    """Accelerator of each rank. `chips` is the number of chips in the run; None if it is just these."""

    ranks: tuple[AcceleratorFacts, ...]
    chips: int | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The accelerators of all ranks, each once."""
        return tuple(dict.fromkeys(facts.id for facts in self.ranks))

    @property
    def labels(self) -> Labels:
        """Labels that say what measurements with this placement are evidence about.

        `ranks` is their number; `chips` is `one` or `several`: ranks that share one chip exercise the software, no link
        between chips has been used; `world` is `all` where every chip that the run may use takes part in a group of
        two ranks at least, else `part`.
        """
        return {
            "ranks": str(len(self.ranks)),
            "chips": "several" if len(self.ranks) == len(self.ids) > 1 else "one",
            "world": "all" if len(self.ranks) > 1 and self.chips in (None, len(self.ids)) else "part",
        }

    def name(self, *ranks: int) -> str:
        """Return ranks and their accelerators as text: `rank 1 (npu:1)`."""
        return ", ".join(f"rank {rank} ({self.ranks[rank].id})" for rank in ranks)

    def between_hosts(self, ranks: Iterable[int]) -> bool:
        """True if these ranks are on several hosts."""
        return len({host_of(self.ranks[rank]) for rank in ranks}) > 1

    @property
    def scope(self) -> str:
        """The placement as text."""
        if self.labels["chips"] == "several":
            hosts = len({host_of(facts) for facts in self.ranks})
            return f"{len(self.ranks)} ranks, each on its own chip" + (f", on {hosts} hosts" if hosts > 1 else "")
        if len(self.ids) > 1:
            return f"{len(self.ranks)} ranks share {len(self.ids)} chips: evidence for the software only"
        number = "one rank" if len(self.ranks) == 1 else f"{len(self.ranks)} ranks"
        return f"{number} on one chip: evidence for the software only, no link between chips was used"


def place(accelerator: Accelerator, ranks: int = 0, *, least: int = 1, here: bool = False) -> Placement:
    """Place one rank on each chip; if there are too few chips, ranks share them, if the collective library supports that.

    With `ranks` = 0 there are as many as chips: a fault of the last chip is seen only by a rank on it. Vendors'
    libraries mostly want a chip for each rank: there are then no more ranks than chips. With `here` only chips of this
    host are taken. Raises Skip where fewer than `least` ranks are left, and where this stack or this build of torch has
    no collectives.
    """
    import torch.distributed as dist

    backend = accelerator.stack.collective_backend
    if backend is None:
        raise Skip(f"the {accelerator.stack.name} stack has no collective library for torch.distributed")
    if not dist.is_available():
        raise Skip("this build of torch has no torch.distributed")
    missing = [name for name in _backends(backend) if not dist.is_backend_available(name)]
    if missing:
        raise Skip(f"torch.distributed has no backend {missing[0]!r} here")
    every = list({facts.id: facts for facts in accelerator.peers}.values())
    chips = [facts for facts in every if host_of(facts) is None] if here else every
    wanted = ranks or min(max(len(chips), LEAST_RANKS), MOST_RANKS * len(set(map(host_of, chips))))
    shareable = speaks_tcp(backend) or accelerator.stack.ranks_share(accelerator.facts)
    number = wanted if shareable else min(wanted, len(chips))
    if number < least:
        raise Skip(f"{backend} needs a chip for each rank: {least} ranks need {least} chips, but there is {len(chips)}")
    return Placement(tuple(chips[rank % len(chips)] for rank in range(number)), len(every))


def _backends(backend: str) -> Sequence[str]:
    """Return the backends in a name: `nccl` and `cpu:gloo,cuda:nccl` are both valid names."""
    return [part.rpartition(":")[2].lower() for part in backend.split(",")]


def speaks_tcp(backend: str) -> bool:
    """True if all data of a backend pass through TCP connections of the rank's own process."""
    return all(name == "gloo" for name in _backends(backend))
