"""Rules for values of measurements, and their comparison with limits. Pure."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

from readiness.datamodel import Limit, Measurement, Number

LONGEST_NAME = 300
LONGEST_UNIT = 300
MOST_LABELS = 100
LONGEST_LABEL_NAME = 300
LONGEST_LABEL = 20_000
LONGEST_ABOUT = 100_000
MOST_SAMPLES = 2**63 - 1


def as_float(value: Number) -> float:
    """The value as a float; one that is too large for it is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def refusal(measurement: Measurement) -> str | None:
    """Return why a value cannot be a measurement; None if it can.

    NaN and infinity are values: that a device gave them is evidence, and no limit is satisfied by them. A truth value is
    one too, for limits that are truth values; it is no number (`is_comparable`).
    """
    if not _is_text(measurement.name, LONGEST_NAME) or not measurement.name:
        return "its name is not a text of 1 to 300 characters"
    problem = number_refusal(measurement.value)
    if problem is not None:
        return f"its value is {problem}"
    if not isinstance(measurement.labels, Mapping) or len(measurement.labels) > MOST_LABELS:
        return f"its labels are not a mapping of at most {MOST_LABELS} names"
    for name, label in measurement.labels.items():
        if not _is_text(name, LONGEST_LABEL_NAME) or not _is_text(label, LONGEST_LABEL):
            return "its labels are not texts, or are too long"
    if measurement.unit is not None and not _is_text(measurement.unit, LONGEST_UNIT):
        return "its unit is not a text, or is too long"
    if measurement.spread is not None:
        problem = number_refusal(measurement.spread)
        if problem is not None or isinstance(measurement.spread, bool):
            return f"its spread is {problem or 'a boolean, not a number'}"
    samples = measurement.samples
    if samples is not None and (type(samples) is not int or not 0 <= samples <= MOST_SAMPLES):
        return "its number of samples is not an integer of 0 or more"
    if measurement.about is not None and not _is_text(measurement.about, LONGEST_ABOUT):
        return "its subject is not a text, or is too long"
    return None


def number_refusal(value: object) -> str | None:
    """Return why a value cannot be a figure, as text after `it is`; None if it can."""
    if isinstance(value, bool | float):
        return None
    if not isinstance(value, int):
        return f"{type(value).__name__}, not a number"
    if abs(value) > sys.float_info.max:
        return f"an integer of {value.bit_length()} bits, too large for JSON readers"
    return None


def is_comparable(value: float, limit: Limit) -> bool:
    """Return whether a limit applies to a value: a boolean is not 1, and no number is true."""
    return isinstance(value, bool) is isinstance(limit.bound, bool)


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest
