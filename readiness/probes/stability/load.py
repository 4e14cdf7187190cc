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
from readiness.probes.stability.op_batches import ERRORS_OF_ONE, Batch, Member, batches
from readiness.probes.stability.operations import LAYOUTS, Case, cases
from readiness.probes.stability.per_op_stats import Tally
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
    """Operations whose results are of one dtype: they are compared together, as one vector of integers."""

    members: list[Tally]
    expected: Tensor | None
    tally: Tally


@dataclass(slots=True)
class Load:
    """The load on one device. `run` it, then read what it found."""

    accelerator: Accelerator
    seconds: float
    least_rounds: int = 0
    tallies: list[Tally] = field(default_factory=list)
    heat: ThermalLoad | None = None
    usage: Usage = field(init=False)
    ended: str | None = None
    out_of_memory: bool = False
    rounds: int = 0
    elapsed_s: float = 0.0
    _groups: list[_Group] = field(default_factory=list)
    _batches: list[Batch] = field(default_factory=list)
    _waits: dict[str, Tally] = field(default_factory=dict)
    _gemm_tally: Tally | None = None
    _began: float = 0.0

    def __post_init__(self) -> None:
        if self._shares:
            self.seconds *= _SHARED
        self.usage = Usage(self.accelerator, self.seconds / 100)

    @property
    def _shares(self) -> bool:
        """Whether it is a chip of several of one simulator, which keep each other busy: none waits for the others."""
        return self.accelerator.stack.sharing(self.accelerator.facts) > 1

    @property
    def cut_short(self) -> bool:
        """Whether it ended, for a cause that is not the device's, before the seconds that were asked for."""
        return self.out_of_memory and self.elapsed_s < self.seconds

    def prepare(self, dtypes: Iterable[str]) -> None:
        """Run everything a few times: what it should give, whether it repeats, and whether it is near the truth."""
        self._began = time.monotonic()
        with _steady():
            self._begin_all(dtypes)

    def _begin_all(self, dtypes: Iterable[str]) -> None:
        members: list[Member] = []
        for name in dtypes:
            dtype = dtype_named(name)
            for layout in LAYOUTS:
                for case in cases(self.accelerator, dtype, layout, self.accelerator.device):
                    tally = self._begin(case)
                    if tally.yardstick and tally.repeatable:
                        members.append((case, tally))
            self._start_thermal_load(dtype)
        kinds: defaultdict[tuple[str, torch.dtype], list[Tally]] = defaultdict(list)
        for case, tally in members:
            kinds[case.dtype, tally.yardstick[0].dtype].append(tally)
        for (name, dtype), tallies in kinds.items():
            joined = Tally(f"cat of {len(tallies)} results in {numerics.name_of(dtype)}", name, FORWARD)
            self._groups.append(_Group(tallies, None, joined))
        self._batches = batches(members)
        self._waits = {phase: Tally(f"waiting for operations, {phase}", "", phase) for phase in (FORWARD, BACKWARD)}
        self.tallies += [group.tally for group in self._groups] + [batch.tally for batch in self._batches]
        self.tallies += self._waits.values()

    def _begin(self, case: Case) -> Tally:
        tally = Tally(str(case), case.dtype, case.phase)
        self.tallies.append(tally)
        with self._counting(tally):
            with unsupported_as_reason() as refusal:
                results = [tuple(part.detach() for part in case.call()) for _ in range(_FIRST)]
                prints = [numerics.fingerprint(*result) for result in results]
            tally.refusal = refusal.reason
            if refusal.reason is None:
                self._judge_first(case, tally, results, prints)
        return tally

    def _judge_first(self, case: Case, tally: Tally, results: Sequence[tuple[Tensor, ...]], prints: Sequence[str]) -> None:
        tally.calls = len(results)
        usual, often = Counter(prints).most_common(1)[0]
        tally.yardstick = results[prints.index(usual)]
        tally.repeatable = often >= _FIRST - 1
        if often == _FIRST - 1:
            self._count_wrong(tally, next(number for number, print_ in enumerate(prints, 1) if print_ != usual))
        pairs = zip(tally.yardstick, case.reference(), strict=True)
        tally.first_error = max(numerics.worst_error(have, want) for have, want in pairs)

    def _start_thermal_load(self, dtype: torch.dtype) -> None:
        """The last dtype that works heats: low precision is what devices are built for, and named last."""
        with contextlib.suppress(Exception):  # the operations above tell what the device lacks or raises
            heat = start(self.accelerator, dtype, self.seconds / _SPANS)
            yardstick = (heat.ours.left @ heat.ours.right,)
            self.heat = heat
            name = numerics.name_of(dtype)
            self._gemm_tally = Tally(f"matmul of {heat.size} x {heat.size} in {name}, forward", name, FORWARD)
            self._gemm_tally.yardstick = yardstick

    def run(self) -> Iterator[str]:
        """Load the device until the time is up or it cannot go on; yields from time to time what it is at."""
        if self._gemm_tally is not None:
            self.tallies.append(self._gemm_tally)
        self._began = started = time.monotonic()
        shown_s = 0.0
        with _steady():
            while self.ended is None and self._unfinished():
                self._round()
                self.elapsed_s = time.monotonic() - started
                starved = self.usage.read(self.elapsed_s, sum(tally.calls for tally in self.tallies))
                if starved is not None and self.ended is None:
                    self.ended, self.out_of_memory = starved, True
                if self.elapsed_s > shown_s + _PROGRESS_S:
                    shown_s = self.elapsed_s
                    yield f"{self.elapsed_s:.0f} of {self.seconds:g} s, {self.rounds} rounds"

    def once(self) -> None:
        """One round, for those who keep time themselves."""
        if self._gemm_tally is not None and all(tally is not self._gemm_tally for tally in self.tallies):
            self.tallies.append(self._gemm_tally)
        with _steady():
            self._round()
        self.elapsed_s = time.monotonic() - self._began

    def _unfinished(self) -> bool:
        busy = self.rounds < self.least_rounds and not self._shares
        return self.elapsed_s < self.seconds * (LONGEST if busy else 1)

    def _round(self) -> None:
        """Everything once, waiting only between the phases, so that the device has work in store; then the comparison."""
        began = time.perf_counter()
        found: dict[int, Sequence[Tensor]] = {}
        for phase, wait in self._waits.items():
            for batch in self._batches:
                if batch.tally.phase == phase:
                    found |= {id(tally): results for tally, results in batch.run(self._counting)}
            with self._counting(wait):  # an error of work that was only asked for surfaces here
                self.accelerator.synchronize()
        for group in self._groups:
            with self._counting(group.tally):
                self._compare(group, [(tally, found.get(id(tally))) for tally in group.members])
        if self.heat is not None and self._gemm_tally is not None:
            tally = self._gemm_tally
            with self._counting(tally):
                out = self.heat.step(self.elapsed_s, time.perf_counter() - began)
                tally.calls += 1
                if not _same((out,), tally.yardstick):
                    self._count_wrong(tally, tally.calls)
            if tally.errors >= ERRORS_OF_ONE:
                self.heat = None
        self.rounds += 1

    @contextlib.contextmanager
    def _counting(self, tally: Tally) -> Iterator[None]:
        try:
            yield
        except Exception as problem:  # noqa: BLE001 - whatever a device raises at work is what is counted here
            self._count(tally, problem)

    def _compare(self, group: _Group, results: Sequence[tuple[Tally, Sequence[Tensor] | None]]) -> None:
        """All results at once, since a comparison costs as much as an operation; one by one where they differ."""
        there = [(tally, result) for tally, result in results if result is not None]
        if len(there) == len(results):
            if group.expected is None:
                group.expected = _joined(part for tally, _ in there for part in tally.yardstick)
            group.tally.calls += 1
            if torch.equal(_joined(part for _, result in there for part in result), group.expected):
                return
        wrong = [tally for tally, result in there if not _same(result, tally.yardstick)]
        for tally in wrong:
            self._count_wrong(tally, tally.calls)
        if not wrong and len(there) == len(results):  # each is right: putting them together was wrong
            self._count_wrong(group.tally, group.tally.calls)

    def _count_wrong(self, tally: Tally, call: int) -> None:
        if tally.wrong == 0:
            tally.first_wrong_s, tally.first_wrong_call = time.monotonic() - self._began, call
        tally.wrong += 1

    def _count(self, tally: Tally, problem: Exception) -> None:
        if disk.is_disk_full(problem):
            raise disk.full_error(str(problem)) from None
        tally.errors += 1
        lines = str(problem).strip().splitlines()
        tally.error = f"{type(problem).__name__}: {lines[0] if lines else ''}"[:160]
        if sum(item.errors for item in self.tallies) >= ERRORS_IN_ALL:
            self.ended = f"{ERRORS_IN_ALL} calls raised"


@contextlib.contextmanager
def _steady() -> Iterator[None]:
    """Algorithms that repeat, where the stack has them: what differs nevertheless is no choice of the stack's."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling: Any = torch.utils.deterministic
    filled = filling.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    filling.fill_uninitialized_memory = False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other over tiny tensors take ten times as long on a busy host
    try:
        with warnings.catch_warnings(), torch.no_grad(), strict_precision():
            warnings.simplefilter("ignore")  # one that is kept for every call would look like a leak
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        filling.fill_uninitialized_memory = filled
        torch.set_num_threads(threads)


_RAW = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _joined(parts: Iterable[Tensor]) -> Tensor:
    """All values in one vector, as integers: a NaN is then equal to itself, and -0 is not 0."""
    joined = torch.cat([part.detach().reshape(-1) for part in parts])
    return joined.view(_RAW[joined.itemsize])


def _same(results: Sequence[Tensor], yardstick: Sequence[Tensor]) -> bool:
    return len(results) == len(yardstick) and all(
        have.shape == want.shape and have.dtype == want.dtype and torch.equal(_joined([have]), _joined([want]))
        for have, want in zip(results, yardstick, strict=True)
    )
