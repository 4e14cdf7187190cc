"""Reference cases: run computations with known float64 results on a device."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from readiness import numerics
from readiness.accelerators.base import Accelerator
from readiness.datamodel import Measurement, Row, Yield
from readiness.errors import UsageError
from readiness.numerics.unsupported import unsupported_as_reason

FORWARD, BACKWARD, PARAMETERS = "forward", "backward", "parameters"


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected tensor of a case: its float64 reference and the allowed absolute error.

    `allowance` is what `numerics.bound_ratio` takes as its unit. Without one there is no ratio for this tensor.
    `scaled` is False where cancellation leaves so little that an error relative to the result says nothing.
    """

    what: str
    reference: torch.Tensor
    allowance: torch.Tensor | None
    dtype: torch.dtype
    phase: str = FORWARD
    scaled: bool = True


@dataclass(frozen=True, slots=True)
class Case:
    """Computation of a case. `compute` takes the device and yields the expected tensors in order, step by step."""

    op: str
    name: str
    compute: Callable[[torch.device], Iterator[torch.Tensor]]
    expected: Sequence[Expected]


@dataclass(slots=True)
class _CaseStats:
    ran: list[bool] = field(default_factory=list)
    ratios: list[tuple[float, str]] = field(default_factory=list)
    errors: list[tuple[float, str]] = field(default_factory=list)


def run_cases(accelerator: Accelerator, cases: Iterable[Case], *, phases: bool = False, **labels: str) -> Iterator[Yield]:
    """Yield a row for each tensor of each case, then for each operator (and phase) the measurements over all its cases.

    `supported`: the share of its cases that the device could compute at all. `bound_ratio`: the worst element of all
    cases in units of its allowance. `relative_error`: the worst case's root mean square deviation over that of the
    reference. The two errors are absent where nothing could be computed. With `phases`, forward and backward are told
    apart by a label.
    """
    all_stats: defaultdict[tuple[str, str], _CaseStats] = defaultdict(_CaseStats)
    for case in cases:
        refused: str | None = None
        stages = case.compute(accelerator.device)
        for expected in case.expected:
            stats = all_stats[case.op, expected.phase]
            cells: dict[str, Any] = {"op": case.op, "case": case.name, "tensor": expected.what}
            cells |= {"phase": expected.phase, **labels}
            if refused is None:  # what comes after a refused stage cannot be had either
                with unsupported_as_reason() as refusal:
                    out = next(stages).detach()
                    accelerator.synchronize()
                    out = out.cpu()  # an asynchronous error surfaces here at the latest
                refused = refusal.reason
            stats.ran.append(refused is None)
            where = f"{case.op}, {case.name}, {expected.what} ({expected.phase})"
            yield Row(cells | (_compare(out, expected, stats, where) if refused is None else {"refused": refused}))
    for (op, phase), stats in all_stats.items():
        all_labels = {"op": op, **labels} | ({"phase": phase} if phases else {})
        yield Measurement("supported", sum(stats.ran) / len(stats.ran), all_labels, samples=len(stats.ran))
        if stats.ratios:
            worst, about = _worst(stats.ratios)
            yield Measurement("bound_ratio", worst, all_labels, samples=len(stats.ratios), about=about)
        if stats.errors:
            worst, about = _worst(stats.errors)
            yield Measurement("relative_error", worst, all_labels, samples=len(stats.errors), about=about)


def _worst(found: list[tuple[float, str]]) -> tuple[float, str]:
    return max(found, key=lambda item: math.inf if math.isnan(item[0]) else item[0])


def _compare(out: torch.Tensor, expected: Expected, stats: _CaseStats, where: str) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    reason = numerics.incompatibility(out, expected.reference, expected.dtype)
    if reason is not None:
        cells["incompatible"] = reason
    if expected.allowance is not None:
        ratio = numerics.bound_ratio(out, expected.reference, expected.allowance, dtype=expected.dtype)
        stats.ratios.append((ratio, where))
        cells["bound_ratio"] = ratio
    if expected.scaled or reason is not None:
        error = numerics.relative_error(out, expected.reference, dtype=expected.dtype)
        stats.errors.append((error, where))
        cells["relative_error"] = error
    return cells


def dtype_named(name: str, *, floating: bool = True) -> torch.dtype:
    """Return `torch.bfloat16` for `bfloat16`. Raises UsageError for an unknown or non-floating name."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or (floating and not dtype.is_floating_point):
        kind = "floating dtype" if floating else "dtype"
        raise UsageError(
            f"{name!r} is not a {kind} of torch {torch.__version__}",
            place="setting dtypes",
            remedy="name it as torch does, like bfloat16",
        )
    return dtype
