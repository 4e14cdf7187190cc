"""Cost of the simulated device against the CPU itself: a transformer's training step, single calls, the operator sweep.

    python benchmarks/simulator.py

The simulated device calculates with the CPU's own kernels; what is measured is the way there and back. Both sides run
alternately in this order, and the better time of each counts. A chip with a defect that never strikes is a third side:
it pays for looking at every call.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn

from readiness import accelerators
from readiness.accelerators import sim
from readiness.accelerators.base import Accelerator
from readiness.probes.operators import opinfo
from readiness.probes.operators import sweep as sweeping
from readiness.probes.operators.opinfo_trial import TrialOptions
from readiness.probes.parity import train_and_decode, transformer
from readiness.simulator.install import install
from readiness.simulator.machine_file import Chip, Condition, Defect

DTYPES = ("float32", "bfloat16")
ROUNDS = 5
HEALTHY = Chip("healthy", "nothing is wrong")
WATCHED = Chip("watched", "a defect that never strikes", defects=(Defect("nan", when=Condition(after_calls=2**40)),))


def training_step(device: str) -> Callable[[], None]:
    """One step of the small transformer that `parity.training` trains."""
    generator = torch.Generator().manual_seed(7)
    model = transformer.build(generator)
    batches = [transformer.text(generator, model.size.vocabulary, 6, 33)] * 5
    where = torch.device(device)
    return lambda: void(train_and_decode.train(transformer.copy(model.state_dict(), torch.float32), batches, where))


def wide_step(device: str) -> Callable[[], None]:
    """One step of a wider layer, in which the kernels take longer than the way to them."""
    layer = nn.TransformerEncoderLayer(512, 8, 1024, dropout=0.0, batch_first=True).to(device)
    x = torch.randn(4, 128, 512, generator=torch.Generator().manual_seed(7)).to(device)
    return lambda: layer(x).square().mean().backward()


def single(device: str, size: int) -> Callable[[], None]:
    """A hundred products of square matrices."""
    x = torch.randn(size, size, generator=torch.Generator().manual_seed(7)).to(device)

    def work() -> None:
        for _ in range(100):
            x @ x

    return work


def additions(device: str) -> Callable[[], None]:
    """A hundred additions of a few numbers: nothing but the way there and back."""
    x = torch.ones(8, device=device)

    def work() -> None:
        for _ in range(100):
            x + x

    return work


def void(_: object) -> None:
    """Drop a value."""


def best(work: Callable[[], None]) -> float:
    """Seconds of the best of some rounds."""
    work()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def swept(chip: Chip | None) -> float:
    """Seconds of a sweep of all operators with one sample each, in two dtypes, by as many processes as there are cores."""
    stack = accelerators.stack("cpu" if chip is None else "sim")
    facts = next(iter(stack.discover())) if chip is None else sim.facts(chip)[0]
    if chip is not None:
        install(chip, 0)
    accelerator = Accelerator(facts, stack, seed=7)
    entries = opinfo.load()
    started = time.perf_counter()
    chosen = opinfo.select(entries, "all")
    list(sweeping.sweep(accelerator, entries, chosen, DTYPES, options=TrialOptions(), operator_limit_s=60.0))
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    install(HEALTHY, 0)
    print(f"making the device: {time.perf_counter() - started:.2f} s")
    print(f"{'':34s} {'cpu':>10s} {'sim':>10s} {'ratio':>6s} {'watched':>10s} {'ratio':>6s}")
    torch.set_num_threads(1)
    makers: dict[str, Callable[[str], Callable[[], None]]] = {
        "5 training steps, small": training_step,
        "training step, width 512": wide_step,
        "100 matrix products, 64": lambda device: single(device, 64),
        "100 matrix products, 512": lambda device: single(device, 512),
        "100 additions": additions,
    }
    for name, make in makers.items():
        host = best(make("cpu"))
        install(HEALTHY, 0)
        healthy = best(make("sim"))
        install(WATCHED, 0)
        watched = best(make("sim"))
        report(name, host, healthy, watched)
    report("sweep of all operators", *(min(swept(chip) for _ in range(2)) for chip in (None, HEALTHY, WATCHED)))


def report(name: str, host: float, healthy: float, watched: float) -> None:
    """One line."""
    print(
        f"{name:34s} {host * 1e3:8.1f}ms {healthy * 1e3:8.1f}ms {healthy / host:6.2f} "
        f"{watched * 1e3:8.1f}ms {watched / host:6.2f}"
    )


if __name__ == "__main__":
    main()
