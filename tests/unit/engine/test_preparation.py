"""What the process that hands out workers imports for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from readiness.engine import runner


class Pool:
    def __init__(self) -> None:
        self.modules: list[str] = []

    def preload(self, names: Sequence[str]) -> None:
        self.modules += names


@pytest.mark.parametrize("simulated", [True, False])
def test_kernels_of_simulated_chips_are_there_before_workers_of_such_chips_alone(simulated: bool) -> None:
    pool = Pool()
    runner.prepare(cast(Any, pool), simulated=simulated)
    assert "torch._dynamo" in pool.modules
    assert ("readiness.simulator.kernel_preload" in pool.modules) is simulated
