"""Comparison of an operator's outputs with the expected ones, by class: exact, random, unspecified, or by error ratio."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch

from readiness import numerics
from readiness.probes.operators import op_semantics, samples, tie_indices
from readiness.probes.operators.op_entry import Entry
from readiness.probes.operators.samples import Sample, wide

Leaves = Sequence[Any]
#: Adds up a gradient over equal values.
Group = Callable[[torch.Tensor], torch.Tensor]
#: The reference again, with inputs moved by one rounding: several runs, computed when asked for.
Moved = Callable[[], Iterable[Leaves]]

#: What cancels is told by its largest element; an error by its root mean square.
_LARGEST_OVER_TYPICAL = 4.0
#: Judged by shape, dtype, finiteness and repetition alone.
_LOOSE = op_semantics.RANDOM | op_semantics.UNORDERED
#: A gradient in float64 that is smaller all over is what rounding leaves of zero.
_CANCELLED = 1e-9
#: The gradient of a softmax is smaller than this share of its results where all of its rows are saturated.
_SATURATED = 0.05
#: So few values may be nearly equal by chance; and however nearly, no more digits than these are lost.
_FEW, _MOST_LOST = 16, 1e5
#: The share of elements that may leave the range of a dtype on the way, where that is known to happen.
_MOST_OVERFLOWN = 0.25


#: Of operators that are one matrix product: the left factor, the right one, and what is added.
_FACTORS: dict[str, Callable[[Sequence[Any]], tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]] = {
    "mm": lambda given: (given[0], given[1], None),
    "bmm": lambda given: (given[0], given[1], None),
    "addmm": lambda given: (given[1], given[2], given[0]),
    "baddbmm": lambda given: (given[1], given[2], given[0]),
    "nn.functional.linear": lambda given: (given[0], given[1].t(), given[2] if len(given) > 2 else None),
}
#: Honest sums in float32 stay below a half, whatever their order; inputs cut to ten bits come to 7 and more.
_MOST_BOUNDS = 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of one operator in one dtype on one sample. Each method returns an error, or None."""

    entry: Entry
    dtype: torch.dtype
    sample: Sample
    strictness: numerics.Strictness = numerics.USUAL

    def metadata(self, outputs: Leaves, reference: Leaves, benchmark: Leaves | None, device: torch.device) -> str | None:
        """Compare number, shape, device and dtype of the outputs.

        The dtype must be the benchmark's; without one it must become the reference's when it is widened.
        """
        if len(outputs) != len(reference):
            return f"{len(outputs)} outputs instead of {len(reference)}"
        for position, (out, expected) in enumerate(zip(outputs, reference, strict=True)):
            if isinstance(out, torch.Tensor) != isinstance(expected, torch.Tensor):
                return f"output {position} is {type(out).__name__} instead of {type(expected).__name__}"
            if not isinstance(out, torch.Tensor) or position >= self._results:
                continue
            if out.shape != expected.shape and not self.entry.within(op_semantics.RANDOM):
                return f"output {position} has shape {tuple(out.shape)} instead of {tuple(expected.shape)}"
            if out.device.type != device.type:
                return f"output {position} lies on {out.device}"
            native = benchmark[position] if benchmark is not None and position < len(benchmark) else None
            model = native if isinstance(native, torch.Tensor) else expected
            if self.sample.keeps_strides and _strides(out) != _strides(model):
                return f"output {position} has strides {out.stride()} instead of {model.stride()}"
            if isinstance(native, torch.Tensor):
                if out.dtype != native.dtype:
                    return f"output {position} is {out.dtype} instead of {native.dtype}"
            elif wide(out.dtype) != wide(expected.dtype):
                return f"output {position} is {out.dtype}, the reference {expected.dtype}"
        return None

    def values(
        self, outputs: Leaves, reference: Leaves, benchmark: Leaves | None, sensitivity: Moved
    ) -> str | None:
        """Compare the values of the outputs."""
        if self.entry.within(op_semantics.UNSPECIFIED):
            return None
        if self.entry.within(_LOOSE):
            return _first(f"output {position}: not finite" for position, out in enumerate(outputs) if not _finite(out))
        natives = benchmark if benchmark is not None and len(benchmark) == len(reference) else [None] * len(reference)
        if tie_indices.in_any_order(self.entry.name, self.sample):
            outputs, reference = tie_indices.ordered(self.sample, outputs), tie_indices.ordered(self.sample, reference)
            natives = [None] * len(reference)
        rounded = self.dtype.is_complex and self.entry.within(op_semantics.ROUNDED_IF_COMPLEX)
        exact = self.entry.within(op_semantics.EXACT) and not rounded
        for position, (out, expected, native) in enumerate(zip(outputs, reference, natives, strict=True)):
            if not isinstance(out, torch.Tensor):
                wrong = self._plain(out, expected)
            elif position >= self._results and out.shape != expected.shape:
                wrong = None
            elif not (out.is_floating_point() or out.is_complex()):
                wrong = self._integers(out, expected, native)
            elif exact:
                wrong = _unequal(out, expected)
            else:
                # The bound on steps of an optimizer follows from their arithmetic, and is narrower than what moves.
                moved = None if self.entry.within(op_semantics.UPDATES) else partial(_at, sensitivity, position)
                wrong = self._by_ratio(out, expected, native, moved, self._of_terms(position))
                # The order of summation is free, and another one may err several times as much as the CPU's.
                wrong = None if wrong is not None and self._within_sum_bound(out) else wrong
            if wrong:
                return f"output {position}: {wrong}" if len(reference) > 1 else wrong
        return None

    @property
    def _results(self) -> float:
        """Return how many of the outputs are results; they come first."""
        return op_semantics.RESULTS.get(self.entry.base, math.inf)

    @property
    def chooses(self) -> bool:
        """True if the operator chooses among equal values here, and the choice is undefined."""
        return self.entry.within(op_semantics.CHOOSES) and not self._stable and self._ties()

    @property
    def _stable(self) -> bool:
        """True if the call requests a stable order of equal values."""
        return bool(self.sample.keywords.get("stable"))

    def _within_sum_bound(self, out: torch.Tensor) -> bool:
        """True if this is a matrix product whose error is within the bound of its sums."""
        factors = _FACTORS.get(self.entry.name)
        plain = self.dtype.is_floating_point and self.sample.through is None and not self.sample.keywords
        if factors is None or not plain or not out.numel():
            return False
        left, right, added = factors(self.sample.arguments)
        most = _MOST_BOUNDS * self.strictness.sums
        return right.ndim > 1 and numerics.contraction_error(out, left, right, added) <= most

    def gradients(
        self,
        found: Sequence[torch.Tensor | None],
        reference: Sequence[torch.Tensor | None],
        benchmark: Sequence[torch.Tensor | None] | None,
        sensitivity: Moved,
        outputs: Leaves,
    ) -> str | None:
        """Compare the gradients, input by input.

        Where one vanishes by cancellation, what cancelled is as large as its largest sibling, or as output over input.
        One that is nothing but cancellation (the cotangent being about one) is only held to be small. That of few nearly
        equal values that are normalised is what is left of outputs over their spread: of two values nearly nothing.
        """
        random = self.entry.within(_LOOSE)
        natives = benchmark if benchmark is not None and len(benchmark) == len(reference) else [None] * len(reference)
        scale = max((_size(expected) for expected in reference if expected is not None), default=0.0)
        scale = max(scale, _ratio_of_sizes(outputs, self.sample.tensors())) / _LARGEST_OVER_TYPICAL
        inputs = [tensor for tensor in self.sample.tensors() if tensor.requires_grad]
        for position, (out, expected, native) in enumerate(zip(found, reference, natives, strict=True)):
            if out is None or expected is None:
                wrong = None if out is expected else "it is missing" if out is None else "it should not exist"
            elif out.shape != expected.shape:
                wrong = f"shape {tuple(out.shape)} instead of {tuple(expected.shape)}"
            elif random:
                wrong = None if _finite(out) else "not finite"
            else:
                held, due, of_cpu, where = self._by_value(out, expected, native)
                cancelled = _size(due) < _CANCELLED and not self.entry.within(op_semantics.EXACT)
                size = max(scale, roundoff(self.dtype) ** -0.5) if cancelled else scale
                if self.entry.within(op_semantics.FROM_LOGARITHM):
                    logarithms = (_size(out) for out in outputs if isinstance(out, torch.Tensor))
                    size = max(size, _size(due) * max(logarithms, default=0.0))
                if self.entry.within(op_semantics.FROM_PROBABILITIES) and outputs:
                    size = max(size, self._of_probabilities(due, outputs[0]))
                if position < len(inputs) and inputs[position] is self.sample.tensors()[0]:
                    size = max(size, self._over_spread(outputs))
                wrong = self._by_ratio(held, due, of_cpu, partial(_at, sensitivity, position, where), size)
            if wrong:
                return f"gradient of tensor {position}: {wrong}" if len(reference) > 1 else f"gradient: {wrong}"
        return None

    def _by_value(
        self, out: torch.Tensor, expected: torch.Tensor, native: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, Group | None]:
        """Add up gradients over equal values if the operator may choose any of them, and compare the sums.

        Where what was chosen comes in any order, over all that it was chosen from.
        """
        given = self.sample.tensors()
        if tie_indices.in_any_order(self.entry.name, self.sample) and given[0].ndim:
            dimension = tie_indices.along(self.sample)

            def along(gradient: torch.Tensor) -> torch.Tensor:
                return gradient.detach().cpu().to(torch.float64).sum(dimension)

            return along(out).to(out.dtype), along(expected), None if native is None else along(native), along
        if not self.chooses or len(given) != 1 or given[0].shape != out.shape:
            return out, expected, native, None
        values, group = torch.unique(given[0].detach(), return_inverse=True)

        def added_up(gradient: torch.Tensor) -> torch.Tensor:
            wide = torch.zeros(len(values), dtype=torch.float64)
            return wide.index_add_(0, group.reshape(-1), gradient.detach().cpu().reshape(-1).to(torch.float64))

        return added_up(out).to(out.dtype), added_up(expected), None if native is None else added_up(native), added_up

    def _plain(self, out: Any, expected: Any) -> str | None:
        if not isinstance(out, float | complex):
            return None if out == expected else f"{out!r} instead of {expected!r}"
        kind = torch.complex128 if isinstance(out, complex) else torch.float64
        return self._by_ratio(torch.tensor(out, dtype=kind), torch.tensor(expected, dtype=kind), None, None, 0.0)

    def _integers(self, out: torch.Tensor, expected: torch.Tensor, native: torch.Tensor | None) -> str | None:
        have = out.cpu()
        if torch.equal(have, expected.to(have.dtype)) or (native is not None and torch.equal(have, native)):
            return None
        returns_indices = native is not None and self.entry.within(op_semantics.RETURNS_INDICES) and self._ties()
        picks = returns_indices and not self._stable
        if picks and tie_indices.indices_equivalent(self.entry.base, self.sample, have, expected):
            return None  # which of several equal values is picked is not defined
        return f"{int((have != expected).sum())} of {have.numel()} integers differ"

    def _ties(self) -> bool:
        return any(len(torch.unique(tensor)) < tensor.numel() for tensor in self.sample.tensors() if not tensor.is_complex())

    def _by_ratio(
        self,
        out: torch.Tensor,
        expected: torch.Tensor,
        native: torch.Tensor | None,
        sensitivity: Callable[[], Iterator[Any]] | None,
        scale: float,
    ) -> str | None:
        coarsest = max(roundoff(self.dtype), roundoff(out.dtype), self._narrower())
        if self.entry.within(op_semantics.ADDED_UP_WIDER):
            native = None
        conditioning = self.entry.conditioning(self.dtype)
        if self.dtype is torch.float32 and self.entry.within(op_semantics.KEEP_LOGARITHMS):
            conditioning = 4.0
        strictness = self.strictness
        if conditioning != 1.0:  # what loses digits in any formula loses others in another one than the CPU's
            strictness = replace(
                strictness, rms_ratio=strictness.rms_ratio * conditioning, max_ratio=strictness.max_ratio * conditioning
            )
        if self.dtype is torch.float32 and self.entry.within(op_semantics.ELEMENTARY):
            strictness = replace(strictness, roundoffs=strictness.roundoffs * op_semantics.LIBM)
        if (lost := self._digits_lost()) > 1.0:
            strictness = replace(
                strictness, rms_ratio=strictness.rms_ratio * lost, max_ratio=strictness.max_ratio * lost,
                roundoffs=strictness.roundoffs * lost,
            )  # fmt: skip
        forgive = self._forgiven()

        def compare(moved: torch.Tensor | None) -> numerics.RatioComparison:
            return numerics.compare_by_ratio(
                out.detach(), expected.detach(), native, roundoff=coarsest, scale=scale, sensitivity=moved,
                leniency=conditioning * self.sample.leniency, forgive_overflow=forgive, strictness=strictness,
            )  # fmt: skip

        found = compare(None)
        if not found.agrees and math.isfinite(found.rms_error) and sensitivity is not None:
            # More runs of the reference: only where the plain floor does not already settle it.
            moved = islice(sensitivity(), None if expected.numel() <= _FEW else samples.PERTURBATIONS)
            distances = [(other.detach() - expected.detach()).abs() for other in moved if _is_comparable(other, expected)]
            if distances:
                found = compare(torch.stack(distances).nan_to_num(0.0, 0.0, 0.0).amax(0).to(expected.dtype))
        return None if found.agrees else found.detail

    def _narrower(self) -> float:
        """Return the rounding of inputs that are narrower than a wide dtype under test, as weights in float32 may be."""
        if self.dtype not in (torch.float64, torch.complex128):
            return 0.0
        return max((roundoff(tensor.dtype) for tensor in self._floating()), default=0.0)

    def _of_terms(self, position: int) -> float:
        """Return the size of the terms that a result is the difference of, where that is known; else 0.

        It is 1 where no input can be moved by a rounding: what cancels in a window, or at a whole number.
        """
        if self.entry.within(op_semantics.SHRINKS):
            return _size(self.sample.tensors()[0])
        if self.entry.within(op_semantics.UPDATES):
            return _size(self.sample.arguments[0][position]) / 2  # eight roundings of that are four of the parameter
        if self.entry.within(op_semantics.CENTRES) and not self.dtype.is_floating_point and not self.dtype.is_complex:
            return _size(self.sample.tensors()[0]) ** 2
        return 0.0 if next(self._floating(), None) is not None else 1.0

    def _floating(self) -> Iterator[torch.Tensor]:
        """Yield inputs one by one: who asks for each output wants the first, and some operators have hundreds of both."""
        return (tensor for tensor in self.sample.tensors() if tensor.is_floating_point() or tensor.is_complex())

    def _forgiven(self) -> float:
        """Return the share of elements that may overflow the dtype on the way."""
        kind = numerics.name_of(self.dtype)
        if self.entry.within(op_semantics.OVERFLOWS_MOSTLY.get(kind, frozenset())):
            return 1.0
        return _MOST_OVERFLOWN if self.entry.within(op_semantics.OVERFLOWS.get(kind, frozenset())) else 0.0

    def _of_probabilities(self, due: torch.Tensor, probabilities: torch.Tensor) -> float:
        """Return the typical size of probabilities if one is nearly 1 in every row, so that the gradient cancels; else 0."""
        size = _size(probabilities)
        return size / _LARGEST_OVER_TYPICAL if _size(due) < _SATURATED * size else 0.0

    def _over_spread(self, outputs: Leaves) -> float:
        """Return the typical size of outputs over the spread of the values to be normalised, if there are few; else 0."""
        if (lost := self._digits_lost()) == 1.0:
            return 0.0
        return lost * _ratio_of_sizes(outputs, self.sample.tensors()[:1]) / _LARGEST_OVER_TYPICAL

    def _digits_lost(self) -> float:
        """Return by how much the values to be normalised exceed their spread, if there are few; 1 for everything else."""
        given = self.sample.tensors()
        if not (self.entry.within(op_semantics.NORMALISES) and given and 1 < given[0].numel() <= _FEW):
            return 1.0
        values = given[0].detach().cpu().double()
        rows = values if self.entry.base == "corrcoef" and values.ndim > 1 else values.reshape(1, -1)
        lost = (rows.abs().amax(-1) / rows.std(-1, correction=0)).nan_to_num(1.0, _MOST_LOST)
        return min(max(float(lost.max()), 1.0), _MOST_LOST)


