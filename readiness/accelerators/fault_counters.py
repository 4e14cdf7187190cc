"""Fault counters: what their names mean, and how far they rose. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

KINDS = ("uncorrected", "corrected", "other")

#: Words of the counters' names that mean an error which could not be mended, in order before those that mean the opposite.
#: A deferred one was not corrected either: nobody has read it yet (Linux commit 7559e13fb4ab).
_UNCORRECTED = re.compile(r"uncorrect|double_bit|failure|pending|fatal|deferred|(^|_)(ue|de)(_|$)")
_CORRECTED = re.compile(r"correct|single_bit|(^|_)ce(_|$)")


def kind_of(counter: str) -> str:
    """Return a counter's kind, one of KINDS.

    A repair that is pending or failed counts as uncorrected: the fault is still there.
    """
    name = counter.lower()
    if _UNCORRECTED.search(name):
        return "uncorrected"
    return "corrected" if _CORRECTED.search(name) else "other"


#: Counts of a device's whole life, which no reset clears: repaired rows are no evidence of its state today.
#: Source: https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt (row remapping lasts; only pending and failed ones ask for
#: something).
_LIFELONG = re.compile(r"aggregate|remapped_rows_(un)?corrected|(retired_pages|replaced_rows)_(single|double)_bit")


def lifelong(counter: str) -> bool:
    """Return whether a counter goes on counting over resets and repairs."""
    return _LIFELONG.search(counter.lower()) is not None


def events(rises: Mapping[str, int]) -> dict[str, int]:
    """Return rises without counting an event twice where two counters have it: since the driver was loaded, and since ever.

    Together they come to the larger one: the first begins anew with the driver, the second some devices do not have.
    """
    found = dict(rises)
    for counter in rises:
        lasting = counter.replace("_volatile", "_aggregate")
        if lasting != counter and lasting in rises:
            found[lasting] = max(rises[lasting] - rises[counter], 0)
    return found


def increases(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return how far each counter rose, for those in both readings.

    A counter that fell was reset in between: whatever it stands at has come since.
    """
    common = before.keys() & after.keys()
    return {name: after[name] - (before[name] if after[name] >= before[name] else 0) for name in sorted(common)}
