"""The sweep of PyTorch's operators, against the same samples in one plain process and against PyTorch's own way to compare.

    python benchmarks/operators.py
    python benchmarks/operators.py --dtypes float32,bfloat16,float16,int64

All sides run in this order, twice, and the better time of each counts; CPU seconds tell the same where other work runs.
`plain` runs one sample of each operator forward and backward, nothing compared and nothing guarded. `consistency` does
what PyTorch's test-suite does on devices (`TestConsistency`, `test_compare_cpu`): every sample of the database forward
and backward, on the device and once more on the CPU, compared with `torch.testing.assert_close`; what it raises is
counted. The sweep is timed as a whole run of its children: start, every comparison, layouts, further calls and float64
references. The import of PyTorch's database, which all need once, is told apart.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from readiness import accelerators
from readiness.accelerators.base import Accelerator
from readiness.host.runqueue_wait import usable_cores
from readiness.probes.operators import opinfo, samples
from readiness.probes.operators import sweep as sweeping
from readiness.probes.operators.op_call import CPU
from readiness.probes.operators.op_entry import Entry
from readiness.probes.operators.opinfo_trial import TrialOptions
from readiness.probes.operators.outcomes import NotClaimedError

REPETITIONS = 2
Side = Callable[[], tuple[int, float]]


def plain(entries: Sequence[Entry], dtypes: Sequence[str]) -> tuple[int, float]:
    """Operators and seconds of one sample each."""
    torch.set_num_threads(1)
    done, started = 0, time.perf_counter()
    for name in dtypes:
        dtype = opinfo.dtype_of(name)
        for entry in entries:
            if not entry.claims(dtype) or entry.unjudgeable:
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


def consistency(entries: Sequence[Entry], dtypes: Sequence[str]) -> tuple[int, float]:
    """Operators and seconds of every sample, here and there, compared as PyTorch's tests compare."""
    torch.set_num_threads(1)
    done, started = 0, time.perf_counter()
    for name in dtypes:
        dtype = opinfo.dtype_of(name)
        for entry in entries:
            if not entry.claims(dtype) or entry.unjudgeable or not hasattr(entry.info, "sample_inputs"):
                continue
            _consistent(entry, dtype)
            done += 1
    return done, time.perf_counter() - started


def _consistent(entry: Entry, dtype: torch.dtype) -> None:
    gradients = entry.claims_backward(dtype)
    for given in entry.info.sample_inputs_func(entry.info, "cpu", dtype, gradients):
        try:
            found = [_both(entry.info, given, gradients) for _ in range(2)]
            torch.testing.assert_close(found[0], found[1], equal_nan=True, check_layout=False)
        except Exception:  # noqa: BLE001 - what differs or is refused is not what is timed
            continue


def _both(info: Any, given: Any, gradients: bool) -> list[Any]:
    torch.manual_seed(7)
    moved = given.transform(_leaf)
    result = given.output_process_fn_grad(info(moved.input, *moved.args, **moved.kwargs))
    outputs = [out for out in samples.leaves(result) if isinstance(out, torch.Tensor)]
    leaves = samples.leaves((moved.input, moved.args, moved.kwargs))
    inputs = [item for item in leaves if isinstance(item, torch.Tensor) and item.requires_grad]
    roots = [out for out in outputs if out.requires_grad]
    if not (gradients and roots and inputs):
        return outputs
    found = torch.autograd.grad(roots, inputs, [torch.ones_like(root) for root in roots], allow_unused=True)
    return [*(out.detach() for out in outputs), *(item for item in found if item is not None)]


def _leaf(item: Any) -> Any:
    return item.detach().clone().requires_grad_(item.requires_grad) if isinstance(item, torch.Tensor) else item


def swept(entries: Sequence[Entry], dtypes: Sequence[str], processes: int) -> tuple[int, float]:
    """Operators and seconds of the sweep."""
    stack = accelerators.stack("cpu")
    accelerator = Accelerator(next(iter(stack.discover())), stack, seed=7)
    started = time.perf_counter()
    chosen = opinfo.select(entries, "all")
    results = list(sweeping.sweep(
        accelerator, entries, chosen, dtypes, options=TrialOptions(), operator_limit_s=60.0, processes=processes
    ))  # fmt: skip
    return sum(swept.result.outcome.clean for swept in results), time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dtypes", default="float32,bfloat16", help="names of torch's dtypes, with commas between")
    dtypes = parser.parse_args(arguments).dtypes.split(",")
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    entries = opinfo.load()
    print(f"import of the database: {time.perf_counter() - started:.1f} s; {', '.join(dtypes)}")
    sides: dict[str, Side] = {
        "plain process": partial(plain, entries, dtypes),
        "consistency": partial(consistency, entries, dtypes),
        "sweep, 1 process": partial(swept, entries, dtypes, 1),
        f"sweep, {usable_cores()} processes": partial(swept, entries, dtypes, 0),
    }
    best = {name: min((timed(side) for _ in range(REPETITIONS)), key=lambda found: found[1]) for name, side in sides.items()}
    base = best["plain process"][0] / best["plain process"][1]
    for name, (count, seconds, busy) in best.items():
        rate = count / seconds
        print(
            f"{name:20s} {count:5d} operators {seconds:6.1f} s, {busy:5.1f} s of CPU "
            f"{rate:7.0f} per s   ratio {rate / base:.2f}"
        )
    largest = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"memory at most: this process {largest[0]:.0f} MiB, one of its children {largest[1]:.0f} MiB")


def timed(side: Side) -> tuple[int, float, float]:
    """Return a side's result, and its CPU seconds with those of its children."""
    before = cpu_seconds()
    return *side(), cpu_seconds() - before


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
