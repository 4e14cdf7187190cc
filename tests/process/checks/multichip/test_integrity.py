"""`multichip.integrity`: healthy ranks, and every kind of culprit planted and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Evidence, Status
from tests.support import cpu, run_check, value, values
from tests.support import ranks as support
from tests.support.multichip import Simulated, chips, machine
from tests.support.simulator import defect

SMALL: dict[str, Any] = {"rounds": 10, "products": 50, "size": 512}


def checked(accelerator: Accelerator | None = None, **settings: Any) -> Evidence:
    evidence = run_check("multichip.integrity", accelerator or chips(4), **{**SMALL, **settings})
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


def verdict_text(evidence: Evidence) -> str:
    """What the poor values are about, all of them of one culprit."""
    abouts = {(item.about or "").partition(": ")[2] for item in evidence.measurements if item.value and item.name == "wrong_results"}
    (about,) = abouts
    assert len(about) < 290
    return about


@pytest.mark.parametrize(("seed", "number"), [(1, 2), (2, 3), (3, 4), (4, 5)])
def test_healthy_ranks_are_right(seed: int, number: int) -> None:
    evidence = checked(chips(number, seed))
    where = {"ranks": str(number), "chips": "several", "world": "all"}
    assert value(evidence, "completed", **where) == 1
    for work in ("compute", "transfer", "all_reduce", "all_gather"):
        assert value(evidence, "wrong_results", work=work, **where) == 0
    assert not [row for row in evidence.rows if "suspect" in row]


def patched(name: str, spoil: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    """After every call of `torch.distributed.NAME` something happens, told its arguments."""
    healthy = getattr(dist, name)

    def faulty(*arguments: Any, **options: Any) -> Any:
        result = healthy(*arguments, **options)
        spoil(*arguments)
        return result

    monkeypatch.setattr(dist, name, faulty)


def test_a_link_in_one_direction_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(tensor: torch.Tensor, source: int) -> None:
        if (source, dist.get_rank()) == (3, 0):
            tensor[5] += 1

    patched("recv", spoil, monkeypatch)
    evidence = checked()
    assert value(evidence, "wrong_results", work="transfer") == 10
    assert value(evidence, "wrong_results", work="all_gather") == 0
    assert verdict_text(evidence) == "the link from rank 3 (cpu:3) to rank 0 (cpu:0); seen 10 times in 1 places"
    (row,) = [row for row in evidence.rows if "suspect" in row]
    assert (row["suspect"], row["chips"]) == ("link", "cpu:0, cpu:3")


def test_a_rank_that_computes_wrongly_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = torch.Tensor.__matmul__

    def faulty(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        result = healthy(left, right)
        if dist.is_initialized() and dist.get_rank() == 1 and left.dtype is torch.bfloat16:
            result[0, 0] += 1
        return result

    monkeypatch.setattr(torch.Tensor, "__matmul__", faulty)
    evidence = checked()
    assert value(evidence, "wrong_results", work="compute") == 50
    assert verdict_text(evidence).startswith("rank 1 (cpu:1) computes wrong results")


def test_a_rank_that_is_outvoted_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right for whole numbers, and less exact than the others: only the others show it."""
    healthy = torch.mm

    def rounded(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        result = healthy(left, right)
        return result.bfloat16().to(result.dtype) if dist.get_rank() == 2 else result

    monkeypatch.setattr(torch, "mm", rounded)
    evidence = checked()
    assert verdict_text(evidence) == "rank 2 (cpu:2) computes wrong results; seen once"
    (row,) = [row for row in evidence.rows if "computes_otherwise" in row]
    assert (row["chip"], row["computes_otherwise"]) == ("cpu:2", "product in float32")


@pytest.mark.parametrize("ranks", [2, 4])
def test_of_ranks_that_disagree_without_a_majority_all_are_suspect(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = torch.mm
    monkeypatch.setattr(torch, "mm", lambda left, right: healthy(left, right) * (1 + dist.get_rank() % 2 * 2**-20))
    evidence = checked(chips(ranks))
    assert value(evidence, "wrong_results", work="compute") > 0
    (about,) = {item.about for item in evidence.measurements if item.name == "wrong_results" and item.labels["work"] == "compute"}
    assert "compute different bits from the same inputs, and there is no majority" in (about or "")


CULPRITS = {
    "sender": (defect("send-corrupt", chip=[2]), "data sent by rank 2 (sim:2) arrives wrong"),
    "sender, rarely": (defect("send-corrupt", chip=[2], probability=0.15), "data sent by rank 2 (sim:2) arrives wrong"),
    "receiver": (defect("collective-corrupt", chip=[1]), "rank 1 (sim:1) receives wrong data"),
    "receiver, rarely": (defect("collective-corrupt", chip=[1], probability=0.15), "rank 1 (sim:1) receives wrong data"),
    "receiver, as NaN": (defect("nan", "c10d::*", chip=[3], probability=0.2), "rank 3 (sim:3) receives wrong data"),
    "link": (defect("collective-corrupt", "c10d::recv_", chip=[1], options={"peer": 2}), "the link from rank 2 (sim:2) to rank 1 (sim:1)"),
    "compute": (defect("wrong-result", "mm", chip=[0], probability=0.2), "rank 0 (sim:0) computes wrong results"),
}  # fmt: skip


@pytest.mark.parametrize("name", CULPRITS)
def test_a_planted_culprit_is_named(name: str, on_simulated_chips: Simulated) -> None:
    planted, words = CULPRITS[name]
    evidence = on_simulated_chips("multichip.integrity", machine(planted, chips=4), **{**SMALL, "rounds": 30, "products": 30})
    assert value(evidence, "completed") == 1
    assert verdict_text(evidence).startswith(words + "; seen ")


def test_a_healthy_simulated_machine_is_right(on_simulated_chips: Simulated) -> None:
    evidence = on_simulated_chips("multichip.integrity", machine(chips=4), **SMALL)
    assert sum(values(evidence, "wrong_results")) == 0
    assert value(evidence, "completed") == 1


def test_a_dead_rank_is_named_and_earlier_right_results_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    support.at_call("all_reduce", 12, 3, support.kill_oneself, monkeypatch)
    evidence = checked()
    assert value(evidence, "completed") == 0
    assert values(evidence, "wrong_results") == []


def test_a_library_without_transfers_is_measured_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    support.without_transfers(monkeypatch)
    evidence = checked()
    assert value(evidence, "completed") == 1
    assert values(evidence, "wrong_results", work="transfer") == []
    assert value(evidence, "wrong_results", work="all_reduce") == 0


def test_a_stack_without_collectives_is_not_measured() -> None:
    class Without(type(cpu().stack)):  # type: ignore[misc]
        collective_backend = None

    evidence = run_check("multichip.integrity", Accelerator(cpu().facts, Without()))
    assert evidence.status is Status.SKIPPED
    assert evidence.measurements == ()
