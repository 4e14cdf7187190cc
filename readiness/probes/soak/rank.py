"""Ranks of `multichip.soak`: rounds of training and operations, every result checked, until the time is up.

A round is some training steps, done twice from the same checkpoint; the operations of a language model, repeated; and
sums over ranks with known answers. Ranks agree through shared memory, never through what is under test.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Iterator
from typing import Any

import torch

from readiness.distributed.types import RankContext
from readiness.documents.files import open_own
from readiness.numerics.strict_precision import strict_precision
from readiness.probes.parallelism.data_parallel import DataParallel
from readiness.probes.parallelism.model import build
from readiness.probes.parallelism.model_shape import ModelShape
from readiness.probes.parallelism.strategy import SingleDevice, Strategy
from readiness.probes.parity.determinism import deterministic, obeys
from readiness.probes.parity.transformer import text
from readiness.probes.ranks_common.tensor_diff import digest
from readiness.probes.soak.allreduce_rounds import AllReduceRounds
from readiness.probes.soak.reports import RoundReport, Settings, SoakFault
from readiness.probes.stability.load import Load

Tensor = torch.Tensor
State = dict[str, Any]
#: Training steps of a round, and for how long at least the other operations run in it.
STEPS, LOAD_S = 2, 0.4
#: So many comparisons of a group show whether training repeats to the bit here at all.
FIRST_COMPARISONS = 8


class SoakTraining:
    """Training of a small decoder for the duration of the soak; data parallel if there are several ranks."""

    def __init__(self, context: RankContext[Settings]) -> None:
        self.context = context
        self.shape = ModelShape(context.world_size)
        model = build(context.accelerator.generator("soak", "weights"), self.shape).to(context.device)
        self.strict = min(context.exchange(float(self._can_be_strict()))) > 0
        self.strategy: Strategy = DataParallel(context, model) if context.world_size > 1 else SingleDevice(model)
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        self.path = context.settings.checkpoint
        self.memory = b""
        self.unkept: str | None = None
        self.steps = 0
        self._compared = 0

    def _can_be_strict(self) -> bool:
        """True if torch can make a step with deterministic algorithms, tried on this rank alone.

        Where it may only warn it leaves attention as it is, and training would differ from time to time on sound chips.
        """
        single = SingleDevice(build(self.context.accelerator.generator("soak", "probe"), self.shape).to(self.context.device))
        return obeys(lambda: [loss for loss in [single.compute(self._tokens(0))] if loss is not None])

    def warm_up(self) -> None:
        """Make two passes whose gradients are thrown away.

        After its first one DistributedDataParallel lays its buckets out anew, and with them the order of its sums.
        """
        for _ in range(2):
            self._compute(0)
        self.optimizer.zero_grad()

    def resume(self) -> str | None:
        """Resume from a complete checkpoint; return why there is none, or None."""
        there = self.path is not None and self.path.exists()
        if min(self.context.exchange(float(there))) == 0:
            return "it is missing"
        state, reason = None, None
        try:
            state = self._load()
        except Exception as problem:  # noqa: BLE001 - whatever is wrong with it, training begins anew
            reason = f"{type(problem).__name__}: {problem}"[:200]
        if min(self.context.exchange(float(state is not None))) == 0 or state is None:
            return reason or "another rank could not load it"
        self._apply(state)
        return None

    def round(self) -> tuple[float, list[SoakFault]]:
        """Make some steps, and repeat them from the checkpoint; return the last loss and the faults."""
        faults: list[SoakFault] = []
        before, steps = self._digest(), self.steps
        with self.context.step(f"saving the checkpoint of step {steps}"):
            self._save()
        first_loss, first = self._train(steps)
        with self.context.step(f"loading the checkpoint of step {steps}"):
            self._restore(self._load())
            back = self._digest()
        if back != before:
            faults.append(SoakFault("checkpoint", f"the checkpoint of step {steps} was loaded with different bytes"))
        loss, again = self._train(steps)
        self._compared += 1
        differed, final = again != first, again
        anywhere = max(self.context.exchange(float(differed))) > 0  # all ranks decide alike from here
        if anywhere and self.repeats and self._compared <= FIRST_COMPARISONS:  # never the same, or wrong once?
            self._restore(self._load())
            loss, final = self._train(steps)
            self.repeats = min(self.context.exchange(float(final in (first, again)))) > 0
        if differed and self.repeats:
            what = f"steps {steps} to {steps + STEPS - 1}, done twice from the same weights, gave different weights"
            faults.append(SoakFault("recomputation", what))
        if not torch.isfinite(torch.tensor([first_loss, loss])).all():
            faults.append(SoakFault("not finite", f"the loss of step {steps + STEPS - 1} is {loss}"))
        self.steps = steps + STEPS
        self.replica = final
        return loss, faults

    replica = ""
    repeats = True

    def _train(self, begin: int) -> tuple[float, str]:
        loss = float("nan")
        for number in range(begin, begin + STEPS):
            self.optimizer.zero_grad()
            found = self._compute(number)
            with self.context.step(f"update of training step {number}"):
                self.optimizer.step()
                self.context.accelerator.synchronize()
                loss = loss if found is None else float(found.cpu())
        return loss, self._digest()

    def _compute(self, number: int) -> Tensor | None:
        self.strategy.step = lambda what: self.context.step(f"{what} of training step {number}")
        self.strategy.wait = self.context.accelerator.synchronize
        with deterministic(True, strict=self.strict):
            return self.strategy.compute(self._tokens(number))

    def _tokens(self, number: int) -> Tensor:
        draw = self.context.accelerator.generator("soak", "tokens", number)
        return text(draw, self.shape.vocabulary, self.shape.batch, self.shape.length + 1).to(self.context.device)

    def _digest(self) -> str:
        states = self.optimizer.state_dict()["state"]
        tensors = [*self.model.parameters(), *(value for state in states.values() for value in state.values())]
        whole = "".join(digest(tensor.reshape(-1)) for tensor in tensors if isinstance(tensor, Tensor))
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    def _save(self) -> None:
        """Save in memory on each rank, and on disk by the first rank, atomically, if there is a folder.

        A disk that takes nothing is no fault of a chip: from then on this group has the memory alone.
        """
        buffer = io.BytesIO()
        torch.save({"steps": self.steps, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, buffer)
        self.memory = buffer.getvalue()
        if self.path is not None and self.context.rank == 0:
            half = self.path.with_suffix(".half")
            try:
                with open_own(half, os.O_RDWR | os.O_CREAT) as stream:
                    stream.truncate()
                    stream.write(self.memory)
                half.replace(self.path)
            except OSError as problem:
                with contextlib.suppress(OSError):
                    half.unlink(missing_ok=True)
                self.unkept = f"the checkpoint of step {self.steps} could not be written: {problem}"[:200]
        if max(self.context.exchange(float(self.unkept is not None))) > 0:
            self.path = None

    def _load(self) -> State:
        """Load from disk if it can be read, as a restarted job would."""
        content = self.memory
        if self.path is not None:
            try:
                with open_own(self.path, os.O_RDONLY) as stream:
                    content = stream.read()
            except OSError as problem:
                self.unkept = f"the checkpoint could not be read: {problem}"[:200]
        loaded: State = torch.load(io.BytesIO(content), map_location=self.context.device, weights_only=True)
        return loaded

    def _restore(self, state: State) -> None:
        self._apply(state)
        self.context.exchange()  # nobody writes the next one before all have read this

    def _apply(self, state: State) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


class OperationRounds:
    """Load of `stability.load` in portions; faults are what is new since the last portion."""

    def __init__(self, context: RankContext[Settings]) -> None:
        self.context = context
        self.load = Load(context.accelerator, context.settings.seconds)
        self.load.prepare(context.settings.dtypes)
        self._counted: dict[int, tuple[int, int]] = {}

    @property
    def uncompared(self) -> tuple[int, int]:
        """Number of operations that differ between calls from the start and cannot be compared, and the number of all."""
        ran = [stats for stats in self.load.op_stats if stats.expected_results]
        return sum(not stats.repeatable for stats in ran), len(ran)

    def round(self) -> tuple[int, float, list[SoakFault]]:
        """Run the load for a while; return the number of its rounds, the seconds that they took, and what was wrong."""
        began, done = time.monotonic(), 0
        while time.monotonic() - began < LOAD_S:
            with self.context.step("operations of a language model"):
                self.load.once()
            done += 1
            if self.load.ended is not None:
                raise RuntimeError(f"the operations cannot continue: {self.load.ended}")
        return done, time.monotonic() - began, list(self._new_faults())

    def _new_faults(self) -> Iterator[SoakFault]:
        for stats in self.load.op_stats:
            wrong, errors = self._counted.get(id(stats), (0, 0))
            if stats.wrong > wrong:
                yield SoakFault("wrong result", stats.describe())
            if stats.errors > errors:
                yield SoakFault("error", f"{stats.name}: {stats.error}")
            self._counted[id(stats)] = stats.wrong, stats.errors


def rank_main(context: RankContext[Settings]) -> Iterator[RoundReport]:
    """Work in rounds until the time is up, with a report of each. The first has only training and sums, for a fast recovery.

    With `sums_first`, so many rounds of sums come before all else: who hangs in them is known by its partners. Time counts
    from the first round on, of which there is one in any case: before it groups are made, which can take a minute.
    """
    settings = context.settings
    with strict_precision(), deterministic(True):
        sums = AllReduceRounds(context)
        early = [fault for number in range(settings.sums_first) for fault in sums.round(-1 - number)]
        with context.step("setting up training"):
            training = SoakTraining(context)
        training.warm_up()
        resumed = training.resume()
        operations: OperationRounds | None = None
        number, began = 0, time.monotonic()
        while max(context.exchange(time.monotonic() - began)) < settings.seconds or number == 0:
            started = time.monotonic()
            loss, faults = training.round()
            faults += early + sums.round(number)
            early = []
            rounds, operations_s = 0, 0.0
            if operations is not None:
                rounds, operations_s, found = operations.round()
                faults += found
            yield RoundReport(
                round=number, seconds=time.monotonic() - started, loss=loss, step=training.steps,
                replica=training.replica, faults=tuple(faults), operations=rounds, operations_s=operations_s,
                sensors=dict(context.accelerator.sensors()), resumed=resumed, repeats=training.repeats,
                unkept=training.unkept, uncompared=(0, 0) if operations is None else operations.uncompared,
            )  # fmt: skip
            if operations is None:
                with context.step("first results of operations"):
                    operations = OperationRounds(context)
            number += 1
