"""Ranks of `multichip.recovery`: training that saves checkpoints, is killed by injected faults, and resumes."""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from readiness.distributed.rank_messages import Report
from readiness.distributed.types import RankContext
from readiness.numerics.strict_precision import strict_precision
from readiness.numerics.unsupported import describe
from readiness.probes.data_parallel.rank import fixed_batch, small_model
from readiness.probes.parallelism.data_parallel import distributed_data_parallel, shard
from readiness.probes.parallelism.model import loss
from readiness.probes.ranks_common.tensor_diff import digest

DATA_PARALLEL, FULLY_SHARDED = "data parallel", "fully sharded"
#: What may have become of a checkpoint: its making was cut short, or its files suffered later.
CUT_SHORT, TRUNCATED, MISSING, CORRUPTED = "killed while saving", "file cut short", "file missing", "bytes altered"

#: Digests of every tensor of model and optimizer, by name.
State = dict[str, str]


@dataclass(frozen=True, slots=True)
class Kill:
    """Planned kill: rank, step, and whether it happens during a save."""

    rank: int
    step: int
    during_save: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings: folder, number of steps, steps between saves (0: never), mode, and parts of the batch."""

    folder: Path
    steps: int
    save_every: int
    mode: str
    parts: int
    kill: Kill | None = None


@dataclass(frozen=True, slots=True)
class BrokenSettings:
    """Settings: broken checkpoints by what happened to them, their state, and how to train (`Settings`)."""

    checkpoints: dict[str, Path]
    state: State
    mode: str
    parts: int


@dataclass(frozen=True, slots=True)
class Loaded(Report):
    """Report: a checkpoint was loaded; its step and state, and the time on the ranks' clock."""

    step: int
    state: State
    at: float


@dataclass(frozen=True, slots=True)
class Stepped(Report):
    """Report: a step has ended; its loss, and the time on the ranks' clock."""

    step: int
    loss: float
    at: float


@dataclass(frozen=True, slots=True)
class SaveStarted(Report):
    """Report: a checkpoint is about to be saved, with this state."""

    step: int
    state: State


@dataclass(frozen=True, slots=True)
class Killed(Report):
    """Report: the time just before this rank is killed."""

    at: float


@dataclass(frozen=True, slots=True)
class BrokenCheckpoint(Report):
    """Report: a broken checkpoint was refused, with the error, or loaded, with wrong tensors."""

    broken: str
    refused: bool
    error: str | None = None
    wrong: tuple[str, ...] = ()


def rank_main(context: RankContext[Settings]) -> Iterator[Report]:
    """Train up to the last step, from the newest complete checkpoint if there is one."""
    with strict_precision():
        yield from _train(context)


def _train(context: RankContext[Settings]) -> Iterator[Report]:
    settings = context.settings
    run = _Run(context, settings.mode, settings.parts)
    first = newest(settings.folder)
    if first:
        with context.step(f"loading step {first}"):
            run.load(settings.folder / str(first))
        yield Loaded(first, run.state(), context.clock())
    kill = settings.kill if settings.kill is not None and settings.kill.rank == context.rank else None
    for number in range(first + 1, settings.steps + 1):
        kill_here = kill is not None and kill.step == number
        if kill_here and kill is not None and not kill.during_save:
            run.forward(number)
            yield Killed(context.clock())
            os.kill(os.getpid(), signal.SIGKILL)
        yield Stepped(number, run.step(number), context.clock())
        if settings.save_every and number % settings.save_every == 0:
            yield SaveStarted(number, run.state())
            if kill_here:
                yield Killed(context.clock())
            with context.step(f"saving step {number}"):
                run.save(settings.folder / str(number), kill_here=kill_here)


def load_broken(context: RankContext[BrokenSettings]) -> Iterator[BrokenCheckpoint]:
    """Try to load each of the broken checkpoints."""
    settings = context.settings
    for what, folder in settings.checkpoints.items():
        run = _Run(context, settings.mode, settings.parts)
        try:
            with context.step(f"loading a checkpoint: {what}"):
                run.load(folder)
        except (Exception, CheckpointException) as problem:  # noqa: BLE001 - whatever it raises is a refusal
            yield BrokenCheckpoint(what, refused=True, error=describe(problem)[:300])
        else:
            after = run.state()
            wrong = tuple(name for name, wanted in settings.state.items() if after.get(name) != wanted)
            yield BrokenCheckpoint(what, refused=False, wrong=wrong)
        context.exchange()  # all are done with it before the next


