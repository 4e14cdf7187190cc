"""Kinds of defects of a simulated chip: one function for each kind.

A kind is declared by `@kind` on a function that does the harm. `at` says when it is called: before the operator runs
(it may raise, hang, end the process, or change the arguments), or after (it changes the results in place or replaces
them). `domain` is what `op = "*"` stands for: kernels are `aten::...`, collectives `c10d::...`, copies `copy::...`,
waits between streams `stream::...`, casts of mixed precision `autocast::...`, checkpoints `checkpoint::...`, allocations
`memory::...`, the layout of new memory `layout::strided`.

To add a kind, write a function in one of these files; nothing else needs to know. Nothing here imports torch at the
top: the command line reads the table to check chip files.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TypeVar

from readiness.simulator.injection import FaultKind, Injection, Stage

_FILES = ("arguments", "collectives", "failures", "graphs", "memory", "numbers", "results", "software", "speed", "sums")
_kinds: dict[str, FaultKind] = {}
#: What does the harm. It returns False where the call had nothing to harm, and nothing has changed.
Act = TypeVar("Act", bound=Callable[[Injection], bool | None])


def kind(
    name: str,
    *,
    at: Stage,
    domain: str | tuple[str, ...] = "aten::*",
    severity: float = 0.0,
    unit: str = "1",
    warm: bool = False,
    within: str = "",
) -> Callable[[Act], Act]:
    """Decorator that registers a function as a kind of defect."""

    def declare(act: Act) -> Act:
        assert name not in _kinds, f"two kinds are called {name}"
        domains = (domain,) if isinstance(domain, str) else domain
        _kinds[name] = FaultKind(name, at, domains, severity, unit, act, warm, within)
        return act

    return declare


def kinds() -> Mapping[str, FaultKind]:
    """Return all kinds by name, sorted."""
    for file in _FILES:
        importlib.import_module(f"{__name__}.{file}")
    return dict(sorted(_kinds.items()))
