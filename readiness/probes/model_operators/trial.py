"""Trial of one operator's recorded calls, with their strides, within the bounds of its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from readiness import numerics
from readiness.accelerators.base import Accelerator
from readiness.numerics import USUAL, Strictness
from readiness.probes.model_operators import matmul_bounds
from readiness.probes.model_operators.op_table import POINTWISE, Operator
from readiness.probes.operators import comparison, layouts, op_semantics, samples
from readiness.probes.operators.layouts import Layout
from readiness.probes.operators.op_call import CPU, CallResult
from readiness.probes.operators.op_oracle import OpOracle
from readiness.probes.operators.op_trial import Enter, OpTrial
from readiness.probes.operators.outcomes import Phase
from readiness.probes.operators.samples import Convert, Sample

#: So many of its own roundings, and of what its inputs' roundings move it by, an honest element may be off: steps in
#: between round too. Where a row hangs together, what its elements are moved by is a random walk: six deviations.
_ELEMENTWISE, _IN_ROWS = (4.0, 4.0), (2.0, 6.0)
#: What they sum inside may cost an element more than its own rounding.
_SUM_INSIDE = ("norm_backward", "softmax_backward_data", "norm", "embedding_dense_backward")


@dataclass(slots=True)
class RecordedTrial:
    """Trial of one operator of a workload in one dtype on one device. `enter` is called as in `OpTrial`."""

    accelerator: Accelerator
    operator: Operator
    dtype: torch.dtype
    enter: Enter
    strictness: Strictness = USUAL
    offsets: bool = True
    trial: OpTrial = field(init=False)

    def __post_init__(self) -> None:
        """Create the shared trial of the operator."""
        self.trial = OpTrial(
            self.accelerator, self.operator.entry, self.dtype, self.enter, self.strictness, _place,
            matmul_bounds.REFERENCES.get(self.operator.base),
        )  # fmt: skip

    def oracle(self, sample: Sample, *, gradients: bool, views: bool = False) -> OpOracle:
        """Return the oracle of one sample, also for other views of it if requested."""
        tried = [
            layout for layout in (layouts.VIEWS if views else ())
            if layout not in self.operator.spared and (self.offsets or layout is not Layout.OFFSET)
        ]  # fmt: skip
        gradients = gradients and not self.operator.unspecified
        return OpOracle(self.trial, sample, gradients, tried, RoundingBounds(self.operator))

    def check(self, sample: Sample, *, gradients: bool, views: bool = False) -> None:
        """Check the result, its repetition, and other views of the same values. Raises FailedError."""
        oracle = self.oracle(sample, gradients=gradients, views=views)
        oracle.check_again(oracle.check())

    def assert_matches(self, sample: Sample, outputs: list[Any]) -> None:
        """Raise FailedError if outputs of a device for these inputs (on the host) are not right."""
        self.oracle(sample, gradients=False).assert_matches(CallResult(outputs, outputs, [], False), None, CPU)


@dataclass(frozen=True, slots=True)
class RoundingBounds:
    """Bounds on single elements that follow from the operator: sums of products, or one value at a time."""

    operator: Operator

    def exceeded(self, oracle: OpOracle, called: CallResult, reference: CallResult, phase: Phase) -> str | None:
        """Return what is wrong with the outputs or the gradients, or None."""
        if phase is Phase.BACKWARD:
            return self._sum_bound_exceeded(oracle, called.gradients, reference.gradients, phase)
        wrong = self._sum_bound_exceeded(oracle, called.outputs, reference.outputs, phase)
        return wrong or self._rounding_exceeded(oracle, called.outputs, reference.outputs)

    def _sum_bound_exceeded(self, oracle: OpOracle, have: Sequence[Any], want: Sequence[Any], phase: Phase) -> str | None:
        """Return an error that rounding cannot explain in sums of products, or None."""
        if not self.operator.contraction:
            return None
        magnitudes = matmul_bounds.magnitudes(oracle.sample)
        great = oracle.trial.on_host(magnitudes, oracle.gradients, samples.widened, torch.abs)
        sizes = great.outputs if phase is Phase.FORWARD else great.gradients
        count = matmul_bounds.terms(oracle.sample)
        for out, reference, size in zip(have, want, sizes, strict=True):
            if all(isinstance(item, torch.Tensor) and item.is_floating_point() for item in (out, reference, size)):
                wrong = matmul_bounds.excess(out, reference, size, count, self.operator, oracle.trial.strictness.sums)
                if wrong:
                    return wrong
        return None

    def _rounding_exceeded(self, oracle: OpOracle, have: Sequence[Any], want: Sequence[Any]) -> str | None:
        """Return an element whose error exceeds some roundings of it and its inputs, or None."""
        operator, dtype = self.operator, oracle.trial.dtype
        loose = operator.unspecified or operator.entry.within(op_semantics.RANDOM) or operator.base.endswith(_SUM_INSIDE)
        if loose or operator.exact or operator.contraction or operator.on_lists:
            return None
        elementwise = operator.base in POINTWISE
        moved = [other.outputs for other in islice(oracle.sensitivity(), samples.PERTURBATIONS)]
        for position, (out, reference) in enumerate(zip(have, want, strict=True)):
            if not (isinstance(out, torch.Tensor) and out.is_floating_point() and reference.is_floating_point()):
                continue
            shift = torch.stack([(other[position] - reference).abs() for other in moved]).nan_to_num(0.0, 0.0, 0.0)
            by_row = not elementwise and reference.ndim > 0  # by chance a single one stands still
            shift = shift.square().mean(0).mean(-1, keepdim=True).sqrt() if by_row else shift.amax(0)
            unit = max(comparison.roundoff(dtype), comparison.roundoff(out.dtype))
            size = torch.where(torch.isfinite(reference), reference.abs(), 0.0)
            own, through = _ELEMENTWISE if elementwise else _IN_ROWS
            libm = op_semantics.LIBM if dtype is torch.float32 and operator.base in op_semantics.ELEMENTARY else 1.0
            leave = libm * oracle.trial.strictness.roundoffs * (own * unit * size + through * shift)
            ratio = numerics.bound_ratio(out, reference, leave)
            if ratio > 1:
                return f"an element is off by {ratio:.3g} times the rounding errors of its own and its inputs"
        return None


def _place(layout: Layout, device: torch.device) -> Convert:
    """Move a tensor to the device with its strides, or in another layout."""
    return _moved_with_strides(device) if layout is Layout.CONTIGUOUS else layouts.in_layout(layout, device)


def _moved_with_strides(device: torch.device) -> Convert:
    def convert(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_contiguous():
            return tensor.clone().to(device)
        capacity = tensor.untyped_storage().nbytes() // tensor.itemsize
        base = torch.as_strided(tensor, (capacity,), (1,), 0).clone().to(device)
        return base.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    return convert
