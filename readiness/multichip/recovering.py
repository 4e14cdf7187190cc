"""The ranks' side of `multichip.recovery`: training that saves itself, dies on purpose, and goes on where it was.

What a rank yields: `loaded` (the step that it goes on from, and digests of every tensor of its state), `step` with `loss`
and `at` (the moment of its end, on the clock that all processes of a machine share), `saved` with the state's digests,
`killed` just before it dies, and at the end `final` with the digests.
"""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from collections.abc import Iterator, Mapping
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
from torch.nn import functional

from readiness.multichip import training
from readiness.multichip.comparing import digest
from readiness.multichip.replicas import replicated
from readiness.precision import strict_precision
from readiness.ranks.values import Json, RankContext

DATA_PARALLEL, FULLY_SHARDED = "data parallel", "fully sharded"
#: What may have become of a checkpoint: its making was cut short, or its files suffered later.
CUT_SHORT, TRUNCATED, MISSING, ALTERED = "killed while saving", "file cut short", "file missing", "bytes altered"


def rank_main(context: RankContext) -> Iterator[Json]:
    """Train up to step `steps`, on from the newest complete checkpoint where there is one in `folder`.

    Every `save_every` steps (0: never) the state is saved there. `kill` names the rank that dies, with the step, and
    whether it dies while saving. `parts` is the number of shares that the global batch is made for, as in `training`.
    """
    with strict_precision():
        yield from _train(context)


def _train(context: RankContext) -> Iterator[Json]:
    run = _Run(context)
    settings = context.settings
    folder = Path(settings["folder"])
    first = newest(folder)
    if first:
        with context.step(f"loading step {first}"):
            run.load(folder / str(first))
        yield {"loaded": first, "state": run.digests(), "at": context.clock()}
    kill: Mapping[str, Any] = settings.get("kill") or {}
    doomed = kill.get("rank") == context.rank
    for number in range(first + 1, settings["steps"] + 1):
        dies = doomed and kill["step"] == number
        if dies and not kill["saving"]:
            run.forward(number)
            yield {"killed": context.clock()}
            os.kill(os.getpid(), signal.SIGKILL)
        yield {"step": number, "loss": run.step(number), "at": context.clock()}
        if settings["save_every"] and number % settings["save_every"] == 0:
            yield {"saved": number, "state": run.digests()}
            if dies:
                yield {"killed": context.clock()}
            with context.step(f"saving step {number}"):
                run.save(folder / str(number), dies=dies)
    yield {"final": run.digests()}


def refusals(context: RankContext) -> Iterator[Json]:
    """Try to load each of the broken checkpoints that `broken` names (what happened to it: its folder)."""
    for what, folder in context.settings["broken"].items():
        run = _Run(context)
        before = run.digests()
        try:
            with context.step(f"loading a checkpoint: {what}"):
                run.load(Path(folder))
        except (Exception, CheckpointException) as problem:  # noqa: BLE001 - whatever it raises is a refusal
            yield {"broken": what, "refused": True, "words": _words(problem)}
        else:
            after = run.digests()
            wanted: Mapping[str, str] = context.settings["state"]
            wrong = [name for name in wanted if after.get(name) != wanted[name]]
            yield {"broken": what, "refused": False, "wrong": wrong, "loaded": after != before}
        context.exchange()  # all are done with it before the next


def newest(folder: Path) -> int:
    """The newest complete checkpoint's step, 0 where there is none.

    torch.distributed.checkpoint writes `.metadata` last, and by renaming it: without it, the making was cut short.
    """
    steps = (int(found.name) for found in folder.iterdir() if found.name.isdigit() and (found / ".metadata").is_file())
    return max(steps, default=0)


def breakable(folder: Path, into: Path) -> dict[str, str]:
    """Copies of a complete checkpoint, each broken in another way: what happened to it, and where it lies."""
    stored = FileSystemReader(folder).read_metadata().storage_data.values()
    largest = max(stored, key=lambda info: (int(info.length), str(info.relative_path)))
    made = {}
    for what in (TRUNCATED, MISSING, ALTERED):
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
        made[what] = str(copy)
    return made


class _Run:
    """A model and its optimizer at work on one rank."""

    def __init__(self, context: RankContext) -> None:
        self.context = context
        with context.step("making the model"):
            self.plain = training.model(context)
            self.model: nn.Module = self.plain
            if context.settings["mode"] == FULLY_SHARDED:
                self._shard()
            elif context.world_size > 1:
                self.model = replicated(self.plain, context.device)
            self.optimizer = torch.optim.AdamW(self.plain.parameters(), lr=3e-3, weight_decay=0.1)
            self.tokens = training.batch(context, context.settings["parts"])
        # DistributedDataParallel lays its buckets out anew after the first backward pass, and with them the order in which
        # more than two ranks add up: a resumed run's first step would not be that of a run that never stopped.
        self.forward(0).backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad()

    def _shard(self) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        # The output of a linear layer is a view; nothing is done to it in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)
        mesh = init_device_mesh(self.context.device.type, (self.context.world_size,))
        for module in [*self.plain.blocks, self.plain]:
            fully_shard(module, mesh=mesh)

    def forward(self, number: int) -> torch.Tensor:
        """The loss of this rank's share of the batch, which each step takes anew in another order of its positions."""
        mine = self.tokens.roll(number, dims=1)[self.context.rank :: self.context.world_size].to(self.context.device)
        with self.context.step(f"forward of step {number}"):
            self.optimizer.zero_grad()
            logits = self.model(mine[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), mine[:, 1:].flatten())
            self.context.accelerator.synchronize()
        return loss

    def step(self, number: int) -> float:
        """One step of training; this rank's loss."""
        loss = self.forward(number)
        with self.context.step(f"backward of step {number}"):
            loss.backward()  # type: ignore[no-untyped-call]
            self.context.accelerator.synchronize()
        with self.context.step(f"update of step {number}"):
            self.optimizer.step()
            self.context.accelerator.synchronize()
            return float(loss.detach())

    def save(self, folder: Path, *, dies: bool = False) -> None:
        """Save model and optimizer with all ranks; the one that dies does so with half of its data on the disk."""
        writer = (_Dying if dies else FileSystemWriter)(folder)
        save(self._state(), storage_writer=writer)

    def load(self, folder: Path) -> None:
        """Take over what was saved, whatever number of ranks saved it. Raises what torch raises."""
        state = self._state()
        load(state, storage_reader=FileSystemReader(folder))
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    def _state(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def digests(self) -> dict[str, str]:
        """A digest of every whole tensor of model and optimizer, by name. All ranks must call it."""
        with self.context.step("looking at the state"):
            names = [name for name, _ in self.plain.named_parameters()]
            found = {f"parameter {name}": digest(_whole(value)) for name, value in self.plain.named_parameters()}
            for index, held in self.optimizer.state_dict()["state"].items():
                found |= {f"{what} of {names[index]}": digest(_whole(value)) for what, value in held.items()}
        return found


class _Dying(FileSystemWriter):
    """Its process is killed when its data are written, by half, and the others' are or are not."""

    def write_data(self, plan: Any, planner: Any) -> Any:
        super().write_data(plan, planner).wait()
        for file in Path(self.path).glob(f"__{dist.get_rank()}_*"):
            os.truncate(file, file.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a killed process goes on")


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of which each rank may hold a part, as a whole and on the host; without dimensions as one of one element."""
    whole = tensor.detach()
    if hasattr(whole, "full_tensor"):
        whole = whole.full_tensor()
    return whole.cpu().reshape(-1)


def _words(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:300]
