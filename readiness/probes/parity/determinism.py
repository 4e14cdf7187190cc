"""Determinism: the same computation repeated in changing conditions, every bit compared."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional

from readiness.accelerators.base import Accelerator
from readiness.probes.parity import train_and_decode, transformer

Tensor = torch.Tensor
Repeat = Callable[[], list[Tensor]]
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def operations(accelerator: Accelerator, dtype: torch.dtype) -> Iterator[tuple[str, Repeat]]:
    """Yield names and computations whose results, moved to the host, must have the same bits each time."""
    draw = accelerator.generator("determinism", dtype)
    device = accelerator.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(dtype)

    a, b = normal(130, 2050), normal(2050, 70)
    yield "matmul", lambda: [(a.to(device) @ b.to(device)).cpu()]

    # Longer than several of the blocks that kernels go by: of two that are added to nothing the order is no matter.
    query, key, value = normal(2, 4, 515, 64), normal(2, 2, 515, 64), normal(2, 2, 515, 64)
    cotangent = normal(2, 4, 515, 64)

    def attend() -> list[Tensor]:
        q, k, v = (tensor.to(device, copy=True).requires_grad_() for tensor in (query, key, value))
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return [tensor.detach().cpu() for tensor in (out, *torch.autograd.grad(out, (q, k, v), cotangent.to(device)))]

    yield "attention", attend

    long = normal(3, 65537)
    yield "sum", lambda: [long.to(device).sum().cpu(), long.to(device).sum(0).cpu()]

    target, positions, addends = normal(50, 64), torch.randint(50, (3000,), generator=draw), normal(3000, 64)
    yield "scatter", lambda: [target.to(device).index_add(0, positions.to(device), addends.to(device)).cpu()]

    weights = transformer.build(draw).state_dict()
    batches = [transformer.text(draw, transformer.Size().vocabulary, 4, 33) for _ in range(2)]
    full = dtype.itemsize >= 4

    def step() -> list[Tensor]:
        model = transformer.copy(weights, dtype if full else torch.float32)
        training_run = train_and_decode.train(model, batches, device, autocast=None if full else dtype)
        updated = [parameter.detach().cpu() for parameter in model.parameters()]
        return [*training_run.gradients.values(), *updated, torch.tensor(training_run.losses, dtype=torch.float64)]

    yield "training_step", step


def disturb(accelerator: Accelerator, turn: int) -> None:
    """Run other work in between, of a different size each time, so that memory, caches and schedules change."""
    size = 40 + 37 * turn
    noise = torch.randn(size, 128, generator=accelerator.generator("disturb", turn)).to(accelerator.device)
    (noise @ noise.mT).sum()
    if turn % 3 == 2:
        accelerator.release()


def obeys(repeat: Repeat) -> bool:
    """True if torch runs this under strict deterministic algorithms, without refusing it.

    Where it is only warned (`deterministic`), it leaves attention as it is, though it could do it. Raises what is raised.
    """
    with deterministic(True, strict=True):
        try:
            repeat()
        except RuntimeError as problem:
            if "determinis" not in str(problem).lower():
                raise
            return False
    return True


@contextlib.contextmanager
def deterministic(wanted: bool, *, strict: bool = False) -> Iterator[list[str]]:
    """Enable or disable deterministic algorithms within the block; the list collects torch's warnings about missing ones.

    With `strict` it raises instead. cuBLAS has none unless its workspace was fixed before the first product of the process
    (docs.pytorch.org, use_deterministic_algorithms); whoever has fixed it otherwise keeps that.
    """
    fixed = os.environ.get(_WORKSPACE)
    if wanted:
        os.environ.setdefault(_WORKSPACE, ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    complaints: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.use_deterministic_algorithms(wanted, warn_only=not strict)
        try:
            yield complaints
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            if fixed is None:
                os.environ.pop(_WORKSPACE, None)
            complaints += sorted({str(item.message).splitlines()[0][:200] for item in caught})
