"""`operators.sweep` on simulated chips: what no CPU can show, whose own results are the yardstick there."""

from __future__ import annotations

from typing import Any

import pytest

from readiness.simulator.machine_file import Defect
from tests.support import run_check
from tests.support.simulator import chip, defect, inside


def swept(*defects: Defect, check: str = "operators.sweep", **settings: Any) -> dict[str, str]:
    """The outcome of each operator and dtype on a chip with these defects."""
    planted = chip(*defects, memory_gib=2.0)

    def look() -> Any:
        from readiness import accelerators
        from readiness.accelerators.base import Accelerator
        from readiness.accelerators.sim import facts

        evidence = run_check(check, Accelerator(facts(planted)[0], accelerators.stack("sim"), seed=5), **settings)
        assert evidence.reason is None, evidence.reason
        return {f"{row['operator']} {row['dtype']}": str(row["outcome"]) for row in evidence.rows if "operator" in row}

    found: dict[str, str] = inside(planted, look, limit_s=240.0)
    return found


WHOLE = ("add", "mul", "sub", "cat", "gather", "sum", "cumsum", "index_add", "eq", "where", "clone", "logical_and")


@pytest.mark.parametrize("kind", ["ignore-strides", "ignore-offset", "zero-result"])
def test_whole_numbers_and_truth_values_must_be_right(kind: str) -> None:
    found = swept(defect(kind, "*"), dtypes=("int64", "bool"), only=WHOLE)
    wrong = {name for name, outcome in found.items() if outcome == "wrong"}
    assert {"add int64", "mul int64", "eq int64"} <= wrong, found
    assert any(name.endswith(" bool") for name in wrong), found


@pytest.mark.parametrize("seed", [1])
def test_a_healthy_chip_shows_none_of_these_faults(seed: int) -> None:
    found = swept(dtypes=("int64", "bool"), only=(*WHOLE, "sort", "argsort", "topk", "argmax", "median", "mode", "unique"))
    assert not [name for name, outcome in found.items() if outcome not in ("native", "decomposed", "summary")], found


@pytest.mark.parametrize(
    ("worse", "outcome"),
    [
        (defect("nan", ("mm", "index_add"), numel_over=1000), "wrong"),
        (defect("ignore-strides", ("mm", "index_add")), "wrong"),
        (defect("raise", ("mm", "index_add"), noncontiguous=True), "missing"),
        (None, "nondeterministic"),
    ],
    ids=["NaN at larger sizes", "strides are ignored", "raises on strided inputs", "nothing worse"],
)
def test_what_differs_from_call_to_call_hides_nothing_worse(worse: Defect | None, outcome: str) -> None:
    noise = defect("nondeterministic", ("mm", "index_add"), severity=1e-7)
    found = swept(noise, *([] if worse is None else [worse]), dtypes=("float32",), only=("mm", "index_add"))
    assert found["mm float32"] == outcome, found
