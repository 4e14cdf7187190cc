"""Error ratio: a result's error over the error of another correct implementation.

Pure, like `errors`: tensors in, numbers out. PyTorch's default tolerance against float64 rejects the CPU itself in up to a
hundred operators; held to some times the CPU's own error, twice as many planted faults are found with fewer false alarms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from readiness.numerics.error_metrics import on_host

#: Between the roundoff of dtypes of 16 bits and that of float32.
_COARSE = 2.0**-18
#: So many times what one rounding of its inputs moves it by, a result may be off where accumulators are no wider than it.
#: Another order of summation does that: an H100 was 7 roundings off in means of some dozens of terms that cancel.
_MOVES = 4.0
#: So many times the least that is always allowed, for one element of an operator that is known to lose digits.
_LUCK = 4.0


@dataclass(frozen=True, slots=True)
class Strictness:
    """Limits of the error ratio for floating-point results; a profile may set others.

    `rms_ratio` and `max_ratio` are how many times the benchmark's error a result's may be, root mean square and largest
    element: published practice is 2 and 10, 1.5 and 5, or 1.2 and 2, from lenient to strict (Ascend msprobe, levels L0 to
    L2). `roundoffs` multiplies what is forgiven whatever the benchmark says, `sums` the bound on sums of products.
    """

    rms_ratio: float = 2.0
    max_ratio: float = 10.0
    roundoffs: float = 1.0
    sums: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError for invalid limits."""
        for name in self.__slots__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value!r}; it must be a number above 0")


#: Fitted on healthy implementations of the whole operator database.
USUAL = Strictness()


@dataclass(frozen=True, slots=True)
class RatioComparison:
    """If a result agrees, and the root mean square of its error in absolute units; `detail` has both errors and bounds."""

    agrees: bool
    rms_error: float
    detail: str


