"""The ranks' side of `multichip.parallelism`: alone first, each on its own chip, then together by one mode after another."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import torch

from readiness.numerics.unsupported import describe, is_unsupported
from readiness.parallel.course import OPTIMIZERS, batches, left_over, train
from readiness.parallel.model import Decoder, build
from readiness.parallel.modes import MODES
from readiness.parallel.shape import Shape
from readiness.parallel.trainer import Alone, nothing, silent
from readiness.parity.survey import dtype_named
from readiness.precision import strict_precision
from readiness.ranks.values import Json, RankContext

Tensor = torch.Tensor
#: Mode, dtype, optimizer.
Course = tuple[str, str, str]


class References:
    """What training alone gives, by shape, optimizer and dtype, each worked out once."""

    def __init__(self, context: RankContext) -> None:
        self.context = context
        self._known: dict[tuple[Shape, str, str], dict[str, Tensor]] = {}

    def start(self, shape: Shape, dtype: torch.dtype) -> Decoder:
        """The untrained model on this rank's device."""
        model = build(self.context.accelerator.generator("parallelism", "weights", shape), shape)
        return model.to(dtype).to(self.context.device)

    def data(self, shape: Shape) -> list[Tensor]:
        """The batches of all steps."""
        return batches(self.context, shape.vocabulary, shape.batch, shape.length, self.context.settings["steps"])

    def weights(self, shape: Shape, optimizer: str, dtype: str) -> Iterator[Json]:
        """Train alone, unless that has been done: a report of it, and, from one rank in turn, of the host in float64."""
        if (shape, optimizer, dtype) in self._known:
            return
        on_host = len(self._known) % self.context.world_size == self.context.rank  # all ranks have the same host
        about = self.about(shape, optimizer, dtype)
        model = self.start(shape, getattr(torch, dtype))
        host = copy.deepcopy(model).cpu().double() if on_host else None
        with self.context.step(f"training alone, {optimizer}, {dtype}"):
            found = train(
                Alone(model), optimizer, self.data(shape), self.context.device, silent, self.context.accelerator.synchronize
            )
            self._known[shape, optimizer, dtype] = {name: weight.detach() for name, weight in model.named_parameters()}
        yield {"reference": about, **found}
        if host is None:
            return
        with self.context.step(f"training on the host, {optimizer}, {dtype}"):
            found = train(Alone(host), optimizer, self.data(shape), torch.device("cpu"), silent, nothing)
        yield {"host": about, "losses": found["losses"], "squares": found["squares"]}

    @staticmethod
    def about(shape: Shape, optimizer: str, dtype: str) -> str:
        """What it is called in reports."""
        return f"{shape} {optimizer} {dtype}"

    def known(self, shape: Shape, optimizer: str, dtype: str) -> dict[str, Tensor]:
        """The parameters after training alone."""
        return self._known[shape, optimizer, dtype]


def rank_main(context: RankContext) -> Iterator[Json]:
    """One course after the other, [mode, dtype, optimizer] each: a report when it begins, and one of what came of it.

    What the stack refuses is reported before it ends the world: the other ranks may wait in the middle of it.
    """
    references = References(context)
    with strict_precision(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # of work in place on its result, which is not done here
        for name, dtype, optimizer in context.settings["courses"]:
            yield from _course(context, references, name, dtype, optimizer)


def _course(context: RankContext, references: References, name: str, dtype: str, optimizer: str) -> Iterator[Json]:
    mode = MODES[name]
    shape = mode.shape(context.world_size)
    course = [name, dtype, optimizer]
    yield {"begun": course}
    yield from references.weights(shape, optimizer, dtype)

    def step(what: str) -> AbstractContextManager[None]:
        return context.step(f"{name}, {optimizer}, {dtype}: {what}")

    try:
        with step("setting up"):
            trainer = mode.set_up(context, references.start(shape, getattr(torch, dtype)))
        found = train(trainer, optimizer, references.data(shape), context.device, step, context.accelerator.synchronize)
        with step("putting parameters together"):
            found |= left_over(trainer, references.known(shape, optimizer, dtype))
    except (NotImplementedError, ImportError, AttributeError, RuntimeError, TypeError, ValueError) as problem:
        if is_unsupported(problem) or isinstance(problem, ImportError | AttributeError):
            yield {"refused": course, "reason": describe(problem)}
        raise
    yield {"course": course, "alone": references.about(shape, optimizer, dtype), **found}


def courses(modes: Sequence[str], dtypes: Sequence[str], optimizers: Sequence[str]) -> list[Course]:
    """All of them, mode by mode. Raises ValueError for a name that is not known: no chip is to blame."""
    for setting, names, known in (("modes", modes, MODES), ("optimizers", optimizers, OPTIMIZERS)):
        for name in names:
            if name not in known:
                raise ValueError(f"{setting}: {name!r} is none of {', '.join(known)}")
    for name in dtypes:
        dtype_named(name)
    return list(itertools.product(modes, dtypes, optimizers))
