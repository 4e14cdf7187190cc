"""Selection of planted defects, each on a machine of its own, and of healthy machines. Nothing here imports torch."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from readiness.accelerators import sim
from readiness.errors import UsageError
from readiness.simulator import machine_file as chips
from readiness.simulator.faults import kinds
from readiness.simulator.injection import FaultKind
from readiness.simulator.machine_file import Chip, Defect

FLAG = "--chip"
HEALTHY = "healthy"
_PREFIX = f"{sim.STACK.name}:"


@dataclass(frozen=True, slots=True)
class SeededFault:
    """Planted defect. `chip` is a machine with only this defect; `name` is unique."""

    name: str
    title: str
    chip: Chip
    kind: FaultKind

    @property
    def defect(self) -> Defect:
        """The machine's only defect."""
        return self.chip.defects[0]

    @property
    def severity(self) -> float:
        """Severity in the unit of its kind."""
        return self.kind.severity if self.defect.severity is None else self.defect.severity

    @property
    def source(self) -> str | None:
        """Source of the report about the real defect."""
        return self.defect.source or self.chip.source


@dataclass(frozen=True, slots=True)
class Selection:
    """Planted defects and healthy machines of a rehearsal."""

    faults: tuple[SeededFault, ...]
    healthy: tuple[Chip, ...]


def selection(patterns: Sequence[str] = ()) -> Selection:
    """Return the machines that `--chip` names; by default, all that are shipped with one planted defect.

    A machine with several defects becomes several machines, one for each: what was seen must be of one cause. A
    machine without a defect stands for the healthy one. Raises UsageError and BadFileError.
    """
    known = kinds()
    found = _unique(_chips(patterns, known) if patterns else _shipped_faults(known))
    faults = [fault for chip in found for fault in _faults_of(chip, known)]
    healthy = [chip for chip in found if not chip.defects] or [_shipped(HEALTHY, known)]
    return Selection(tuple(_with_unique_names(faults)), tuple(healthy))


def healthy_machine(chip: Chip, count: int) -> Chip:
    """Return the healthy machine with so many chips; equal for machines that differ only in texts."""
    return replace(
        chip, name=HEALTHY, title="No defect", description="", source=None, chips=count, vendor=None,
        model=None, defects=(), sha256="", path="",
    )  # fmt: skip


def _chips(patterns: Iterable[str], known: Collection[str]) -> list[Chip]:
    return [chip for pattern in patterns for chip in _resolve(pattern.removeprefix(_PREFIX), known)]


def _resolve(pattern: str, known: Collection[str]) -> list[Chip]:
    if pattern.endswith(".toml") or any(separator in pattern for separator in ("/", os.sep)):
        return [chips.load(Path(pattern), known)]
    shipped = chips.names()
    names = [name for name in shipped if name == pattern or fnmatchcase(name, pattern)]
    if not names:
        near = get_close_matches(pattern, shipped, n=3)
        raise UsageError(
            f"there is no simulated chip {pattern[:100]!r}",
            place=FLAG,
            remedy=f"choose from {', '.join(near or list(shipped)[:40])}, or give a glob or a file that ends in .toml",
        )
    return [chips.load(shipped[name], known) for name in names]


def _shipped_faults(known: Collection[str]) -> list[Chip]:
    return [chips.load(file, known) for file in chips.names().values() if file.parent.name == "seeded_faults"]


def _shipped(name: str, known: Collection[str]) -> Chip:
    return chips.load(chips.names()[name], known)


def _unique(found: Iterable[Chip]) -> list[Chip]:
    return list({chip.sha256: chip for chip in found}.values())


def _faults_of(chip: Chip, known: Mapping[str, FaultKind]) -> list[SeededFault]:
    if len(chip.defects) == 1:
        return [SeededFault(chip.name, chip.title, chip, known[chip.defects[0].kind])]
    return [
        SeededFault(
            f"{chip.name}/{defect.name or number}", _title(defect), replace(chip, defects=(defect,)), known[defect.kind]
        )
        for number, defect in enumerate(chip.defects, 1)
    ]


def _title(defect: Defect) -> str:
    dtypes = f" in {', '.join(defect.dtype)}" if defect.dtype else ""
    return f"{defect.kind}: {', '.join(defect.op)}{dtypes}"


def _with_unique_names(faults: Iterable[SeededFault]) -> list[SeededFault]:
    """Number the chips of different files that share a name."""
    kept: dict[str, SeededFault] = {}
    for fault in faults:
        name, number = fault.name, 1
        while name in kept:
            number += 1
            name = f"{fault.name}#{number}"
        kept[name] = replace(fault, name=name)
    return list(kept.values())
