"""Discovery of this machine's accelerators: every stack is queried in a separate process, in parallel."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from importlib import metadata
from itertools import count
from typing import Any

import psutil

from readiness import accelerators
from readiness.accelerators import sim
from readiness.accelerators.remote_devices import host_of
from readiness.datamodel import AcceleratorFacts
from readiness.engine.worker_evidence import discovered, is_from_outside
from readiness.errors import InterruptedRunError, UsageError
from readiness.host.identity import this_host
from readiness.isolation.worker_pool import WorkerPool
from readiness.isolation.worker_process import Worker
from readiness.missing_evidence import KillCause
from readiness.simulator import machine_file as chips

#: A driver that does not list its devices by then does not work.
LIMIT_S = 180.0


@dataclass(frozen=True, slots=True)
class Discovery:
    """The accelerators found, in the order of the stacks; why other stacks are absent; which stacks failed, and how.

    `out_of_reach` are stacks whose driver is loaded while torch has no way to their devices.
    """

    accelerators: tuple[AcceleratorFacts, ...]
    absent: Mapping[str, str]
    failures: Mapping[str, str]
    out_of_reach: Mapping[str, str] = field(default_factory=dict)


def discover(pool: WorkerPool, *, limit_s: float = LIMIT_S, stopped: Callable[[], bool] = lambda: False) -> Discovery:
    """Query every stack that may be present. A stack that fails, crashes or hangs affects only itself.

    After `limit_s`, start-up included, what has not answered has failed. Raises InterruptedRunError once `stopped` is
    true: half a look at the machine is none.
    """
    absent, out_of_reach, present = _absences()
    workers = {name: _look(pool, name) for name in present}
    deadline = time.monotonic() + limit_s
    _wait(pool, list(workers.values()), limit_s, deadline, stopped)
    # An interrupt is no evidence about a stack: a run that took it for one could never be resumed.
    again = {name: _look(pool, name) for name, worker in workers.items() if is_from_outside(worker)}
    workers |= again
    _wait(pool, list(again.values()), limit_s, deadline, stopped)
    found: list[AcceleratorFacts] = []
    failures: dict[str, str] = {}
    for name, worker in workers.items():
        own, unknown = discovered(worker)
        if unknown is not None:
            failures[name] = unknown
        elif not own:
            absent[name] = "no device"
        found += own
    return Discovery(tuple(found), absent, failures, out_of_reach)


def at_hand() -> Discovery | None:
    """Return what is there if that needs neither torch nor any library of a vendor; None otherwise."""
    absent, out_of_reach, present = _absences()
    stacks = [accelerators.stack(name) for name in present]
    if any(stack.needs_torch for stack in stacks):
        return None
    return Discovery(tuple(facts for stack in stacks for facts in stack.discover()), absent, {}, out_of_reach)


def _absences() -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Return why stacks cannot be here, why others are out of reach, and which may be here."""
    absent: dict[str, str] = {}
    out_of_reach: dict[str, str] = {}
    present = []
    for name in accelerators.NAMES:
        try:
            reason = accelerators.stack(name).absence()
        except accelerators.OutOfReachError as problem:
            out_of_reach[name] = str(problem)
            continue
        if reason is None:
            present.append(name)
        else:
            absent[name] = reason
    return absent, out_of_reach, present


def _look(pool: WorkerPool, name: str) -> Worker:
    return pool.start({"job": "discover", "stack": name}, fork=accelerators.stack(name).from_forkserver, limit_s=LIMIT_S)


def _wait(
    pool: WorkerPool, workers: Sequence[Worker], limit_s: float, deadline: float, stopped: Callable[[], bool]
) -> None:
    while not all(worker.ended for worker in workers):
        pool.poll(0.1)
        if stopped():
            raise InterruptedRunError("interrupted while looking for accelerators", remedy="run it again")
        if time.monotonic() > deadline:
            for worker in workers:
                if not worker.ended:
                    pool.kill(worker, f"its devices could not be listed within {limit_s:.0f} s", KillCause.TIME_LIMIT)


