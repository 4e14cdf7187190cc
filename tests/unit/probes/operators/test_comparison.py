"""The comparison as another device sees it: with the CPU's result in the same dtype beside the reference."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from readiness.probes.operators import comparison as operators_comparison
from readiness.probes.operators import extra_ops, opinfo
from readiness.probes.operators.samples import Sample

ENTRIES = {entry.name: entry for entry in opinfo.load()}
CPU = torch.device("cpu")


def comparison(name: str, *inputs: torch.Tensor) -> operators_comparison.Comparison:
    return operators_comparison.Comparison(ENTRIES[name], torch.float32, Sample(inputs, {}, None))


def values(name: str, out: torch.Tensor, reference: torch.Tensor, benchmark: torch.Tensor | None) -> str | None:
    return comparison(name, torch.ones(2)).values([out], [reference], [benchmark], lambda: [[reference]])


def reference() -> torch.Tensor:
    return torch.linspace(-3, 5, 99, dtype=torch.float64).exp()


def test_error_may_be_twice_the_cpus() -> None:
    want = reference()
    signs = torch.arange(99) % 2 * 2 - 1
    noise = want * signs * 2.0**-21
    assert values("mul", (want + noise).float(), want, (want + noise * 0.7).float()) is None
    assert values("mul", (want + noise).float(), want, want.float()) is not None


def test_every_make_has_a_library_of_its_own() -> None:
    """Some roundings of an elementary function in float32, where the CPU's errs by half of one; not what TF32 would do."""
    want = reference()
    signs = torch.arange(99) % 2 * 2 - 1
    for name in ("exp", "tanh", "rsqrt", "_foreach_sqrt"):
        assert values(name, (want * (1 + signs * 2.0**-22)).float(), want, want.float()) is None
        assert values(name, (want * (1 + signs * 2.0**-17)).float(), want, want.float()) is not None


def test_exact_operators_are_bit_equal() -> None:
    want = reference().float().double()
    off = want.float()
    off[7] = torch.nextafter(off[7], torch.tensor(100.0))
    assert values("flip", want.float(), want, want.float()) is None
    assert values("flip", off, want, want.float()) is not None
    assert values("exp", off, want, want.float()) is None


def test_random_operators_are_only_finite() -> None:
    assert values("rand_like", torch.rand(99), reference(), None) is None
    assert values("rand_like", torch.full((99,), torch.nan), reference(), None) is not None


def test_unspecified_memory_may_hold_anything() -> None:
    assert values("empty_like", torch.full((99,), torch.nan), reference(), None) is None
    shape = comparison("empty_like").metadata([torch.empty(3)], [torch.empty(4)], None, CPU)
    assert shape is not None


def test_which_of_equal_values_is_picked_is_free() -> None:
    tied, distinct = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])
    for inputs, free in ((tied, True), (distinct, False)):
        wrong = comparison("argmax", inputs).values(
            [torch.tensor(1)], [torch.tensor(2)], [torch.tensor(2)], lambda: [[torch.tensor(2)]]
        )
        assert (wrong is None) == free


def test_metadata() -> None:
    judge = comparison("exp")
    out, want = torch.ones(2), torch.ones(2, dtype=torch.float64)
    assert judge.metadata([out], [want], [out], CPU) is None
    assert judge.metadata([out], [want], None, CPU) is None
    assert judge.metadata([out.half()], [want], [out], CPU) is not None
    assert judge.metadata([out.int()], [want], None, CPU) is not None
    assert judge.metadata([out, out], [want], None, CPU) is not None
    assert judge.metadata([out], [want], None, torch.device("cuda")) is not None
    assert judge.metadata([1.0], [want], None, CPU) is not None


def test_gradients() -> None:
    want = reference()
    judge = comparison("exp", torch.ones(2, requires_grad=True))

    def wrong(out: torch.Tensor | None, expected: torch.Tensor | None) -> str | None:
        return judge.gradients([out], [expected], None, lambda: [[expected]], [want])

    assert wrong(want.float(), want) is None
    assert wrong(None, None) is None
    assert wrong(None, want) is not None
    assert wrong(want.float(), None) is not None
    assert wrong(want.float()[1:], want) is not None
    assert wrong(want.float() * 1.001, want) is not None
    assert wrong(want.float() * torch.nan, want) is not None


def test_numbers() -> None:
    judge = comparison("item")
    assert judge.values([1.5], [1.5], None, list) is None
    assert judge.values([1.5], [1.6], None, list) is not None
    assert judge.values([3], [3], None, list) is None
    assert judge.values([3], [4], None, list) is not None
    assert judge.values([float("nan")], [1.0], None, list) is not None


def test_identical() -> None:
    nan = torch.tensor([1.0, torch.nan])
    assert operators_comparison.identical([nan, 1, float("nan")], [nan.clone(), 1, float("nan")])
    assert not operators_comparison.identical([nan], [nan + 1])
    assert not operators_comparison.identical([nan], [nan.double()])
    assert not operators_comparison.identical([nan], [])


