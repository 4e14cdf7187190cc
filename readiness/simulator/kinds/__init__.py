"""What can be wrong with a simulated chip: one function for each kind of defect.

A kind is declared by `@kind` on a function that does the harm. `at` says when it is called: before the operator runs
(it may raise, hang, end the process, or change the arguments), or after (it changes the results in place or replaces
them). `domain` is what `op = "*"` stands for: kernels are `aten::...`, collectives `c10d::...`, copies `copy::...`,
waits between streams `stream::...`, checkpoints `checkpoint::...`, allocations `memory::...`, the layout of new memory
`layout::strided`.

To add a kind, write a function in one of these files; nothing else needs to know. Nothing here imports torch at the
top: the command line reads the table to check chip files.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from readiness.simulator.strikes import Strike

_FILES = ("arguments", "collectives", "failures", "memory", "results", "software", "speed", "sums")


class Moment(StrEnum):
    """When a kind acts on a call; `never` is for those that act elsewhere (the version stack, the counters).

    `around` is called twice, before the call and once it has ended (`Call.ended`); `raised` where the call raises.
    """

    BEFORE = "before"
    AFTER = "after"
    RAISED = "raised"
    AROUND = "around"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of defect.

    `severity` is what it has where a chip file gives none, in `unit`. A `warm` kind waits for the chip to be warm where
    the file names no other beginning.
    """

    name: str
    at: Moment
    domain: tuple[str, ...]
    severity: float
    unit: str
    act: Callable[[Strike], None]
    warm: bool = False

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (self.act.__doc__ or "").strip().partition("\n")[0]


_kinds: dict[str, Kind] = {}


def kind(
    name: str,
    *,
    at: Moment,
    domain: str | tuple[str, ...] = "aten::*",
    severity: float = 0.0,
    unit: str = "1",
    warm: bool = False,
) -> Callable[[Callable[[Strike], None]], Callable[[Strike], None]]:
    """Declare what a function does as a kind of defect."""

    def declare(act: Callable[[Strike], None]) -> Callable[[Strike], None]:
        assert name not in _kinds, f"two kinds are called {name}"
        _kinds[name] = Kind(name, at, (domain,) if isinstance(domain, str) else domain, severity, unit, act, warm)
        return act

    return declare


def kinds() -> Mapping[str, Kind]:
    """All kinds by name, sorted."""
    for file in _FILES:
        importlib.import_module(f"{__name__}.{file}")
    return dict(sorted(_kinds.items()))
