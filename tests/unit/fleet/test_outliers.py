"""Odd values among peers: planted ones are found, sound fleets are left alone whatever the seed."""

from __future__ import annotations

import math
import random

import pytest

from readiness.comparison.comparable_values import Kind
from readiness.datamodel import Better
from readiness.fleet.outliers import FEWEST_PEERS, deviations_allowed, find_outliers

ALLOWED = deviations_allowed(1_000_000)


def places(values: list[float], kind: Kind, better: Better | None) -> list[int]:
    found = find_outliers(values, kind, better, ALLOWED)
    return [] if found is None else found[1]


def test_a_slow_chip_is_found_and_a_fast_one_left_alone() -> None:
    draw = random.Random(1)
    values = [500 * (1 + draw.gauss(0, 0.01)) for _ in range(1000)]
    values[7], values[8] = 425.0, 700.0
    assert places(values, Kind.PERFORMANCE, Better.HIGHER) == [7]
    assert places([1 / value for value in values], Kind.OTHER, Better.LOWER) == [7]


def test_a_counter_that_all_others_have_at_zero_is_odd_however_small() -> None:
    values = [0.0] * 99 + [1.0]
    assert places(values, Kind.OTHER, Better.LOWER) == [99]
    assert places([1.0] * 99 + [0.5], Kind.COVERAGE, Better.HIGHER) == [99]
    assert places([1.0] * 99 + [0.5], Kind.COVERAGE, None) == []


def test_an_error_is_odd_by_its_digits() -> None:
    draw = random.Random(2)
    values = [1e-6 * 10 ** draw.gauss(0, 0.2) for _ in range(500)]
    assert places([*values, 5e-6], Kind.ERROR, Better.LOWER) == []
    assert places([*values, 1e-3], Kind.ERROR, Better.LOWER) == [500]


def test_of_too_few_and_of_nobody_nothing_is_known() -> None:
    assert find_outliers([1.0] * (FEWEST_PEERS - 1), Kind.PERFORMANCE, Better.HIGHER, ALLOWED) is None
    assert find_outliers([1.0] * FEWEST_PEERS, Kind.PERFORMANCE, Better.HIGHER, ALLOWED) is not None
    assert find_outliers([math.nan] * 50, Kind.PERFORMANCE, Better.HIGHER, ALLOWED) is None


def test_a_missing_value_is_not_odd_and_moves_no_place() -> None:
    values = [math.nan, *([100.0] * 50), 40.0, math.nan]
    assert places(values, Kind.PERFORMANCE, Better.HIGHER) == [51]


def test_two_kinds_of_machines_are_not_taken_for_odd_ones() -> None:
    """A third of the fleet that is slower widens the spread on the worse side: it is another kind, and said elsewhere."""
    assert places([500.0] * 200 + [300.0] * 100, Kind.PERFORMANCE, Better.HIGHER) == []


@pytest.mark.parametrize("seed", range(20))
def test_no_sound_value_is_blamed(seed: int) -> None:
    draw = random.Random(seed)
    for spread in (0.001, 0.01, 0.05):
        speeds = [500 * (1 - abs(draw.gauss(0, spread))) for _ in range(2000)]
        assert places(speeds, Kind.PERFORMANCE, Better.HIGHER) == []
    errors = [1e-6 * 10 ** draw.gauss(0, 0.3) for _ in range(2000)]
    assert places(errors, Kind.ERROR, Better.LOWER) == []
    counts = [float(draw.random() < 0.3) for _ in range(2000)]
    assert places(counts, Kind.OTHER, Better.LOWER) == []
