"""Link counters of vendors: errors, retries (hidden by other tools), and which links are up.

The stack knows which counters there are (`Accelerator.counters`). A counter that is not there is unknown: nothing is
reported of it, least of all zero.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from readiness.accelerators.fault_counters import increases
from readiness.accelerators.remote_devices import host_of
from readiness.datamodel import Measurement, Row, Yield
from readiness.distributed.types import LONGEST_ABOUT, Placement, RanksOutcome
from readiness.probes.bandwidth.reports import LinkState

if TYPE_CHECKING:
    from readiness.accelerators.base import Stack

_LINK = re.compile(r"link|pcie|xgmi|hccs|roce|lane|replay|retry|retries|retrain|crc_|symbol|optical", re.IGNORECASE)
_RETRY = re.compile(r"replay|retry|retries|retrain|recover", re.IGNORECASE)
#: Settings that make a library repeat what got lost: with them, links that fail look slow.
#: Sources: NCCL's and HCCL's documentation of environment variables.
RETRY_SETTINGS = ("HCCL_OP_RETRY_ENABLE", "HCCL_OP_RETRY_PARAMS", "NCCL_IB_RETRY_CNT", "NCCL_IB_TIMEOUT")

Counters = Mapping[str, int]


def measurements(stack: Stack, outcome: RanksOutcome, placement: Placement) -> Iterator[Yield]:
    """Yield the increase of link counters during the run, and the share of links that are up."""
    states = dict(outcome.of(LinkState))
    yield from rise_measurements(counter_rises(stack, placement, states), placement)
    yield from links_up(placement, states)


def counter_rises(stack: Stack, placement: Placement, states: Mapping[int, LinkState]) -> dict[str, Counters | None]:
    """Return the increase of each chip's counters since the run began, by accelerator id; None if it is unknown.

    This host reads its own chips' counters, also of those whose rank has failed; of other hosts' chips the ranks there
    report theirs (`states`, by rank).
    """
    found: dict[str, Counters | None] = {}
    for rank, facts in enumerate(placement.ranks):
        reported = states[rank].counters if rank in states else None
        now = stack.counters(facts) if host_of(facts) is None else reported
        found[facts.id] = increases(facts.counters, now) if facts.counters and now else None
    return found


def links_up(placement: Placement, states: Mapping[int, LinkState]) -> Iterator[Yield]:
    """Yield `links_up_share`: the links up on the chip with the fewest, over those on the chip with the most.

    Reported where every chip's are known, and any has some.
    """
    every = {facts.id: states[rank].links if rank in states else None for rank, facts in enumerate(placement.ranks)}
    counts = {chip: links.up for chip, links in every.items() if links is not None}
    if len(counts) < 2 or len(counts) < len(every) or not any(counts.values()):
        return
    for chip, count in counts.items():
        yield Row({"chip": chip, "links_up": count})
    fewest, most = min(counts, key=lambda chip: counts[chip]), max(counts, key=lambda chip: counts[chip])
    text = f"{fewest} has {counts[fewest]} links up, {most} {counts[most]}"
    yield Measurement("links_up_share", counts[fewest] / counts[most], placement.labels, samples=len(counts), about=text)


def is_of_links(counter: str) -> bool:
    """True if a counter of this name counts events on links."""
    return bool(_LINK.search(counter))


def rise_measurements(rises_by_chip: Mapping[str, Counters | None], placement: Placement) -> Iterator[Yield]:
    """Yield `link_faults` and `link_retries`: the increase of counters, summed over the chips.

    `rises_by_chip` has the rises of all counters of a chip by the accelerator's id, None where they could not be read.
    Zero is reported only where every chip has such a counter: a chip without one is unknown.
    """
    for name in RETRY_SETTINGS:
        if name in os.environ:
            yield Row({"retry_setting": name, "value": os.environ[name]})
    for measure, retries in (("link_faults", False), ("link_retries", True)):
        rises: dict[str, dict[str, int]] = {}
        for chip in placement.ids:
            of_links = {
                counter: rise
                for counter, rise in (rises_by_chip.get(chip) or {}).items()
                if is_of_links(counter) and bool(_RETRY.search(counter)) is retries
            }
            if of_links:
                rises[chip] = of_links
        moved = {(chip, counter): rise for chip, found in rises.items() for counter, rise in found.items() if rise}
        for (chip, counter), rise in moved.items():
            yield Row({"chip": chip, "link_counter": counter, "rose_by": rise})
        if moved or set(rises) == set(placement.ids):
            text = "; ".join(f"{counter} of {chip} rose by {rise}" for (chip, counter), rise in moved.items())
            samples = sum(map(len, rises.values()))
            yield Measurement(
                measure, sum(moved.values()), placement.labels, samples=samples, about=text[:LONGEST_ABOUT] or None
            )
