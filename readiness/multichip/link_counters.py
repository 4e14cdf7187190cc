"""What the vendors' counters say of links: errors, and retries, which hide errors from everybody else. Pure.

Which counters there are is the stack's to tell (`Accelerator.counters`). A counter that is not there is unknown: nothing
is told of it, least of all zero.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from readiness.model import Measurement, Row, Yield
from readiness.ranks.values import LONGEST_ABOUT, Placement

_LINK = re.compile(r"link|pcie|xgmi|hccs|roce|lane|replay|retry|retries|retrain|crc_|symbol|optical", re.IGNORECASE)
_RETRY = re.compile(r"replay|retry|retries|retrain|recover", re.IGNORECASE)
#: Settings that make a library repeat what got lost: with them, links that fail look slow.
#: Sources: NCCL's and HCCL's documentation of environment variables.
RETRY_SETTINGS = ("HCCL_OP_RETRY_ENABLE", "HCCL_OP_RETRY_PARAMS", "NCCL_IB_RETRY_CNT", "NCCL_IB_TIMEOUT")

Counters = Mapping[str, int]


def is_of_links(counter: str) -> bool:
    """Whether a counter of this name counts what happens on links."""
    return bool(_LINK.search(counter))


def told(risen: Mapping[str, Counters | None], placement: Placement) -> Iterator[Yield]:
    """`link_faults` and `link_retries`: how far counters rose, summed over the chips.

    `risen` are the rises of all counters of a chip by the accelerator's id, None where they could not be read. What did
    not rise is told only where every chip has such a counter: of a chip without one nothing is known.
    """
    for name in RETRY_SETTINGS:
        if name in os.environ:
            yield Row({"retry_setting": name, "value": os.environ[name]})
    for measure, retries in (("link_faults", False), ("link_retries", True)):
        rises: dict[str, dict[str, int]] = {}
        for chip in placement.ids:
            of_links = {
                counter: rise
                for counter, rise in (risen.get(chip) or {}).items()
                if is_of_links(counter) and bool(_RETRY.search(counter)) is retries
            }
            if of_links:
                rises[chip] = of_links
        moved = {(chip, counter): rise for chip, found in rises.items() for counter, rise in found.items() if rise}
        for (chip, counter), rise in moved.items():
            yield Row({"chip": chip, "link_counter": counter, "rose_by": rise})
        if moved or set(rises) == set(placement.ids):
            words = "; ".join(f"{counter} of {chip} rose by {rise}" for (chip, counter), rise in moved.items())
            samples = sum(map(len, rises.values()))
            yield Measurement(
                measure, sum(moved.values()), placement.labels, samples=samples, about=words[:LONGEST_ABOUT] or None
            )
