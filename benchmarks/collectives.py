"""Collectives as `multichip.bandwidth` measures them, against a bare torch loop, a raw socket and a copy of memory.

    python benchmarks/collectives.py [RANKS]

All in one run, in turn, the best of some rounds: the bare loop is a script under torchrun that calls the same operations
in the same sizes and looks at nothing; socket and copy are the check's own. And the start of a world, from nothing to the
first sum and to its end, against torchrun's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dataclasses

import torch
import torch.distributed as dist

from readiness import accelerators, check_registry
from readiness.accelerators.base import Accelerator
from readiness.distributed import RankContext, place, run_ranks
from readiness.engine import worker

ROUNDS = 2
BYTES = (65536, 2097152)
OPERATIONS = ("all_reduce", "all_gather", "all_to_all", "broadcast")

BARE = '''
import json, sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.set_num_threads(1)
gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
found = {}
for size in json.loads(sys.argv[1]):
    buffer, part = torch.ones(size // 4), torch.ones(size // 4 // world)
    out = torch.empty(size // 4)
    for op, call in {
        "all_reduce": lambda: dist.all_reduce(buffer), "all_gather": lambda: gather(out, part),
        "all_to_all": lambda: dist.all_to_all_single(out, buffer), "broadcast": lambda: dist.broadcast(buffer, 0),
    }.items():
        best = 1e9
        for _ in range(8):
            dist.barrier()
            call()
            began = time.perf_counter()
            for _ in range(2):
                call()
            best = min(best, (time.perf_counter() - began) / 2)
        seconds = torch.tensor([best])
        dist.all_reduce(seconds, op=dist.ReduceOp.MAX)
        found[f"{op} {size}"] = size / float(seconds) / 1e9
dist.barrier()
if rank == 0:
    print(json.dumps(found))
dist.destroy_process_group()
'''
FIRST_SUM = '''
import torch, torch.distributed as dist
dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
dist.barrier()
dist.destroy_process_group()
'''


def several(ranks: int) -> Accelerator:
    """Return an accelerator with as many chips as ranks, all of them this CPU."""
    stack = accelerators.stack("cpu")
    one = next(iter(stack.discover()))
    facts = [dataclasses.replace(one, id=f"cpu:{index}", index=index) for index in range(ranks)]
    return Accelerator(facts[0], stack, seed=7, peers=facts)


def torchrun(script: str, ranks: int, *arguments: str) -> str:
    """Return the output of a script under torchrun."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "bare.py")
        file.write_text(script)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", str(file)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True, env=environment)
    return done.stdout


def first_sum(context: RankContext) -> Iterator[dict[str, float]]:
    """Run a rank that does nothing but one sum."""
    one = torch.ones(1)
    with context.step("the first sum"):
        dist.all_reduce(one)
    yield {"sum": float(one)}


def copy_gbps() -> float:
    """Memory of this host, copied by one thread; more of it than a cache holds."""
    block, target = torch.ones(2**24), torch.empty(2**24)
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        target.copy_(block)
        best = min(best, time.perf_counter() - began)
    return block.nbytes / best / 1e9


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    ranks = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    check = check_registry.discover()["multichip.bandwidth"]
    checked: dict[str, float] = {}
    bare: dict[str, float] = {}
    links: dict[str, float] = {}
    for _ in range(ROUNDS):
        evidence = worker.collect(check, several(ranks), bytes=[8, *BYTES], samples=8)
        for item in evidence.measurements:
            labels = dict(item.labels)
            if item.name == "algorithm_gbps" and labels["group"] == str(ranks):
                key = f"{labels['op']} {labels['bytes']}"
                checked[key] = max(float(item.value), checked.get(key, 0.0))
            elif item.name == "usual_share_of_raw":
                links["share"] = max(float(item.value), links.get("share", 0.0))
        for row in evidence.rows:
            for name in ("gigabytes_a_second", "raw_socket_gigabytes_a_second"):
                if name in row:
                    links[name] = max(row[name], links.get(name, 0.0))
        for key, rate in json.loads(torchrun(BARE, ranks, json.dumps(BYTES))).items():
            bare[key] = max(rate, bare.get(key, 0.0))
    print(f"{ranks} ranks, algorithm bandwidth in GB/s{'':10s} ours     bare    ratio")
    for size in BYTES:
        for op in OPERATIONS:
            key = f"{op} {size}"
            print(f"  {key:38s} {checked[key]:8.3f} {bare[key]:8.3f} {checked[key] / bare[key]:8.2f}")
    sent, raw, copied = links["gigabytes_a_second"], links["raw_socket_gigabytes_a_second"], copy_gbps()
    print(f"a block of 1 MiB there and back: {sent:.2f} GB/s; a raw socket {raw:.2f}, ratio {sent / raw:.2f}", end="; ")
    print(f"a copy of memory {copied:.2f}, ratio {sent / copied:.2f}")
    world, runs = [], []
    accelerator = several(ranks)
    for number in range(ROUNDS + 1):
        began = time.perf_counter()
        outcome = run_ranks(first_sum, accelerator, place(accelerator))
        assert outcome.failure is None, outcome.failure
        world += [time.perf_counter() - began] if number else []
        began = time.perf_counter()
        torchrun(FIRST_SUM, ranks)
        runs += [time.perf_counter() - began] if number else []
    print(f"a world to its first sum and its end: {min(world):.3f} s; torchrun {min(runs):.3f} s", end="; ")
    print(f"ratio {min(runs) / min(world):.1f}")


if __name__ == "__main__":
    main()
