"""Timing of work on a device: settled, warmed up, synchronised, repeated, by its own events where they can be believed.

The one place for it; torch is imported where it is used. On a device of the host's processors the time in which this
process stood in line for one is left out and reported; on a device of its own silicon the host only starts the work.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.host.runqueue_wait import in_line_s, is_reported

#: A host that kept the process waiting for so much of the time does not say how fast the device is.
MOST_WAITED = 0.1
#: One that kept it waiting for so much says nothing even of what is slow several times over.
MOSTLY_WAITED = 0.5
#: A sample is as many calls as take so long: waiting for the device and reading the clock then count little.
SAMPLE_S = 0.005
_MOST_CALLS = 1000
#: Of fewer samples than so many quartiles say little.
_FEW = 8
#: Samples are taken in so many rounds, on the host each on memory of its own; another run is taken for one more round.
ROUNDS = 5
#: By how many standard deviations of the rounds two of them differ at most in 95 of 100 cases, by the number of rounds:
#: Student's quantile times the square root of two, as ISO 5725-6 limits the difference of two results.
_LIMITS = {2: 17.97, 3: 6.09, 4: 4.50, 5: 3.93}
#: A rate whose spread is more than this share of it is called unsteady.
UNSTEADY = 0.1
#: A later round begins with a call that is not timed where that takes less than this share of it.
_SHORT = 0.1
#: Blocks move to other memory between rounds where the further one takes no more than this share of what is free.
_ROOM_SHARE = 0.1
#: Events that count less of the same batch, or more, than the host's clock are not believed.
_BELIEVED = (0.7, 1.05)
#: A device that comes to rest loses more than this between two readings: degrees, watts, megahertz; bytes come free.
_RESTLESS = {"temperature_c": 0.5, "power_w": 5.0, "clock_mhz": 50.0}
_RELEASED = 2**26


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds per call, one entry for each sample.

    `waited` is the share of the time for which the process waited for a processor (nan where nobody knows), `clock` whose
    clock it was: `host`, or `device` where the device's events were believed. `interrupted` is `waited` where the device
    computes with the host's processors and waiting interrupts what is timed, else 0. `rounds` is how many of the samples
    each round took, in order; without it equal parts of them are rounds.
    """

    seconds: tuple[float, ...]
    waited: float = math.nan
    clock: str = "host"
    interrupted: float = 0.0
    rounds: tuple[int, ...] = ()

    @property
    def busy(self) -> bool:
        """True if other work on the host disturbed it; on a device of its own silicon it hardly matters."""
        return self.waited > MOST_WAITED

    @property
    def median(self) -> float:
        """Median of the samples, in seconds per call."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """The shortest sample, in seconds per call."""
        return min(self.seconds)

    def quantile(self, share: float) -> float:
        """The value below which this share of the samples lies."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]

    def rate(self, work: float) -> float:
        """Return the median rate of `work` (operations or bytes of one call) per second."""
        return work / self.median

    def spread(self, work: float) -> float:
        """Return by how much the median rate of another run may differ, per second."""
        rounds = [work / seconds for seconds in self.round_medians()]
        return spread_of([work / seconds for seconds in self.seconds], self.interrupted, rounds)

    @property
    def spread_s(self) -> float:
        """By how much the median of another run may differ, in seconds."""
        return spread_of(self.seconds, self.interrupted, self.round_medians())

    def round_medians(self) -> list[float]:
        """Return the median of each round, in seconds per call: none where there are too few samples for rounds."""
        rounds, count = self.rounds, len(self.seconds)
        if not rounds and count >= 2 * ROUNDS:
            rounds = tuple(count * (number + 1) // ROUNDS - count * number // ROUNDS for number in range(ROUNDS))
        ends = (0, *accumulate(rounds))
        return [statistics.median(self.seconds[begin:end]) for begin, end in pairwise(ends)]

    def unsteady(self) -> dict[str, str]:
        """Return the cell of a row that says how unsteady the rate is; none of a steady one."""
        share = self.spread(1.0) / self.rate(1.0)
        if share <= UNSTEADY:
            return {}
        medians = [1e3 * seconds for seconds in self.round_medians()]
        took = f"; rounds took {min(medians):.3g} to {max(medians):.3g} ms" if len(medians) > 1 else ""
        return {"unsteady": f"another run may differ by {share:.0%}{took}"}


def quartiles(values: Sequence[float]) -> float:
    """Return the distance between the quartiles of some values; 0 of a single one."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(sorted(values), n=4, method="inclusive")
    return high - low


def spread_of(values: Sequence[float], interrupted: float = 0.0, medians: Sequence[float] = ()) -> float:
    """Return by how much the median of another run may differ from that of these values; `medians` are those of rounds.

    Samples of one moment agree better than runs do: other runs have other pages of memory, and neighbours on the machine
    come and go. So the base is how far rounds lie apart (`rounds_limit`), as if another run were one more of them; never
    less than the distance between the quartiles, or between all of a few. Other work leaves caches cold and shares the
    memory also while this process runs: the share of the time that it took is a share of the rate that is in doubt.
    """
    if len(values) < 2:
        return 0.0
    within = quartiles(values) if len(values) >= _FEW else max(values) - min(values)
    doubt = statistics.median(values) * min(1.0, interrupted if interrupted > 0 else 0.0)
    return max(within, rounds_limit(medians)) + doubt


def rounds_limit(medians: Sequence[float]) -> float:
    """Return how far apart two rounds are at most in 95 of 100 cases, from the medians of some; 0 of fewer than two.

    It is not divided by the root of their number: what drifts for longer than a run moves all of its rounds.
    """
    if len(medians) < 2:
        return 0.0
    return _LIMITS.get(len(medians), _LIMITS[ROUNDS]) * statistics.stdev(medians)


def once(work: Callable[[], object], synchronize: Callable[[], None]) -> float:
    """Return the seconds of one call, from an idle device to an idle device."""
    synchronize()
    started = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - started


def once_running(work: Callable[[], object], synchronize: Callable[[], None], threads: int = 1) -> float:
    """Return the seconds of one call without the time in the run queue, on so many threads.

    Never less than the processor time that was spent, over the threads: they may stand in line side by side. Where the
    system does not report it (elsewhere than on Linux), the time by the clock.
    """
    synchronize()
    started, spent, waited = time.perf_counter(), time.process_time(), in_line_s()
    work()
    synchronize()
    waited, spent, passed = in_line_s() - waited, time.process_time() - spent, time.perf_counter() - started
    return max(passed - max(waited, 0.0) / threads, spent / threads)


def repeat(
    work: Callable[[], object], synchronize: Callable[[], None], *, budget_s: float, least: int = 5, most: int = 100
) -> Timing:
    """Time calls by the host's clock until the budget is spent, at least `least` samples and at most `most`."""
    work()
    calls = _calls(once(work, synchronize))
    many = _several(work, calls)
    return sampled(lambda: once(many, synchronize) / calls, budget_s=budget_s, least=least, most=most)


def measured(
    accelerator: Accelerator, work: Callable[[], object], *, budget_s: float, least: int = 5, most: int = 100,
    renew: Callable[[], None] | None = None, block_bytes: float = 0.0,
) -> Timing:  # fmt: skip
    """Time calls on a device as the field does, after a warm-up and in rounds. Raises what the device raises.

    By the device's own events, if the device is of its own silicon and they agree with the host's clock over the same batch;
    else by the host's clock. On devices of the host's processors without the time in the run queue, and on other memory in
    each round: `renew` moves what the call works on, and needs room for a block of so many bytes.
    """
    calls = [work]
    return in_turns(
        accelerator, calls, budget_s=budget_s, least=least, most=most, renew=renew, block_bytes=block_bytes
    )[0]  # fmt: skip


def in_turns(
    accelerator: Accelerator, calls: Sequence[Callable[[], object]], *, budget_s: float, least: int = 5, most: int = 100,
    renew: Callable[[], None] | None = None, block_bytes: float = 0.0,
) -> list[Timing]:  # fmt: skip
    """Time several calls as `measured` does, each for its own budget, in turns: all of them in every round.

    What changes in the meantime is then seen by each.
    """
    rounds = max(1, min(ROUNDS, least))
    samplers = [_Sampler(accelerator) for _ in calls]
    moves = renew is not None and on_host(accelerator) and _has_room(accelerator, block_bytes)
    for number in range(rounds):
        if number and moves and renew is not None:
            renew()
        for sampler, call in zip(samplers, calls, strict=True):
            sampler.take(call, budget_s=budget_s / rounds, least=-(-least // rounds), most=max(1, most // rounds))
    return [sampler.timing() for sampler in samplers]


def _has_room(accelerator: Accelerator, block_bytes: float) -> bool:
    reading = accelerator.memory()
    return reading is not None and block_bytes <= _ROOM_SHARE * reading[0]


@dataclass(slots=True)
class _Sampler:
    """Samples of one call, round by round: by the host's clock and, where the device has events, by those."""

    accelerator: Accelerator
    calls: int = 0
    single_s: float = 0.0
    taken: list[Timing] = field(default_factory=list)
    by_events: list[float] = field(default_factory=list)
    pair: tuple[Any, Any] | None = None

    def take(self, work: Callable[[], object], *, budget_s: float, least: int, most: int) -> None:
        """Take the samples of a round. The first one begins with a warm-up, others with a call where that is short."""
        clock = clock_of(self.accelerator)
        if not self.calls:
            work()
            self.single_s = clock(work)
            self.calls = _calls(self.single_s)
            self.pair = None if on_host(self.accelerator) else events(self.accelerator)
        elif self.single_s < _SHORT * budget_s:
            work()
        many = _several(work, self.calls)
        self.taken.append(sampled(lambda: self._sample(many, clock), budget_s=budget_s, least=least, most=most))

    def _sample(self, many: Callable[[], None], clock: Callable[[Callable[[], object]], float]) -> float:
        if self.pair is None:
            return clock(many) / self.calls
        self.accelerator.synchronize()
        started = time.perf_counter()
        self.pair[0].record()
        many()
        self.pair[1].record()
        self.accelerator.synchronize()
        passed = time.perf_counter() - started
        self.by_events.append(elapsed_s(self.pair) / self.calls)
        return passed / self.calls

    def timing(self) -> Timing:
        """Return all samples, by whose clock can be believed."""
        seconds = tuple(one for part in self.taken for one in part.seconds)
        rounds = tuple(len(part.seconds) for part in self.taken)
        waited = sum(part.waited * len(part.seconds) for part in self.taken) / len(seconds)
        if on_host(self.accelerator):
            return Timing(seconds, waited, interrupted=waited, rounds=rounds)
        agreed = statistics.median(self.by_events) / statistics.median(seconds) if self.by_events else math.nan
        if not _BELIEVED[0] <= agreed <= _BELIEVED[1]:
            return Timing(seconds, waited, rounds=rounds)
        return Timing(tuple(self.by_events), waited, "device", rounds=rounds)


def on_host(accelerator: Accelerator) -> bool:
    """True if the device computes with the host's processors: the CPU, and simulated chips."""
    return accelerator.device.type == "cpu" or accelerator.stack.host_backed


def events(accelerator: Accelerator) -> tuple[Any, Any] | None:
    """Return two events of the device that take times; None if it has none."""
    make: Any = getattr(accelerator.stack.module(), "Event", None)
    try:
        pair = None if make is None else (make(enable_timing=True), make(enable_timing=True))
        if pair is not None:
            pair[0].record()
            pair[1].record()
            accelerator.synchronize()
            elapsed_s(pair)
    except (RuntimeError, NotImplementedError, TypeError, AttributeError):
        return None  # they take no times
    return pair


def elapsed_s(pair: tuple[Any, Any]) -> float:
    """Return the seconds between two events that were recorded and reached."""
    return float(pair[0].elapsed_time(pair[1])) / 1e3


def _calls(single_s: float) -> int:
    return max(1, min(_MOST_CALLS, int(SAMPLE_S / max(single_s, 1e-7))))


def _several(work: Callable[[], object], calls: int) -> Callable[[], None]:
    def several() -> None:
        for _ in range(calls):
            work()

    return several


def sampled(sample: Callable[[], float], *, budget_s: float, least: int, most: int) -> Timing:
    """Take samples until the budget is spent; note for which share of the time the process waited for a processor."""
    samples: list[float] = []
    began, waited = time.perf_counter(), waited_s()
    while len(samples) < least or (len(samples) < most and time.perf_counter() - began < budget_s):
        samples.append(sample())
    return Timing(tuple(samples), (waited_s() - waited) / max(time.perf_counter() - began, 1e-9))


def waited_s() -> float:
    """Return the seconds for which this process waited for a processor so far; nan if the system does not report it."""
    return in_line_s() if is_reported() else math.nan


def clock_of(accelerator: Accelerator) -> Callable[[Callable[[], object]], float]:
    """Return a function that times one call by the host's clock; on devices of the host's processors without its waits."""
    if not on_host(accelerator):
        return lambda work: once(work, accelerator.synchronize)
    import torch

    threads = torch.get_num_threads()
    return lambda work: once_running(work, accelerator.synchronize, threads)


@dataclass(frozen=True, slots=True)
class Settled:
    """How a device came to rest before a timed test: seconds, temperatures in degrees, what was not at rest in the end."""

    seconds: float = 0.0
    before_c: float | None = None
    after_c: float | None = None
    unsettled: str | None = None

    def cells(self) -> dict[str, Any]:
        """Return the cells of a row."""
        cells: dict[str, Any] = {"settled": self.unsettled or "yes", "settling_s": round(self.seconds, 2)}
        return cells | ({} if self.before_c is None else {"before_c": self.before_c, "after_c": self.after_c})


def settle(accelerator: Accelerator, *, deadline_s: float = 5.0, pause_s: float = 0.5) -> Settled:
    """Wait until the device is at rest: temperature, power and clock fall no more, and no more memory comes free.

    After `deadline_s` it is timed all the same, and what did not come to rest is reported: a test that starts hot is slower
    than one that starts cold. Devices of the host's processors, and those without sensors, have nothing to wait for.
    """
    accelerator.synchronize()
    accelerator.release()
    if on_host(accelerator) or "temperature_c" not in (now := dict(accelerator.sensors())):
        return Settled()
    began, before = time.monotonic(), now["temperature_c"]
    free = accelerator.memory()
    while True:
        time.sleep(pause_s)
        previous, now, free_before, free = now, dict(accelerator.sensors()), free, accelerator.memory()
        moving = [
            f"{name} falls, from {previous[name]:g} to {now[name]:g}"
            for name, step in _RESTLESS.items()
            if name in previous and name in now and previous[name] - now[name] > step
        ]
        if free is not None and free_before is not None and free[0] - free_before[0] > _RELEASED:
            moving.append(f"memory comes free, {(free[0] - free_before[0]) / 2**20:.0f} MiB")
        passed = time.monotonic() - began
        if not moving or passed >= deadline_s:
            words = f"no, after {passed:.0f} s {'; '.join(moving)}" if moving else None
            return Settled(passed, before, now.get("temperature_c", before), words)