def _in_order(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product, added up one term after the other."""
    total = torch.zeros(a.shape[0], b.shape[1])
    for term in range(a.shape[1]):
        total += a[:, term, None] * b[None, term]
    return total


def test_another_order_of_summation_passes_and_narrow_factors_fail() -> None:
    """Both err more than the benchmark does: the bound on the sums tells them apart."""
    generator = torch.Generator().manual_seed(5)
    a, b = (torch.randn(shape, generator=generator) for shape in ((8, 4099), (4099, 8)))
    exact = a.double() @ b.double()

    def verdict(name: str, out: torch.Tensor) -> str | None:
        return comparison(name, a, b).values([out], [exact], [exact.float()], lambda: [[exact]])

    cut = [(x.view(torch.int32) & ~0x1FFF).view(torch.float32) for x in (a, b)]
    assert verdict("mm", _in_order(a, b)) is None
    assert verdict("mm", cut[0] @ cut[1]) is not None
    assert verdict("matmul", _in_order(a, b)) is not None  # of which nothing is known about its sums


def sorting(values: torch.Tensor, name: str = "sort") -> operators_comparison.Comparison:
    sample = Sample((values.requires_grad_(),), {}, None)
    return operators_comparison.Comparison(ENTRIES[name], torch.bfloat16, sample)


def test_a_gradient_may_go_to_any_of_equal_values() -> None:
    tied = torch.tensor([1.0, 2.0, 2.0, 3.0], dtype=torch.bfloat16)
    want = torch.tensor([0.5, -1.0, 4.0, 2.0], dtype=torch.float64)
    swapped, wrong = want[[0, 2, 1, 3]].bfloat16(), want[[1, 0, 2, 3]].bfloat16()

    def held(values: torch.Tensor, found: torch.Tensor, name: str = "sort") -> str | None:
        return sorting(values, name).gradients([found], [want], [want.bfloat16()], lambda: [[want]], [want])

    for name in ("sort", "msort", "topk", "mode"):
        assert held(tied.detach(), swapped, name) is None
        assert held(tied.detach(), wrong, name) is not None
        assert held(torch.arange(4).bfloat16(), swapped, name) is not None
    assert held(tied.detach(), swapped, "exp") is not None


def test_the_largest_values_may_come_in_any_order_on_request() -> None:
    given = torch.tensor([[5.0, 1.0, 4.0, 2.0]])
    want = [torch.tensor([[5.0, 4.0]], dtype=torch.float64), torch.tensor([[0, 2]])]
    ordered = [torch.tensor([[5.0, 4.0]]), torch.tensor([[0, 2]])]
    swapped = [torch.tensor([[4.0, 5.0]]), torch.tensor([[2, 0]])]

    def held(found: list[torch.Tensor], **keywords: object) -> str | None:
        sample = Sample((given, 2, -1, True), keywords, None)
        return operators_comparison.Comparison(ENTRIES["topk"], torch.float32, sample).values(found, want, ordered, lambda: [want])

    assert held(ordered) is held(ordered, sorted=False) is held(swapped, sorted=False) is None
    assert held(swapped) is not None
    assert held([swapped[0], torch.tensor([[0, 2]])], sorted=False) is None  # the indices point at them all the same
    assert held([swapped[0], torch.tensor([[1, 0]])], sorted=False) is not None
    assert held([torch.tensor([[4.0, 2.0]]), torch.tensor([[2, 3]])], sorted=False) is not None

    # Which cotangent a chosen value got is as free as its place; that each was given away is not.
    judge = operators_comparison.Comparison(ENTRIES["topk"], torch.float32, Sample((given.requires_grad_(), 2, -1, True, False), {}, None))
    expected = torch.tensor([[1.0, 0.0, 3.0, 0.0]], dtype=torch.float64)

    def gradient(found: list[float]) -> str | None:
        return judge.gradients([torch.tensor([found])], [expected], None, lambda: [[expected]], [want[0]])

    assert gradient([1.0, 0.0, 3.0, 0.0]) is gradient([3.0, 0.0, 1.0, 0.0]) is None
    assert gradient([1.0, 0.0, 2.0, 0.0]) is not None


def test_what_is_kept_for_the_gradient_has_the_shape_that_a_device_chooses() -> None:
    judge = comparison("native_layer_norm", torch.ones(2))
    want = [torch.ones(4, dtype=torch.float64), torch.ones(2, dtype=torch.float64)]
    of_cpu = [torch.ones(4), torch.ones(2).bfloat16()]
    assert judge.metadata([torch.ones(4), torch.ones(2)], want, of_cpu, CPU) is None
    assert judge.metadata([torch.ones(4), torch.ones(0)], want, of_cpu, CPU) is None
    assert judge.metadata([torch.ones(4).half(), torch.ones(2)], want, of_cpu, CPU) is not None
    assert judge.values([torch.ones(4), torch.ones(0)], want, of_cpu, lambda: [want]) is None
    assert judge.values([torch.ones(4), torch.full((2,), 9.0)], want, of_cpu, lambda: [want]) is not None


def test_float64_accumulation_is_no_reference_for_float32() -> None:
    want = reference()
    noise = want * (torch.arange(99) % 2 * 2 - 1) * 2.0**-20
    assert values("cumsum", (want + noise).float(), want, want.float()) is None
    assert values("cumsum", (want + 100 * noise).float(), want, want.float()) is not None
    assert values("exp", (want + noise).float(), want, want.float()) is not None


def test_the_gradient_of_two_nearly_equal_values_is_what_is_left_of_outputs_over_their_spread() -> None:
    """Each digit that the values share is lost in their mean; what is not subtracted at all is found nevertheless."""
    given = torch.tensor([[5.171875, 4.93359375]]).requires_grad_()
    weight, incoming = torch.tensor([-8.75, 3.75]), torch.tensor([[1.375, 0.25]], dtype=torch.float64)
    wide = given.detach().double().requires_grad_()
    output = torch.nn.functional.layer_norm(wide, (2,), weight.double())
    (due,) = torch.autograd.grad(output, [wide], incoming)
    terms = incoming * weight / given.detach().double().std(correction=0)
    shared = float(given.detach().abs().max() / given.detach().std(correction=0))
    judge = comparison("nn.functional.layer_norm", given)

    def judged(found: torch.Tensor) -> str | None:
        return judge.gradients([found.float()], [due], None, lambda: [[due]], [output.detach()])

    assert float(due.abs().max()) < 0.01 * float(terms.abs().max())
    assert judged(due + shared * 2.0**-23 * terms) is None
    assert judged(due + 1e-3 * terms) is not None
    assert judged(terms) is not None


def test_the_gradient_of_a_saturated_softmax_is_what_rounding_leaves_of_probabilities() -> None:
    logits = torch.tensor([[9.0, 4.34], [1.0, 6.0]])

    def differ(logits: torch.Tensor, factor: float = 1.0) -> str | None:
        inputs = logits.double().requires_grad_()
        output = torch.softmax(inputs, -1)
        incoming = torch.tensor([[2.3, 0.4], [-0.6, 0.7]], dtype=torch.float64)
        [due] = torch.autograd.grad([output], [inputs], [incoming])
        rounded = output.detach().bfloat16().double()
        found = factor * rounded * (incoming - (incoming * rounded).sum(-1, keepdim=True))
        sample = Sample((logits.bfloat16().requires_grad_(), -1), {}, None)
        judge = operators_comparison.Comparison(ENTRIES["softmax"], torch.bfloat16, sample)
        return judge.gradients([found.bfloat16()], [due], None, lambda: [[due]], [output.detach()])

    assert differ(logits) is None
    assert differ(logits / 4) is None
    assert differ(logits / 4, 1.1) is not None


def test_what_is_left_of_equal_whole_numbers_is_the_rounding_of_their_mean() -> None:
    given, weights = torch.tensor([[3, 3]], dtype=torch.uint8), torch.tensor([0.4462577700614929, 0.5760071277618408])
    judge = operators_comparison.Comparison(ENTRIES["cov"], torch.uint8, Sample((given,), {"aweights": weights}, None))
    nothing = torch.zeros((), dtype=torch.float64)
    assert judge.values([torch.tensor(1.2e-13)], [nothing], None, lambda: [[nothing]]) is None
    assert judge.values([torch.tensor(1e-2)], [nothing], None, lambda: [[nothing]]) is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(
    ("kind", "options"),
    [(torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}), (torch.optim.AdamW, {})], ids=["SGD", "AdamW"],
)
def test_steps_that_nearly_cancel_a_parameter_round_it_as_they_round_any(
    kind: Any, options: dict[str, Any], dtype: torch.dtype
) -> None:
    """Steps of SGD leave a sixth or less of such single parameters. Steps that are 8 % too long are wrong."""
    generator = torch.Generator().manual_seed(312981291)
    drawn = torch.rand(2, 300, 1, generator=generator)
    parameters, gradients = (list((least + part / 10).to(dtype)) for least, part in zip((0.5, 1.4), drawn, strict=True))

    def stepped(rate: float, wanted: torch.dtype) -> list[torch.Tensor]:
        step = partial(kind, lr=rate, foreach=True, **options)
        copies = ([tensor.to(wanted, copy=True) for tensor in tensors] for tensors in (parameters, gradients))
        return extra_ops._step(step, False, *copies)

    judge = operators_comparison.Comparison(
        ENTRIES[f"optim.{kind.__name__}.foreach"], dtype, Sample((parameters, gradients), {}, None)
    )
    want = stepped(0.1, torch.float64)
    for native in (None, stepped(0.1, dtype)):
        assert judge.values(stepped(0.1, dtype), want, native, lambda: [want]) is None
        assert judge.values(stepped(0.108, dtype), want, native, lambda: [want]) is not None
