"""parity.block_scaled on a simulated chip."""

from __future__ import annotations

from tests.support import cpu, run_check, values
from tests.support.simulator import chip, inside
from tests.unit.checks.parity.test_block_scaled import broken


def test_a_healthy_simulated_chip() -> None:
    def look() -> list[float]:
        from readiness import accelerators
        from readiness.accelerators import sim
        from readiness.accelerators.base import Accelerator

        found = run_check("parity.block_scaled", Accelerator(sim.facts(chip())[0], accelerators.stack("sim"), seed=3))
        assert broken(found) == set()
        return values(found, "supported")

    assert inside(chip(), look) == values(run_check("parity.block_scaled", cpu(3)), "supported")
