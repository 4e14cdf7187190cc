"""`multichip.collectives`: healthy ranks, planted defects, and what cannot be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
import torch
import torch.distributed as dist

from readiness.accelerators.base import Accelerator
from readiness.accelerators.cpu import Cpu
from readiness.datamodel import Evidence, Status
from readiness.distributed import RankContext
from readiness.probes.collectives import rank as collectives_rank
from readiness.probes.collectives import reproducibility
from readiness.probes.collectives.cases import barrier, basic, nan_inf, subgroups
from readiness.probes.collectives.cases.barrier import IN_A_ROW
from readiness.probes.collectives.cases.basic import OPTIONAL, STRIDED
from readiness.probes.ranks_common.exact_inputs import Inputs
from readiness.probes.ranks_common.torch_collectives import reduce_scatter_single
from tests.support import cpu, run_check, value, values
from tests.support import ranks as support
from tests.support.multichip import Simulated, machine
from tests.support.simulator import defect

SMALL: dict[str, Any] = {"sizes": [1, 1023], "dtypes": ["float32", "int64"], "rounds": 1, "largest": 0}


#: Gloo has it since torch 2.13 (https://github.com/pytorch/pytorch/pull/165435, merged in April 2026).
LACKED = () if torch.__version__ >= "2.13" else ("all_to_all_list",)


def unsupported(evidence: Evidence, **where: str) -> list[float]:
    """Of each collective whether it is refused, but of those that this torch's gloo lacks."""
    lacked = [value(evidence, "unsupported", **where, op=op) for op in LACKED]
    assert lacked == [1] * len(lacked)
    found = values(evidence, "unsupported", **where)
    return sorted(found)[: len(found) - len(lacked)]


def tried(ranks: int) -> int:
    """How many operations there are for so many ranks: in smaller worlds some groups are all of them."""
    names = [name for name in basic.OPERATIONS if not name.endswith(tuple(subgroups.KINDS))]
    return len(names) + sum(
        bool(subgroups.subgroups_of(kind, ranks)) for name in basic.OPERATIONS for kind in subgroups.KINDS if name.endswith(kind)
    )


def checked(accelerator: Accelerator | None = None, **settings: Any) -> Evidence:
    evidence = run_check("multichip.collectives", accelerator, **{**SMALL, **settings})
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


def trouble(evidence: Evidence) -> dict[str, Any]:
    assert value(evidence, "completed") == 0
    (row,) = [row for row in evidence.rows if "trouble" in row]
    return dict(row)


@pytest.mark.parametrize(("seed", "ranks"), [(1, 2), (2, 2), (3, 3), (4, 4)])
def test_healthy_ranks_deliver_every_element(seed: int, ranks: int) -> None:
    # Of four ranks, one type of each kind: what adds up all types among three does so among four.
    types = ["float32", "bfloat16", "int64", *(["float16", "int8", "uint8", "float64"] if ranks < 4 else [])]
    evidence = checked(cpu(seed), ranks=ranks, dtypes=types, sizes=[0, 1, 1001, *([4097] if ranks == 2 else [])])
    where = {"ranks": str(ranks), "chips": "one"}
    assert value(evidence, "completed", **where) == 1
    for dtype in types:
        right = values(evidence, "wrong_elements", **where, dtype=dtype)
        assert right == [0] * len(right)
        refused = unsupported(evidence, **where, dtype=dtype)
        assert refused == [0] * (tried(ranks) - (dtype in ("int64", "int8", "uint8")) - len(OPTIONAL) - len(LACKED))
        optional = [item for item in evidence.measurements if item.name == "optional_supported" and item.value]
        taken = {str(item.labels["op"]) for item in optional if item.labels["dtype"] == dtype}
        assert len(right) == len(refused) + len(taken - STRIDED)
        assert len(values(evidence, "strided_wrong_elements", **where, dtype=dtype)) == len(STRIDED)
    for name in ("repeat_mismatches", "repeat_spread", "infinities_wrong"):
        found = values(evidence, name, **where)
        assert found == [0] * len(found) != []
    assert {0 <= error <= 1 for error in values(evidence, "sum_error", **where)} == {True}
    assert values(evidence, "nan_lost", **where, op="all_reduce_sum") == [0] * sum("float" in name for name in types)
    assert value(evidence, "barriers_left_early", **where) == 0
    assert value(evidence, "unsupported", **where, op="barrier") == 0
    assert "software only" in evidence.rows[0]["scope"]


