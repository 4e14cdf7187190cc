"""Rates as the checks take them on the CPU, against numpy and a plain torch loop in the same run, and against themselves.

    python benchmarks/throughput.py [ROUNDS]

One thread, and for all sides the same memory: other pages are as far away as chance has put them. In each round all sides
are taken once, in turns; the plain loops call the same operation and look at the clock. A side's rate is its best sample
over all rounds, since other work makes calls slow and never fast; what a call waited for a processor is left out for all
sides, else long calls on a busy host are never seen whole. Then the median of the last five repetitions of ours, the largest
distance between two of their medians, and the spread that they state.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SECONDS, REPETITIONS = 0.5, 5
#: A side's call of ours and of numpy's, and the operations or bytes of one in 10^9.
Sides = tuple[Callable[[], object], Callable[[], object], float]


def plain(work: Callable[[], object]) -> list[float]:
    """Return the seconds of calls, one by one, until the time is up; without what they waited for a processor."""
    from readiness.probes.throughput.timing import once_running

    work()
    found: list[float] = []
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until or len(found) < 3:
        found.append(once_running(work, lambda: None))
    return found


def sides() -> Iterator[tuple[str, Sides]]:
    """Yield a product and a copy, each by torch and by numpy on the same memory."""
    import numpy
    import torch

    size, block = 1024, 64 * 2**20
    draw = numpy.random.default_rng(7)
    left, right = (draw.standard_normal((size, size), dtype=numpy.float32) for _ in range(2))
    source = draw.integers(0, 256, block, dtype=numpy.uint8)
    product, target = numpy.empty_like(left), numpy.empty_like(source)
    a, b, c = (torch.from_numpy(array) for array in (left, right, product))
    d, e = (torch.from_numpy(array) for array in (source, target))
    yield "product float32 GFLOP/s", (
        lambda: torch.mm(a, b, out=c), lambda: numpy.matmul(left, right, out=product), 2.0 * size**3 / 1e9
    )  # fmt: skip
    yield "copy GB/s", (lambda: e.copy_(d), lambda: numpy.copyto(target, source), 2.0 * block / 1e9)


def main() -> None:
    """Measure and print."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # before numpy is imported
    import torch

    from readiness import accelerators
    from readiness.accelerators.base import Accelerator
    from readiness.probes.throughput.timing import Timing, measured

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else REPETITIONS
    torch.set_num_threads(1)
    stack = accelerators.stack("cpu")
    accelerator = Accelerator(next(iter(stack.discover())), stack)
    print(f"{'what':24} {'ours':>7} {'numpy':>7} {'loop':>7}   ours/numpy ours/loop   five medians (distance, spread)")
    for what, (ours_call, numpy_call, amount) in sides():
        best: dict[str, float] = {}
        timings: list[Timing] = []
        for _ in range(rounds):
            timings.append(measured(accelerator, ours_call, budget_s=SECONDS))
            taken = {"ours": timings[-1].seconds, "numpy": plain(numpy_call), "loop": plain(ours_call)}
            for side, seconds in taken.items():
                best[side] = min(best.get(side, 1e9), *seconds)
        ours, by_numpy, loop = (amount / best[side] for side in ("ours", "numpy", "loop"))
        medians = [timing.rate(amount) for timing in timings[-REPETITIONS:]]
        spread = statistics.median(timing.spread(amount) for timing in timings[-REPETITIONS:])
        again = f"{statistics.median(medians):.1f} ({max(medians) - min(medians):.2f}, {spread:.2f})"
        waited = max(timing.waited for timing in timings)
        rates = f"{ours:7.1f} {by_numpy:7.1f} {loop:7.1f}   {ours / by_numpy:10.3f} {ours / loop:9.3f}"
        print(f"{what:24} {rates}   {again}, waited for a processor {waited:.0%}", flush=True)


if __name__ == "__main__":
    main()
