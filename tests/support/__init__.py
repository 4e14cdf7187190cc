"""What tests of checks share: a check by id, an accelerator, evidence of it in this process, and a disk that is full."""

from __future__ import annotations

import errno
import os
from functools import cache
from typing import Any, NoReturn

from readiness import accelerators, check_registry
from readiness.accelerators.base import Accelerator
from readiness.check_registry import Check
from readiness.datamodel import Evidence, Labels
from readiness.engine import worker


@cache
def checks() -> dict[str, Check]:
    """The checklist, discovered once."""
    return check_registry.discover()


def cpu(seed: int = 7) -> Accelerator:
    """This machine's CPU."""
    stack = accelerators.stack("cpu")
    return Accelerator(next(iter(stack.discover())), stack, seed=seed)


def run_check(id: str, accelerator: Accelerator | None = None, **settings: Any) -> Evidence:
    """The evidence of one check, run in this process."""
    return worker.collect(checks()[id], accelerator or cpu(), **settings)


def values(evidence: Evidence, name: str, **where: str) -> list[float]:
    """The values of all measurements of this name whose labels include `where`."""
    return [
        float(measurement.value)
        for measurement in evidence.measurements
        if measurement.name == name and where.items() <= dict(measurement.labels).items()
    ]


def value(evidence: Evidence, name: str, **where: str) -> float:
    """The one value of this name and these labels; fails the test where there is not exactly one."""
    found = values(evidence, name, **where)
    assert len(found) == 1, f"{name} {where}: {found}; {evidence.status}: {evidence.reason}"
    return found[0]


def disk_full(*_: object, **__: object) -> NoReturn:
    """Fail for want of disk as torch does: in words that say nothing of it."""
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as problem:
        raise RuntimeError("[enforce fail at inline_container.cc] . unexpected pos 64 vs 0") from problem


def has(labels: Labels, **where: str) -> bool:
    """Whether the labels include these."""
    return where.items() <= dict(labels).items()
