"""Call of an operator, forward and backward, on the device of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.probes.operators import op_semantics, samples
from readiness.probes.operators.op_entry import Entry
from readiness.probes.operators.outcomes import Phase
from readiness.probes.operators.samples import Incoming, Sample

CPU = torch.device("cpu")
#: The dtypes of references.
_WIDE = (torch.float64, torch.complex128)


@dataclass(frozen=True, slots=True)
class CallResult:
    """Result of a call: all outputs, the comparable ones, and gradients by input (None if it has none)."""

    outputs: list[Any]
    comparable: list[Any]
    gradients: list[torch.Tensor | None]
    backward: bool

    def detached(self) -> CallResult:
        """Return the result without autograd's graph, which holds all inputs and intermediate values."""
        return CallResult(_detached(self.outputs), _detached(self.comparable), self.gradients, self.backward)


@dataclass(frozen=True, slots=True)
class OpCaller:
    """Calls an operator in one dtype with the same seed and cotangents on every device."""

    accelerator: Accelerator
    entry: Entry
    dtype: torch.dtype
    seed: int
    _drawn: dict[tuple[int, torch.Size, bool], torch.Tensor] = field(default_factory=dict)
    _root_dtypes: dict[tuple[int, torch.Size, bool], torch.dtype] = field(default_factory=dict)

    def call(
        self, given: Sample, gradients: bool, enter: Callable[[Phase], None], move: samples.Convert | None = None,
        function: Callable[..., Any] | None = None,
    ) -> CallResult:  # fmt: skip
        """Call it forward, then backward from the cotangents. `enter` is called at the start of each phase.

        `move` changes the cotangents; `function` is called in place of the operator.
        """
        enter(Phase.FORWARD)
        if given.on_cpu:
            torch.default_generator.manual_seed(self.seed)  # a device that is lost must not spoil what the host says
        else:
            seed_all(self.accelerator, self.seed)
        result = given.call(function or self.entry.info)
        outputs = list(samples.leaves(result))
        plain = given.through is None
        comparable = list(samples.leaves(given.source.output_process_fn_grad(result))) if plain else outputs
        if plain and self.entry.within(op_semantics.WRITES_ARGUMENTS):
            comparable += [tensor for tensor in given.tensors() if tensor.is_floating_point() and not tensor.requires_grad]
        inputs = [tensor for tensor in given.tensors() if tensor.requires_grad]
        roots = [out for out in comparable if isinstance(out, torch.Tensor) and out.requires_grad]
        found: tuple[torch.Tensor | None, ...] = ()
        if backward := bool(gradients and inputs and roots):
            cotangents = [_laid_out(self.cotangent(position, root), given.incoming) for position, root in enumerate(roots)]
            if move is not None:
                cotangents = [move(cotangent) for cotangent in cotangents]
            enter(Phase.BACKWARD)
            found = torch.autograd.grad(roots, inputs, cotangents, allow_unused=True)
        return CallResult(outputs, comparable, list(found), backward)

    def cotangent(self, position: int, root: torch.Tensor) -> torch.Tensor:
        """Return standard normal values in the dtype and on the device of `root`, the same at every call.

        They are rounded to the dtype under test and to the dtype that the root has in it, so that the float64 reference
        starts from the very values that a narrow call starts from. Not to less: what a kernel does to the last bits of a
        cotangent would not show.
        """
        key = position, root.shape, root.is_complex()
        if key not in self._drawn:
            generator = self.accelerator.generator("cotangent", self.entry.name, position)
            kind = torch.complex64 if root.is_complex() else torch.float32
            values = torch.randn(root.shape, generator=generator, dtype=kind)
            narrow = self.dtype.is_floating_point and not root.is_complex()
            self._drawn[key] = values.to(self.dtype) if narrow else values
        if root.dtype not in _WIDE:
            self._root_dtypes[key] = root.dtype  # a cast to fewer bits, in float64 too, has its reference's root wide
        values = self._drawn[key].to(self._root_dtypes.get(key, self._drawn[key].dtype))
        return values.to(root.dtype, copy=True).to(root.device)


def _laid_out(cotangent: torch.Tensor, incoming: Incoming) -> torch.Tensor:
    """Return the incoming gradient in a memory layout that other operators produce; an expanded one has one value."""
    if incoming is Incoming.EXPANDED and cotangent.numel():
        return cotangent.reshape(-1)[0].expand(cotangent.shape)
    if incoming is Incoming.STRIDED:
        return torch.stack((cotangent, cotangent.neg()), dim=-1)[..., 0]
    return cotangent


def _detached(outputs: list[Any]) -> list[Any]:
    return [out.detach() if isinstance(out, torch.Tensor) else out for out in outputs]


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
