"""Timing: whose clock counts, what a busy host makes of it, how long a device is left to come to rest. All clocks are fakes."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import ROUNDS, Timing, in_turns, measured, rounds_limit, settle


class Clock:
    """A clock that moves only when work is done or somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def read(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that timing reads, on a host that keeps nobody waiting."""
    found = Clock()
    fake = SimpleNamespace(perf_counter=found.read, monotonic=found.read, process_time=found.read, sleep=found.sleep)
    monkeypatch.setattr(timing, "time", fake)
    monkeypatch.setattr(timing, "waited_s", lambda: 0.0)
    monkeypatch.setattr(timing, "in_line_s", lambda: 0.0)
    return found


def device(clock: Clock, *, events: float | None = 1.0, type_: str = "cuda", sensors: Sequence[dict[str, float]] = (),
           free: Sequence[int] = ()) -> Any:  # fmt: skip
    """A device whose events run at `events` of the host's pace; its readings come one after the other."""

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.at = 0.0

        def record(self) -> None:
            self.at = clock.now

        def elapsed_time(self, end: Any) -> float:
            if events is None:
                raise RuntimeError("no times")
            return float(1e3 * events * (end.at - self.at))

    def after_each(readings: Sequence[Any], otherwise: Any) -> Iterator[Any]:
        yield from readings
        while True:
            yield readings[-1] if readings else otherwise

    heat, room = after_each(sensors, {}), after_each([(one, 2**36) for one in free], None)
    stack = SimpleNamespace(host_backed=False, module=lambda: SimpleNamespace(Event=Event))
    return SimpleNamespace(
        device=SimpleNamespace(type=type_), stack=stack, synchronize=lambda: None, release=lambda: None,
        sensors=lambda: next(heat), memory=lambda: next(room),
    )  # fmt: skip


@pytest.mark.parametrize(("events", "whose", "seconds"), [(0.98, "device", 0.98 / 128), (0.5, "host", 1 / 128), (1.2, "host", 1 / 128), (None, "host", 1 / 128)])
def test_events_count_where_the_hosts_clock_agrees(clock: Clock, events: float | None, whose: str, seconds: float) -> None:
    found = measured(device(clock, events=events), lambda: clock.sleep(1 / 128), budget_s=10 / 128)
    assert found.clock == whose
    assert found.median == pytest.approx(seconds)
    assert len(found.seconds) == 10


def test_short_calls_are_timed_many_at_once(clock: Clock) -> None:
    made = []

    def work() -> None:
        made.append(1)
        clock.sleep(1e-5)

    found = measured(device(clock), work, budget_s=0.0, least=3)
    assert len(found.seconds) == 3
    assert found.median == pytest.approx(1e-5)
    assert len(made) == pytest.approx(2 + 3 * 500, abs=3)


def test_a_device_of_the_host_is_timed_without_the_waits(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Clock()
    monkeypatch.setattr(timing, "in_line_s", line.read)
    monkeypatch.setattr("readiness.probes.throughput.timing.time.process_time", lambda: 0.0)

    def work() -> None:  # two threads, each of which stands in line for a third of the time
        clock.sleep(0.03)
        line.sleep(0.02)

    assert timing.once_running(work, lambda: None, threads=2) == pytest.approx(0.02)
    assert timing.once_running(work, lambda: None) == pytest.approx(0.01)


def test_the_share_of_waiting_is_kept(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "waited_s", lambda: clock.now / 4)

    def sample() -> float:
        clock.sleep(0.5)
        return 0.5

    found = timing.sampled(sample, budget_s=2.0, least=1, most=10)
    assert (len(found.seconds), found.waited, found.busy) == (4, 0.25, True)
    assert not Timing((1.0,), math.nan).busy


# ------------------------------------------------------------------------------------------ rounds, and what a spread holds


def on_memory_of_the_host(clock: Clock, free: int = 2**36) -> Any:
    """A device that computes with the host's processors, in so many free bytes."""
    found = device(clock, type_="cpu")
    found.memory = lambda: (free, 2**36)
    return found


def noted(clock: Clock, done: list[str], name: str, seconds: float = 0.01) -> Callable[[], None]:
    """A call that takes so long, and notes its name."""

    def call() -> None:
        done.append(name)
        clock.sleep(seconds)

    return call


def test_calls_take_turns_and_their_blocks_move_between_rounds(clock: Clock) -> None:
    done: list[str] = []
    found = in_turns(
        on_memory_of_the_host(clock), [noted(clock, done, "first", 0.5), noted(clock, done, "second", 0.5)], budget_s=0.0,
        renew=lambda: done.append("moved"),
    )  # fmt: skip
    warm, again = ["first", "first", "first", "second", "second", "second"], ["moved", "first", "second"]
    assert done == warm + again * (ROUNDS - 1)
    assert [one.rounds for one in found] == [(1,) * ROUNDS] * 2


@pytest.mark.parametrize(("free", "type_", "moves"), [(10_000, "cpu", ROUNDS - 1), (9_999, "cpu", 0), (None, "cpu", 0), (10_000, "cuda", 0)])
def test_blocks_move_on_the_host_where_there_is_room(clock: Clock, free: int | None, type_: str, moves: int) -> None:
    there, moved = device(clock, type_=type_), list[int]()
    there.memory = lambda: None if free is None else (free, 2**36)
    found = measured(there, lambda: clock.sleep(1 / 128), budget_s=50 / 128, renew=lambda: moved.append(1), block_bytes=1000)
    assert len(moved) == moves
    assert (sum(found.rounds), len(found.rounds)) == (50, ROUNDS)


def test_short_calls_warm_up_again_in_each_round_and_long_ones_do_not(clock: Clock) -> None:
    for seconds, budget_s, again in ((0.01, 2.0, 1), (0.5, 2.0, 0)):
        done: list[str] = []
        found = measured(device(clock), noted(clock, done, "call", seconds), budget_s=budget_s)
        assert len(done) == 2 + len(found.seconds) + again * (ROUNDS - 1)


def test_a_drift_from_round_to_round_is_in_the_spread() -> None:
    rates = (10.0, 10.1, 12.0, 12.1, 11.0, 11.1, 9.0, 9.1, 10.0, 10.1)
    found = Timing(tuple(1 / rate for rate in rates), rounds=(2,) * ROUNDS)
    medians = (10.05, 12.05, 11.05, 9.05, 10.05)
    assert found.spread(1) == pytest.approx(3.93 * statistics.stdev(medians), rel=1e-3)
    assert found.spread(1) > 3 * timing.quartiles(rates)
    assert found.unsteady() == {"unsteady": "another run may differ by 44%; rounds took 83 to 111 ms"}


def test_rounds_that_agree_widen_nothing() -> None:
    seconds = (0.99, 1.0, 1.0, 1.0, 1.01)
    found = Timing(seconds * ROUNDS, rounds=(len(seconds),) * ROUNDS)
    assert found.spread(1) == timing.quartiles([1 / one for one in found.seconds])
    assert found.spread_s == timing.quartiles(found.seconds)
    assert found.unsteady() == {}
    assert rounds_limit([1.0]) == rounds_limit([]) == 0


def test_samples_without_rounds_are_taken_in_equal_parts() -> None:
    drifting = Timing(tuple(1.0 + 0.1 * (number // 4) for number in range(4 * ROUNDS)))
    assert drifting.round_medians() == pytest.approx([1.0, 1.1, 1.2, 1.3, 1.4])
    assert Timing((1.0,) * (2 * ROUNDS - 1)).round_medians() == []


def test_the_spread_holds_another_run_where_pages_differ() -> None:
    """Blocks that lie elsewhere are slower or faster by 7 % (one standard deviation), and so are runs: simulated ones."""
    draw = random.Random(7)
    limit = quartiles = pairs = 0

    def run() -> Timing:
        rounds = [1 + draw.gauss(0, 0.07) for _ in range(ROUNDS)]
        drift = 1 + draw.gauss(0, 0.03)
        return Timing(tuple(drift * one * (1 + draw.gauss(0, 0.02)) for one in rounds for _ in range(20)), rounds=(20,) * ROUNDS)

    for _ in range(200):
        one, other = run(), run()
        apart, pairs = abs(one.rate(1) - other.rate(1)), pairs + 1
        limit += apart <= one.spread(1)
        quartiles += apart <= timing.quartiles([1 / seconds for seconds in one.seconds])
    assert limit >= 0.97 * pairs
    assert quartiles < 0.95 * pairs


def test_a_device_that_cools_is_waited_for(clock: Clock) -> None:
    readings = [{"temperature_c": degrees, "power_w": 100.0} for degrees in (80.0, 75.0, 71.0, 70.8)]
    found = settle(device(clock, sensors=readings), deadline_s=10.0, pause_s=0.5)
    assert (found.seconds, found.before_c, found.after_c, found.unsettled) == (1.5, 80.0, 70.8, None)
    assert found.cells() == {"settled": "yes", "settling_s": 1.5, "before_c": 80.0, "after_c": 70.8}


@pytest.mark.parametrize(
    ("readings", "free", "said"),
    [
        ([{"temperature_c": 90.0 - number} for number in range(50)], [], "temperature_c falls"),
        ([{"temperature_c": 60.0, "clock_mhz": 1900.0 - 100 * number} for number in range(50)], [], "clock_mhz falls"),
        ([{"temperature_c": 60.0, "power_w": 600.0 - 10 * number} for number in range(50)], [], "power_w falls"),
        ([{"temperature_c": 60.0}], [2**30 * number for number in range(50)], "memory comes free"),
    ],
)
def test_what_does_not_come_to_rest_is_told_and_timed_all_the_same(
    clock: Clock, readings: list[dict[str, float]], free: list[int], said: str
) -> None:
    found = settle(device(clock, sensors=readings, free=free), deadline_s=5.0, pause_s=0.5)
    assert found.seconds == 5.0
    assert said in str(found.cells()["settled"])


def test_without_sensors_nobody_waits(clock: Clock) -> None:
    assert settle(device(clock)).seconds == 0
    simulated = device(clock, sensors=[{"temperature_c": 80.0}])
    simulated.stack.host_backed = True
    assert settle(simulated).cells()["settled"] == "yes"
    assert clock.now == 0
