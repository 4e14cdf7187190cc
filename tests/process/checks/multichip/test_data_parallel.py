"""`multichip.data_parallel`: the same curve as one process, and every way to lose it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from readiness.accelerators.base import Accelerator
from readiness.accelerators.cpu import Cpu
from readiness.datamodel import Evidence, Status
from readiness.distributed import types
from readiness.probes.data_parallel import rank as data_parallel_rank
from readiness.probes.parallelism import data_parallel
from readiness.probes.parallelism.model import Decoder
from readiness.probes.ranks_common.measurements import relative_difference
from readiness.probes.recovery import rank
from tests.support import cpu, run_check, value
from tests.support import ranks as support
from tests.support import values as figures


def checked(accelerator: Accelerator | None = None, **settings: Any) -> Evidence:
    evidence = run_check("multichip.data_parallel", accelerator, **settings)
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


@pytest.mark.parametrize(("seed", "ranks"), [(1, 2), (2, 2), (3, 2), (4, 3), (5, 4)])
def test_healthy_ranks_follow_one_process(seed: int, ranks: int) -> None:
    evidence = checked(cpu(seed), ranks=ranks)
    where = {"ranks": str(ranks), "chips": "one"}
    assert value(evidence, "completed", **where) == 1
    assert value(evidence, "loss_difference", **where) < 2e-6
    assert value(evidence, "gradient_norm_difference", **where) < 1e-6
    assert value(evidence, "replicas_differ", **where) == 0
    (row,) = [row for row in evidence.rows if "first_loss" in row]
    assert row["last_loss"] < 0.9 * row["first_loss"]


def with_hook(monkeypatch: pytest.MonkeyPatch, hook: Any) -> None:
    """Have every DistributedDataParallel exchange its gradients by this hook."""
    healthy = DistributedDataParallel

    def hooked(*arguments: Any, **options: Any) -> Any:
        model = healthy(*arguments, **options)
        model.register_comm_hook(None, hook)
        return model

    monkeypatch.setattr(data_parallel, "DistributedDataParallel", hooked)


def reduced(bucket: Any, after: Any) -> Any:
    future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda done: after(done.value()[0]))


@pytest.mark.parametrize("module", [data_parallel_rank, rank])
def test_fewer_bits_in_products_are_not_for_comparisons(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """An environment may allow them (TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, in NVIDIA's containers)."""
    found: list[str] = []

    def train(_: Any) -> tuple[()]:
        found.append(torch.get_float32_matmul_precision())
        return ()

    monkeypatch.setattr(module, "_train", train)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        list(module.rank_main(None))
        assert found == ["highest"]
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_sum_in_place_of_the_mean_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with_hook(monkeypatch, lambda state, bucket: reduced(bucket, lambda total: total))
    evidence = checked(steps=5)
    assert value(evidence, "gradient_norm_difference") > 0.5
    assert value(evidence, "loss_difference") > 1e-3
    assert value(evidence, "replicas_differ") == 0


def test_a_gradient_that_is_off_on_one_rank_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with_hook(
        monkeypatch,
        lambda state, bucket: reduced(bucket, lambda total: total / 2 * (1 + 1e-3 * dist.get_rank())),
    )
    evidence = checked(steps=5)
    assert value(evidence, "replicas_differ") == 5
    assert value(evidence, "gradient_norm_difference") > 1e-4
    reasons = {item.name: item.about for item in evidence.measurements}
    assert reasons["replicas_differ"] == "from step 0 on, parameters on rank 1 (cpu:0) differ from those on rank 0 (cpu:0)"
    assert (reasons["gradient_norm_difference"] or "").startswith("the gradient's norm at step ")
    assert "on 2 ranks" in (reasons["loss_difference"] or "")


def test_gradients_that_are_not_exchanged_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_parallel, "DistributedDataParallel", lambda model, **_: model)
    evidence = checked(steps=5)
    assert value(evidence, "replicas_differ") == 5
    assert value(evidence, "loss_difference") > 1e-3


def test_a_bucket_that_is_never_exchanged_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_alone(bucket: Any) -> Any:
        if bucket.index() == 0:
            return reduced(bucket, lambda total: total / 2)
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    with_hook(monkeypatch, lambda state, bucket: first_alone(bucket))
    evidence = checked(steps=5)
    assert value(evidence, "replicas_differ") > 0
    assert value(evidence, "gradient_norm_difference") > 1e-3


def test_a_nan_is_an_infinite_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    with_hook(monkeypatch, lambda state, bucket: reduced(bucket, lambda total: total * math.nan))
    evidence = checked(steps=3)
    assert value(evidence, "loss_difference") == math.inf
    assert value(evidence, "gradient_norm_difference") == math.inf


@pytest.mark.parametrize(("fault", "what"), [(support.kill_oneself, "died"), (support.fail, "raised")])
def test_a_rank_that_fails_is_named_and_no_difference_is_reported(
    fault: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(context: types.RankContext, operation: str) -> Any:
        if operation == "backward of step 3" and context.world_size > 1 and context.rank == 1:
            fault()
        return context.board.step(context.rank, operation)

    monkeypatch.setattr(types.RankContext, "step", step)
    evidence = checked(steps=5)
    assert value(evidence, "completed") == 0
    (reasons,) = [item.about for item in evidence.measurements if item.name == "completed"]
    assert (reasons or "").startswith("caused by rank 1 (cpu:0): rank 1")
    assert "forward of step 3" in (reasons or "")
    (row,) = [row for row in evidence.rows if "trouble" in row]
    assert (row["trouble"], row["culprit_ranks"], row["ranks"]) == (what, "1", 2)
    assert figures(evidence, "loss_difference") == []
    assert figures(evidence, "replicas_differ") == []


def test_a_rank_that_hangs_in_its_own_computation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = Decoder.forward

    def forward(model: Decoder, tokens: torch.Tensor) -> torch.Tensor:
        return support.hang() if dist.is_initialized() and dist.get_rank() == 1 else healthy(model, tokens)

    support.patient_until_the_fault(monkeypatch)
    monkeypatch.setattr(Decoder, "forward", forward)
    evidence = checked(steps=5, patience_s=3.0)
    (row,) = [row for row in evidence.rows if "trouble" in row]
    assert (row["trouble"], row["culprit_ranks"], row["operation"]) == ("behind", "1", "forward of step 0")


def test_one_process_that_cannot_train_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "forward", lambda model, tokens: support.fail())
    evidence = checked(steps=2)
    assert value(evidence, "completed") == 0
    (row,) = [row for row in evidence.rows if "trouble" in row]
    assert row["ranks"] == 1
    assert "the matrix unit gave up" in row["reason"]


class WantsAChipForEachRank(Cpu):
    collective_backend = "nccl"


def test_one_chip_that_ranks_cannot_share_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_backend_available", lambda name: True)
    evidence = run_check("multichip.data_parallel", Accelerator(cpu().facts, WantsAChipForEachRank()))
    assert evidence.status is Status.SKIPPED
    assert evidence.measurements == ()


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [(1.0, 2.0, 0.5), (0.0, 0.0, 0.0), (1e-9, 0.0, math.inf), (math.nan, 1.0, math.inf), (1.0, math.inf, math.inf)],
)
def test_relative_differences(found: float, expected: float, difference: float) -> None:
    assert relative_difference(found, expected) == difference
