"""Operators checked per second by the sweep, against running the same samples forward and backward in one plain process.

    python benchmarks/operators.py

Both sides run in this order, twice, in the dtypes of the check's defaults, and the better time of each counts; CPU seconds
tell the same where other work runs. The sweep is timed as a whole run of its children (start, every comparison, layouts,
further calls and float64 references); the import of PyTorch's database, which both need once, is told apart.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from readiness import accelerators
from readiness.accelerators.base import Accelerator
from readiness.catalogue import database, samples
from readiness.catalogue import sweep as sweeping
from readiness.catalogue.calls import CPU
from readiness.catalogue.database import Entry
from readiness.catalogue.judge import Manner
from readiness.catalogue.outcomes import NotClaimedError

DTYPES = ("float32", "bfloat16")
REPETITIONS = 2


def plain(entries: tuple[Entry, ...]) -> tuple[int, float]:
    """Operators and seconds: one sample each, forward and backward, nothing compared and nothing guarded."""
    torch.set_num_threads(1)
    done, started = 0, time.perf_counter()
    for name in DTYPES:
        dtype = database.dtype_of(name)
        for entry in entries:
            if not entry.claims(dtype) or entry.unjudgeable(dtype):
                continue
            gradients = entry.claims_backward(dtype)
            sample = samples.draw(entry, dtype, seed=7, gradients=gradients)[0]
            given = sample.converted(torch.clone, CPU)
            try:
                result = sample.source.output_process_fn_grad(given.call(entry.info))
            except NotClaimedError:
                continue
            roots = [out for out in samples.leaves(result) if isinstance(out, torch.Tensor) and out.requires_grad]
            inputs = [tensor for tensor in given.tensors() if tensor.requires_grad]
            if gradients and roots and inputs:
                torch.autograd.grad(roots, inputs, [torch.ones_like(root) for root in roots], allow_unused=True)
            done += 1
    return done, time.perf_counter() - started


def swept(entries: tuple[Entry, ...], processes: int) -> tuple[int, float]:
    """Operators and seconds of the sweep."""
    stack = accelerators.stack("cpu")
    accelerator = Accelerator(next(iter(stack.discover())), stack, seed=7)
    started = time.perf_counter()
    chosen = database.select(entries, "all")
    results = list(sweeping.sweep(
        accelerator, entries, chosen, DTYPES, manner=Manner(), operator_limit_s=60.0, processes=processes
    ))  # fmt: skip
    return sum(swept.result.outcome.sound for swept in results), time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    entries = database.load()
    print(f"import of the database: {time.perf_counter() - started:.1f} s")
    sides: dict[str, Callable[[], tuple[int, float]]] = {
        "plain process": lambda: plain(entries),
        "sweep, 1 process": lambda: swept(entries, 1),
        f"sweep, {sweeping.usable_processes()} processes": lambda: swept(entries, 0),
    }
    best = {name: min((timed(side) for _ in range(REPETITIONS)), key=lambda found: found[1]) for name, side in sides.items()}
    base = best["plain process"][0] / best["plain process"][1]
    for name, (count, seconds, busy) in best.items():
        rate = count / seconds
        print(
            f"{name:20s} {count:5d} operators {seconds:6.1f} s, {busy:5.1f} s of CPU "
            f"{rate:7.0f} per s   ratio {rate / base:.2f}"
        )


def timed(side: Callable[[], tuple[int, float]]) -> tuple[int, float, float]:
    """What a side tells, and its CPU seconds with those of its children."""
    before = cpu_seconds()
    return *side(), cpu_seconds() - before


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
