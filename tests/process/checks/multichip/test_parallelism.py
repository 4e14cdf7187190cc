"""`multichip.parallelism`: every mode follows one chip, every planted fault is seen by some measure, and what cannot be told."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import pipelining
from torch.nn.parallel import DistributedDataParallel

from readiness.accelerators.base import Accelerator
from readiness.accelerators.cpu import Cpu
from readiness.datamodel import Evidence, Measurement, Requirement, Status
from readiness.distributed import Placement
from readiness.judging import judge
from readiness.probes.parallelism import data_parallel, measurements, parent, strategies
from readiness.probes.parallelism.data_parallel import Sharded
from readiness.probes.parallelism.expert_parallel import ExpertParallel, FsdpExpert
from readiness.probes.parallelism.model import DenseBlock, loss
from readiness.probes.parallelism.model_shape import ModelShape
from readiness.probes.parallelism.rank import Reference, RunReport, TrainingRun
from readiness.probes.parallelism.strategy import Strategy, local_part
from readiness.probes.parallelism.training_run import FinalParameters, TrainingTrace
from readiness.profile import loader as profiles
from tests.support import checks, cpu, run_check, value, values
from tests.support import ranks as support
from tests.support.multichip import Simulated, machine
from tests.support.simulator import defect

#: What `general` asks of each measure; the faults below must be seen at these limits.
MEASURES = ("loss_difference", "gradient_norm_difference", "replicas_differ", "parameter_difference", "chip_difference")
EVERYWHERE: tuple[str, ...] = ("ddp", "fsdp", "tensor", "sequence", "pipeline-gpipe", "pipeline-1f1b", "expert-deepseek", "expert-qwen")
EVERYWHERE += ("context-ring", "context-gather", "ddp+zero", "pipeline-interleaved", "pipeline-dualpipe-v")
EVERYWHERE += ("ddp-accumulating", "ddp-static", "ddp-unused")
PAIRS = ("hsdp", "fsdp+tensor", "ddp+pipeline", "fsdp+expert", "pipeline+expert")


def chips(number: int, seed: int = 7) -> Accelerator:
    facts = [dataclasses.replace(cpu().facts, id=f"cpu:{index}", index=index) for index in range(number)]
    return Accelerator(facts[0], cpu().stack, seed=seed, peers=facts)


def checked(accelerator: Accelerator | None = None, **settings: Any) -> Evidence:
    chosen = {"modes": ["ddp"], "optimizers": ["sgd"], "steps": 3, **settings}
    evidence = run_check("multichip.parallelism", accelerator or chips(2), **chosen)
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


@cache
def demands() -> list[Requirement]:
    """What `general` asks, and `qwen3-dense` for AdamW, which is as strict for eight chips."""
    general = profiles.load("general", checks())
    dense = [item for item in profiles.load("qwen3-dense", checks()).requirements if item.id.endswith("-adamw")]
    required = [item for item in general.requirements if item.check == "multichip.parallelism"]
    required += [dataclasses.replace(item, where={"optimizer": "adamw", "dtype": "float32"}) for item in dense]
    assert {item.measure for item in required} >= set(MEASURES)
    assert len(dense) == 2
    return required


def failed(evidence: Evidence) -> set[str]:
    """The measures that break a limit of these profiles."""
    return {
        item.measure
        for item in demands()
        for measurement in evidence.measurements
        if judge.matches(measurement, item) and not judge.satisfies(measurement.value, item.limit)
    }


def about(evidence: Evidence, name: str) -> str:
    (reason,) = {item.about for item in evidence.measurements if item.name == name}
    assert reason is not None
    assert len(reason) < 300
    return reason


@pytest.mark.parametrize(
    ("number", "chosen"),
    [(2, EVERYWHERE), (3, ("ddp", "tensor", "expert-qwen", "context-ring", "ddp+zero", "pipeline-dualpipe-v")), (4, PAIRS)],
)
def test_healthy_chips_train_equally_in_every_mode(number: int, chosen: tuple[str, ...]) -> None:
    # After two steps the parameters show what momentum did; after three, which two ranks make, the losses do as well.
    evidence = checked(chips(number, seed=number), modes=chosen, optimizers=["sgd", "adamw"], steps=3 if number == 2 else 2)
    where = {"ranks": str(number), "chips": "several", "world": "all", "dtype": "float32"}
    assert failed(evidence) == set()
    for mode in chosen:
        for optimizer in ("sgd", "adamw"):
            here = {**where, "mode": mode, "optimizer": optimizer}
            assert value(evidence, "supported", **here) == 1
            assert value(evidence, "completed", **here) == 1
            assert value(evidence, "loss_difference", **here) < 5e-6
            assert value(evidence, "gradient_norm_difference", **here) < 1e-5
            assert value(evidence, "replicas_differ", **here) == 0
        assert value(evidence, "parameter_difference", **where, mode=mode) < 2e-6
    assert value(evidence, "chip_difference", **where) < 1e-6


def test_bfloat16_is_trained_when_requested() -> None:
    evidence = checked(dtypes=["bfloat16"], modes=["ddp", "tensor"])
    for mode in ("ddp", "tensor"):
        assert 0 < value(evidence, "loss_difference", mode=mode, dtype="bfloat16") < 1e-2
        assert value(evidence, "replicas_differ", mode=mode, dtype="bfloat16") == 0


def test_ranks_that_share_a_chip_are_labelled() -> None:
    evidence = checked(cpu(), ranks=2)
    assert value(evidence, "completed", chips="one", ranks="2") == 1
    assert "software only" in evidence.rows[0]["scope"]


Fault = Callable[[Strategy, int], None]


def spoilt(kind: type[Strategy], monkeypatch: pytest.MonkeyPatch, *, before: Fault | None = None, after: Fault | None = None) -> None:
    """The strategy's step with a fault before or after it, told the number of the step (the first is 0)."""
    healthy = kind.compute

    def compute(self: Strategy, tokens: torch.Tensor) -> Any:
        number = getattr(self, "steps_done", 0)
        self.steps_done = number + 1  # type: ignore[attr-defined]
        if before:
            before(self, number)
        self.tokens = tokens  # type: ignore[attr-defined]
        found = healthy(self, tokens)
        if after:
            after(self, number)
        return found

    monkeypatch.setattr(kind, "compute", compute)


