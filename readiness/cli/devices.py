"""`readiness devices`: the accelerators of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from readiness.cli import options


class Format(StrEnum):
    """Output format."""

    TABLE = "table"
    JSON = "json"


def devices(
    format: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.TABLE,
    exporter: options.Exporters = None,
    remote_exporter: options.RemoteExporter = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show each field, or why it is unreadable.")] = False,
) -> None:
    """List the accelerators of this machine and their health. It also says which stacks are absent or broken, and why."""
    from concurrent.futures import ThreadPoolExecutor

    from readiness.accelerators.readers import overview
    from readiness.accelerators.readers.gather import gather
    from readiness.engine import discovery
    from readiness.isolation.forkserver import WORKER
    from readiness.isolation.worker_pool import WorkerPool
    from readiness.rendering import clean

    options.use_exporters(exporter, remote_exporter)
    with ThreadPoolExecutor(1) as beside:
        readings = beside.submit(gather)
        found = discovery.at_hand()
        if found is None:
            with WorkerPool(preload=WORKER) as pool:
                found = discovery.discover(pool)
        gathered = readings.result()
    named = list(zip(overview.names(gathered.devices, found.accelerators, _hiding()), gathered.devices, strict=True))
    if format is Format.JSON:
        from readiness import __version__
        from readiness.documents.assessment import dumps, facts_to_json
        from readiness.host.identity import identity

        options.put(
            dumps(
                {
                    "version": __version__,
                    "machine": identity(),
                    "accelerators": [facts_to_json(facts) for facts in found.accelerators],
                    "absent": dict(found.absent),
                    "failed": {**found.failures, **found.out_of_reach},
                    "health": overview.to_json(named, gathered),
                }
            )
        )
        return
    rows = [
        (
            facts.id,
            clean(facts.vendor or "?"),
            clean(facts.model or "?"),
            "?" if facts.memory_bytes is None else f"{facts.memory_bytes / 2**30:.1f}",
            clean(", ".join(f"{name} {version}" for name, version in facts.software.items() if version)),
        )
        for facts in found.accelerators
    ]
    headers = ("id", "vendor", "model", "memory GiB", "stack")
    options.put(_table(rows, headers))
    if named:
        options.put("\nhealth, as reported by the vendors' own libraries, tools and logs")
        lines = [tuple(map(clean, overview.row(name, reading))) for name, reading in named]
        options.put(_table(lines, overview.HEADERS))
        for name, reading in named:
            for fault in overview.faults(name, reading):
                options.put(f"  {clean(fault)}")
            if verbose:
                options.put(f"\n{clean(name)}")
                fields = [tuple(map(clean, field)) for field in overview.details(reading)]
                options.put(_table([(f"  {field}", value, source) for field, value, source in fields]))
    for fault in overview.host_faults(gathered) if not named else ():
        options.put(f"\n{clean(fault)}")
    # A user without access to the kernel's log need not know, if there is no device that it could be about.
    problems = {name: reason for name, reason in gathered.problems.items() if named or verbose or name != "kernel log"}
    for name, reason in problems.items():
        options.put(f"\n{name} could not be read: {clean(reason)}")
    for name, reason in {**found.failures, **found.out_of_reach}.items():
        options.put(f"\n{name} is present but cannot be used: {clean(reason)}")
    if found.absent:
        options.put("\nabsent")
        options.put(_table([(f"  {name}", clean(reason)) for name, reason in found.absent.items()]))


def _table(rows: Sequence[Sequence[str]], heading: Sequence[str] = ()) -> str:
    from tabulate import tabulate

    most = options.widths(rows, heading)
    if not heading:
        return tabulate(rows, tablefmt="plain", maxcolwidths=most)
    return tabulate(rows, headers=heading, tablefmt="simple", disable_numparse=True, maxcolwidths=most)


def _hiding() -> dict[str, tuple[str, ...]]:
    """By stack the variables of the environment that choose which devices a process sees."""
    from readiness import accelerators

    return {name: accelerators.stack(name).hiding for name in accelerators.NAMES}
