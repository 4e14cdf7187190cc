"""Several simulated chips together: one of them has the defect, and it is that one which is named."""

from __future__ import annotations

from typing import Any

import pytest

from readiness.simulator.machine_file import Chip
from tests.support.simulator import chip, defect, inside

Json = dict[str, Any]


def evidence(machine: Chip, check: str, groups: int = 0, **settings: Any) -> dict[str, Any]:
    """The measurements [value, about] of a check on all chips of a machine, by name and by what tells them apart.

    With `groups`, a soak ends after so many that completed no round.
    """

    def work() -> Json:
        from readiness.probes.soak import parent

        parent.MOST_FRUITLESS_GROUPS = groups or parent.MOST_FRUITLESS_GROUPS
        from readiness import accelerators
        from readiness.accelerators import sim
        from readiness.accelerators.base import Accelerator
        from tests.support import run_check

        facts = sim.facts(machine)
        found = run_check(check, Accelerator(facts[0], accelerators.stack("sim"), seed=7, peers=facts), **settings)
        assert found.status == "measured", found.reason
        measured = {
            "/".join([item.name, *(item.labels[key] for key in ("mode", "optimizer", "cause") if key in item.labels)]): [
                item.value, item.about or "",
            ]
            for item in found.measurements
        }  # fmt: skip
        return {"measured": measured, "rows": [dict(row) for row in found.rows if "proves" not in row]}

    told: dict[str, Any] = inside(machine, work, limit_s=280.0)
    return told


def sums_of_groups(context: Any) -> Any:
    """What a sum is of 1 on each rank: between all, between two, and the latter by a broadcast of it."""
    import torch
    import torch.distributed as dist

    pairs = [dist.new_group([0, 1]), dist.new_group([2])]
    found = []
    for group in (None, pairs[0]):
        one = torch.ones(1, device=context.device)
        if context.rank < 2 or group is None:
            dist.all_reduce(one, group=group)
        found.append(float(one.cpu()))
    yield {"sums": found}


def gathered(context: Any) -> Any:
    """What each way to gather makes of the numbers of the ranks."""
    import torch
    import torch.distributed as dist

    own = torch.full((2,), context.rank, device=context.device)
    apart, together = [torch.empty_like(own) for _ in range(2)], torch.empty(4, dtype=own.dtype, device=context.device)
    dist.all_gather(apart, own)
    dist.all_gather_into_tensor(together, own)
    yield {"apart": [one.cpu().tolist() for one in apart], "together": together.cpu().tolist()}


def on_ranks(machine: Chip, ranks: int, function: Any) -> list[Json]:
    """What each rank reports of a function on the chips of a machine."""

    def work() -> Json:
        from readiness import accelerators
        from readiness.accelerators import sim
        from readiness.accelerators.base import Accelerator
        from readiness.distributed import place, run_ranks

        facts = sim.facts(machine)
        accelerator = Accelerator(facts[0], accelerators.stack("sim"), seed=7, peers=facts)
        outcome = run_ranks(function, accelerator, place(accelerator, ranks), {})
        assert outcome.failure is None, outcome.failure
        return {"found": [reports[0] for reports in outcome.reports]}

    found: list[Json] = inside(machine, work)["found"]
    return found


def test_what_is_gathered_in_another_order() -> None:
    for wrong, order in ((False, [0, 0, 1, 1]), (True, [1, 1, 0, 0])):
        planted = (defect("wrong-order"),) if wrong else ()
        for report in on_ranks(chip(*planted, chips=2), 2, gathered):
            assert report == {"apart": [order[:2], order[2:]], "together": order}


def test_a_condition_on_the_size_of_a_group_spares_all_others() -> None:
    def run(machine: Chip) -> list[list[float]]:
        return [report["sums"] for report in on_ranks(machine, 3, sums_of_groups)]

    whole = run(chip(defect("collective-corrupt", "c10d::allreduce*", severity=0.5, group_under=3), chips=3))
    assert [found[0] for found in whole] == [3.0] * 3
    assert [found[1] for found in whole][2] == 1.0
    assert all(found[1] != 2.0 for found in whole[:2])
    assert run(chip(defect("collective-corrupt", "c10d::allreduce*", severity=0.5, group_under=4), chips=3))[0][0] != 3.0