def gradients(strategy: Strategy) -> Iterator[torch.Tensor]:
    for parameter in strategy.parameters:
        assert parameter.grad is not None
        yield parameter.grad


def spoil(strategy: Strategy) -> None:
    next(gradients(strategy)).fill_(torch.nan)


def sum_for_mean(strategy: Strategy, number: int) -> None:
    for gradient in gradients(strategy):
        gradient.mul_(dist.get_world_size())


def one_unsynced(strategy: Strategy, number: int) -> None:
    mine = data_parallel.local_sequences(strategy.tokens, dist.get_rank(), dist.get_world_size())  # type: ignore[attr-defined]
    model: Any = strategy.model  # type: ignore[attr-defined]
    found = loss(model(mine[:, :-1]), mine[:, 1:])
    (own,) = torch.autograd.grad(found, [model.blocks["0"].up.weight])
    model.blocks["0"].up.weight.grad.copy_(own)


def one_stale(strategy: Strategy, number: int) -> None:
    fresh = [gradient.clone() for gradient in gradients(strategy)]
    if number == 2:
        for gradient, old in zip(gradients(strategy), strategy.kept, strict=True):  # type: ignore[attr-defined]
            gradient.copy_(old)
    strategy.kept = fresh  # type: ignore[attr-defined]


def low_precision(strategy: Strategy, number: int) -> None:
    for gradient in gradients(strategy):
        gradient.copy_(gradient.bfloat16())


