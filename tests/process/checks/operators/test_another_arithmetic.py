"""A device that computes otherwise than the host, and as well, is blamed for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from readiness.accelerators import sim
from readiness.probes.operators.summary import KNOWN_DEFECT
from tests.process.checks.operators import arithmetic
from tests.support import run_check, values
from tests.support.simulator import chip, inside


def blamed(other: Callable[..., Any], check: str, seed: int, **settings: Any) -> Any:
    """The rows that tell of something bad, and how many operators gave other bits than the host in this process."""
    planted = chip(memory_gib=4.0)

    def look() -> Any:
        from readiness import accelerators
        from readiness.accelerators.base import Accelerator
        from readiness.simulator.install import installed

        simulated, changed = installed(), list[str]()
        assert simulated is not None
        setattr(simulated, "call", arithmetic.computing(simulated.call, other, changed))  # noqa: B010 - a method is replaced
        device = torch.device("sim")
        (torch.randn(64, 999, device=device) @ torch.randn(999, 9, device=device)).sum()
        accelerator = Accelerator(sim.facts(planted)[0], accelerators.stack("sim"), seed=seed)
        evidence = run_check(check, accelerator, **settings)
        sound = ("native", "decomposed", "summary", "cannot be judged", KNOWN_DEFECT)
        poor = [f"{row['operator']} {row['dtype']}: {row['detail']}" for row in evidence.rows if row.get("outcome", "native") not in sound]
        judged = {part: sum(values(evidence, "judged", dtype="float32", catalogue=part)) for part in ("all", "core")}
        return [evidence.reason, poor, judged | {"rows": len(evidence.rows)}, len(changed)]

    return inside(planted, look, limit_s=280.0)


ARITHMETIC = pytest.mark.parametrize("other", [arithmetic.wider, arithmetic.reversed_sums], ids=["wider", "reversed"])


@pytest.mark.slow
@ARITHMETIC
def test_the_whole_catalogue(other: Callable[..., Any]) -> None:
    """With the core of it, which is counted apart as well."""
    reason, poor, judged, changed = blamed(other, "operators.sweep", 3, dtypes=("float32", "bfloat16", "float16"))
    assert (reason, poor) == (None, [])
    assert judged["all"] > 700
    assert judged["core"] > 120
    assert changed >= 1


@pytest.mark.slow
@ARITHMETIC
def test_the_operators_of_a_model(other: Callable[..., Any]) -> None:
    reason, poor, judged, _ = blamed(
        other, "operators.workload", 3, workload="deepseek-v3", budget_s=240.0, large_s=0.0
    )  # fmt: skip
    assert (reason, poor) == (None, [])
    assert judged["rows"] > 100