def test_a_single_rank_has_no_peer() -> None:
    evidence = checked(ranks=1)
    assert value(evidence, "completed", ranks="1") == 1
    assert values(evidence, "wrong_elements", op="send_recv") == []


def flip(tensor: torch.Tensor) -> None:
    tensor[-1] += 1


def test_one_wrong_element_on_one_rank_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    support.corrupt("all_reduce", 3, 1, monkeypatch, flip)
    evidence = checked(sizes=[7, 1023], dtypes=["float32"])
    assert value(evidence, "wrong_elements", op="all_reduce_max") == 1
    assert sum(values(evidence, "wrong_elements")) == 1
    (row,) = [row for row in evidence.rows if row.get("wrong") and row["op"] not in STRIDED]
    assert (row["rank"], row["index"], row["buffer"]) == (1, 6, "output")
    assert row["found"] == row["expected"] + 1


def about(evidence: Evidence, name: str) -> list[str]:
    """What the poor values of this name are about."""
    reasons = [item.about for item in evidence.measurements if item.name == name and item.about]
    assert all(len(text) < 300 and "\n" not in text for text in reasons)
    return reasons


def test_a_wrong_element_is_reported_with_rank_chip_call_and_index(monkeypatch: pytest.MonkeyPatch) -> None:
    support.corrupt("all_reduce", 3, 1, monkeypatch, flip)
    (reasons,) = about(checked(sizes=[7, 1023], dtypes=["float32"]), "wrong_elements")
    assert reasons.startswith("all_reduce_max in float32, wrong on rank 1 (cpu:0); first in all_reduce_max of 7 x float32 ")
    assert "(all_reduce number 3), output, index 6: " in reasons


def test_a_fault_of_the_last_chip_of_four_is_seen_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = [dataclasses.replace(cpu().facts, id=f"cpu:{index}", index=index) for index in range(4)]
    support.corrupt("broadcast", 1, 3, monkeypatch, flip)
    evidence = checked(Accelerator(facts[0], cpu().stack, peers=facts), dtypes=["int64"])
    assert value(evidence, "completed", ranks="4", chips="several", world="all") == 1
    assert "wrong on rank 3 (cpu:3)" in about(evidence, "wrong_elements")[0]


def test_a_hang_of_the_twentieth_call_is_reported_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch)
    support.at_call("all_reduce", 20, 1, support.hang, monkeypatch)
    evidence = checked(sizes=[1, 2, 3, 4], dtypes=["float32", "int64"], patience_s=3.0)
    (reasons,) = about(evidence, "completed")
    assert "rank 1 in all_reduce_" in reasons
    assert "(all_reduce number 20)" in reasons


def test_default_settings_call_all_reduce_often_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    support.at_call("all_reduce", 90, 0, support.fail, monkeypatch)
    evidence = run_check("multichip.collectives")
    (reasons,) = about(evidence, "completed")
    assert reasons.startswith("caused by rank 0 (cpu:0): rank 0 in ")
    assert "(all_reduce number 90)" in reasons


def test_a_nan_is_a_wrong_element(monkeypatch: pytest.MonkeyPatch) -> None:
    support.corrupt("broadcast", 1, 0, monkeypatch, lambda tensor: tensor.fill_(torch.nan))
    evidence = checked(sizes=[7], dtypes=["float32"])
    assert value(evidence, "wrong_elements", op="broadcast") == 7


def test_a_write_beside_the_buffer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def beside(tensor: torch.Tensor) -> None:
        tensor.as_strided((1,), (1,), tensor.storage_offset() + tensor.numel()).fill_(3)

    support.corrupt("broadcast", 1, 1, monkeypatch, beside)
    evidence = checked(sizes=[7], dtypes=["int64"])
    assert value(evidence, "wrong_elements", op="broadcast") == 1
    (row,) = [row for row in evidence.rows if row.get("wrong") and row["op"] not in STRIDED]
    assert (row["buffer"], row["index"]) == ("beside the output", 7)


