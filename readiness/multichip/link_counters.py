"""What vendors tell of links: errors, retries, which hide errors from everybody else, and which of them are up.

Which counters there are is the stack's to tell (`Accelerator.counters`). A counter that is not there is unknown: nothing
is told of it, least of all zero.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from readiness.accelerators.counters import increases
from readiness.model import Measurement, Row, Yield
from readiness.peers import host_of
from readiness.ranks.values import LONGEST_ABOUT, Json, Placement

if TYPE_CHECKING:
    from readiness.accelerators.base import Stack

_LINK = re.compile(r"link|pcie|xgmi|hccs|roce|lane|replay|retry|retries|retrain|crc_|symbol|optical", re.IGNORECASE)
_RETRY = re.compile(r"replay|retry|retries|retrain|recover", re.IGNORECASE)
#: Settings that make a library repeat what got lost: with them, links that fail look slow.
#: Sources: NCCL's and HCCL's documentation of environment variables.
RETRY_SETTINGS = ("HCCL_OP_RETRY_ENABLE", "HCCL_OP_RETRY_PARAMS", "NCCL_IB_RETRY_CNT", "NCCL_IB_TIMEOUT")

Counters = Mapping[str, int]


def risen(stack: Stack, placement: Placement, reports: Sequence[Sequence[Json]]) -> dict[str, Counters | None]:
    """How far each chip's counters rose since the run began, by the accelerator's id; None where that cannot be told.

    This host asks its own chips, also those whose rank has failed; of other hosts' the ranks there have `reports`.
    """
    found: dict[str, Counters | None] = {}
    for facts, told in zip(placement.ranks, reports, strict=True):
        now = stack.counters(facts) if host_of(facts) is None else _last(told, "counters")
        found[facts.id] = increases(facts.counters, now) if facts.counters and now else None
    return found


def up(placement: Placement, reports: Sequence[Sequence[Json]]) -> Iterator[Yield]:
    """`links_up_share`: the links that are up on the chip with the fewest, over those on the one with the most.

    Told where every chip told its own, and any has some.
    """
    every = {facts.id: _last(told, "links") for facts, told in zip(placement.ranks, reports, strict=True)}
    counts: dict[str, int] = {chip: links["up"] for chip, links in every.items() if links is not None}
    if len(counts) < 2 or len(counts) < len(every) or not any(counts.values()):
        return
    for chip, count in counts.items():
        yield Row({"chip": chip, "links_up": count})
    fewest, most = min(counts, key=lambda chip: counts[chip]), max(counts, key=lambda chip: counts[chip])
    words = f"{fewest} has {counts[fewest]} links up, {most} {counts[most]}"
    yield Measurement("links_up_share", counts[fewest] / counts[most], placement.labels, samples=len(counts), about=words)


def _last(reports: Sequence[Json], name: str) -> Any:
    return next((report[name] for report in reversed(reports) if name in report), None)


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
