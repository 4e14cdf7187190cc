"""Parent of `multichip.elastic`: a job under torchrun that loses a worker, watched from outside.

torchrun has no deadline for a job, and a known defect in restarting one: since torch 2.5 the agent's store serves every
round, and what the workers of the round before left in it is taken for the addresses of those that live
(github.com/pytorch/pytorch/issues/135712). Both are handled here: the first by a deadline of ours, the second by trying
both kinds of store.

torchrun's usual rendezvous is a store behind a port of all interfaces, and it unpickles what stands there: whoever reaches
the port runs commands. Here agents meet in a file of the job's folder, which is this user's alone; the store that workers
find each other through, which is what the restart depends on, listens on the loopback interface alone. Other users of this
machine can reach it while the job lasts, as they can every job of torchrun on it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Measurement, Note, Row, Yield
from readiness.distributed import rendezvous
from readiness.distributed.types import LONGEST_ABOUT, LOOPBACK, Json, Placement
from readiness.distributed.watch_clock import WatchClock
from readiness.documents.assessment import facts_to_json
from readiness.host import disk
from readiness.host.process_control import bootstrap, die_with_parent, kill_tree
from readiness.host.temp_dirs import anonymous_file
from readiness.probes.elastic import worker as elastic_worker

#: Set to 1, every round of a job under torchrun has a store of its own.
OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
#: Sums before the fault, and in the round that comes to the end: twice as many, so that it gets further than the first.
TO_FAULT, TO_END = 20, 40
#: How often torchrun may start the workers anew.
MOST_RESTARTS = 2
_POLL_S, _END_S = 0.05, 5.0
#: The lines of torchrun's output that tell what was raised.
_RAISED = re.compile(r"^(?:\[\w+\d+\]:\s*)?((?:[\w.]+\.)?\w*(?:Error|Exception)\b: .+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Job:
    """Job under torchrun: reports of each worker by rank and round; `fault_at` is None if no worker died as planned.

    `code` is torchrun's exit code, None where it had to be ended. `last_error` is the last error in what it printed.
    """

    own_store: bool
    found: dict[tuple[int, int], Json]
    fault_at: float | None
    code: int | None
    last_error: str
    seconds: float

    @property
    def last_round(self) -> int:
        """Number of the last round in which a worker completed a sum."""
        return max((number for _, number in self.found), default=0)

    def recovered(self, ranks: int) -> bool:
        """True if every worker finished, in the same round."""
        last = [self.found.get((rank, self.last_round)) for rank in range(ranks)]
        return self.code == 0 and self.fault_at is not None and all(one is not None and one["done"] for one in last)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits in seconds: until a worker dies, from then to the end of the job, and the timeout of its group."""

    start_s: float
    limit_s: float
    timeout_s: float


def agent(*arguments: str) -> None:
    """Run torchrun in a process that dies with the process that started it."""
    from torch.distributed import run

    die_with_parent()
    rendezvous.serve_stores_at_their_address()
    run.main(list(arguments))


def restarts(accelerator: Accelerator, placement: Placement, folder: Path, *, tries: int, limits: Limits) -> Iterator[Yield]:
    """Run jobs with a store per round, and with torchrun's own way, `tries` of each; yield their measurements.

    Devices that take long to connect are given so much longer, each time that they must. Raises OSError where a disk was
    too full for a job.
    """
    more_s = accelerator.stack.connect_timeout_s
    limits = Limits(limits.start_s + more_s, limits.limit_s + more_s, limits.timeout_s + more_s)
    for own_store in (True, False):
        jobs = []
        for number in range(tries):
            yield Note(f"torchrun on {placement.scope}, {_store_name(own_store)}, {number + 1} of {tries}")
            done = job(accelerator, placement, folder / f"{own_store}-{number}", own_store, number, limits)
            yield _row(done, len(placement.ranks))
            if not done.recovered(len(placement.ranks)):
                disk.raise_if_full(done.last_error or "a job under torchrun was not restarted", (folder,))
            if done.fault_at is None:
                reason = done.last_error or f"no worker reached its fault within {limits.start_s:g} s"
                yield Measurement("completed", 0, placement.labels, about=f"torchrun: {reason}"[:LONGEST_ABOUT])
                return
            jobs.append(done)
        yield from _measurements(jobs, own_store, placement)
    yield Measurement("completed", 1, placement.labels)