def test_an_input_that_is_written_to_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = dist.all_to_all_single

    def careless(output: torch.Tensor, source: torch.Tensor, *arguments: Any, **options: Any) -> None:
        healthy(output, source, *arguments, **options)
        source[0] -= 1

    monkeypatch.setattr(dist, "all_to_all_single", careless)
    evidence = checked(sizes=[7], dtypes=["int64"])
    assert value(evidence, "wrong_elements", op="all_to_all") == 2
    assert {row["buffer"] for row in evidence.rows if row.get("wrong") and row["op"] == "all_to_all"} == {"input"}


def test_swapped_chunks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"
    healthy = getattr(dist, name)

    def swapped(output: torch.Tensor, source: torch.Tensor) -> None:
        healthy(output, source)
        output.copy_(torch.cat(list(reversed(output.chunk(2)))))

    monkeypatch.setattr(dist, name, swapped)
    assert value(checked(sizes=[1000], dtypes=["bfloat16"]), "wrong_elements", op="all_gather") > 1000


def test_results_that_change_from_run_to_run_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    # The repetitions come after all other sums: one for each reduction, five in flight, one beside other calls, two groups.
    support.corrupt("all_reduce", 15, 1, monkeypatch, lambda tensor: tensor.mul_(1 + 2**-20))
    evidence = checked(sizes=[1], dtypes=["float32"], largest=0)
    assert value(evidence, "repeat_mismatches", dtype="float32", op="all_reduce_sum") == 1
    assert value(evidence, "repeat_spread", dtype="float32", op="all_reduce_sum") == pytest.approx(2**-20, rel=0.1)
    (reasons,) = about(evidence, "repeat_mismatches")
    assert "1 of 6 results differ from the first of rank 0 (cpu:0); the first is repetition 1 on rank 1 (cpu:0)" in reasons


def test_a_sum_in_place_of_a_mean_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = dist.all_reduce

    def summed(tensor: torch.Tensor, op: Any = dist.ReduceOp.SUM, **options: Any) -> Any:
        return healthy(tensor, op=dist.ReduceOp.SUM if op == dist.ReduceOp.AVG else op, **options)

    monkeypatch.setattr(dist, "all_reduce", summed)
    evidence = checked(dtypes=["float32"])
    wrong = {item.labels["op"] for item in evidence.measurements if item.name == "wrong_elements" and item.value}
    assert wrong == {"all_reduce_avg"}


