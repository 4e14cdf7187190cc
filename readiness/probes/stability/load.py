"""Sustained load: core operations in turn for a given time, every result compared bit for bit with the first."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from readiness import numerics
from readiness.accelerators.base import Accelerator
from readiness.host import disk
from readiness.numerics.strict_precision import strict_precision
from readiness.numerics.unsupported import unsupported_as_reason
from readiness.probes.parity.reference_cases import BACKWARD, FORWARD, dtype_named
from readiness.probes.stability.memory_usage import Usage
from readiness.probes.stability.op_batches import ERRORS_OF_ONE, Batch, MeasuredCase, batches
from readiness.probes.stability.operations import LAYOUTS, Case, cases
from readiness.probes.stability.per_op_stats import OpStats
from readiness.probes.stability.thermal_load import ThermalLoad, start

Tensor = torch.Tensor

#: After so many errors the load ends.
ERRORS_IN_ALL = 20
#: A host too busy for as many rounds as asked for gets so many times the seconds: not for ever.
LONGEST = 1.5
#: The share of the seconds that chips get which have only one host between them.
_SHARED = 0.8
#: Results at first: two of them that differ from the rest are not chance.
_FIRST = 8
_SPANS = 8
_PROGRESS_S = 5.0


@dataclass(slots=True)
class _Group:
    """Operations with results of one dtype, compared together as one vector of integers."""

    measured: list[OpStats]
    expected: Tensor | None
    stats: OpStats


@dataclass(slots=True)
class Load:
    """Sustained load on one device: `run` it, then read the results."""

    accelerator: Accelerator
    seconds: float
    least_rounds: int = 0
    op_stats: list[OpStats] = field(default_factory=list)
    thermal_load: ThermalLoad | None = None
    usage: Usage = field(init=False)
    ended: str | None = None
    out_of_memory: bool = False
    rounds: int = 0
    elapsed_s: float = 0.0
    _groups: list[_Group] = field(default_factory=list)
    _batches: list[Batch] = field(default_factory=list)
    _waits: dict[str, OpStats] = field(default_factory=dict)
    _gemm_stats: OpStats | None = None
    _began: float = 0.0

    def __post_init__(self) -> None:
        if self._shares:
            self.seconds *= _SHARED
        self.usage = Usage(self.accelerator, self.seconds / 100)

    @property
    def _shares(self) -> bool:
        """True for one of several simulated chips of a machine, which slow each other down: none waits for the others."""
        return self.accelerator.stack.sharing(self.accelerator.facts) > 1

    @property
    def cut_short(self) -> bool:
        """True if it ended early for a reason other than the device."""
        return self.out_of_memory and self.elapsed_s < self.seconds

    def prepare(self, dtypes: Iterable[str]) -> None:
        """Run every operation a few times: its expected results, whether it repeats, and its error."""
        self._began = time.monotonic()
        with _deterministic():
            self._begin_all(dtypes)

    def _begin_all(self, dtypes: Iterable[str]) -> None:
        measured: list[MeasuredCase] = []
        for name in dtypes:
            dtype = dtype_named(name)
            for layout in LAYOUTS:
                for case in cases(self.accelerator, dtype, layout, self.accelerator.device):
                    stats = self._begin(case)
                    if stats.expected_results and stats.repeatable:
                        measured.append((case, stats))
            self._start_thermal_load(dtype)
        kinds: defaultdict[tuple[str, torch.dtype], list[OpStats]] = defaultdict(list)
        for case, stats in measured:
            kinds[case.dtype, stats.expected_results[0].dtype].append(stats)
        for (name, dtype), op_stats in kinds.items():
            joined = OpStats(f"cat of {len(op_stats)} results in {numerics.name_of(dtype)}", name, FORWARD)
            self._groups.append(_Group(op_stats, None, joined))
        self._batches = batches(measured)
        self._waits = {phase: OpStats(f"waiting for operations, {phase}", "", phase) for phase in (FORWARD, BACKWARD)}
        self.op_stats += [group.stats for group in self._groups] + [batch.stats for batch in self._batches]
        self.op_stats += self._waits.values()

    def _begin(self, case: Case) -> OpStats:
        stats = OpStats(str(case), case.dtype, case.phase)
        self.op_stats.append(stats)
        with self._counting(stats):
            with unsupported_as_reason() as refusal:
                results = [tuple(part.detach() for part in case.call()) for _ in range(_FIRST)]
                prints = [numerics.fingerprint(*result) for result in results]
            stats.refusal = refusal.reason
            if refusal.reason is None:
                self._judge_first(case, stats, results, prints)
        return stats

    def _judge_first(self, case: Case, stats: OpStats, results: Sequence[tuple[Tensor, ...]], prints: Sequence[str]) -> None:
        stats.calls = len(results)
        usual, often = Counter(prints).most_common(1)[0]
        stats.expected_results = results[prints.index(usual)]
        stats.repeatable = often >= _FIRST - 1
        if often == _FIRST - 1:
            self._count_wrong(stats, next(number for number, print_ in enumerate(prints, 1) if print_ != usual))
        pairs = zip(stats.expected_results, case.reference(), strict=True)
        stats.first_error = max(numerics.worst_error(have, want) for have, want in pairs)

    def _start_thermal_load(self, dtype: torch.dtype) -> None:
        """Start the thermal load in the last dtype that works: devices are built for low precision, which comes last."""
        with contextlib.suppress(Exception):  # the operations above tell what the device lacks or raises
            thermal_load = start(self.accelerator, dtype, self.seconds / _SPANS)
            expected_results = (thermal_load.device_product.left @ thermal_load.device_product.right,)
            self.thermal_load = thermal_load
            name = numerics.name_of(dtype)
            self._gemm_stats = OpStats(
                f"matmul of {thermal_load.size} x {thermal_load.size} in {name}, forward", name, FORWARD
            )
            self._gemm_stats.expected_results = expected_results

    def run(self) -> Iterator[str]:
        """Load the device until the time is up or it cannot go on; yield progress from time to time."""
        if self._gemm_stats is not None:
            self.op_stats.append(self._gemm_stats)
        self._began = started = time.monotonic()
        shown_s = 0.0
        with _deterministic():
            while self.ended is None and self._unfinished():
                self._round()
                self.elapsed_s = time.monotonic() - started
                starved = self.usage.read(self.elapsed_s, sum(stats.calls for stats in self.op_stats))
                if starved is not None and self.ended is None:
                    self.ended, self.out_of_memory = starved, True
                if self.elapsed_s > shown_s + _PROGRESS_S:
                    shown_s = self.elapsed_s
                    yield f"{self.elapsed_s:.0f} of {self.seconds:g} s, {self.rounds} rounds"

    def once(self) -> None:
        """Run one round, for callers that keep the time themselves."""
        if self._gemm_stats is not None and all(stats is not self._gemm_stats for stats in self.op_stats):
            self.op_stats.append(self._gemm_stats)
        with _deterministic():
            self._round()
        self.elapsed_s = time.monotonic() - self._began

    def _unfinished(self) -> bool:
        busy = self.rounds < self.least_rounds and not self._shares
        return self.elapsed_s < self.seconds * (LONGEST if busy else 1)

    def _round(self) -> None:
        """Run every operation once, synchronise only between phases to keep the device busy; then compare."""
        began = time.perf_counter()
        found: dict[int, Sequence[Tensor]] = {}
        for phase, wait in self._waits.items():
            for batch in self._batches:
                if batch.stats.phase == phase:
                    found |= {id(stats): results for stats, results in batch.run(self._counting)}
            with self._counting(wait):  # an error of work that was only asked for surfaces here
                self.accelerator.synchronize()
        for group in self._groups:
            with self._counting(group.stats):
                self._compare(group, [(stats, found.get(id(stats))) for stats in group.measured])
        if self.thermal_load is not None and self._gemm_stats is not None:
            stats = self._gemm_stats
            with self._counting(stats):
                out = self.thermal_load.step(self.elapsed_s, time.perf_counter() - began)
                stats.calls += 1
                if not _same((out,), stats.expected_results):
                    self._count_wrong(stats, stats.calls)
            if stats.errors >= ERRORS_OF_ONE:
                self.thermal_load = None
        self.rounds += 1

    @contextlib.contextmanager
    def _counting(self, stats: OpStats) -> Iterator[None]:
        try:
            yield
        except Exception as problem:  # noqa: BLE001 - whatever a device raises at work is what is counted here
            self._count(stats, problem)

    def _compare(self, group: _Group, results: Sequence[tuple[OpStats, Sequence[Tensor] | None]]) -> None:
        """Compare all results at once, since a comparison costs as much as an operation; one by one if they differ."""
        there = [(stats, result) for stats, result in results if result is not None]
        if len(there) == len(results):
            if group.expected is None:
                group.expected = _joined(part for stats, _ in there for part in stats.expected_results)
            group.stats.calls += 1
            if torch.equal(_joined(part for _, result in there for part in result), group.expected):
                return
        wrong = [stats for stats, result in there if not _same(result, stats.expected_results)]
        for stats in wrong:
            self._count_wrong(stats, stats.calls)
        if not wrong and len(there) == len(results):  # each is right: putting them together was wrong
            self._count_wrong(group.stats, group.stats.calls)

    def _count_wrong(self, stats: OpStats, call: int) -> None:
        if stats.wrong == 0:
            stats.first_wrong_s, stats.first_wrong_call = time.monotonic() - self._began, call
        stats.wrong += 1

    def _count(self, stats: OpStats, problem: Exception) -> None:
        if disk.is_disk_full(problem):
            raise disk.full_error(str(problem)) from None
        stats.errors += 1
        lines = str(problem).strip().splitlines()
        stats.error = f"{type(problem).__name__}: {lines[0] if lines else ''}"[:160]
        if sum(item.errors for item in self.op_stats) >= ERRORS_IN_ALL:
            self.ended = f"{ERRORS_IN_ALL} calls raised"


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Enable deterministic algorithms if the stack has them, so that differences are not the stack's choice."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    deterministic_module: Any = torch.utils.deterministic
    filled = deterministic_module.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic_module.fill_uninitialized_memory = False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other over tiny tensors take ten times as long on a busy host
    try:
        with warnings.catch_warnings(), torch.no_grad(), strict_precision():
            warnings.simplefilter("ignore")  # one that is kept for every call would look like a leak
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        deterministic_module.fill_uninitialized_memory = filled
        torch.set_num_threads(threads)


_INTEGER_VIEWS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _joined(parts: Iterable[Tensor]) -> Tensor:
    """Return all values in one vector of integers, in which NaN equals itself and -0 differs from 0."""
    joined = torch.cat([part.detach().reshape(-1) for part in parts])
    return joined.view(_INTEGER_VIEWS[joined.itemsize])


def _same(results: Sequence[Tensor], expected_results: Sequence[Tensor]) -> bool:
    return len(results) == len(expected_results) and all(
        have.shape == want.shape and have.dtype == want.dtype and torch.equal(_joined([have]), _joined([want]))
        for have, want in zip(results, expected_results, strict=True)
    )
