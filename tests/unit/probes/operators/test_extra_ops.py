"""What the database lacks: each is there, runs on the CPU, and is an entry like the others."""

from __future__ import annotations

import pytest
import torch

from readiness.probes.operators import edge_arguments, edge_inputs, edge_shapes, extra_ops, op_semantics, opinfo, samples
from readiness.probes.operators.outcomes import NotClaimedError, Outcome, Phase, failed

ENTRIES = {entry.name: entry for entry in opinfo.load()}
BEYOND = {operator.name: operator for operator in extra_ops.operators()}


def test_they_are_entries_like_the_databases_own() -> None:
    assert BEYOND.keys() <= ENTRIES.keys()
    assert len(ENTRIES) == len(opinfo.load())  # no name stands for two
    for name in ("_foreach_add", "_foreach_addcdiv", "optim.AdamW.fused", "optim.SGD.foreach", "attention.math",
                 "_grouped_mm", "index_put_.accumulate", "amp.unscale", "randperm", "_assert_async"):  # fmt: skip
        assert ENTRIES[name].info is not None


@pytest.mark.parametrize("name", sorted(BEYOND))
def test_each_gives_something_on_the_cpu(name: str) -> None:
    operator = BEYOND[name]
    dtype = torch.float32 if torch.float32 in operator.dtypes else torch.int64
    drawn = samples.draw(ENTRIES[name], dtype, seed=3, gradients=operator.supports_autograd)
    try:
        results = list(samples.leaves(drawn[0].call(operator)))
    except NotClaimedError:
        assert name in ("attention.cudnn", "attention.efficient")
        return
    assert any(isinstance(result, torch.Tensor) and result.numel() for result in results)


def test_products_of_groups_that_a_build_has_on_accelerators_alone_are_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = samples.draw(ENTRIES["_grouped_mm"], torch.float32, seed=3, gradients=False)[0]
    wide = drawn.converted(samples.widened, torch.device("cpu"), widen=True)
    assert drawn.call(BEYOND["_grouped_mm"]).shape == (40, 16)
    monkeypatch.setattr(extra_ops, "_HOST_GROUPS", False)
    with pytest.raises(NotClaimedError, match="no kernel for it on the CPU"):
        drawn.call(BEYOND["_grouped_mm"])
    assert wide.call(BEYOND["_grouped_mm"]).shape == (40, 16)  # the reference needs none


def test_what_a_device_does_not_claim_cannot_be_judged() -> None:
    told = failed(NotClaimedError("no such back-end"), Phase.FORWARD, "")
    assert (told.outcome, told.raised) == (Outcome.UNJUDGED, False)


def test_a_step_with_an_overflow_changes_nothing() -> None:
    once, twice = (BEYOND[f"optim.AdamW.fused{end}"] for end in (".found_inf", ""))
    drawn = samples.draw(ENTRIES[once.name], torch.float32, seed=3, gradients=False)[0]
    copies = [drawn.converted(torch.clone, torch.device("cpu")) for _ in range(3)]
    skipped, stepped = copies[0].call(once), copies[1].call(twice)
    assert not torch.equal(skipped[0], stepped[0])
    single = torch.optim.AdamW([copies[2].arguments[0][0].requires_grad_()], lr=0.1, fused=True)
    single.param_groups[0]["params"][0].grad = copies[2].arguments[1][0]
    single.step()
    torch.testing.assert_close(skipped[0], single.param_groups[0]["params"][0].detach())


def test_overflow_of_gradients_is_found_and_only_there() -> None:
    drawn = samples.draw(ENTRIES["amp.unscale"], torch.float32, seed=3, gradients=False)[0]
    results = drawn.call(BEYOND["amp.unscale"])
    each = len(results) // 3
    assert [float(results[place]) for place in (each - 1, 2 * each - 1, 3 * each - 1)] == [0.0, 1.0, 1.0]


def test_constant_numbers_fail_as_random(monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.zeros(3)
    assert BEYOND["exponential.statistics"](value).all()
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda tensor, *_: tensor.fill_(1.0))
    assert not BEYOND["exponential.statistics"](value).all()


@pytest.mark.parametrize(
    ("name", "method"),
    [("exponential", "exponential_"), ("normal", "normal_"), ("uniform", "uniform_"), ("bernoulli", "bernoulli_")],
)
def test_random_numbers_that_ignore_their_arguments_fail(name: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, right = torch.zeros(3), getattr(torch.Tensor, method)
    assert BEYOND[f"{name}.statistics"](value).all()
    monkeypatch.setattr(torch.Tensor, method, lambda tensor, *_: right(tensor))
    assert not BEYOND[f"{name}.statistics"](value).all()


def test_tokens_that_are_drawn_twice_and_integers_beyond_their_range_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    value, multinomial, randint = torch.zeros(3), torch.multinomial, torch.randint
    assert BEYOND["multinomial.statistics"](value).all()
    assert BEYOND["randint.statistics"](value).all()
    monkeypatch.setattr(torch, "multinomial", lambda weights, count, **_: multinomial(weights, count, replacement=True))
    monkeypatch.setattr(torch, "randint", lambda low, high, *rest, **options: randint(low, high + 1, *rest, **options))
    assert not BEYOND["multinomial.statistics"](value).all()
    assert not BEYOND["randint.statistics"](value).all()


@pytest.mark.parametrize("name", sorted(edge_shapes._BY_NAME))
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_each_hard_size_is_one_that_the_cpu_can_do(name: str, dtype: torch.dtype) -> None:
    entry = ENTRIES[name]
    made = list(edge_shapes.of(name, dtype, gradients=entry.claims_backward(dtype))) if entry.claims(dtype) else []
    everywhere = {name for names in edge_shapes._MAKERS.values() for name in names}
    assert made or not entry.claims(dtype) or name not in everywhere
    refused = []
    for sample in made:
        assert sample.label
        try:
            sample.call(entry.info)
        except NotClaimedError:
            return
        except (RuntimeError, IndexError) as problem:
            refused.append(f"{sample.label}: {problem}")
    assert len(refused) < max(len(made), 1), refused


def test_each_further_call_is_made_in_some_dtype() -> None:
    for maker, names in (*edge_shapes._FURTHER.items(), *edge_arguments.CALLS.items()):
        made = [list(maker(edge_inputs.InputFactory(dtype, False))) for dtype in (torch.float32, torch.int64)]
        assert any(made), names


def test_core_names_are_entries() -> None:
    assert {name for name in op_semantics.CORE if name not in ENTRIES and name not in {e.base for e in ENTRIES.values()}} == set()


@pytest.mark.parametrize("way", ["foreach", "fused"])
@pytest.mark.parametrize("seed", range(5))
def test_steps_of_optimizers_stay_finite_in_float16(way: str, seed: int) -> None:
    """A sweep rounds the samples that it drew in float32: a gradient near zero would be divided by its vanished square."""
    drawn, entry = samples.SampleCache(), ENTRIES[f"optim.AdamW.{way}"]
    wide, narrow = (drawn.draw(entry, dtype, seed=seed, gradients=False)[0] for dtype in (torch.float32, torch.float16))
    assert any(bool((gradient < 0).any()) for gradient in wide.arguments[1])
    assert all(bool(torch.isfinite(one).all()) for one in narrow.plain(entry.info) if isinstance(one, torch.Tensor))
