"""parity.execution: each way seen right, seen wrong, refused, and raising."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from readiness.datamodel import Evidence, Status
from readiness.probes.parity import execution, transformer
from tests.support import cpu, run_check, value, values

QUICK = ("int8-weights", "int4-weights", "int8-products")


def about(evidence: Evidence, mode: str) -> str:
    (found,) = [item for item in evidence.measurements if item.name == "wrong" and item.labels["mode"] == mode]
    return found.about or ""


@pytest.mark.parametrize("seed", range(3))
def test_products_of_packed_weights_are_right_on_the_host(seed: int) -> None:
    evidence = run_check("parity.execution", cpu(seed), modes=QUICK)
    assert values(evidence, "supported") == [1, 1, 1]
    assert values(evidence, "wrong") == [0, 0, 0]
    assert 0 < value(evidence, "layer_error", mode="int4-weights") < 0.005
    assert value(evidence, "layer_error", mode="int8-products") == 0


@pytest.mark.parametrize(
    ("mode", "operator"),
    [
        ("int8-weights", "_weight_int8pack_mm"),
        ("int4-weights", "_weight_int4pack_mm_for_cpu"),
        ("int8-products", "_int_mm"),
    ],
)
def test_a_wrong_product_is_found_in_its_way_alone(mode: str, operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = getattr(torch, operator)

    def wrong(*arguments: Any) -> torch.Tensor:
        out = honest(*arguments)
        out[0, 3] += 1 + out[0, 3].abs()
        return out  # type: ignore[no-any-return]

    monkeypatch.setattr(torch, operator, wrong)
    evidence = run_check("parity.execution", modes=QUICK)
    assert value(evidence, "wrong", mode=mode) > 0
    assert "rows" in about(evidence, mode)
    assert [value(evidence, "wrong", mode=other) for other in QUICK if other != mode] == [0, 0]


def test_a_kernel_that_is_wrong_for_one_row_alone_is_named_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch._weight_int4pack_mm_for_cpu
    monkeypatch.setattr(torch, "_weight_int4pack_mm_for_cpu", lambda x, *rest: honest(x, *rest) * (1.2 if len(x) == 1 else 1))
    evidence = run_check("parity.execution", modes=("int4-weights",))
    assert "product of 1 rows with gate" in about(evidence, "int4-weights")
    assert "of 2 rows" not in about(evidence, "int4-weights")


def test_what_a_stack_does_not_have_is_no_error_and_no_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> torch.Tensor:
        raise NotImplementedError("_weight_int8pack_mm is not available for this device")

    monkeypatch.setattr(torch, "_weight_int8pack_mm", missing)
    evidence = run_check("parity.execution", modes=("int8-weights", "graph"))
    assert values(evidence, "supported") == values(evidence, "wrong") == [0, 0]
    assert values(evidence, "layer_error") == []
    assert {row["refused"] for row in evidence.rows} == {
        "NotImplementedError: _weight_int8pack_mm is not available for this device",
        "torch has no graphs to capture for cpu",
    }


def test_what_fails_otherwise_ends_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> torch.Tensor:
        raise RuntimeError("the device has fallen off the bus")

    monkeypatch.setattr(torch, "_int_mm", fails)
    assert run_check("parity.execution", modes=("int8-products",)).status is Status.ERROR


def test_a_way_that_nobody_knows_is_refused() -> None:
    evidence = run_check("parity.execution", modes=("interpreted",))
    assert evidence.status is Status.ERROR
    assert "'interpreted' is none of traced, compiled, graph" in (evidence.reason or "")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """A stand-in for the module of a stack with graphs, which remember what was called; stale ones replay the first."""

    def install(stale: bool) -> None:
        recorded: list[tuple[Any, torch.Tensor, Any, torch.Tensor]] = []
        model: Any = transformer.Transformer
        honest = model.of

        class Graph:
            def replay(self) -> None:
                if not stale:
                    owner, tokens, turn, out = recorded[-1]
                    out.copy_(honest(owner, tokens, turn))

        def of(self: Any, tokens: torch.Tensor, turn: Any) -> torch.Tensor:
            recorded.append((self, tokens, turn, honest(self, tokens, turn)))
            return recorded[-1][3]

        @contextlib.contextmanager
        def within(_: object) -> Iterator[None]:
            yield

        stream = SimpleNamespace(wait_stream=lambda _: None)
        module = SimpleNamespace(
            CUDAGraph=Graph, graph=within, stream=within, Stream=lambda: stream, current_stream=lambda: stream
        )
        monkeypatch.setattr(model, "of", of)
        monkeypatch.setattr(execution, "_module", lambda _: module)

    return install


def test_a_captured_layer_computes_with_each_new_input(graphs: Callable[[bool], None]) -> None:
    graphs(False)
    evidence = run_check("parity.execution", modes=("graph",))
    assert (value(evidence, "supported"), value(evidence, "wrong")) == (1, 0)


def test_a_captured_layer_that_gives_the_first_result_again_is_found(graphs: Callable[[bool], None]) -> None:
    graphs(True)
    evidence = run_check("parity.execution", modes=("graph",))
    assert value(evidence, "wrong") >= 3
    assert about(evidence, "graph").startswith("replay 1, replay 2, replay 3")


def test_tracing_is_right_seen_wrong_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (value(found := run_check("parity.execution", modes=("traced",)), "supported"), value(found, "wrong")) == (1, 0)
    monkeypatch.setattr(torch, "compile", lambda call, backend: lambda *given: 1.01 * call(*given))
    evidence = run_check("parity.execution", modes=("traced",))
    assert "loss" in about(evidence, "traced")

    def refuse(*_: Any, **__: Any) -> None:
        raise torch._dynamo.exc.InvalidBackend("aot_eager")

    monkeypatch.setattr(torch, "compile", refuse)
    assert value(run_check("parity.execution", modes=("traced",)), "supported") == 0
