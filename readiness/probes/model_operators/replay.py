"""Replay of all records of one operator: every element at a small size, odd sizes, views; then large sizes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.numerics import USUAL, Strictness
from readiness.numerics.unsupported import is_out_of_memory
from readiness.probes.model_operators import matmul_bounds, op_table, replay_sizes
from readiness.probes.model_operators.input_generation import InputGenerator
from readiness.probes.model_operators.op_table import Operator
from readiness.probes.model_operators.outcomes import CallTiming, ReplayResult
from readiness.probes.model_operators.replay_sizes import DeviceBudget
from readiness.probes.model_operators.trial import RecordedTrial
from readiness.probes.operators import kernel_provenance
from readiness.probes.operators.op_call import CallResult
from readiness.probes.operators.op_trial import Enter, OpTrial
from readiness.probes.operators.outcomes import FailedError, Outcome, Phase
from readiness.probes.operators.samples import Sample
from readiness.tracing.workload_schema import TRAINING, Call, Record, Size, Spec, Workload

#: So many records of an operator, the largest, are tried at odd sizes and with subsets of inputs that want a gradient.
_EDGED = 2
#: So many elements of a large result of an operator that works element by element are looked at.
_LOOKED_AT = 4096
#: A result larger than this is not taken back to the host to be looked at.
_TAKEN_BACK_BYTES = 2**28


@dataclass(frozen=True, slots=True)
class OpGroup:
    """Operator in one dtype, with its records by their number in the workload."""

    name: str
    dtype: str
    records: tuple[int, ...]

    @property
    def label(self) -> str:
        """Text such as `mm in bfloat16`."""
        return f"{self.name.removeprefix('aten::')} in {self.dtype}"


def op_groups(workload: Workload) -> list[OpGroup]:
    """Return the workload by operator and dtype, most frequent first."""
    found: dict[tuple[str, str], list[int]] = {}
    for number, record in enumerate(workload.records):
        found.setdefault((record.call.op, op_table.dtype_of(record.call)), []).append(number)
    calls = [sum(record.calls.values()) for record in workload.records]
    weights = {key: sum(calls[number] for number in numbers) for key, numbers in found.items()}
    return [OpGroup(*key, tuple(found[key])) for key in sorted(found, key=lambda key: (-weights[key], key))]


@dataclass(slots=True)
class Replayer:
    """Replays one group, optionally without gradients or inputs at an offset.

    `enter` is told what begins; nothing begins after `deadline`.
    """

    accelerator: Accelerator
    workload: Workload
    group: OpGroup
    budget: DeviceBudget
    enter: Enter
    deadline: float
    gradients: bool = True
    offsets: bool = True
    strictness: Strictness = USUAL
    _recorded: RecordedTrial = field(init=False)
    _timings: dict[int, CallTiming] = field(default_factory=dict)
    _hosted: str = ""

    def replay_group(self, *, large: bool) -> ReplayResult:
        """Return the outcome of the operator in this dtype, which is the first failure.

        At small sizes every element is looked at; at `large` ones what time allows, and what it does not is no failure.
        """
        try:
            operator = op_table.find(self.group.name)
        except op_table.NoOperatorError as problem:
            return ReplayResult(Outcome.UNJUDGED, detail=str(problem))
        self._recorded = RecordedTrial(
            self.accelerator, operator, getattr(torch, self.group.dtype), self.enter, self.strictness, self.offsets
        )
        records = [self.workload.records[number] for number in self.group.records]
        backward = any(self._wants_gradient(record) for record in records)
        try:
            if large:
                self._large(operator)
            elif not (self._small() and self._odd_sizes(records)):
                return self._nondeterministic(backward) or ReplayResult(
                    Outcome.UNJUDGED, detail="no time was left", backward=backward, reached=False
                )
            self.accelerator.synchronize()
        except FailedError as failure:
            self._trial.flush_async_errors()
            if failure.outcome is Outcome.UNJUDGED and (noted := self._nondeterministic(backward)):
                return noted
            return self._failed(failure, backward)
        if not (large or self._timings):
            return ReplayResult(Outcome.UNJUDGED, detail="none of its calls fits into memory", backward=backward)
        if noted := self._nondeterministic(backward):
            return noted
        if self._trial.fallbacks:
            phase, where, warning = self._trial.fallbacks[0]
            return ReplayResult(Outcome.FALLBACK, phase, warning, backward, where, timings=self._timings)
        return ReplayResult(*self._where(), backward=backward, timings=self._timings)

    @property
    def _trial(self) -> OpTrial:
        return self._recorded.trial

    def _failed(self, failure: FailedError, backward: bool) -> ReplayResult:
        detail = f"it raises {failure.detail}" if failure.raised else failure.detail
        return ReplayResult(failure.outcome, failure.phase, detail, backward, failure.where, timings=self._timings)

    def _nondeterministic(self, backward: bool) -> ReplayResult | None:
        """Return the result of an operator that differs between calls and has no worse failure."""
        return self._failed(self._trial.nondeterministic[0], backward) if self._trial.nondeterministic else None

    def _where(self) -> tuple[Outcome, Phase, str]:
        if self._hosted:
            return Outcome.FALLBACK, Phase.FORWARD, self._hosted
        match kernel_provenance.of_overload(self.accelerator.device.type, self.group.name):
            case kernel_provenance.Provenance.FALLBACK:
                return Outcome.FALLBACK, Phase.FORWARD, "by the dispatch table"
            case kernel_provenance.Provenance.DECOMPOSED:
                return Outcome.DECOMPOSED, Phase.FORWARD, ""
            case _:
                return Outcome.NATIVE, Phase.FORWARD, ""

    def _wants_gradient(self, record: Record) -> bool:
        requested = any(spec.grad for spec in record.call.specs()) and any(phase in record.calls for phase in TRAINING)
        return self.gradients and requested

    @property
    def _in_time(self) -> bool:
        return time.monotonic() < self.deadline

    def _input_generator(self, *labels: object) -> InputGenerator:
        return InputGenerator(self.accelerator.generator("workload", self.group.name, self.group.dtype, *labels))

    def _at_home(self, call: Call) -> Call:
        return op_table.at_home(call, self.accelerator.device.type)

    def _small(self) -> bool:
        """Check every distinct record at a small size, every element, forward and backward, also on other views."""
        distinct: dict[Call, CallTiming] = {}
        for number in self.group.records:
            record = self.workload.records[number]
            size, small = replay_sizes.smallest(self.workload, record)
            call = self._at_home(small)
            if not self._in_time:
                return False
            if call not in distinct:
                if replay_sizes.size_bytes(call) * 8 > self.budget.bytes:
                    continue
                sample = self._input_generator("small", len(distinct)).sample(call)
                self._recorded.check(sample, gradients=self._wants_gradient(record), views=True)
                distinct[call] = self._timing(record, call, size)
                if len(distinct) == 1:
                    self._hosted = self._trial.host_work_reason(sample) or ""
            self._timings[number] = distinct[call]
        return True

    def _odd_sizes(self, records: Sequence[Record]) -> bool:
        """Check the largest records at lengths around tile edges, and with gradients of fewer inputs."""
        def size(record: Record) -> float:
            return replay_sizes.size_bytes(replay_sizes.smallest(self.workload, record)[1])

        for place, record in enumerate(sorted(records, key=size, reverse=True)[:_EDGED]):
            for length, call in replay_sizes.edges(self.workload, record):
                if not self._in_time:
                    return False
                self._edge(self._at_home(call), record, f"at length {length}", (place, length))
            usual = self._at_home(replay_sizes.smallest(self.workload, record)[1])
            for position, call in enumerate(replay_sizes.odd_sizes(usual)):
                if not self._in_time:
                    return False
                self._edge(call, record, "at sizes not divisible by a tile", (place, "odd", position))
            subsets = _subsets(self._at_home(replay_sizes.smallest(self.workload, record)[1])) if self.gradients else []
            for position, call in enumerate(subsets):
                label = "with a gradient to some inputs alone"
                sample = self._input_generator("subset", place, position).sample(call, label=label)
                self._recorded.check(sample, gradients=True)
        return True

    def _edge(
        self, call: Call, record: Record, label: str, labels: tuple[object, ...]
    ) -> None:
        """Check one odd size if the CPU accepts it: not every operator is defined for empty inputs.

        Where the CPU is the device, what it refuses is nothing that a model asks for.
        """
        gradients = self._wants_gradient(record)
        try:
            sample = self._input_generator("edge", *labels).sample(call, label=label)
        except (RuntimeError, IndexError, ValueError, TypeError):  # no choice of values fits
            return
        oracle = self._recorded.oracle(sample, gradients=gradients)
        try:
            oracle.check_again(oracle.check())
        except FailedError as failure:
            refused = self._trial.on_cpu and failure.outcome is Outcome.MISSING
            if refused or failure.outcome is Outcome.UNJUDGED or not oracle.cpu_agrees():
                return
            raise

    def _large(self, operator: Operator) -> None:
        """Check each record as large as memory and time allow: support, speed, and chosen elements."""
        for number in self.group.records:
            record = self.workload.records[number]
            size, call = self._affordable(record)
            if not self._in_time or size == replay_sizes.smallest(self.workload, record)[0]:
                continue
            self._timed(operator, record, number, self._at_home(call), size)

    def _affordable(self, record: Record) -> tuple[Size, Call]:
        rungs = list(replay_sizes.ladder(self.workload, record))
        return next(((size, call) for size, call in rungs if self.budget.affords(call)), rungs[-1])

    def _timed(self, operator: Operator, record: Record, number: int, call: Call, size: Size) -> None:
        label = f"at {replay_sizes.describe_size(self.workload, size)}"
        try:
            sample = self._input_generator("large", number).sample(call, label=label)
        except RuntimeError:  # the host has not the memory: it stays as it was played
            return
        gradients = self._wants_gradient(record)
        try:
            called = self._trial.on_device(sample, gradients)
        except FailedError as failure:
            if not is_out_of_memory(failure.__cause__):
                raise
            return  # what it makes is larger than what it takes: it stays as it was played
        self._check_elements(operator, sample, called)
        if self._trial.forward_s < self.budget.seconds:  # the first call may have compiled
            self._trial.on_device(sample, gradients)
        self._timings[number] = self._timing(record, call, size)

    def _timing(self, record: Record, call: Call, size: Size) -> CallTiming:
        """Return the timing of the last call, with the work that it lacks to the model's own size."""
        whole = record.call.at(self.workload.full)
        full = size == self.workload.full or (whole is not None and call == self._at_home(whole))
        work, traffic = 0.0, 0.0
        if not full and whole is not None:
            work = max(op_table.work(whole) - op_table.work(call), 0.0)
            traffic = max(replay_sizes.size_bytes(whole) - replay_sizes.size_bytes(call), 0.0)
        size_text = replay_sizes.describe_size(self.workload, self.workload.full if full else size)
        return CallTiming(self._trial.forward_s, full, size_text, self._trial.backward_s, work, traffic)

    def _check_elements(self, operator: Operator, sample: Sample, called: CallResult) -> None:
        """Check chosen elements of a large result against float64, and all of them for unexpected NaN."""
        out = called.outputs[0] if called.outputs else None
        if not isinstance(out, torch.Tensor) or not out.is_floating_point() or operator.unspecified:
            return
        if out.numel() * out.itemsize > _TAKEN_BACK_BYTES or not out.numel():
            return
        generator = self.accelerator.generator("looked at", self.group.name)
        host = out.cpu()
        wrong = matmul_bounds.spot_check(operator, sample, host, generator, self.strictness.sums)
        if wrong is None and not bool(torch.isfinite(host).all()):
            finite = all(bool(torch.isfinite(item).all()) for item in sample.tensors() if item.is_floating_point())
            mask = operator.base in ("where", "masked_fill", "_safe_softmax")
            wrong = "a result is not a number" if finite and not mask else None
        if wrong is not None:
            raise FailedError(Outcome.WRONG, Phase.FORWARD, wrong, sample.label)
        if operator.base in op_table.POINTWISE:
            self._check_some_elements(sample, host, generator)

    def _check_some_elements(self, sample: Sample, host: torch.Tensor, generator: torch.Generator) -> None:
        shape = host.shape
        if any(tensor.ndim > len(shape) for tensor in sample.tensors()):
            return
        flat = torch.randint(0, math.prod(shape), (min(_LOOKED_AT, math.prod(shape)),), generator=generator)
        place = torch.unravel_index(flat, shape)

        def pick(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().expand(shape)[place] if tensor.ndim else tensor.detach()

        picked = sample.converted(pick, torch.device("cpu"))
        self._recorded.assert_matches(picked, [host[place]])


def _subsets(call: Call) -> list[Call]:
    """Yield the call with gradients of fewer inputs: of each alone, if there are several."""
    wanted = [position for position, item in enumerate(call.arguments) if isinstance(item, Spec) and item.grad]
    if len(wanted) < 2:
        return []
    chosen = [kept for count in range(1, len(wanted)) for kept in combinations(wanted, count)][:6]

    def without(kept: tuple[int, ...]) -> tuple[Any, ...]:
        return tuple(
            Spec(item.dtype, item.shape, item.stride, position in kept) if isinstance(item, Spec) else item
            for position, item in enumerate(call.arguments)
        )

    return [Call(call.op, without(kept), call.keywords) for kept in chosen]