TRAINING: Json = {"modes": ["ddp", "tensor"], "optimizers": ["sgd"], "steps": 2}


@pytest.mark.slow
def test_healthy_chips_train_equally() -> None:
    told = evidence(chip(chips=2), "multichip.parallelism", **{**TRAINING, "modes": ["ddp", "fsdp", "pipeline-1f1b", "expert-qwen"]})
    found = told["measured"]
    assert found["chip_difference/sgd"][0] < 1e-6
    for mode in ("ddp", "pipeline-1f1b", "expert-qwen"):
        assert found[f"supported/{mode}/sgd"][0] == found[f"completed/{mode}/sgd"][0] == 1
        assert found[f"loss_difference/{mode}/sgd"][0] < 3e-6
        assert found[f"replicas_differ/{mode}/sgd"][0] == 0
    assert not any("/fsdp/" in name for name in found)
    assert any(row.get("mode") == "fsdp" and "simulator" in row["not_measured"] for row in told["rows"])


@pytest.mark.slow
def test_a_wrong_gradient_on_one_chip_of_four_is_named() -> None:
    machine = chip(defect("wrong-gradient", "mm", severity=0.01, chip=[2]), chips=4)
    found = evidence(machine, "multichip.parallelism", **TRAINING)["measured"]
    assert found["chip_difference/sgd"][0] > 1e-4
    assert found["chip_difference/sgd"][1].startswith("rank 2 (sim:2), trained alone")
    for mode in ("ddp", "tensor"):
        assert found[f"gradient_norm_difference/{mode}/sgd"][0] > 1e-4
        assert "rank 2 (sim:2) is also off when it trains alone" in found[f"gradient_norm_difference/{mode}/sgd"][1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3])
def test_a_chip_that_ends_sums_otherwise_is_named(number: int) -> None:
    machine = chip(defect("collective-mismatch", "c10d::allreduce*", severity=1e-6, chip=[number]), chips=4)
    found = evidence(machine, "multichip.parallelism", **{**TRAINING, "modes": ["ddp"]})["measured"]
    assert found["replicas_differ/ddp/sgd"][0] == 3
    assert f"rank {number} (sim:{number}) differs from its replicas" in found["replicas_differ/ddp/sgd"][1]
    assert found["chip_difference/sgd"][0] < 1e-6


@pytest.mark.slow
def test_a_corrupted_sum_names_the_chip_and_no_process_dies() -> None:
    machine = chip(defect("collective-corrupt", "c10d::allreduce*", severity=0.01, chip=[1]), chips=4)
    found = evidence(machine, "multichip.parallelism", **{**TRAINING, "modes": ["ddp"]})["measured"]
    assert found["completed/ddp/sgd"][0] == 1
    assert found["replicas_differ/ddp/sgd"][0] == 3
    assert "rank 1 (sim:1)" in found["replicas_differ/ddp/sgd"][1]


@pytest.mark.slow
def test_a_soak_counts_the_rare_wrong_sum_of_one_chip() -> None:
    machine = chip(defect("collective-corrupt", "c10d::allreduce*", severity=0.01, chip=[2], every=15), chips=4)
    found = evidence(machine, "multichip.soak", seconds=4.0, dtypes=["float32"])["measured"]
    assert found["faults/all"][0] >= 1
    assert "sim:2 took part in" in found["faults/all"][1]
    assert found["completed"][0] == 1


@pytest.mark.slow
def test_a_soak_names_the_chip_that_hangs_at_its_twentieth_sum() -> None:
    machine = chip(defect("hang", "c10d::allreduce*", chip=[1], after_calls=20), chips=4)
    # No group gets further: it ends with the third, however long they take on this machine.
    found = evidence(machine, "multichip.soak", groups=3, seconds=250.0, dtypes=["float32"], patience_s=4.0)["measured"]
    assert found["faults/all"][0] == 3
    assert "sim:1 took part in 3 of 3" in found["faults/all"][1]