def job(accelerator: Accelerator, placement: Placement, folder: Path, own_store: bool, number: int, limits: Limits) -> Job:
    """Run one job to its end or a deadline, and leave none of its processes."""
    folder.mkdir(mode=0o700)
    ranks = len(placement.ranks)
    elastic_worker.write(folder / elastic_worker.PLAN, {
        "stack": accelerator.stack.name,
        "peers": [facts_to_json(facts) for facts in placement.ranks],
        "seed": accelerator.seed,
        "culprit": zlib.crc32(f"{accelerator.seed}/{own_store}/{number}".encode()) % ranks,
        "sums_to_fault": TO_FAULT,
        "sums_to_end": TO_END,
        "timeout_s": limits.timeout_s,
    })  # fmt: skip
    worker = bootstrap("readiness.probes.elastic.worker:main", str(folder))
    command = bootstrap(
        "readiness.probes.elastic.parent:agent",
        "--nnodes", "1", "--nproc-per-node", str(ranks), "--max-restarts", str(MOST_RESTARTS), "--monitor-interval", "0.1",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", str(folder / "rendezvous"), "--rdzv-conf", "store_type=file",
        "--local-addr", LOOPBACK,
        "--rdzv-id", f"readiness-{os.getpid()}-{folder.name}", "--log-dir", str(folder / "log"), "--no-python", *worker,
    )  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", OWN_STORE: str(int(own_store))}
    began = time.monotonic()
    with anonymous_file("torchrun") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
        )
        try:
            code = _ended(process, folder, limits)
        finally:
            kill_tree(process, _END_S)  # its workers are in sessions of their own
        return Job(own_store, _found(folder), _fault_at(folder), code, _last_error(log), time.monotonic() - began)


def _ended(process: subprocess.Popen[bytes], folder: Path, limits: Limits) -> int | None:
    """Return the exit code; None at a deadline. A busy host's time to start workers does not count."""
    clock, until_s, faulty = WatchClock(), limits.start_s, False
    while clock.now < until_s:
        if (code := process.poll()) is not None:
            return code
        time.sleep(_POLL_S)
        clock.tick()
        if not faulty and _fault_at(folder) is not None:
            faulty, until_s = True, clock.now + limits.limit_s
    return None


def _found(folder: Path) -> dict[tuple[int, int], Json]:
    found = {}
    for file in folder.glob("found-*.json"):
        rank, number = map(int, file.stem.split("-")[1:])
        found[rank, number] = json.loads(file.read_text())
    return found


def _fault_at(folder: Path) -> float | None:
    file = folder / elastic_worker.FAULT
    return float(json.loads(file.read_text())["at"]) if file.exists() else None


def _last_error(log: BinaryIO) -> str:
    log.seek(0)
    raised = [found for found in _RAISED.findall(log.read().decode(errors="replace")) if "ChildFailedError" not in found]
    return " ".join(raised[-1].split())[:LONGEST_ABOUT] if raised else ""


def _store_name(own_store: bool) -> str:
    return "a store for each round" if own_store else "one store for all rounds"


def _row(done: Job, ranks: int) -> Row:
    return Row({
        "store": _store_name(done.own_store),
        "came_back": done.recovered(ranks),
        "rounds": done.last_round + 1,
        "exit_code": done.code,
        "restart_s": _restart_s(done, ranks),
        "seconds": round(done.seconds, 2),
        "last_error": done.last_error or None,
    })  # fmt: skip


def _restart_s(done: Job, ranks: int) -> float | None:
    """Return the seconds from the death to the last rank's first right sum in the final round."""
    if not done.recovered(ranks) or done.fault_at is None:
        return None
    return max(float(done.found[rank, done.last_round]["first_right"]) for rank in range(ranks)) - done.fault_at


def _measurements(jobs: Sequence[Job], own_store: bool, placement: Placement) -> Iterator[Yield]:
    ranks, labels = len(placement.ranks), {**placement.labels, "store": "own" if own_store else "shared"}
    lost = [done for done in jobs if not done.recovered(ranks)]
    about = None
    if lost:
        what = "did not end" if lost[0].code is None else f"ended with exit code {lost[0].code}"
        about = f"{len(lost)} of {len(jobs)} jobs, {_store_name(own_store)}: torchrun {what} after {lost[0].seconds:.0f} s"
        about += f"; last: {lost[0].last_error}" if lost[0].last_error else ""
    about = about and about[:LONGEST_ABOUT]
    yield Measurement("restarted", 1 - len(lost) / len(jobs), labels, samples=len(jobs), about=about)
    times = [seconds for done in jobs if (seconds := _restart_s(done, ranks)) is not None]
    if times:
        yield Measurement("restart_s", max(times), labels, samples=len(times))
    wrong = [(key, one["wrong"]) for done in jobs for key, one in done.found.items() if one["wrong"]]
    about = f"{placement.name(wrong[0][0][0])} in round {wrong[0][0][1]}" if wrong else None
    sums = sum(one["sums"] for done in jobs for one in done.found.values())
    yield Measurement("wrong_results", sum(count for _, count in wrong), labels, samples=sums, about=about)
