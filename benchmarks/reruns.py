"""Do five runs of the same rates on the CPU agree within their spread? `python -m benchmarks.reruns [--load N]`.

Each run is a process of its own, as a run of the tool is, and takes products, a copy and the operations of STREAM as the
checks do. A run states a median and a spread: its interval holds another run if that one's median is no farther off than the
spread. `--load` adds processes that do nothing but copy 32 MiB from here to there, which keeps processors and memory busy.
Where the process waited for more than a tenth of the time `throughput.stream` would report nothing: a star marks it.
The spread is what two runs differ by at most in 95 of 100 cases. Two rates are taken by a plain loop as well: beside the
distance between its quartiles it has no more to state than how far its samples lie apart.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

#: Sizes of square products, by dtype.
PRODUCTS = {"float32": 1024, "bfloat16": 512}
ROOT = Path(__file__).resolve().parent.parent
_LOAD = "block = bytearray(32 * 2**20)\nwhile True:\n    bytes(block)\n"
_ONE = "from benchmarks.reruns import one; one()"


@dataclass(frozen=True, slots=True)
class Figure:
    """A rate of one run in 10^9 a second: its median, its spread, the distance between its quartiles, and the waiting.

    A plain loop states none: what it could state is how far its samples lie apart, from the least to the most.
    """

    what: str
    median: float
    spread: float
    quartiles: float
    waited: float


def held(medians: Sequence[float], spreads: Sequence[float]) -> int:
    """Return of how many pairs of runs the first one's interval holds the second one's median."""
    return sum(
        abs(middle - other) <= spread
        for number, (middle, spread) in enumerate(zip(medians, spreads, strict=True))
        for place, other in enumerate(medians)
        if place != number
    )


def one() -> None:
    """Take all rates once as the checks do, then two as a plain loop does, and print each as a line of JSON."""
    import torch

    from readiness import accelerators
    from readiness.accelerators.base import Accelerator
    from readiness.probes.throughput import gemm, memory_operations
    from readiness.probes.throughput.timing import Timing, quartiles

    stack = accelerators.stack("cpu")
    accelerator = Accelerator(next(iter(stack.discover())), stack, seed=7)

    def tell(what: str, timing: Timing, amount: float) -> None:
        rates = [amount / 1e9 / seconds for seconds in timing.seconds]
        figure = Figure(what, timing.rate(amount) / 1e9, timing.spread(amount) / 1e9, quartiles(rates), timing.waited)
        print(json.dumps(asdict(figure)), flush=True)

    chains = {name: (size, gemm.product_chain(accelerator, getattr(torch, name), size)) for name, size in PRODUCTS.items()}
    for name, (size, chain) in chains.items():
        tell(f"product {name} GFLOP/s", gemm.timed(accelerator, chain, budget_s=0.6), 2.0 * size**3)
    block = memory_operations.BlockCopy.drawn(accelerator, 256 * 2**20)
    tell("copy GB/s", block.timed(accelerator, budget_s=0.6), 2.0 * block.source.nbytes)
    for operation, timing in memory_operations.measure(accelerator, 64 * 2**20, budget_s=0.7):
        tell(f"stream {operation.name} GB/s", timing, operation.bytes)
    size, chain = chains["float32"]
    for what, call, amount in (
        ("product float32 GFLOP/s", lambda: torch.mm(chain.start, chain.right), 2.0 * size**3),
        ("copy GB/s", block.copy, 2.0 * block.source.nbytes),
    ):
        rates = [amount / 1e9 / seconds for seconds in _loop(call)]
        figure = Figure(f"plain loop: {what}", statistics.median(rates), max(rates) - min(rates), quartiles(rates), math.nan)
        print(json.dumps(asdict(figure)), flush=True)


def _loop(call: Callable[[], object], seconds: float = 0.6) -> list[float]:
    """Return the seconds of calls one by one, as a bare loop takes them."""
    call()
    found, until = list[float](), time.perf_counter() + seconds
    while time.perf_counter() < until or len(found) < 5:
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return found


@contextlib.contextmanager
def load(count: int) -> Iterator[None]:
    """Keep so many processes busy meanwhile."""
    started = [subprocess.Popen([sys.executable, "-c", _LOAD]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def main() -> None:
    """Run five times, and print a line for each rate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--load", type=int, default=0, help="processes that keep the host busy meanwhile (default: none)")
    parser.add_argument("--runs", type=int, default=5, help="runs (default: 5)")
    given = parser.parse_args()
    runs: list[list[Figure]] = []
    print(f"load at the beginning: {os.getloadavg()[0]:.0f}, and {given.load} processes of our own")
    with load(given.load):
        for _ in range(given.runs):
            done = subprocess.run([sys.executable, "-c", _ONE], cwd=ROOT, check=True, capture_output=True, text=True)
            runs.append([Figure(**json.loads(line)) for line in done.stdout.splitlines()])
    pairs = given.runs * (given.runs - 1)
    print(f"{'what':35} {'medians':42} {'spreads':42} held of {pairs}   by quartiles alone   waited at most")
    ours = [figures for figures in zip(*runs, strict=True) if not figures[0].what.startswith("plain")]
    loops = [figures for figures in zip(*runs, strict=True) if figures[0].what.startswith("plain")]
    for said, table in (("ours", ours), ("plain loops", loops)):
        counts = [_tell(figures) for figures in table]
        kept, by_quartiles = (sum(column) for column in zip(*counts, strict=True))
        print(f"{said}: {kept} of {pairs * len(table)} held, by quartiles alone {by_quartiles}")


def _tell(figures: Sequence[Figure]) -> tuple[int, int]:
    """Print a line of one rate in all runs; return how many pairs hold, by spread and by quartiles alone."""
    medians, spreads = [figure.median for figure in figures], [figure.spread for figure in figures]
    kept, by_quartiles = held(medians, spreads), held(medians, [figure.quartiles for figure in figures])
    waited = max(figure.waited for figure in figures)
    texts = [" ".join(f"{value:.4g}" for value in values) for values in (medians, spreads)]
    star = "*" if waited > 0.1 else ""
    print(f"{figures[0].what:35} {texts[0]:42} {texts[1]:42} {kept:7} {by_quartiles:20} {waited:17.0%}{star}", flush=True)
    return kept, by_quartiles


if __name__ == "__main__":
    main()
