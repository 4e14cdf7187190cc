"""numerics.compare_by_ratio: what it forgives and what it does not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from readiness.numerics import RatioComparison, Strictness, compare_by_ratio

ROUNDOFF = 2.0**-24


def reference(seed: int = 0, size: int = 257) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def compare(out: torch.Tensor, want: torch.Tensor, benchmark: torch.Tensor | None = None) -> RatioComparison:
    return compare_by_ratio(out, want, benchmark, roundoff=ROUNDOFF)


@given(seed=st.integers(0, 2**16), size=st.integers(1, 300))
def test_a_rounded_result_agrees(seed: int, size: int) -> None:
    want = reference(seed, size)
    assert compare(want.float(), want).agrees
    assert compare(want.float(), want, want.float()).agrees


@given(st.sampled_from([torch.nan, torch.inf, -torch.inf]), st.integers(0, 256))
def test_a_misplaced_non_finite_element_never_agrees(bad: float, position: int) -> None:
    want = reference()
    out = want.float()
    out[position] = bad
    assert not compare(out, want).agrees
    assert not compare(out, want, want.float()).agrees
    assert not compare(want.float(), out.double()).agrees


def test_non_finite_elements_where_expected_agree() -> None:
    want = reference()
    want[3], want[4], want[5] = torch.nan, torch.inf, -torch.inf
    assert compare(want.float(), want).agrees
    swapped = want.float()
    swapped[4], swapped[5] = -torch.inf, torch.inf
    assert not compare(swapped, want).agrees


def test_overflow_of_the_dtype_is_expected() -> None:
    want = reference()
    want[3], want[4] = 1e30, 60_000.0
    out = want.half()
    assert bool(out[3].isinf())
    assert compare_by_ratio(out, want, roundoff=2.0**-11).agrees
    out[4] = torch.inf  # at the edge of the range rounding decides
    assert compare_by_ratio(out, want, roundoff=2.0**-11).agrees
    out[5] = torch.inf
    assert not compare_by_ratio(out, want, roundoff=2.0**-11).agrees
    assert compare_by_ratio(out, want, roundoff=2.0**-11, forgive_overflow=0.25).agrees
    assert compare_by_ratio(out, want, out, roundoff=2.0**-11).agrees  # the benchmark overflowed alike


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nothing_but_nan_has_not_overflowed(value: float) -> None:
    want = reference()
    nothing = torch.full_like(want.half(), value)
    assert not compare_by_ratio(nothing, want, roundoff=2.0**-11, forgive_overflow=0.25).agrees
    assert compare_by_ratio(nothing, want, nothing, roundoff=2.0**-11, forgive_overflow=0.25).agrees  # as on the CPU
    assert compare_by_ratio(nothing, want, roundoff=2.0**-11, forgive_overflow=1.0).agrees


@pytest.mark.parametrize("benchmarked", [True, False])
def test_one_wrong_element_or_a_wrong_factor_never_agrees(benchmarked: bool) -> None:
    want = reference()
    benchmark = want.float() if benchmarked else None
    for out in (want.float() * (1 + 2**-7), want.bfloat16().float(), want.float().flip(0), torch.zeros_like(want.float())):
        assert not compare(out, want, benchmark).agrees
    out = want.float()
    out[17] += 1e-3
    assert not compare(out, want, benchmark).agrees


def test_the_benchmark_narrows_and_never_widens() -> None:
    want = reference()
    noisy = (want * (1 + 16 * ROUNDOFF)).float()
    assert compare(noisy, want).agrees
    assert not compare(noisy, want, want.float()).agrees
    assert compare(noisy, want, noisy).agrees
    awful = want.float() * 2
    assert not compare(awful, want, awful).agrees


def test_sensitivity_scale_and_leniency_widen() -> None:
    want = reference()
    out = (want + 1e-4).float()
    assert not compare(out, want).agrees
    moved = torch.full_like(want, 1e-5)
    assert compare_by_ratio(out, want, roundoff=ROUNDOFF, sensitivity=moved).agrees
    assert compare_by_ratio(out, want, roundoff=ROUNDOFF, scale=1e3).agrees
    assert compare_by_ratio(out, want, roundoff=ROUNDOFF, leniency=1e3).agrees


def test_shape_is_compared_first() -> None:
    want = reference()
    found = compare(want.float()[:-1], want)
    assert not found.agrees
    assert "shape" in found.detail
    assert found.rms_error == float("inf")


def test_empty_scalar_and_complex() -> None:
    assert compare(torch.empty(0), torch.empty(0, dtype=torch.float64)).agrees
    assert compare(torch.tensor(1.0), torch.tensor(1.0, dtype=torch.float64)).agrees
    want = torch.complex(reference(1), reference(2))
    assert compare(want.to(torch.complex64), want).agrees
    assert not compare(want.conj().resolve_conj().to(torch.complex64), want).agrees


def test_subnormal_results_may_be_flushed() -> None:
    want = torch.full((8,), 1e-39, dtype=torch.float64)
    assert compare(torch.zeros(8), want).agrees
    assert not compare(torch.full((8,), 1e-30), want).agrees


def test_against_a_benchmark_the_limits_are_the_profiles() -> None:
    """Published levels, lenient to strict: an error of three times the benchmark's passes none, 1.8 times the first."""
    generator = torch.Generator().manual_seed(5)
    want = torch.randn(4096, generator=generator, dtype=torch.float64)
    noise = torch.randn(4096, generator=generator, dtype=torch.float64) * 1e-5
    benchmark, lenient, middle, strict = want + noise, Strictness(2, 10), Strictness(1.5, 5), Strictness(1.2, 2)
    for times, passed in ((3.0, []), (1.8, [lenient]), (1.4, [lenient, middle]), (1.1, [lenient, middle, strict])):
        found = [
            level for level in (lenient, middle, strict)
            if compare_by_ratio(
                (want + times * noise).float(), want, benchmark.float(), roundoff=2.0**-24, leniency=100.0, strictness=level
            ).agrees
        ]  # fmt: skip
        assert found == passed, times


def test_of_one_element_the_root_mean_square_is_no_other_measure_than_the_largest() -> None:
    want, other = torch.tensor([0.021], dtype=torch.float64), torch.tensor([0.021 + 3e-9], dtype=torch.float64)

    def held(error: float) -> bool:
        return compare_by_ratio(want + error, want, other, roundoff=2.0**-24).agrees

    assert held(2.0e-8)
    assert not held(4.0e-8)


def test_what_cancels_is_held_to_what_its_inputs_roundings_move_it_by() -> None:
    """A mean of some dozens of numbers around zero, as another order of summation gives it."""
    want = torch.tensor([1e-4], dtype=torch.float64)
    exact, moved = want.clone(), torch.tensor([5e-9], dtype=torch.float64)

    def held(error: float, roundoff: float, sensitivity: torch.Tensor | None) -> bool:
        return compare_by_ratio(want + error, want, exact, roundoff=roundoff, sensitivity=sensitivity).agrees

    assert held(1.5e-8, 2.0**-24, moved)
    assert not held(1.5e-8, 2.0**-24, None)
    assert not held(1e-7, 2.0**-24, moved)
    # In 16 bits sums are wider than what they give: nothing is forgiven that the CPU does not need.
    assert not held(1.5e-5, 2.0**-9, 1e3 * moved)


def test_one_number_may_be_off_by_another_order_of_a_long_sum_where_digits_are_known_to_get_lost() -> None:
    want = torch.tensor([280.0], dtype=torch.float64)
    lucky = want.float()  # the host's error has vanished
    off = want * (1 + 4.5 * ROUNDOFF)
    assert not compare_by_ratio(off, want, lucky, roundoff=ROUNDOFF).agrees
    assert compare_by_ratio(off, want, lucky, roundoff=ROUNDOFF, leniency=4.0).agrees
    assert not compare_by_ratio(want * (1 + 17 * ROUNDOFF), want, lucky, roundoff=ROUNDOFF, leniency=1024.0).agrees
    many, other = reference(), reference().float()
    assert not compare_by_ratio(many * (1 + 8 * ROUNDOFF), many, other, roundoff=ROUNDOFF, leniency=4.0).agrees