def test_a_sum_in_place_of_a_mean_of_parts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As fully sharded training averages: in one tensor, and in a list of parts that differ in size."""

    def summed(healthy: Any) -> Any:
        def call(*arguments: Any, op: Any = dist.ReduceOp.SUM, **options: Any) -> Any:
            return healthy(*arguments, op=dist.ReduceOp.SUM if op == dist.ReduceOp.AVG else op, **options)

        return call

    name = reduce_scatter_single().__name__
    monkeypatch.setattr(dist, name, summed(getattr(dist, name)))
    monkeypatch.setattr(dist, "reduce_scatter", summed(dist.reduce_scatter))
    evidence = checked(dtypes=["float32"])
    wrong = {item.labels["op"] for item in evidence.measurements if item.name == "wrong_elements" and item.value}
    assert wrong == {"reduce_scatter_avg", "reduce_scatter_list_uneven_avg"}


@pytest.mark.parametrize("precision", [None, torch.float32])
def test_a_mean_may_be_made_of_products_with_the_reciprocal(monkeypatch: pytest.MonkeyPatch, precision: torch.dtype | None) -> None:
    """As NCCL and RCCL make it; of seven ranks every other float32 would come out otherwise."""
    healthy = dist.all_reduce

    def premultiplied(tensor: torch.Tensor, op: Any = dist.ReduceOp.SUM, **options: Any) -> Any:
        if op != dist.ReduceOp.AVG:
            return healthy(tensor, op=op, **options)
        kind = precision or tensor.dtype
        tensor.copy_((tensor.to(kind) * torch.tensor(1 / dist.get_world_size(), dtype=torch.float32).to(kind)).to(tensor.dtype))
        return healthy(tensor, **options)

    monkeypatch.setattr(dist, "all_reduce", premultiplied)
    both = {name: basic.OPERATIONS[name] for name in ("all_reduce_sum", "all_reduce_avg")}
    monkeypatch.setattr(collectives_rank, "OPERATIONS", both)
    for others in (reproducibility, nan_inf):
        monkeypatch.setattr(others, "reports", lambda *_, **__: iter(()))
    evidence = checked(ranks=7, dtypes=["float32", "float16", "bfloat16"], sizes=[1, 33, 1000], largest=0)
    assert value(evidence, "completed") == 1
    assert set(values(evidence, "wrong_elements", op="all_reduce_avg")) == {0}
    assert len(values(evidence, "wrong_elements", op="all_reduce_avg")) == 3


class NoProductsOfBfloat16(Cpu):
    unsupported_reductions: Mapping[str, str] = MappingProxyType({"prod bfloat16": "a limit of the stand-in"})


def test_operations_that_a_library_lacks_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = dist.all_reduce

    def fatal(tensor: torch.Tensor, op: Any = dist.ReduceOp.SUM, **options: Any) -> Any:
        assert (op, tensor.dtype) != (dist.ReduceOp.PRODUCT, torch.bfloat16)
        return healthy(tensor, op=op, **options)

    monkeypatch.setattr(dist, "all_reduce", fatal)
    settings = {"ranks": 2, "dtypes": ["bfloat16", "float32"], "sizes": [7], "largest": 0}
    evidence = run_check("multichip.collectives", Accelerator(cpu().facts, NoProductsOfBfloat16(), seed=7), **settings)
    assert value(evidence, "completed") == 1, evidence.reason
    assert value(evidence, "unsupported", op="all_reduce_prod", dtype="bfloat16") == 1
    assert value(evidence, "unsupported", op="all_reduce_prod", dtype="float32") == 0
    assert any("a limit of the stand-in" in reasons for reasons in about(evidence, "unsupported"))


def test_a_sum_that_is_rounded_at_every_step_has_an_error_beyond_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = dist.all_reduce

    def narrow(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        exchanged = tensor.bfloat16()
        healthy(exchanged, *arguments, **options)
        tensor.copy_(exchanged)

    monkeypatch.setattr(dist, "all_reduce", narrow)
    evidence = checked(dtypes=["float32"], sizes=[1])
    assert value(evidence, "sum_error", dtype="float32", op="all_reduce_sum") > 100
    assert value(evidence, "sum_error", dtype="float32", op="reduce_scatter") <= 1


def test_an_infinity_that_gets_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = dist.all_reduce

    def saturated(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        result = healthy(tensor, *arguments, **options)
        if dist.get_rank() == 1 and tensor.is_floating_point() and not options.get("async_op"):
            tensor.nan_to_num_(nan=torch.nan)
        return result

    monkeypatch.setattr(dist, "all_reduce", saturated)
    evidence = checked(dtypes=["float32"])
    assert value(evidence, "infinities_wrong", op="all_reduce_max") == 4
    assert value(evidence, "infinities_wrong", op="reduce_scatter") == 0
    assert "infinity is wrong on rank 1 (cpu:0)" in about(evidence, "infinities_wrong")[0]


def test_a_barrier_that_does_not_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "barrier", lambda **options: None)
    monkeypatch.setattr(barrier, "LATE_S", 1.0)  # on a busy host the others need their time to leave before the late one comes
    evidence = checked(ranks=3)
    assert value(evidence, "barriers_left_early") == 6
    assert " left a barrier before rank " in about(evidence, "barriers_left_early")[0]


def test_a_barrier_that_hangs_at_its_fourth_call_is_found(on_simulated_chips: Simulated) -> None:
    planted = machine(defect("hang", "c10d::barrier", after_calls=4, chip=[1], severity=60), chips=2)
    evidence = on_simulated_chips("multichip.collectives", planted, **{**SMALL, "dtypes": ["float32"], "sizes": [1]}, patience_s=6)
    row = trouble(evidence)
    assert row["operation"].startswith("barrier number ")
    assert 4 <= int(row["operation"].split()[2]) <= IN_A_ROW


def test_a_library_without_barriers_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **options: Any) -> None:
        raise NotImplementedError("barrier on this device")

    monkeypatch.setattr(dist, "barrier", missing)
    evidence = checked(dtypes=["float32"], sizes=[1])
    assert value(evidence, "unsupported", op="barrier") == 1
    assert values(evidence, "barriers_left_early") == []
    assert about(evidence, "unsupported") == ["barrier: NotImplementedError: barrier on this device"]


def test_messages_of_one_batch_that_arrive_in_another_order_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = dist.batch_isend_irecv

    def swapped(operations: list[Any]) -> Any:
        if len(operations) > 2 and dist.get_rank() == 0:
            sends = [number for number, one in enumerate(operations) if one.op is dist.isend]
            first, last = sends[0], sends[-1]
            operations[first], operations[last] = operations[last], operations[first]
        return healthy(operations)

    monkeypatch.setattr(dist, "batch_isend_irecv", swapped)
    evidence = checked(dtypes=["float32"], sizes=[1024])
    assert value(evidence, "wrong_elements", op="send_recv_many") > 0
    assert value(evidence, "wrong_elements", op="send_recv") == 0


def test_a_rank_that_sends_nothing_is_tried_and_a_library_that_hands_out_its_rest_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    healthy = dist.all_to_all_single

    def careless(out: torch.Tensor, source: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        result = healthy(out, source, *arguments, **options)
        if not source.numel() and out.numel():
            out[0] += 1
        return result

    monkeypatch.setattr(dist, "all_to_all_single", careless)
    evidence = checked(dtypes=["float32"])
    wrong = {item.labels["op"] for item in evidence.measurements if item.name == "wrong_elements" and item.value}
    assert "all_to_all_idle_sender" in wrong
    assert not wrong & {"all_to_all", "all_to_all_uneven"}


def test_gloo_ignores_gaps_in_memory_and_the_operations_are_named() -> None:
    evidence = checked(dtypes=["float32"])
    wrong = {item.labels["op"] for item in evidence.measurements if item.name == "strided_wrong_elements" and item.value}
    # https://github.com/pytorch/pytorch/issues/192920, open in November 2026
    assert wrong <= {"all_reduce_strided", "reduce_strided", "broadcast_strided", "scatter_strided", "all_to_all_strided_output"}
    right = {item.labels["op"] for item in evidence.measurements if item.name == "strided_wrong_elements" and not item.value}
    assert right >= {"all_gather_strided_input", "reduce_scatter_strided_output", "send_recv_strided"}
    assert value(evidence, "optional_supported", op="send_recv_strided") == 0
    assert set(values(evidence, "wrong_elements")) == {0}


def test_ranks_that_disagree_in_the_last_digits_are_reported_with_the_spread(on_simulated_chips: Simulated) -> None:
    planted = machine(defect("collective-mismatch", "c10d::allreduce*", severity=1e-6, chip=[1]), chips=2)
    evidence = on_simulated_chips("multichip.collectives", planted, **SMALL)
    assert value(evidence, "repeat_mismatches", op="all_reduce_sum") == 3
    assert value(evidence, "repeat_mismatches", op="reduce_scatter") == 0
    assert value(evidence, "repeat_spread", op="all_reduce_sum") == 0  # each rank repeats its own to the bit


@pytest.mark.parametrize(
    ("planted", "op"),
    [
        (defect("sum-for-mean"), "all_reduce_avg"),
        (defect("ignore-strides", "c10d::gather_", noncontiguous=True), "gather_strided"),
        (defect("ignore-strides", "c10d::allreduce_"), "all_reduce_strided"),
        (defect("ignore-strides", "c10d::broadcast_"), "broadcast_strided"),
        (defect("collective-corrupt", "c10d::scatter_", chip=[1]), "scatter"),
        (defect("send-corrupt", "c10d::reduce_", chip=[1]), "reduce_sum"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_a_planted_defect_of_one_operation_is_found_in_it_alone(
    planted: Any, op: str, on_simulated_chips: Simulated
) -> None:
    evidence = on_simulated_chips("multichip.collectives", machine(planted, chips=2), **SMALL)
    assert value(evidence, "completed") == 1
    name = "strided_wrong_elements" if op in STRIDED else "wrong_elements"
    assert {item.labels["op"] for item in evidence.measurements if item.name.endswith(name) and item.value} == {op}


def test_a_refused_type_is_a_measurement_and_the_others_go_on() -> None:
    evidence = checked(dtypes=["int16", "float8_e4m3fn", "float32"])
    assert value(evidence, "completed") == 1
    assert value(evidence, "unsupported", op="all_reduce_sum", dtype="int16") == 1
    assert value(evidence, "unsupported", op="all_gather", dtype="float8_e4m3fn") == 1
    assert "all_reduce_sum in int16: RuntimeError: Invalid scalar type" in about(evidence, "unsupported")
    assert values(evidence, "wrong_elements", op="all_reduce_sum", dtype="int16") == []
    assert value(evidence, "unsupported", op="all_reduce_communicators", dtype="int16") == 1
    assert set(values(evidence, "wrong_elements", dtype="float32")) == {0}
    assert any(row.get("reason") == "RuntimeError: Invalid scalar type" for row in evidence.rows)


def test_an_operation_that_is_not_implemented_is_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **options: Any) -> None:
        raise NotImplementedError("all_to_all on this device")

    monkeypatch.setattr(dist, "all_to_all_single", missing)
    evidence = checked(dtypes=["float32"])
    assert value(evidence, "completed") == 1
    assert value(evidence, "unsupported", op="all_to_all") == 1
    assert values(evidence, "wrong_elements", op="all_to_all") == []


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (support.kill_oneself, "died"),
        (support.stop_oneself, "frozen"),
        (support.fail, "raised"),
        (support.leave, "died"),
    ],
)
def test_a_rank_that_fails_is_named_and_nothing_passes(fault: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    support.at_call("broadcast", 2, 1, fault, monkeypatch)
    evidence = checked(ranks=3)
    row = trouble(evidence)
    assert (row["trouble"], row["culprit_ranks"], row["culprit_chips"]) == (what, "1", "cpu:0")
    assert row["operation"].startswith("broadcast of 1")
    # Operations before the fault were right, but of a world that did not finish only what is wrong counts.
    assert values(evidence, "wrong_elements") == []
    assert unsupported(evidence) == []
    assert values(evidence, "repeat_mismatches") == []


def test_a_hang_ends_within_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    support.patient_until_the_fault(monkeypatch)
    support.at_call("all_to_all_single", 1, 0, support.hang, monkeypatch)
    row = trouble(checked(patience_s=3.0))
    # Where the library keeps a record of its calls, the rank that it knows nothing of is named.
    assert (row["trouble"], row["culprit_ranks"]) in (("behind", "0"), ("hung", None))
    assert "hang" in row["log"]


def test_results_that_were_wrong_before_a_failure_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    support.corrupt("all_reduce", 1, 0, monkeypatch, flip)
    support.at_call("broadcast", 1, 1, support.kill_oneself, monkeypatch)
    evidence = checked()
    assert trouble(evidence)["trouble"] == "died"
    assert values(evidence, "wrong_elements") == [1]


class WithoutCollectives(Cpu):
    collective_backend = None  # type: ignore[assignment]


def test_a_stack_without_collectives_is_not_measured() -> None:
    evidence = run_check("multichip.collectives", Accelerator(cpu().facts, WithoutCollectives()))
    assert evidence.status is Status.SKIPPED
    assert evidence.measurements == ()


@pytest.mark.parametrize("name", ["is_available", "is_backend_available"])
def test_a_torch_without_gloo_is_not_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, name, lambda *_: False)
    evidence = run_check("multichip.collectives")
    assert evidence.status is Status.SKIPPED
    assert evidence.measurements == ()


def test_an_unknown_type_is_an_error_of_the_profile() -> None:
    evidence = run_check("multichip.collectives", dtypes=["float31"])
    assert evidence.status is Status.ERROR
    assert "float31" in (evidence.reason or "")


@pytest.mark.parametrize(("dtype", "world"), [("bfloat16", 2), ("bfloat16", 300), ("int8", 1000), ("float8_e5m2", 64)])
def test_sums_are_exact_in_any_order_for_any_number_of_ranks(dtype: str, world: int) -> None:
    kind: torch.dtype = getattr(torch, dtype)
    context: RankContext = RankContext(0, world, cpu(), {}, None)  # type: ignore[arg-type]
    inputs = Inputs(context, "all_reduce_sum", kind, 50)
    every = torch.stack([values.double() for values in inputs.all_values(50, summed=True)])
    assert every.abs().sum(0).max() <= inputs.limit
    assert every.abs().sum(0).min() > 0 or world == 2
    assert len({tuple(values.tolist()) for values in every}) > 1