def roundoff(dtype: torch.dtype) -> float:
    """Return the unit roundoff of a floating or complex dtype; float64's for integers, whose results are computed there."""
    if not (dtype.is_floating_point or dtype.is_complex):
        return numerics.unit_roundoff(torch.float64)
    return numerics.unit_roundoff(dtype)


def identical(first: Leaves, second: Leaves) -> bool:
    """True if two results are equal in every element, NaN with NaN."""
    return len(first) == len(second) and all(_same(one, other) for one, other in zip(first, second, strict=True))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and _unequal(one, other.cpu()) is None
    return one is other or one == other or (one != one and other != other)


def _unequal(out: torch.Tensor, expected: torch.Tensor) -> str | None:
    have = _dense(out.detach().cpu())
    want = _dense(expected.detach().to(out.dtype)).to(have.dtype)
    if have.dtype is not torch.complex32 and torch.equal(have, want):  # which PyTorch cannot do for those
        return None
    different = (have != want) & ~(torch.isnan(have) & torch.isnan(want))
    count = int(different.sum())
    return f"{count} of {have.numel()} elements differ; it must be exact" if count else None


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_floating_point() and tensor.itemsize == 1:
        return tensor.float()  # exactly; numbers of 8 bits cannot be compared themselves
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def _finite(out: Any) -> bool:
    return not isinstance(out, torch.Tensor) or bool(torch.isfinite(out.detach().cpu()).all())


