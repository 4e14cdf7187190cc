"""Ranks of `multichip.parallelism`: train on one device first, then together in one mode after another."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.numerics.strict_precision import strict_precision
from readiness.numerics.unsupported import describe, is_unsupported
from readiness.probes.parallelism.model import Decoder, build
from readiness.probes.parallelism.model_shape import ModelShape
from readiness.probes.parallelism.strategies import MODES
from readiness.probes.parallelism.strategy import SingleDevice, no_wait, unmarked
from readiness.probes.parallelism.training_run import (
    OPTIMIZERS,
    FinalParameters,
    TrainingTrace,
    batches,
    final_parameters,
    train,
)
from readiness.probes.parity.reference_cases import dtype_named

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """Training run: its mode, dtype and optimizer by name."""

    mode: str
    dtype: str
    optimizer: str

    def __str__(self) -> str:
        """Return the name of the run in reports."""
        return f"{self.mode}, {self.optimizer}, {self.dtype}"


@dataclass(frozen=True, slots=True)
class Reference:
    """Training run on one device: the shape of its model, its optimizer and dtype."""

    shape: str
    optimizer: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings: the runs in order, and their steps."""

    runs: tuple[TrainingRun, ...]
    steps: int


@dataclass(frozen=True, slots=True)
class RunBegun(Report):
    """Report: a run has begun on this rank."""

    run: TrainingRun


@dataclass(frozen=True, slots=True)
class RunRefused(Report):
    """Report: the stack does not support a run."""

    run: TrainingRun
    reason: str


@dataclass(frozen=True, slots=True)
class RunReport(Report):
    """Report of a run on this rank."""

    run: TrainingRun
    reference: Reference
    trace: TrainingTrace
    final: FinalParameters


@dataclass(frozen=True, slots=True)
class DeviceReference(Report):
    """Report: a reference trained on this rank's device."""

    reference: Reference
    trace: TrainingTrace


@dataclass(frozen=True, slots=True)
class HostReference(Report):
    """Report: a reference trained in float64 on this rank's host."""

    reference: Reference
    trace: TrainingTrace


class SingleDeviceRuns:
    """Training runs on one device, by shape, optimizer and dtype, each run once."""

    def __init__(self, context: RankContext[Settings]) -> None:
        self.context = context
        self._trained: dict[Reference, dict[str, Tensor]] = {}

    def start(self, shape: ModelShape, dtype: torch.dtype) -> Decoder:
        """Return the untrained model on this rank's device."""
        model = build(self.context.accelerator.generator("parallelism", "weights", shape), shape)
        return model.to(dtype).to(self.context.device)

    def data(self, shape: ModelShape) -> list[Tensor]:
        """Return the batches of all steps."""
        return batches(self.context, shape, self.context.settings.steps)

    def train(self, shape: ModelShape, reference: Reference) -> Iterator[Report]:
        """Train on one device unless done before; report it, and one rank in turn also the host's reference."""
        if reference in self._trained:
            return
        on_host = len(self._trained) % self.context.world_size == self.context.rank  # all ranks have the same host
        optimizer, dtype = reference.optimizer, reference.dtype
        model = self.start(shape, getattr(torch, dtype))
        host = copy.deepcopy(model).cpu().double() if on_host else None
        device, synchronize = self.context.device, self.context.accelerator.synchronize
        with self.context.step(f"training alone, {optimizer}, {dtype}"):
            trace = train(SingleDevice(model), optimizer, self.data(shape), device, unmarked, synchronize)
            self._trained[reference] = {name: weight.detach() for name, weight in model.named_parameters()}
        yield DeviceReference(reference, trace)
        if host is None:
            return
        with self.context.step(f"training on the host, {optimizer}, {dtype}"):
            trace = train(SingleDevice(host), optimizer, self.data(shape), torch.device("cpu"), unmarked, no_wait)
        yield HostReference(reference, trace)

    def trained(self, reference: Reference) -> dict[str, Tensor]:
        """Return the parameters after training on one device."""
        return self._trained[reference]


def rank_main(context: RankContext[Settings]) -> Iterator[Report]:
    """Make one run after the other; report when it begins and how it ends.

    What the stack refuses is reported before it ends the group: the other ranks may wait in the middle of it.
    """
    references = SingleDeviceRuns(context)
    with strict_precision(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # of work in place on its result, which is not done here
        for run in context.settings.runs:
            yield from _run(context, references, run)


def _run(context: RankContext[Settings], references: SingleDeviceRuns, run: TrainingRun) -> Iterator[Report]:
    mode = MODES[run.mode]
    shape = mode.shape(context.world_size)
    reference = Reference(str(shape), run.optimizer, run.dtype)
    yield RunBegun(run)
    yield from references.train(shape, reference)

    def step(operation: str) -> AbstractContextManager[None]:
        return context.step(f"{run}: {operation}")

    data, synchronize = references.data(shape), context.accelerator.synchronize
    try:
        with step("setting up"):
            strategy = mode.set_up(context, references.start(shape, getattr(torch, run.dtype)))
        trace = train(strategy, run.optimizer, data, context.device, step, synchronize)
        with step("putting parameters together"):
            final = final_parameters(strategy, references.trained(reference))
    except (NotImplementedError, ImportError, AttributeError, RuntimeError, TypeError, ValueError) as problem:
        if is_unsupported(problem) or isinstance(problem, ImportError | AttributeError):
            yield RunRefused(run, describe(problem))
        raise
    yield RunReport(run, reference, trace, final)


def training_runs(modes: Sequence[str], dtypes: Sequence[str], optimizers: Sequence[str]) -> list[TrainingRun]:
    """Return all runs, mode by mode. Raises ValueError for an unknown name, since no chip is to blame."""
    for setting, names, known in (("modes", modes, MODES), ("optimizers", optimizers, OPTIMIZERS)):
        for name in names:
            if name not in known:
                raise ValueError(f"{setting}: {name!r} is not one of {', '.join(known)}")
    for name in dtypes:
        dtype_named(name)
    return [TrainingRun(*names) for names in itertools.product(modes, dtypes, optimizers)]
