"""Worker of a job under torchrun: sums with known answers, a death in the first round, the end in a later one.

What it has to tell it leaves as files in the job's folder: under torchrun a worker has no pipe to us, and the agent that
starts it anew knows nothing of what it did.
"""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.distributed import rendezvous
from readiness.distributed.rank_entry import set_current_device
from readiness.distributed.rank_spawn import accelerator_of
from readiness.documents.assessment import facts_from_json
from readiness.host.process_control import die_with_parent

#: What the parent tells all workers; when one of them died; what one found, by rank and round.
PLAN, FAULT, FOUND = "plan.json", "fault.json", "found-{rank}-{round}.json"
#: Elements of a sum.
SIZE = 4096


def main(folder: str) -> None:
    """Take part in the current round of torchrun. A failure of the group is raised: that is its evidence."""
    die_with_parent()
    where = Path(folder)
    plan = json.loads((where / PLAN).read_text())
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    number = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    accelerator = accelerator_of(plan, facts_from_json(plan["peers"][rank]))
    accelerator.enter()
    _join(accelerator, plan["timeout_s"])
    found: dict[str, Any] = {"sums": 0, "wrong": 0, "first_right": None, "done": False}
    fails = not (where / FAULT).exists()  # the first round: without an end, until the one that fails is missed
    while fails or found["sums"] < plan["sums_to_end"]:
        right = _sum_is_right(accelerator, rank, ranks, found["sums"])
        found["sums"] += 1
        found["wrong"] += not right
        if right and found["first_right"] is None:
            found["first_right"] = time.monotonic()
        write(where / FOUND.format(rank=rank, round=number), found)
        if fails and rank == plan["culprit"] and found["sums"] == plan["sums_to_fault"]:
            write(where / FAULT, {"at": time.monotonic(), "round": number})
            os.kill(os.getpid(), signal.SIGKILL)
    _leave()
    write(where / FOUND.format(rank=rank, round=number), found | {"done": True})


def _join(accelerator: Accelerator, timeout_s: float) -> None:
    import torch.distributed as dist

    rendezvous.bind(None)
    rendezvous.serve_stores_at_their_address()
    set_current_device(accelerator)
    dist.init_process_group(accelerator.stack.collective_backend, timeout=timedelta(seconds=timeout_s))


def _sum_is_right(accelerator: Accelerator, rank: int, ranks: int, turn: int) -> bool:
    import torch
    import torch.distributed as dist

    positions = torch.arange(SIZE, dtype=torch.float32)
    buffer = (positions * (rank + 1) + turn).to(accelerator.device)
    dist.all_reduce(buffer)
    accelerator.synchronize()
    return torch.equal(buffer.cpu(), positions * (ranks * (ranks + 1) // 2) + turn * ranks)


def _leave() -> None:
    import torch.distributed as dist

    dist.barrier()  # who leaves early looks like a dead peer to the others
    dist.destroy_process_group()


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a file atomically: the writer may be killed."""
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(content))
    draft.replace(path)
