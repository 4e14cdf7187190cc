"""A dozen checks that take a moment each and leave a trace of every time they ran to their end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from readiness import Accelerator, Measurement, check
from readiness.check_registry import Check

NUMBER = 12


def _make(number: int) -> Check:
    @check(f"many.step{number}", title=f"Step {number}", measures={"figure": "1"}, typical_s=0.1)
    def step(accelerator: Accelerator) -> Iterator[Measurement]:
        """Is each step done once?"""
        time.sleep(0.05)
        trace = os.environ["MANY_TRACE"]
        while os.path.exists(os.environ.get("MANY_HELD", "")) and os.path.exists(trace):  # noqa: PTH110 - all but the first
            time.sleep(0.01)
        yield Measurement("figure", float(number))
        with open(trace, "a") as stream:  # noqa: PTH123
            stream.write(f"{number}\n")

    return step


steps = [_make(number) for number in range(NUMBER)]
globals().update({f"step{number}": step for number, step in enumerate(steps)})