def flip(bit: int, rank: int = 1) -> Fault:
    def fault(strategy: Strategy, number: int) -> None:
        if number == 1 and dist.is_initialized() and dist.get_rank() == rank:
            weight = local_part(strategy.parameters[-2].detach())
            weight.view(torch.int32).view(-1)[5] ^= 1 << bit

    return fault


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        (None, sum_for_mean, {"loss_difference", "gradient_norm_difference", "parameter_difference"}),
        (None, one_unsynced, {"replicas_differ"}),
        (None, one_stale, {"gradient_norm_difference", "parameter_difference"}),
        (None, low_precision, {"gradient_norm_difference"}),
        (flip(28), None, {"replicas_differ"}),
        (flip(22), None, {"replicas_differ"}),
        (flip(10), None, {"replicas_differ"}),
        (flip(0), None, {"replicas_differ"}),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_planted_fault_is_seen_by_some_measure(
    before: Fault | None, after: Fault | None, seen: set[str], optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt(data_parallel.DataParallel, monkeypatch, before=before, after=after)
    found = failed(checked(optimizers=[optimizer]))
    if optimizer == "sgd":
        assert found >= seen
    assert found & {"loss_difference", "gradient_norm_difference", "replicas_differ"}
    if after is sum_for_mean:
        assert "gradient_norm_difference" in found


def test_gradients_of_a_part_that_get_lost_before_the_exchange_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped: Any = DistributedDataParallel
    honest = wrapped.no_sync

    @contextlib.contextmanager
    def forgetful(self: Any) -> Iterator[None]:
        with honest(self):
            yield
        self.zero_grad()

    monkeypatch.setattr(wrapped, "no_sync", forgetful)
    evidence = checked(modes=["ddp", "ddp-accumulating"])
    assert value(evidence, "gradient_norm_difference", mode="ddp-accumulating") > 0.01
    assert value(evidence, "gradient_norm_difference", mode="ddp") < 1e-6


@pytest.mark.parametrize(("mode", "option"), [("ddp-static", "static_graph"), ("ddp-unused", "find_unused_parameters")])
def test_replicas_that_are_not_averaged_in_one_way_of_running_are_seen_in_it_alone(
    mode: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy: Any = DistributedDataParallel

    def summed(_: object, bucket: Any) -> torch.futures.Future[torch.Tensor]:
        done = dist.all_reduce(bucket.buffer(), async_op=True)
        assert done is not None
        return done.get_future().then(lambda found: found.value()[0])  # type: ignore[no-any-return]

    # Torch compares the types themselves.
    summed.__annotations__ = {"bucket": torch._C._distributed_c10d.GradBucket, "return": torch.futures.Future[torch.Tensor]}

    def replicas(*arguments: Any, **options: Any) -> Any:
        model = healthy(*arguments, **options)
        if options.get(option):
            model.register_comm_hook(None, summed)
        return model

    monkeypatch.setattr(data_parallel, "DistributedDataParallel", replicas)
    evidence = checked(modes=["ddp", mode])
    assert value(evidence, "gradient_norm_difference", mode=mode) > 0.1
    assert value(evidence, "gradient_norm_difference", mode="ddp") < 1e-6


def test_the_same_sequences_on_both_ranks_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_parallel, "local_sequences", lambda tokens, rank, ranks: tokens[::ranks])
    assert failed(checked(optimizers=["adamw"])) >= {"loss_difference", "gradient_norm_difference"}


@pytest.mark.parametrize("bit", [28, 22, 10])
@pytest.mark.parametrize(
    ("mode", "kind", "number"), [("expert-qwen", ExpertParallel, 2), ("tensor", Sharded, 2), ("fsdp+expert", FsdpExpert, 4)]
)
def test_a_flipped_bit_in_an_unreplicated_part_is_detected(
    mode: str, kind: type[Strategy], number: int, bit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(strategy: Strategy, number: int) -> None:
        if number == 1 and dist.get_rank() == 1:
            names = ("0.experts.stacked.ups", "0.up.weight")
            (found,) = [local for local in strategy.local_parameters() if local.name.endswith(names)]
            found.local.detach().view(torch.int32).view(-1)[5] ^= 1 << bit

    spoilt(kind, monkeypatch, before=fault)
    evidence = checked(chips(number), modes=[mode], steps=2)
    assert "parameter_difference" in failed(evidence)
    assert "blocks.0." in about(evidence, "parameter_difference")


def test_a_nan_is_an_infinite_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(data_parallel.DataParallel, monkeypatch, after=lambda strategy, number: spoil(strategy))
    evidence = checked()
    for measure in ("loss_difference", "gradient_norm_difference", "parameter_difference"):
        assert value(evidence, measure) == math.inf


@pytest.mark.parametrize(("mode", "number"), [("expert-deepseek", 2), ("fsdp+expert", 4), ("pipeline+expert", 4)])
def test_tokens_that_come_back_to_the_wrong_expert_are_seen(
    mode: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = dist.all_to_all_single

    def swapped(out: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        done = healthy(out, *arguments, **options)
        if out.is_floating_point() and dist.get_rank() == 1 and out.shape[0] > 1:
            out.copy_(out.flip(0))
        return done

    monkeypatch.setattr(dist, "all_to_all_single", swapped)
    assert failed(checked(chips(number), modes=[mode])) >= {"loss_difference", "gradient_norm_difference"}


@pytest.mark.parametrize("name", ["average_gradients", "_reduce_gradients"])
def test_what_pipelines_side_by_side_do_not_put_together_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients of what is copied, and of experts, which saw the tokens of all pipelines."""
    monkeypatch.setattr(f"readiness.probes.parallelism.expert_parallel.{name}", lambda *_: None)
    found = failed(checked(chips(4), modes=["pipeline+expert"]))
    assert found >= {"replicas_differ", "gradient_norm_difference", "parameter_difference"}


def test_experts_whose_gradients_are_sums_for_means_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FsdpExpert, "compute", Sharded.compute)
    assert failed(checked(chips(4), modes=["fsdp+expert"])) >= {"gradient_norm_difference", "parameter_difference"}


@pytest.mark.parametrize("mode", ["pipeline-gpipe", "pipeline-1f1b", "pipeline-interleaved", "pipeline-dualpipe-v"])
def test_a_sum_over_micro_batches_for_their_mean_is_seen(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelining.PipelineStage, "scale_grads", lambda *_: None)
    assert "gradient_norm_difference" in failed(checked(modes=[mode]))


@pytest.mark.parametrize("mode", ["pipeline-1f1b", "pipeline-interleaved", "pipeline-dualpipe-v"])
def test_what_arrives_wrong_at_one_stage_is_seen(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = DenseBlock.forward

    def late(self: DenseBlock, x: torch.Tensor, turn: Any) -> torch.Tensor:
        # Of a micro-batch that a neighbour sent, one token is another's.
        wrong = torch.is_grad_enabled() and dist.is_initialized() and dist.get_rank() == 1 and x.is_leaf
        return healthy(self, torch.cat([x[:, 1:2], x[:, 1:]], 1) if wrong else x, turn)

    monkeypatch.setattr(DenseBlock, "forward", late)
    assert failed(checked(modes=[mode])) >= {"loss_difference", "gradient_norm_difference"}


def test_a_schedule_that_this_torch_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pipelining.schedules, "ScheduleDualPipeV")
    evidence = checked(modes=["ddp", "pipeline-dualpipe-v"])
    assert value(evidence, "supported", mode="pipeline-dualpipe-v") == 0
    assert "ScheduleDualPipeV" in str([item.about for item in evidence.measurements if item.value == 0])
    assert value(evidence, "completed", mode="ddp") == 1


def test_parameters_that_their_keeper_does_not_hand_on_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_parallel.zero_redundancy(), "_sync_params", lambda _: None)
    assert failed(checked(modes=["ddp+zero"])) >= {"replicas_differ", "parameter_difference"}


def test_each_keeps_a_part_of_the_optimizers_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing of ZeRO was tried."""
    kept: list[int] = []
    healthy = data_parallel.ZeroRedundancy.optimizer

    def looked_at(self: Any, kind: Any, settings: Any) -> Any:
        optimizer = healthy(self, kind, settings)
        inner: Any = optimizer.optim  # type: ignore[attr-defined]
        kept.append(sum(len(group["params"]) for group in inner.param_groups))
        assert 0 < kept[-1] < len(self.parameters)
        return optimizer

    monkeypatch.setattr(data_parallel.ZeroRedundancy, "optimizer", looked_at)
    assert value(checked(modes=["ddp+zero"]), "completed") == 1


def test_a_norm_whose_gradient_is_never_summed_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("readiness.probes.parallelism.context_parallel.average_gradients", lambda *_: None)
    assert "replicas_differ" in failed(checked(modes=["context-gather"]))


def test_a_chip_that_computes_otherwise_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = torch.nn.functional.silu

    def silu(x: torch.Tensor) -> torch.Tensor:
        wrong = dist.is_initialized() and dist.get_rank() == 2 and x.dtype == torch.float32
        return healthy(x) * (1 + 1e-3 * wrong)

    monkeypatch.setattr(torch.nn.functional, "silu", silu)
    evidence = checked(chips(4))
    assert {"chip_difference", "loss_difference", "gradient_norm_difference"} <= failed(evidence)
    assert about(evidence, "chip_difference").startswith("rank 2 (cpu:2), trained alone in float32")
    assert "rank 2 (cpu:2) is also off when it trains alone" in about(evidence, "gradient_norm_difference")


def test_a_refused_mode_is_a_measurement_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Strategy:
        raise NotImplementedError("batch_isend_irecv on this device")

    monkeypatch.setattr(strategies, "MODES", strategies.MODES)
    refused = dataclasses.replace(strategies.MODES["pipeline-1f1b"], set_up=refuse)
    for module in ("rank", "parent"):
        monkeypatch.setattr(f"readiness.probes.parallelism.{module}.MODES", {**strategies.MODES, "pipeline-1f1b": refused})
    evidence = checked(modes=["ddp", "pipeline-1f1b", "context-ring"], optimizers=["sgd", "adamw"])
    assert value(evidence, "supported", mode="pipeline-1f1b", optimizer="sgd") == 0
    assert values(evidence, "supported", mode="pipeline-1f1b", optimizer="adamw") == []
    assert values(evidence, "completed", mode="pipeline-1f1b") == []
    assert values(evidence, "supported", mode="context-ring") == [1, 1]
    assert any("batch_isend_irecv" in str(row.get("refused")) for row in evidence.rows)
    assert "batch_isend_irecv" in str([item.about for item in evidence.measurements if item.value == 0])


@pytest.mark.parametrize(("fault", "what"), [(support.kill_oneself, "died"), (support.fail, "raised")])
def test_a_rank_that_fails_in_one_mode_is_named_and_the_others_go_on(
    fault: Callable[[], Any], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_step_two(strategy: Strategy, number: int) -> None:
        if number == 2 and dist.get_rank() == 1:
            fault()

    spoilt(ExpertParallel, monkeypatch, before=at_step_two)
    evidence = checked(modes=["ddp", "expert-qwen", "context-ring"])
    assert value(evidence, "completed", mode="expert-qwen") == 0
    reason = next(item.about or "" for item in evidence.measurements if item.name == "completed" and not item.value)
    assert "rank 1 (cpu:1)" in reason
    assert "expert-qwen, sgd, float32: update of step 1" in reason
    (row,) = [row for row in evidence.rows if "trouble" in row]
    assert (row["trouble"], row["ranks"]) == (what, 2)
    assert values(evidence, "loss_difference", mode="expert-qwen") == []
    assert value(evidence, "completed", mode="ddp") == value(evidence, "completed", mode="context-ring") == 1


def test_a_rank_that_hangs_in_its_own_computation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = torch.nn.functional.silu

    def silu(x: torch.Tensor) -> torch.Tensor:
        inside = any(frame.filename.endswith("nn/parallel/distributed.py") for frame in traceback.extract_stack())
        return support.hang() if inside and dist.get_rank() == 1 else healthy(x)

    support.patient_until_the_fault(monkeypatch)
    monkeypatch.setattr(torch.nn.functional, "silu", silu)
    evidence = checked(modes=["ddp"], patience_s=5.0)
    (row,) = [row for row in evidence.rows if "trouble" in row]
    assert (row["trouble"], row["culprit_chips"]) == ("behind", "cpu:1")
    assert row["operation"] == "ddp, sgd, float32: forward of step 0"


def test_many_faults_leave_the_rest_unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "MOST_FAULTS", 1)
    spoilt(data_parallel.DataParallel, monkeypatch, before=lambda strategy, number: support.fail())
    evidence = checked(modes=["ddp", "context-ring"])
    assert value(evidence, "completed") == 0
    assert values(evidence, "supported", mode="context-ring") == []
    assert any("1 earlier rank groups failed" in str(row.get("not_measured")) for row in evidence.rows)


class CannotShard(Cpu):
    unsupported_modes: Mapping[str, str] = MappingProxyType({"fsdp": "a limit of the stand-in"})


def test_what_a_stand_in_cannot_do_is_not_measured_and_no_finding() -> None:
    facts = chips(2).peers
    evidence = checked(Accelerator(facts[0], CannotShard(), seed=7, peers=facts), modes=["fsdp", "hsdp", "ddp"])
    assert {item.labels.get("mode") for item in evidence.measurements} == {"ddp", None}
    reasons = {row["mode"]: row["not_measured"] for row in evidence.rows if "not_measured" in row}
    assert reasons["fsdp"] == "a limit of the stand-in"
    assert "at least four; there are 2" in reasons["hsdp"]


class WantsAChipForEachRank(Cpu):
    collective_backend = "nccl"


def test_one_chip_that_ranks_cannot_share_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_backend_available", lambda name: True)
    evidence = run_check("multichip.parallelism", Accelerator(cpu().facts, WantsAChipForEachRank()))
    assert evidence.status is Status.SKIPPED
    assert evidence.measurements == ()


@pytest.mark.parametrize("setting", ["modes", "optimizers", "dtypes"])
def test_an_unknown_name_is_an_error_of_the_profile(setting: str) -> None:
    evidence = run_check("multichip.parallelism", chips(2), **{setting: ["nonsense"]})
    assert evidence.status is Status.ERROR
    assert "nonsense" in (evidence.reason or "")


@pytest.mark.parametrize("ranks", range(1, 17))
@pytest.mark.parametrize("routing", [None, "qwen"])
def test_everything_divides_evenly(ranks: int, routing: str | None) -> None:
    shape = ModelShape(ranks, routing=routing)
    for size in (shape.heads, shape.vocabulary, shape.length, shape.batch, shape.experts, shape.hidden):
        assert size % ranks == 0
    assert shape.batch % (2 * ranks) == 0  # micro-batches of a pipeline
    assert shape.experts % 4 == 0
    assert shape.experts // 4 >= 2


def test_of_two_that_differ_the_one_that_is_not_with_the_first_is_named() -> None:
    run, reference = TrainingRun("ddp", "float32", "sgd"), Reference("s", "sgd", "float32")
    results = measurements.Results(Placement(chips(3).peers))
    for rank, digest in enumerate("aab"):
        trace = TrainingTrace((1.0,), (0.5,), ({"all": digest},))
        report = RunReport(run, reference, trace, FinalParameters(0.0, "w", {"all": digest}))
        results.ended.setdefault(run, {})[rank] = report
    results.single_device[reference] = {rank: TrainingTrace((1.0,), (1.5,), ({},)) for rank in range(3)}
    results.host[reference] = TrainingTrace((1.0,), (1.5,), ({},))
    (found,) = [
        item
        for item in measurements.run_measurements(results, run)
        if isinstance(item, Measurement) and item.name == "replicas_differ"
    ]
    assert found.value == 2
    assert found.about == "ddp, sgd, float32: rank 2 (cpu:2) differs from its replicas after step 0 (all)"


@pytest.mark.parametrize("number", [2, 4])
def test_slow_links_of_every_kind_do_not_stop_a_pipeline(number: int, on_simulated_chips: Simulated) -> None:
    """Stages send and receive at once: who waits for its own send, or sleeps for what it waited, never comes to its end."""
    slow = machine(defect("link-slow", "c10d::*", severity=0.5), chips=number)
    evidence = on_simulated_chips("multichip.parallelism", slow, modes=["pipeline-1f1b"], optimizers=["sgd"])
    assert value(evidence, "completed") == 1, evidence.rows
    assert value(evidence, "loss_difference") < 1e-5


def test_a_simulated_chip_is_not_blamed_for_what_the_simulator_lacks(on_simulated_chips: Simulated) -> None:
    modes = ["ddp-accumulating", "ddp-static", "ddp-unused"]
    evidence = on_simulated_chips("multichip.parallelism", machine(chips=2), modes=modes, optimizers=["sgd"], steps=2)
    assert failed(evidence) == set()
    assert values(evidence, "supported", mode="ddp-unused") == values(evidence, "supported", mode="ddp-static") == []
    assert values(evidence, "supported", mode="ddp-accumulating") == [1]