def _strides(tensor: torch.Tensor) -> list[int]:
    """Return the strides that matter: those of a dimension of one element do not."""
    return [stride for extent, stride in zip(tensor.shape, tensor.stride(), strict=True) if extent > 1]


def _size(tensor: torch.Tensor) -> float:
    largest = float(tensor.detach().abs().max()) if tensor.numel() else 0.0
    if math.isfinite(largest):
        return largest
    finite = tensor.detach()[torch.isfinite(tensor)].abs()
    return float(finite.max()) if finite.numel() else 0.0


def _at(moved: Moved, position: int, group: Group | None = None) -> Iterator[Any]:
    for leaves in moved():
        yield leaves[position] if group is None else group(leaves[position])


def _is_comparable(other: Any, expected: torch.Tensor) -> bool:
    return isinstance(other, torch.Tensor) and other.shape == expected.shape


def _ratio_of_sizes(outputs: Leaves, inputs: Sequence[torch.Tensor]) -> float:
    """Return the size of a gradient whose cotangent is about one, if the operator were linear."""
    results = [_size(out) for out in outputs if isinstance(out, torch.Tensor) and out.is_floating_point()]
    sizes = [size for tensor in inputs if tensor.requires_grad and (size := _size(tensor)) > 0]
    return max(results) / max(sizes) if results and sizes else 0.0


def _first(problems: Any) -> str | None:
    return next(iter(problems), None)
