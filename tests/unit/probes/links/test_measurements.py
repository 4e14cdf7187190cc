"""Measurements of links from the reports of ranks: a figure and its words say one thing, and a busy host is not a link."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations

import pytest

from readiness.datamodel import AcceleratorFacts, Measurement, Row
from readiness.distributed.types import Placement, RanksOutcome
from readiness.probes.links import measurements
from readiness.probes.links.reports import CallReport, LaterLinkTimes, LinkTimes, OwnAllReduceTime
from readiness.probes.ranks_common.call_timings import CallTimings

BYTES = 2**20
Pair = tuple[int, int]


def found(
    best: Mapping[Pair, float], *, spread: float = 1.1, median: Mapping[Pair, float] | None = None, waited: float = 0.0
) -> list[object]:
    """Of four chips whose transfers take a millisecond at best, unless said; half of them `spread` times as long.

    Each rank waited for a processor for a share of the time.
    """
    facts = tuple(AcceleratorFacts(f"sim:{number}", "sim", number, "sim", None, None) for number in range(4))
    reports = []
    for pair in combinations(range(4), 2):
        least = best.get(pair, 1e-3)
        usual = (median or {}).get(pair, spread * least)
        reports.append((LinkTimes(pair, BYTES, (least, (least + usual) / 2, usual), 8, waited),))
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


def test_a_slow_link_is_not_known_where_the_host_kept_its_ranks_waiting() -> None:
    """Of two ranks, each for its share: a link at half of the speed is slow, unless both together waited for most of the time."""
    slow = {(1, 2): 2e-3}
    assert share(found(slow, spread=3.0, waited=0.4)).value == pytest.approx(0.5)
    told = found(slow, spread=3.0, waited=0.6)
    assert not [item for item in told if isinstance(item, Measurement) and item.name == "slowest_link_share"]
    assert any(isinstance(item, Row) and str(item.cells.get("slowest_link_share")).startswith("not known") for item in told)
    assert share(found(slow, waited=0.6)).value == pytest.approx(0.5), "transfers as quick as ever were disturbed by nothing"


# --------------------------------------------------------------------------- sums and transfers that have become slow


def kept(*waited: float, last: float) -> tuple[dict[str, float], list[dict[str, object]]]:
    """Of two ranks that waited so long for a processor: speeds that were kept, and rows; at the end a call takes `last` s."""
    reports = []
    for share in waited:
        timings = CallTimings()
        for number in range(100):
            timings.add(number, number * 1.0, last if number >= 50 else 1e-3)
        timings.waits = [(0.0, 50.0, 45.0), (50.0, 74.0, 1.0), (75.0, 100.0, 25.0 * share)]
        sums, transfers = CallReport("all_reduce", (0, 1), timings.summary(0.4), "small"), LaterLinkTimes((0, 1), BYTES, 1e-3, last, 8, share)
        reports.append((sums, transfers))
    facts = tuple(AcceleratorFacts(f"sim:{number}", "sim", number, "sim", None, None) for number in range(2))
    told = list(measurements.links(RanksOutcome(tuple(reports), None, 1.0), Placement(facts, 2)))
    values = {item.name: float(item.value) for item in told if isinstance(item, Measurement) and item.name.endswith("speed_kept")}
    return values, [dict(item.cells) for item in told if isinstance(item, Row) and any(key.endswith("speed_kept") for key in item.cells)]


def test_a_link_that_has_become_slow_is_slow_where_the_host_kept_nobody_waiting() -> None:
    values, rows = kept(0.1, 0.2, last=4e-3)
    assert values == {"collective_speed_kept": 0.25, "link_speed_kept": 0.25}
    assert rows == []


def test_slow_sums_of_ranks_that_the_host_kept_waiting_say_nothing() -> None:
    values, rows = kept(0.3, 0.3, last=4e-3)
    assert values == {}
    how = "not known: the host kept each of the two ranks waiting for 30% of the time, and they had 0.25 of the speed at first"
    assert rows == [{"collective_speed_kept": how, "block": "small"}, {"link_speed_kept": how}]


def test_sums_that_stay_fast_are_fast_however_busy_the_host_is() -> None:
    for last, share in ((1e-3, 1.0), (1.6e-3, 0.625)):
        assert kept(0.9, 0.9, last=last) == ({"collective_speed_kept": share, "link_speed_kept": share}, [])


def delays(seconds: float, waited: float) -> list[object]:
    """Of three chips whose all-reduce with itself takes a millisecond, but for the last one's, who waited in two of three turns."""
    facts = tuple(AcceleratorFacts(f"sim:{number}", "sim", number, "sim", None, None) for number in range(3))
    prompt = (OwnAllReduceTime(1e-3), OwnAllReduceTime(2e-3))
    late = (OwnAllReduceTime(seconds, waited), OwnAllReduceTime(2 * seconds, waited), OwnAllReduceTime(3 * seconds))
    reports = (prompt, prompt, late)
    return list(measurements._own_delay(RanksOutcome(reports, None, 1.0), Placement(facts, 3)))


@pytest.mark.parametrize(("seconds", "waited"), [(1.1e-3, 0.8), (1e-2, 0.3), (1e-2, 0.0)], ids=["in time", "little", "quiet"])
def test_a_rank_is_late_by_its_best_time(seconds: float, waited: float) -> None:
    (one,) = delays(seconds, waited)
    assert isinstance(one, Measurement)
    assert one.value == pytest.approx(seconds - 1e-3)
    assert "rank 2 (sim:2)" in (one.about or "")


def test_a_rank_that_the_host_kept_waiting_is_not_known_to_be_late() -> None:
    (row,) = delays(1e-2, 0.8)
    assert isinstance(row, Row)
    assert "waiting for a processor for 80% of the time" in str(row.cells["straggler_delay_s"])
