"""Error measures of tensors, in units of rounding and as a ratio to another implementation's error.

Pure: no device, no limit, no verdict. What checks and the catalogue ask for is here by name.
"""

from readiness.numerics.error_metrics import (
    accumulation_roundoff,
    bound_ratio,
    contraction_error,
    fingerprint,
    incompatibility,
    mismatches,
    name_of,
    on_host,
    relative_error,
    underflow,
    unit_roundoff,
    worst_error,
)
from readiness.numerics.error_ratio import USUAL, RatioComparison, Strictness, compare_by_ratio

__all__ = [
    "USUAL",
    "RatioComparison",
    "Strictness",
    "accumulation_roundoff",
    "bound_ratio",
    "compare_by_ratio",
    "contraction_error",
    "fingerprint",
    "incompatibility",
    "mismatches",
    "name_of",
    "on_host",
    "relative_error",
    "underflow",
    "unit_roundoff",
    "worst_error",
]