def select(discovery: Discovery, specs: Sequence[str]) -> tuple[AcceleratorFacts, ...]:
    """Return the accelerators that `--device` selects; by default all but the CPU, or the CPU if there is nothing else.

    A stack that is here but failed is under test too, as a device of which nothing can be known: a broken driver must
    not turn into a good word for the CPU. So is one whose driver is loaded while torch cannot reach it, unless another
    accelerator was found (many a graphics chip stands beside it). `sim:NAME` and `sim:FILE.toml` are all the chips of a
    simulated machine, of which a run has one at most. Raises UsageError for a device that is not there, naming those
    that are, and BadFileError for a file that describes no chip.
    """
    simulated = _simulated(specs)
    present = discovery.accelerators
    alone = all(facts.kind == "cpu" for facts in present)
    for name, reason in {**discovery.failures, **(discovery.out_of_reach if alone else {})}.items():
        present += (_unusable(name, reason, {facts.id for facts in present}),)
    if not specs:
        others = tuple(facts for facts in present if facts.kind != "cpu")
        return others or present
    chosen: dict[str, AcceleratorFacts] = {}
    for spec in specs:
        found = [facts for facts in present if spec in (facts.id, facts.kind) or f"{spec}:0" == facts.id]
        if _is_simulated(spec):
            found = list(simulated)
        if not found:
            raise UsageError(
                f"there is no accelerator {spec!r} on this machine",
                place="--device",
                remedy=f"present: {', '.join(facts.id for facts in present) or 'none'}; `readiness devices` shows why",
            )
        chosen |= {facts.id: facts for facts in found}
    return tuple(chosen.values())


def of_stacks(chosen: Sequence[AcceleratorFacts], elsewhere: Sequence[AcceleratorFacts]) -> tuple[AcceleratorFacts, ...]:
    """Return the other hosts' accelerators of a stack under test. Raises UsageError for a host without any."""
    stacks = dict.fromkeys(facts.stack for facts in chosen)
    fitting = tuple(facts for facts in elsewhere if facts.stack in stacks and "unusable" not in facts.properties)
    for host in dict.fromkeys(map(host_of, elsewhere)):
        if host is not None and host not in map(host_of, fitting):
            own = [facts.id.removeprefix(f"{host.name}/") for facts in elsewhere if host_of(facts) == host]
            raise UsageError(
                f"{host.name} has no accelerator of the stack {', '.join(stacks)}",
                place="--host",
                remedy=f"choose with --device what all hosts have; it has: {', '.join(own)}",
            )
    return fitting


def _is_simulated(spec: str) -> bool:
    return spec.partition(":")[0] == sim.STACK.name


def _simulated(specs: Sequence[str]) -> tuple[AcceleratorFacts, ...]:
    """Return the chips of the simulated machine that these specs name; none if no spec does."""
    from readiness.simulator.faults import kinds

    machines: dict[str, chips.Chip] = {}
    for spec in filter(_is_simulated, specs):
        wanted = spec.partition(":")[2]
        if not wanted or wanted.isdigit():
            raise UsageError(
                f"{spec!r} does not name a simulated machine",
                place="--device",
                remedy=f"write sim:{next(iter(chips.names()), 'NAME')} or sim:FILE.toml: both mean all its chips",
            )
        machine = chips.find(wanted, kinds())
        machines[machine.sha256] = machine
    if len(machines) > 1:
        raise UsageError(
            f"two simulated machines ({' and '.join(machine.name for machine in machines.values())}) in one run",
            place="--device",
            remedy="choose one; one file may describe several chips",
        )
    return tuple(facts for machine in machines.values() for facts in sim.facts(machine))


def host(discovery: Discovery) -> dict[str, Any]:
    """Return facts about the host."""
    packages = {}
    for name in ("torch", "numpy", "nvidia-ml-py"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages[name] = metadata.version(name)
    return {
        "name": this_host(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "packages": packages,
        "present": [facts.id for facts in discovery.accelerators],
        "absent_stacks": dict(discovery.absent),
        "failed_stacks": dict(discovery.failures) | dict(discovery.out_of_reach),
    }


def _unusable(name: str, reason: str, taken: Set[str]) -> AcceleratorFacts:
    kind = accelerators.stack(name).kind
    index = next(number for number in count() if f"{kind}:{number}" not in taken)
    return AcceleratorFacts(
        id=f"{kind}:{index}",
        kind=kind,
        index=index,
        stack=name,
        vendor=None,
        model=None,
        properties={"unusable": reason},
    )
