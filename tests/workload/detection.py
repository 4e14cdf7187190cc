"""What of twelve defects in each operator of a workload is caught: `python -m tests.workload.detection [WORKLOAD ...]`.

Each defect is planted in one kernel of a simulated chip, and `operators.workload` plays the records that reach that
kernel. It is caught where an operator's outcome is what the defect makes of it. A kernel that the defect cannot change
(a view has no elements of its own, whole numbers have no bfloat16) is told apart: nothing is wrong with that chip.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from readiness.simulator.chip import Chip, Defect
from tests.simulator.support import DiedError, chip, defect, inside

FLAGSHIPS = ("qwen3-8b", "qwen3-235b-a22b", "deepseek-v3")


@dataclass(frozen=True, slots=True)
class Plant:
    """One of the twelve: what it is called, its kind, and the outcomes that catch it."""

    name: str
    kind: str
    severity: float | None = None
    options: tuple[tuple[str, Any], ...] = ()
    outcomes: tuple[str, ...] = ("wrong", "missing")

    def on(self, kernel: str) -> Chip:
        """A chip with this defect in one kernel."""
        return chip(defect(self.kind, kernel, severity=self.severity, options=dict(self.options)), memory_gib=2.0)


PLANTS = (
    Plant("missing kernel", "missing", outcomes=("missing",)),
    Plant("1 % in one element", "one-element", 1e-2),
    Plant("one NaN", "nan"),
    Plant("rounded to bfloat16", "rounded-result"),
    Plant("sums in bfloat16", "narrow-sums"),
    Plant("wrong gradient", "wrong-gradient", 1e-2),
    Plant("ignored strides", "ignore-strides"),
    Plant("ignored offset", "ignore-offset"),
    Plant("wrong tail of 8", "wrong-tail"),
    Plant("nondeterminism", "nondeterministic", 1e-2, outcomes=("nondeterministic", "wrong")),
    Plant("SIGSEGV", "crash", outcomes=("crash",)),
    Plant("hang", "hang", outcomes=("hang",)),
)
