"""One call of an operator, forward and backward, on whatever device its inputs lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.catalogue import samples
from readiness.catalogue.op_entry import Entry
from readiness.catalogue.outcomes import Phase
from readiness.catalogue.samples import Sample

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Called:
    """What one call gave: all outputs, those that the database says are comparable, and gradients by input (or None)."""

    outputs: list[Any]
    comparable: list[Any]
    gradients: list[torch.Tensor | None]
    backward: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls one operator in one dtype from the same seed and the same cotangents on every device."""

    accelerator: Accelerator
    entry: Entry
    dtype: torch.dtype
    seed: int
    _drawn: dict[tuple[int, torch.Size, bool], torch.Tensor] = field(default_factory=dict)

    def call(
        self, given: Sample, gradients: bool, enter: Callable[[Phase], None], move: samples.Convert | None = None
    ) -> Called:
        """Forward, and backward from the cotangents, or from where `move` puts them. `enter` is told each phase."""
        enter(Phase.FORWARD)
        if given.on_cpu:
            torch.default_generator.manual_seed(self.seed)  # a device that is lost must not spoil what the host says
        else:
            seed_all(self.accelerator, self.seed)
        result = given.call(self.entry.info)
        outputs = list(samples.leaves(result))
        plain = given.through is None
        comparable = list(samples.leaves(given.source.output_process_fn_grad(result))) if plain else outputs
        inputs = [tensor for tensor in given.tensors() if tensor.requires_grad]
        roots = [out for out in comparable if isinstance(out, torch.Tensor) and out.requires_grad]
        if not (gradients and inputs and roots):
            return Called(outputs, comparable, [], False)
        cotangents = [self._cotangent(position, root) for position, root in enumerate(roots)]
        if move is not None:
            cotangents = [move(cotangent) for cotangent in cotangents]
        enter(Phase.BACKWARD)
        found = torch.autograd.grad(roots, inputs, cotangents, allow_unused=True)
        return Called(outputs, comparable, list(found), True)

    def _cotangent(self, position: int, root: torch.Tensor) -> torch.Tensor:
        """Standard normal values that `dtype` can hold, in the dtype and on the device of `root`: each time the same."""
        key = position, root.shape, root.is_complex()
        if key not in self._drawn:
            generator = self.accelerator.generator("cotangent", self.entry.name, position)
            kind = torch.complex64 if root.is_complex() else torch.float32
            values = torch.randn(root.shape, generator=generator, dtype=kind)
            # Rounded to the narrow dtype first, so that the wide reference starts from the very same values.
            narrow = self.dtype.is_floating_point and not root.is_complex()
            self._drawn[key] = values.to(self.dtype) if narrow else values
        return self._drawn[key].to(root.dtype, copy=True).to(root.device)


def seed_all(accelerator: Accelerator, seed: int) -> torch.Generator:
    """Seed the generators of the host and of this device.

    `torch.manual_seed` seeds every kind of device that PyTorch knows, and for those that are not there it writes down
    a stack to blame later: 0.2 ms a call, a third of a sweep.
    """
    if accelerator.device.type != "cpu":
        module = accelerator.stack.module()
        getattr(module, "manual_seed_all", getattr(module, "manual_seed", _manual_seed))(seed)
    return torch.default_generator.manual_seed(seed)


_manual_seed = torch.manual_seed
