"""Do five runs of the same rates on the CPU agree within their spread? `python -m benchmarks.reruns [--load N]`.

Each run is a process of its own, as a run of the tool is, and takes products, a copy and the operations of STREAM as the
checks do. A run states a median and a spread: its interval holds another run if that one's median is no farther off than the
spread. `--load` adds processes that do nothing but copy 32 MiB from here to there, which keeps processors and memory busy.
Where the process waited for more than a tenth of the time `throughput.stream` would report nothing: a star marks it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LOAD = "block = bytearray(32 * 2**20)\nwhile True:\n    bytes(block)\n"
_ONE = "from benchmarks.reruns import one; one()"


@dataclass(frozen=True, slots=True)
class Figure:
    """A rate of one run in 10^9 a second: its median, its spread, the distance between its quartiles; and the waiting."""

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
    """Take all rates once, and print each as a line of JSON."""
    import torch

    from readiness import accelerators
    from readiness.accelerators.base import Accelerator
    from readiness.probes.throughput import memory_operations
    from readiness.probes.throughput.gemm import product_chain
    from readiness.probes.throughput.timing import Timing, measured, quartiles

    stack = accelerators.stack("cpu")
    accelerator = Accelerator(next(iter(stack.discover())), stack, seed=7)

    def tell(what: str, timing: Timing, amount: float) -> None:
        rates = [amount / 1e9 / seconds for seconds in timing.seconds]
        figure = Figure(what, timing.rate(amount) / 1e9, timing.spread(amount) / 1e9, quartiles(rates), timing.waited)
        print(json.dumps(asdict(figure)), flush=True)

    for name, size in (("float32", 1024), ("bfloat16", 512)):
        chain = product_chain(accelerator, getattr(torch, name), size)
        tell(f"product {name} GFLOP/s", measured(accelerator, chain.step, budget_s=0.6), 2.0 * size**3)
    source = torch.randint(0, 256, (256 * 2**20,), dtype=torch.uint8)
    target = torch.empty_like(source)
    tell("copy GB/s", measured(accelerator, lambda: target.copy_(source), budget_s=0.6), 2.0 * source.numel())
    for operation, timing in memory_operations.measure(accelerator, 64 * 2**20, budget_s=0.7):
        tell(f"stream {operation.name} GB/s", timing, operation.bytes)


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
    print(f"{'what':24} {'medians':42} {'spreads':42} held of {pairs}   by quartiles alone   waited at most")
    total = alone = 0
    for figures in zip(*runs, strict=True):
        medians = [figure.median for figure in figures]
        kept, by_quartiles = (held(medians, spreads) for spreads in (
            [figure.spread for figure in figures], [figure.quartiles for figure in figures]
        ))  # fmt: skip
        total, alone = total + kept, alone + by_quartiles
        waited = max(figure.waited for figure in figures)
        texts = [" ".join(f"{value:.4g}" for value in values) for values in (medians, [figure.spread for figure in figures])]
        star = "*" if waited > 0.1 else ""
        print(f"{figures[0].what:24} {texts[0]:42} {texts[1]:42} {kept:7} {by_quartiles:20} {waited:17.0%}{star}")
    everything = pairs * len(runs[0])
    print(f"all: {total} of {everything} held, by quartiles alone {alone}")


if __name__ == "__main__":
    main()
