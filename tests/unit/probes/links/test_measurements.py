"""Measurements of links from the reports of ranks: a figure and its words say one thing, and a busy host is not a link."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations

import pytest

from readiness.datamodel import AcceleratorFacts, Measurement, Row
from readiness.distributed.types import Placement, RanksOutcome
from readiness.probes.links import measurements
from readiness.probes.links.reports import LinkTimes

BYTES = 2**20
Pair = tuple[int, int]


def found(best: Mapping[Pair, float], *, spread: float = 1.1, median: Mapping[Pair, float] | None = None) -> list[object]:
    """Of four chips whose transfers take a millisecond at best, unless said; half of them `spread` times as long."""
    facts = tuple(AcceleratorFacts(f"sim:{number}", "sim", number, "sim", None, None) for number in range(4))
    reports = []
    for pair in combinations(range(4), 2):
        least = best.get(pair, 1e-3)
        usual = (median or {}).get(pair, spread * least)
        reports.append((LinkTimes(pair, BYTES, (least, (least + usual) / 2, usual), 8),))
    return list(measurements._transfers(RanksOutcome(tuple(reports), None, 1.0), Placement(facts, 4)))


def share(told: list[object]) -> Measurement:
    return next(item for item in told if isinstance(item, Measurement) and item.name == "slowest_link_share")


ONE_CHIP = {(0, 1): 1.6e-3, (0, 2): 1.7e-3, (0, 3): 1.6e-3}


@pytest.mark.parametrize("best", [{}, {(1, 2): 2e-3}, ONE_CHIP], ids=["equal", "one slow", "one chip slow"])
@pytest.mark.parametrize("spread", [1.1, 3.0], ids=["quiet", "busy"])
def test_the_share_is_that_of_the_speeds_it_names(best: Mapping[Pair, float], spread: float) -> None:
    if spread > measurements.BUSY and not best:
        return  # see below
    one = share(found(best, spread=spread))
    match = re.search(r": ([\d.]+) GB/s (?:at best|in .* transfers); ([\d.]+) GB/s is usual$", one.about or "")
    assert match is not None, one.about
    assert one.value == pytest.approx(float(match[1]) / float(match[2]), rel=0.01)


def test_a_chip_with_slow_links_is_named_by_all_of_them() -> None:
    one = share(found(dict.fromkeys(ONE_CHIP, 1.6e-3)))
    assert one.value == pytest.approx(0.625)
    assert (one.about or "").startswith("every link of rank 0 (sim:0): ")


def test_a_chip_with_slow_links_is_named_beside_one_that_the_host_slowed_a_little() -> None:
    one = share(found({**dict.fromkeys(ONE_CHIP, 1.0), (1, 2): 1.6e-3}))
    assert (one.about or "").startswith("every link of rank 0 (sim:0): ")


def test_links_slow_by_half_without_a_chip_in_common_are_told_by_the_slowest() -> None:
    one = share(found({(0, 1): 1.6e-3, (2, 3): 2e-3}))
    assert (one.about or "").startswith("the link between rank 2 (sim:2), rank 3 (sim:3): ")


def test_a_quiet_host_lets_no_link_hide_behind_a_median() -> None:
    """Its best is at 0.62 of the usual, its median as good as the others': what half of its transfers took decides nothing."""
    assert share(found({(1, 2): 1.6e-3}, median={(1, 2): 1.7e-3}, spread=1.6)).value == pytest.approx(0.625)


@pytest.mark.parametrize("best", [{}, {(1, 2): 1.6e-3}], ids=["all alike", "one disturbed"])
def test_on_a_busy_host_links_that_are_not_slow_by_all_figures_are_unknown(best: Mapping[Pair, float]) -> None:
    told = found(best, spread=3.0, median={(1, 2): 3.1e-3})
    assert not [item for item in told if isinstance(item, Measurement) and item.name == "slowest_link_share"]
    (row,) = [item for item in told if isinstance(item, Row) and "slowest_link_share" in item.cells]
    assert "the host is busy" in str(row.cells["slowest_link_share"])


def test_a_slow_link_is_proven_on_a_busy_host_too() -> None:
    one = share(found({(1, 2): 3e-3}, spread=3.0))
    assert one.value == pytest.approx(1 / 3)
