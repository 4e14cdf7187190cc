"""The measures of error: what must never be small, and what must never be large."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from readiness import numerics

FLOATS = [torch.float32, torch.bfloat16, torch.float16]
quick = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**31 - 1)
sizes = st.integers(1, 40)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def every_measure(out: torch.Tensor, reference: torch.Tensor) -> list[float]:
    return [
        numerics.bound_ratio(out, reference, reference.abs() + 1),
        numerics.relative_error(out, reference),
        numerics.worst_error(out, reference),
    ]


def test_unit_roundoffs() -> None:
    assert numerics.unit_roundoff(torch.float32) == 2.0**-24
    assert numerics.unit_roundoff(torch.bfloat16) == 2.0**-8
    assert numerics.unit_roundoff(torch.float16) == 2.0**-11
    assert numerics.unit_roundoff(torch.float8_e4m3fn) == 2.0**-4
    assert numerics.accumulation_roundoff(torch.bfloat16) == 2.0**-24
    assert numerics.accumulation_roundoff(torch.float64) == 2.0**-53


@quick
@given(seeds, sizes, sizes, st.sampled_from(FLOATS))
def test_a_correctly_rounded_result_has_no_error_beyond_its_rounding(
    seed: int, rows: int, columns: int, dtype: torch.dtype
) -> None:
    reference = draw(seed, rows, columns)
    assert numerics.bound_ratio(reference.to(dtype), reference, torch.zeros(())) == 0
    assert numerics.worst_error(reference, reference) == 0
    assert numerics.relative_error(reference.to(dtype), reference) <= numerics.unit_roundoff(dtype) * 1.001


@quick
@given(seeds, sizes, st.data())
def test_nan_or_infinity_is_never_a_small_error(seed: int, size: int, data: st.DataObject) -> None:
    reference = draw(seed, size)
    bad = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    out = reference.clone()
    out[data.draw(st.integers(0, size - 1))] = bad
    assert every_measure(out, reference) == [math.inf] * 3
    assert every_measure(reference, out) == [math.inf] * 3
    assert numerics.mismatches(out, reference) == 1


def test_infinity_of_the_other_sign_and_nan_for_infinity_are_wrong() -> None:
    reference = torch.tensor([1.0, math.inf])
    for bad in (-math.inf, math.nan, 3e38):
        assert every_measure(torch.tensor([1.0, bad]), reference) == [math.inf] * 3


def test_the_same_nan_and_infinities_in_the_same_places_are_right() -> None:
    tensor = torch.tensor([math.nan, math.inf, -math.inf, 2.0])
    assert every_measure(tensor, tensor) == [0.0] * 3
    assert numerics.mismatches(tensor, tensor) == 0


@quick
@given(seeds, st.integers(1, 200_000), st.data())
def test_one_wrong_element_is_seen_however_large_the_tensor(seed: int, size: int, data: st.DataObject) -> None:
    reference = draw(seed, size)
    out = reference.clone()
    place = data.draw(st.integers(0, size - 1))
    out[place] += 0.01 * (1 + float(reference.abs().max()))
    allowance = 1e-6 * (reference.abs() + 1)
    assert numerics.bound_ratio(out, reference, allowance) > 1000
    assert numerics.worst_error(out, reference) > 0.009
    assert numerics.mismatches(out, reference) == 1


@quick
@given(seeds, st.integers(2, 300), st.sampled_from(FLOATS))
def test_the_order_of_elements_does_not_matter(seed: int, size: int, dtype: torch.dtype) -> None:
    reference = draw(seed, size)
    out = (reference + 0.01 * draw(seed + 1, size)).to(dtype)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    allowance = reference.abs() + 0.1
    before = numerics.bound_ratio(out, reference, allowance), numerics.worst_error(out, reference)
    after = numerics.bound_ratio(out[order], reference[order], allowance[order]), numerics.worst_error(
        out[order], reference[order]
    )
    assert after == pytest.approx(before, rel=1e-12)
    assert numerics.relative_error(out[order], reference[order]) == pytest.approx(
        numerics.relative_error(out, reference), rel=1e-9
    )


@quick
@given(seeds, st.integers(-20, 20))
def test_errors_do_not_depend_on_the_scale(seed: int, exponent: int) -> None:
    reference = draw(seed, 50)
    out = reference + 0.001 * draw(seed + 1, 50)
    factor = 2.0**exponent
    assert numerics.worst_error(out * factor, reference * factor) == numerics.worst_error(out, reference)
    assert numerics.relative_error(out * factor, reference * factor) == numerics.relative_error(out, reference)


@quick
@given(seeds, st.integers(1, 30), st.integers(1, 600), st.integers(1, 30), st.sampled_from(FLOATS))
def test_a_correct_product_stays_within_its_bound(
    seed: int, rows: int, terms: int, columns: int, dtype: torch.dtype
) -> None:
    a, b = draw(seed, rows, terms).to(dtype), draw(seed + 1, terms, columns).to(dtype)
    assert numerics.contraction_error(a @ b, a, b) < 2


@pytest.mark.parametrize("terms", [64, 4096])
def test_less_precision_than_promised_is_far_outside_the_bound(terms: int) -> None:
    a, b = draw(1, 64, terms).float(), draw(2, terms, 64).float()
    healthy = numerics.contraction_error(a @ b, a, b)
    tf32 = [(x.view(torch.int32) & ~0x1FFF).view(torch.float32) for x in (a, b)]
    assert numerics.contraction_error(torch.addmm(a[:, :1], a, b), a, b, a[:, :1]) < 1
    assert healthy < 1 < 10 < numerics.contraction_error(tf32[0] @ tf32[1], a, b)
    assert numerics.contraction_error(a.bfloat16().float() @ b.bfloat16().float(), a, b) > 25
    assert numerics.contraction_error((a @ b).bfloat16().float(), a, b) > 25


def test_an_accumulator_of_low_precision_is_far_outside_the_bound() -> None:
    a, b = draw(1, 8, 512).bfloat16(), draw(2, 512, 8).bfloat16()
    total = torch.zeros(8, 8, dtype=torch.bfloat16)
    for term in range(512):
        total = total + a[:, term, None] * b[term]
    assert numerics.contraction_error(total, a, b) > 100
    assert numerics.contraction_error(a @ b, a, b) < 1


def test_wrong_shape_and_wrong_dtype_are_infinitely_wrong() -> None:
    reference = torch.ones(3, 4)
    assert every_measure(torch.ones(4, 3), reference) == [math.inf] * 3
    assert every_measure(torch.ones(3), reference) == [math.inf] * 3
    assert numerics.relative_error(torch.ones(3, 4), reference, dtype=torch.bfloat16) == math.inf
    assert numerics.mismatches(torch.ones(3, 4, dtype=torch.float64), reference) == math.inf
    assert numerics.incompatibility(torch.ones(3), reference) == "shape (3,) instead of (3, 4)"
    assert numerics.incompatibility(reference, reference, torch.float16) == "dtype float32 instead of float16"


def test_no_allowance_and_no_reference_leave_no_room() -> None:
    zero = torch.zeros(4)
    assert numerics.bound_ratio(torch.tensor([0, 0, 1e-3, 0]), zero, zero) == math.inf
    assert numerics.worst_error(torch.tensor([0, 0, 1e-3, 0]), zero) == math.inf
    assert numerics.bound_ratio(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([math.nan])) == math.inf
    assert every_measure(torch.empty(0, 3), torch.empty(0, 3)) == [0.0] * 3


def test_a_result_beyond_its_dtype_must_be_infinite() -> None:
    reference = torch.tensor([1e5, -1e5, 1.0], dtype=torch.float64)
    infinite = torch.tensor([math.inf, -math.inf, 1.0], dtype=torch.float16)
    saturated = torch.tensor([65504.0, -65504.0, 1.0], dtype=torch.float16)
    assert numerics.worst_error(infinite, reference) == 0
    assert numerics.worst_error(saturated, reference) == math.inf


def test_integers_and_booleans_are_exact_or_wrong() -> None:
    numbers = torch.tensor([1, 2**40 + 1])
    assert numerics.bound_ratio(numbers, numbers, torch.zeros(())) == 0
    assert numerics.bound_ratio(numbers + torch.tensor([0, 1]), numbers, torch.zeros(())) == math.inf
    assert numerics.mismatches(torch.tensor([True, False]), torch.tensor([True, True])) == 1


@quick
@given(seeds, st.sampled_from([*FLOATS, torch.float64]))
def test_a_fingerprint_changes_with_any_bit(seed: int, dtype: torch.dtype) -> None:
    tensor = draw(seed, 33).to(dtype)
    changed = tensor.clone()
    changed.view(torch.uint8)[seed % changed.view(torch.uint8).numel()] ^= 1 << (seed % 8)
    assert numerics.fingerprint(tensor) == numerics.fingerprint(tensor.clone())
    assert numerics.fingerprint(tensor) != numerics.fingerprint(changed)
    assert numerics.fingerprint(tensor) != numerics.fingerprint(tensor.reshape(3, 11))


def test_subnormals_differ_from_zero_even_if_the_host_flushes_them() -> None:
    subnormal = torch.tensor([1, 0], dtype=torch.int32).view(torch.float32)
    zero = torch.tensor([0, -(2**31)], dtype=torch.int32).view(torch.float32)
    torch.set_flush_denormal(True)  # without effect on hosts that cannot
    try:
        assert numerics.mismatches(subnormal, zero) == 1
        assert numerics.mismatches(subnormal, subnormal) == 0
    finally:
        torch.set_flush_denormal(False)


def test_a_fingerprint_distinguishes_signed_zeros() -> None:
    assert numerics.fingerprint(torch.tensor([0.0])) != numerics.fingerprint(torch.tensor([-0.0]))
    assert numerics.fingerprint(torch.ones(2), torch.ones(3)) != numerics.fingerprint(torch.ones(3), torch.ones(2))