def compare_by_ratio(
    out: torch.Tensor,
    reference: torch.Tensor,
    benchmark: torch.Tensor | None = None,
    *,
    roundoff: float,
    scale: float = 0.0,
    sensitivity: torch.Tensor | None = None,
    leniency: float = 1.0,
    forgive_overflow: float = 0.0,
    strictness: Strictness = USUAL,
) -> RatioComparison:
    """Compare a floating-point result's error with that of another correct implementation in the same precision.

    `reference` is the result in float64 of the very same inputs. `benchmark` is what the host's CPU gets in the dtype
    under test. The error may be twice the benchmark's (root mean square) and ten times (largest element), or what else
    `strictness` says, and is never held to less than 2 and 4 units of `roundoff` on the reference's scale, or in float32
    and wider to a few times `sensitivity`: another order of summation does that. Of few elements the root mean square is
    held as the largest element is.

    The benchmark may itself be bad, or absent where the CPU is what is tested. So whatever it says, the error stays
    below 64 and 256 roundoffs (8 and 32 in dtypes of 16 bits, which have none to spare), or so many times
    `sensitivity`: how much each element of the reference moves when the inputs move by one rounding. `scale` is the
    size of what cancels where the reference vanishes; `leniency` widens this last bound for operators that are known
    to lose digits, and up to fourfold the least of few elements.

    NaN and infinities must stand where the reference, rounded to `out`'s dtype, has them, or where the benchmark does.
    `forgive_overflow` leaves out elements where either is not finite, for operators whose inner steps leave their range:
    that share of those which should be finite, and one in any case. Who gives nothing but NaN has not overflowed.
    """
    if out.shape != reference.shape:
        return _disagreement(f"shape {tuple(out.shape)} instead of {tuple(reference.shape)}")
    have, want = _real(on_host(out)), _real(on_host(reference))
    factor = strictness.roundoffs * _floor(roundoff)
    share = 2.0 * strictness.roundoffs if benchmark is not None else factor
    if (plain := _plainly_right(have, want, share * roundoff)) is not None:
        return plain
    rounded = _real(reference.detach().cpu().to(out.dtype))
    other = None if benchmark is None else _real(on_host(benchmark))
    excused = torch.isfinite(want) & (want.abs() >= torch.finfo(out.dtype).max / 2)  # rounding decides over overflow
    kind = _kind(have)
    excused |= torch.zeros_like(excused) if other is None else kind == _kind(other)
    if forgive_overflow:
        due = torch.isfinite(want)
        lost = int((~torch.isfinite(have) & due & ~excused).sum())
        if lost > max(1.0, forgive_overflow * int(due.sum())):
            return _disagreement(f"NaN or infinity in {lost} of {int(due.sum())} places where a number is expected")
        excused |= ~torch.isfinite(have) | ~due
    misplaced = int(((kind != _kind(rounded)) & ~excused).sum())
    if misplaced:
        return _disagreement(f"NaN or infinity in {misplaced} of {have.numel()} places where it is not expected")
    counted = torch.isfinite(have) & torch.isfinite(want)
    smallest = torch.finfo(out.dtype).smallest_normal
    if not bool(counted.any()):
        return RatioComparison(True, 0.0, "no finite element")
    size = want[counted].abs()
    rms_size, max_size = max(_rms(size), scale), max(float(size.max()), scale)
    rms_allowed, max_allowed = factor * roundoff * rms_size, 4 * factor * roundoff * max_size
    moved = None if sensitivity is None else _real(sensitivity)[counted].nan_to_num(0.0, 0.0, 0.0).abs()
    if moved is not None:
        rms_allowed, max_allowed = max(rms_allowed, factor * _rms(moved)), max(max_allowed, 4 * factor * float(moved.max()))
    rms_allowed, max_allowed = leniency * rms_allowed, leniency * max_allowed
    if other is not None:
        error = torch.where(torch.isfinite(other), (other - want).abs(), 0.0)[counted]
        least = strictness.roundoffs * roundoff
        # Of few elements the root mean square is as much chance as the largest of them; of one they are the same.
        chance = error.numel() ** -0.5
        rms_ratio = strictness.rms_ratio + chance * max(strictness.max_ratio - strictness.rms_ratio, 0.0)
        # The host's may vanish by luck: an honest device then needs what its own order of a long sum costs.
        least *= 1 + chance * (min(max(leniency, 1.0), _LUCK) - 1)
        rms_least, max_least = (2 + 2 * chance) * least * rms_size, 4 * least * max_size
        if moved is not None and roundoff < _COARSE:
            # What cancels leaves nothing to measure an error by, and the host's may vanish by luck.
            few = _MOVES * strictness.roundoffs
            rms_least, max_least = max(rms_least, few * _rms(moved)), max(max_least, 2 * few * float(moved.max()))
        rms_allowed = min(rms_allowed, max(rms_ratio * _rms(error), rms_least))
        max_allowed = min(max_allowed, max(strictness.max_ratio * float(error.max()), max_least))
    error = (have - want)[counted].abs()
    rms, worst = _rms(error), float(error.max())
    agrees = rms <= rms_allowed + smallest and worst <= max_allowed + smallest
    return RatioComparison(
        agrees, rms,
        f"error {rms:.2g} (at most {rms_allowed:.2g}), largest {worst:.2g} (at most {max_allowed:.2g})"
        f" on results of size {_rms(size):.2g}",
    )  # fmt: skip


def _floor(roundoff: float) -> float:
    """Return the number of roundoffs that are always allowed, whatever the benchmark's error."""
    return 8.0 if roundoff > _COARSE else 64.0


def _plainly_right(have: torch.Tensor, want: torch.Tensor, share: float) -> RatioComparison | None:
    """Return the comparison if no element's error exceeds the allowed root mean square: then nothing else can be wrong."""
    if have.numel() == 0:
        return None
    # Infinite or no number where either is: then the whole comparison must be made.
    worst, allowed = float((have - want).abs().max()), share * _rms(want)
    return RatioComparison(True, worst, "") if worst <= allowed < math.inf else None


def _disagreement(detail: str) -> RatioComparison:
    return RatioComparison(False, math.inf, detail)


def _real(tensor: torch.Tensor) -> torch.Tensor:
    """Return complex numbers as pairs of reals, since their parts overflow separately."""
    return torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()


def _kind(tensor: torch.Tensor) -> torch.Tensor:
    """Return 0 for finite, 1 and -1 for infinite, 2 for NaN elements."""
    return torch.where(torch.isnan(tensor), 2.0, torch.where(torch.isinf(tensor), tensor.sign(), 0.0))


def _rms(tensor: torch.Tensor) -> float:
    # Scaled first: squares of large float64 values overflow.
    largest = float(tensor.abs().max()) if tensor.numel() else 0.0
    return largest * float((tensor / largest).square().mean().sqrt()) if 0 < largest < math.inf else largest
