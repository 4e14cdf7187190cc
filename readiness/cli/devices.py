"""`readiness devices`: the accelerators of this machine."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from readiness.cli import common


class Format(StrEnum):
    """Output format."""

    TABLE = "table"
    JSON = "json"


def devices(
    format: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.TABLE,
) -> None:
    """List the accelerators of this machine, and say which stacks are absent or broken and why."""
    from readiness.engine.discovery import discover
    from readiness.isolation.worker_pool import Pool
    from readiness.rendering import clean

    with Pool() as pool:
        found = discover(pool)
    if format is Format.JSON:
        from readiness import __version__
        from readiness.documents.assessment import dumps, facts_to_json
        from readiness.host.identity import identity

        common.put(
            dumps(
                {
                    "version": __version__,
                    "machine": identity(),
                    "accelerators": [facts_to_json(facts) for facts in found.accelerators],
                    "absent": dict(found.absent),
                    "failed": {**found.failures, **found.out_of_reach},
                }
            )
        )
        return
    from tabulate import tabulate

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
    common.put(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
    for name, reason in {**found.failures, **found.out_of_reach}.items():
        common.put(f"\n{name} is present but cannot be used: {clean(reason)}")
    if found.absent:
        common.put("\nabsent")
        common.put(tabulate([(f"  {name}", clean(reason)) for name, reason in found.absent.items()], tablefmt="plain"))
