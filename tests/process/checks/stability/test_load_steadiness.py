"""Staying power: quantiles, end against beginning, slope; sensors and throttling over time. No clock is asked."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from readiness.datamodel import Measurement, Row
from readiness.probes.stability import measurements
from readiness.probes.stability.load_steadiness import PaceSample, of_samples
from readiness.probes.stability.thermal_load import SensorSample, Span, ThermalLoad
from readiness.rendering import row_shapes
from tests.process.checks.stability.test_load import thermal_load


def paces(*milliseconds: float, host_ms: tuple[float, ...] = (), each: int = 40) -> list[PaceSample]:
    """So many samples in each of equal parts of 100 s."""
    parts = len(milliseconds)
    return [
        PaceSample((part + number / each) * 100 / parts, 1e-3 * ms, 1e-3 * (host_ms[part] if host_ms else math.inf))
        for part, ms in enumerate(milliseconds)
        for number in range(each)
    ]


def test_a_steady_pace() -> None:
    found = of_samples(paces(*[2.0] * 10), 100.0)
    assert found is not None
    assert (found.jitter, found.kept, found.slope) == (1.0, 1.0, 0.0)


def test_a_device_that_is_fast_for_a_while() -> None:
    found = of_samples(paces(*[2.0] * 3, *[8.0] * 7), 100.0)
    assert found is not None
    assert found.kept == 0.25


def test_a_slope_is_a_share_of_the_speed_in_a_minute() -> None:
    found = of_samples(paces(*(1 / (1 - 0.02 * tenth) for tenth in range(10))), 100.0)
    assert found is not None
    assert found.slope == pytest.approx(60 * -0.002 / 0.91, rel=0.02)


def test_what_the_host_lost_is_not_the_devices_loss() -> None:
    found = of_samples(paces(*[2.0] * 5, *[4.0] * 5, host_ms=(1.0,) * 5 + (2.0,) * 5), 100.0)
    assert found is not None
    assert found.kept == 1.0


def test_one_in_fifty_that_is_late_is_jitter() -> None:
    samples = [PaceSample(number / 10, 1e-2 if number % 50 == 0 else 1e-3, math.inf) for number in range(1000)]
    found = of_samples(samples, 100.0)
    assert found is not None
    assert found.jitter == 10


def test_few_samples_say_nothing() -> None:
    assert of_samples(paces(*[2.0] * 10, each=5), 100.0) is None
    found = of_samples(paces(*[2.0] * 10)[100:], 100.0)  # the first tenths were disturbed
    assert found is not None
    assert found.kept is None


def yielded(gemms: ThermalLoad, **load: Any) -> list[Any]:
    return list(measurements._staying_power(gemms, SimpleNamespace(elapsed_s=100.0, rounds=50, **load)))  # type: ignore[arg-type]


def test_samples_of_disturbed_spans_do_not_count() -> None:
    gemms = thermal_load(1.0, 1.0)
    gemms.spans = [Span(0.0, 50.0, waited_s=40.0, paces=paces(*[9.0] * 10)), Span(50.0, 100.0, waited_s=0.0, paces=paces(*[1.0] * 10))]
    found = {item.name: item for item in yielded(gemms) if isinstance(item, Measurement)}
    assert found["jitter"].value == 1
    gemms.spans = gemms.spans[:1]
    assert yielded(gemms) == []


def test_sensors_and_reasons_are_kept_with_their_moment() -> None:
    gemms = thermal_load(1.0)
    gemms.spans = []
    gemms.moments = [
        SensorSample(float(second), 1e-3, sensors={"temperature_c": 50.0 + second, "power_w": 200.0}, throttled=["hw_thermal_slowdown"] if second > 1 else [])
        for second in range(4)
    ]
    found = {item.name: item for item in yielded(gemms)}
    assert found["hottest_c"].value == 53
    assert found["throttled_share"].value == 0.5
    assert found["energy_per_round_j"].value == 200.0 * 100 / 50
    row = Row(measurements._series(gemms.moments)).cells
    assert row_shapes.problem(row) is None
    assert row["columns"]["throttled"] == [0, 0, 1, 1]
    gemms.moments = [SensorSample(0.0, throttled=None)]
    assert yielded(gemms) == []


def test_sensors_are_read_during_the_load_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    gemms = thermal_load(1.0)
    gemms.spans = [Span(0.0)]
    monkeypatch.setattr(type(gemms.accelerator), "sensors", lambda self: {"temperature_c": 40.0})
    monkeypatch.setattr(type(gemms.accelerator), "throttle_reasons", lambda self: [])
    for tenths in range(400):
        gemms.step(tenths / 10, 0.001)
    assert 3 <= len(gemms.moments) <= 61
    assert all(moment.throttled == [] for moment in gemms.moments)