def newest(folder: Path) -> int:
    """Return the step of the newest complete checkpoint, 0 if there is none.

    torch.distributed.checkpoint writes `.metadata` last, and by renaming it: without it, the making was cut short.
    """
    steps = (int(found.name) for found in folder.iterdir() if found.name.isdigit() and (found / ".metadata").is_file())
    return max(steps, default=0)


def break_copies(folder: Path, into: Path) -> dict[str, Path]:
    """Copy a complete checkpoint and break each copy in another way; return what happened to each, and its place."""
    stored = FileSystemReader(folder).read_metadata().storage_data.values()
    largest = max(stored, key=lambda info: (int(info.length), str(info.relative_path)))
    made = {}
    for what in (TRUNCATED, MISSING, CORRUPTED):
        copy = into / what.replace(" ", "-")
        shutil.copytree(folder, copy)
        file = copy / largest.relative_path
        content = bytearray(file.read_bytes())
        if what == MISSING:
            file.unlink()
        elif what == TRUNCATED:
            file.write_bytes(content[: largest.offset + largest.length // 2])
        else:  # by far most of what is stored of the largest tensor are its elements
            content[largest.offset + largest.length // 2] ^= 0x40
            file.write_bytes(content)
        made[what] = copy
    return made


class _Run:
    """Model and optimizer in training on one rank."""

    def __init__(self, context: RankContext, mode: str, parts: int) -> None:
        self.context = context
        with context.step("making the model"):
            self.plain = small_model(context)
            self.model: nn.Module = self.plain
            if mode == FULLY_SHARDED:
                self._shard()
            elif context.world_size > 1:
                self.model = distributed_data_parallel(self.plain, context.device)
            self.optimizer = torch.optim.AdamW(self.plain.parameters(), lr=3e-3, weight_decay=0.1)
            self.tokens = fixed_batch(context, parts)
        # DistributedDataParallel lays its buckets out anew after the first backward pass, and with them the order in which
        # more than two ranks add up: a resumed run's first step would not be that of a run that never stopped.
        self.forward(0).backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad()

    def _shard(self) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        # The output of a linear layer is a view; nothing is done to it in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)
        shard(self.plain, init_device_mesh(self.context.device.type, (self.context.world_size,)))

    def forward(self, number: int) -> torch.Tensor:
        """Return the loss of this rank's part of the batch, whose positions each step permutes."""
        own_batch = self.tokens.roll(number, dims=1)[self.context.rank :: self.context.world_size].to(self.context.device)
        with self.context.step(f"forward of step {number}"):
            self.optimizer.zero_grad()
            found = loss(self.model(own_batch[:, :-1]), own_batch[:, 1:])
            self.context.accelerator.synchronize()
        return found

    def step(self, number: int) -> float:
        """Make one step of training; return this rank's loss."""
        found = self.forward(number)
        with self.context.step(f"backward of step {number}"):
            found.backward()  # type: ignore[no-untyped-call]
            self.context.accelerator.synchronize()
        with self.context.step(f"update of step {number}"):
            self.optimizer.step()
            self.context.accelerator.synchronize()
            return float(found.detach())

    def save(self, folder: Path, *, kill_here: bool = False) -> None:
        """Save model and optimizer with all ranks; with `kill_here`, die with half of the data on the disk."""
        writer = (_KillingWriter if kill_here else FileSystemWriter)(folder)
        save(self._state_dict(), storage_writer=writer)

    def load(self, folder: Path) -> None:
        """Load a checkpoint of any number of ranks. Raises torch's errors."""
        state = self._state_dict()
        load(state, storage_reader=FileSystemReader(folder))
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    def _state_dict(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def state(self) -> State:
        """Return a digest of every whole tensor of model and optimizer, by name. All ranks must call it."""
        with self.context.step("reading the state"):
            names = [name for name, _ in self.plain.named_parameters()]
            found = {f"parameter {name}": digest(_whole(value)) for name, value in self.plain.named_parameters()}
            for index, values in self.optimizer.state_dict()["state"].items():
                found |= {f"{what} of {names[index]}": digest(_whole(value)) for what, value in values.items()}
        return found


class _KillingWriter(FileSystemWriter):
    """Writer that kills its process when half of its data are written."""

    def write_data(self, plan: Any, planner: Any) -> Any:
        super().write_data(plan, planner).wait()
        for file in Path(self.path).glob(f"__{dist.get_rank()}_*"):
            os.truncate(file, file.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a killed process continues")


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a distributed tensor as a whole on the host; one without dimensions as one element."""
    whole = tensor.detach()
    if hasattr(whole, "full_tensor"):
        whole = whole.full_tensor()
    return whole.cpu().reshape(-1)
