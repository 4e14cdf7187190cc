"""The model on simulated chips: a healthy one, and one that is slow at decoding alone. A busy host says that it is one."""

from __future__ import annotations

from typing import Any

import pytest

from readiness.datamodel import Evidence, Status
from readiness.documents.assessment import evidence_from_json, evidence_to_json
from tests.support import run_check, value, values
from tests.support.simulator import chip, defect, inside


def served(*defects: Any) -> Evidence:
    """What serving a narrow model on a simulated chip yields."""

    def run() -> Any:
        from readiness import accelerators
        from readiness.accelerators.base import Accelerator
        from readiness.accelerators.sim import facts

        accelerator = Accelerator(facts(machine)[0], accelerators.stack("sim"))
        settings = {"workload": "qwen3-8b", "dtype": "float32", "batches": (1,), "tokens": 3, "rounds": 1, "narrow_prompt": 48}
        return evidence_to_json(run_check("model.serving", accelerator, **settings))

    machine = chip(*defects, memory_gib=0.5)
    evidence = evidence_from_json(inside(machine, run, seed=7))
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
SLOW = defect("slow", ATTENTION, argument={"is_causal": False}, severity=0.005)


@pytest.mark.parametrize("defects", [(), (SLOW,)])
def test_a_chip_that_is_slow_at_decoding_alone_is_named_by_the_phase(defects: tuple[Any, ...]) -> None:
    found = served(*defects)
    assert value(found, "wrong_tokens") == 0
    said = [row for row in found.rows if "share_of_host" in row]
    assert len(values(found, "share_of_host")) + len(said) == 2, "either a share of each phase, or why there is none"
    for share in values(found, "share_of_host", phase="decode"):
        assert (share < 0.2) is bool(defects), "the limit of the profiles"
    for share in values(found, "share_of_host", phase="prefill"):
        assert share > 0.2
