"""Symbolic sizes: sizes of a workload as functions of its length, from calls at several lengths.

A model called at 4,096 positions and at 1,024 calls the same operators; of each size it is then known whether it stays
or grows with the length, and the calls of any other length follow. The same model, made smaller in its configuration
and never in its records, gives the sizes for devices and times that the full one does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from readiness.tracing.workload_schema import Call, Form, Phase, Spec

Calls = Sequence[tuple[Phase, Call]]


class AlignmentError(Exception):
    """Traces cannot be aligned; the message says where they differ."""


def align(full: Sequence[tuple[int, Calls]], reduced: Sequence[tuple[int, Calls]]) -> list[tuple[Phase, Call, Call]]:
    """Return phase, call with symbolic sizes, and call at the first full length, in order.

    Raises UnalikeError where the traces call different operators.
    """
    traces = [*full, *reduced]
    lengths = {len(recorded) for _, recorded in traces}
    if len(lengths) != 1:
        raise AlignmentError(f"the number of calls depends on the size: {sorted(lengths)}")
    aligned = []
    for row in zip(*(recorded for _, recorded in traces), strict=True):
        phase, first = row[0]
        if any(other != phase or call.op != first.op for other, call in row):
            raise AlignmentError(
                f"{first.op} in {phase} is recorded beside {', '.join(sorted({call.op for _, call in row}))}"
            )
        merger = _Merger([scale for scale, _ in full], [scale for scale, _ in reduced], first.op)
        arguments = merger.merge([call.arguments for _, call in row])
        keywords = merger.merge([call.keywords for _, call in row])
        aligned.append((phase, Call(first.op, arguments, keywords), first))
    return aligned


@dataclass(frozen=True, slots=True)
class _Merger:
    full: Sequence[int]
    reduced: Sequence[int]
    op: str

    def merge(self, row: Sequence[Any]) -> Any:
        """Merge an argument over all traces, with forms where its sizes differ."""
        first = row[0]
        if all(_same(other, first) for other in row):
            return first
        if all(isinstance(item, Spec) for item in row):
            return self._tensor(row)
        if all(isinstance(item, tuple) for item in row):
            if len({len(item) for item in row}) != 1:
                raise AlignmentError(f"a list of {self.op} is longer at one size than at another")
            return tuple(self.merge(column) for column in zip(*row, strict=True))
        if all(isinstance(item, int) and not isinstance(item, bool) for item in row):
            form = self._form(row)
            return form if form.constant is None else form.constant
        if all(isinstance(item, float) for item in row):
            return first  # a factor that depends on a size, as of attention: any such factor will do
        raise AlignmentError(f"an argument of {self.op} differs in kind: {first!r}, {row[-1]!r}")

    def _tensor(self, row: Sequence[Spec]) -> Spec:
        first = row[0]
        if len({(item.dtype, len(item.shape), item.grad) for item in row}) != 1:
            raise AlignmentError(f"a tensor of {self.op} differs in kind: {first}, {row[-1]}")
        shape = self.merge([item.shape for item in row])
        if all(item.stride is None for item in row):
            return Spec(first.dtype, shape, None, first.grad)
        # Where a size is 1 a view counts as contiguous in one trace and not in another: what is told is the full one.
        if first.stride is None:
            return Spec(first.dtype, shape, None, first.grad)
        strides = [item.stride or contiguous(item.shape) for item in row]
        return Spec(first.dtype, shape, self.merge(strides), first.grad)

    def _form(self, row: Sequence[int]) -> Form:
        count = len(self.full)
        slope, base = _fit_line(self.full, row[:count])
        if not self.reduced:
            return Form(slope, base, slope, base)
        return Form(slope, base, *_fit_line(self.reduced, row[count:]))


def _fit_line(lengths: Sequence[int], sizes: Sequence[int]) -> tuple[int | None, int]:
    """Return slope and base of the line through all points; if there is none, no slope and the size at the first length."""
    if len(set(sizes)) == 1:
        return 0, sizes[0]
    slope, rest = divmod(sizes[0] - sizes[1], lengths[0] - lengths[1])
    base = sizes[0] - slope * lengths[0]
    straight = not rest and all(slope * length + base == size for length, size in zip(lengths, sizes, strict=True))
    return (slope, base) if straight else (None, sizes[0])


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor of this shape."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
