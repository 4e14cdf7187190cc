"""Chain of matrix products for timing. Only workers import this: it imports torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readiness.accelerators.base import Accelerator
from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import Timing

#: Rows that are drawn; larger matrices repeat them shuffled, which is as hard to multiply and quick to make.
_DRAWN = 512
_STEPS = 8


@dataclass(slots=True)
class Chain:
    """Chain of matrix products: each is the next one's input, so that a compiler cannot skip one.

    Random matrices let values grow or vanish slowly: after some steps the chain goes on from its start, to which a
    trace of what it came to is added.
    """

    start: torch.Tensor
    right: torch.Tensor
    left: torch.Tensor
    steps: int = 0

    def step(self) -> None:
        """Compute one product."""
        if self.steps % _STEPS == 0:
            self.left = torch.add(self.start, self.left, alpha=1e-6)
        self.left = self.left @ self.right
        self.steps += 1

    def move(self) -> None:
        """Move the matrices to other memory."""
        self.start, self.right, self.left = self.start.clone(), self.right.clone(), self.left.clone()

    def checksum(self) -> float:
        """Return the mean magnitude of the latest result; reading it makes every product necessary."""
        return float(self.left.float().abs().mean())


def timed(accelerator: Accelerator, chain: Chain, *, budget_s: float) -> Timing:
    """Time the products of a chain."""
    return timing.measured(
        accelerator, chain.step, budget_s=budget_s, renew=chain.move, block_bytes=3 * chain.right.nbytes
    )  # fmt: skip


def product_chain(accelerator: Accelerator, dtype: torch.dtype, size: int) -> Chain:
    """Return a chain of two random matrices on the device. Raises torch's error for an unsupported dtype or size."""
    generator = accelerator.generator("throughput", str(dtype), size)
    drawn = min(size, _DRAWN)
    left = torch.randn(drawn, drawn, generator=generator).repeat(size // drawn, size // drawn)
    signs = torch.where(torch.rand(size, size, generator=generator) < 0.5, -1.0, 1.0)
    # Random signs over sqrt(size) have a spectral radius of about 1, as an orthogonal matrix has.
    right = signs / size**0.5
    rows, columns = torch.randperm(size, generator=generator), torch.randperm(size, generator=generator)
    start = left[rows][:, columns].to(dtype).to(accelerator.device)
    return Chain(start, right.to(dtype).to(accelerator.device), start)
