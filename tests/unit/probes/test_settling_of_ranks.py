"""Ranks let their devices come to rest before what is timed, tell of one that did not, and do not blame a busy host on links."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from readiness.datamodel import AcceleratorFacts, Measurement, Row, Yield
from readiness.distributed.rank_messages import Report, decode_report, encode_report
from readiness.distributed.types import Placement, RanksOutcome
from readiness.probes.bandwidth import measurements as of_bandwidth
from readiness.probes.bandwidth import rank as bandwidth
from readiness.probes.links import measurements as of_links
from readiness.probes.links import rank as links
from readiness.probes.links.reports import PRODUCTS, TRANSFERS, LaterLinkTimes, ProductTimes
from readiness.probes.ranks_common.settling import DeviceSettled
from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import Settled
from tests.support import cpu

REST, HOT = Settled(0.5, 40.0, 40.0), Settled(5.0, 90.0, 85.0, "no, after 5 s temperature_c falls, from 86 to 85")


@dataclass
class Context:
    """What a rank function is given, of one rank that waits for nobody; `done` is what it has done."""

    done: list[str] = field(default_factory=list)
    accelerator: Any = field(default_factory=lambda: cpu(0))
    world_size: int = 1
    settings: Any = None
    clock: Any = None

    def step(self, operation: str) -> contextlib.AbstractContextManager[None]:
        self.done.append(operation)
        return contextlib.nullcontext()

    def exchange(self, number: float = 0.0) -> tuple[float, ...]:
        self.done.append("exchange")
        return (number,)


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Context:
    """A rank whose device stays hot."""
    found = Context()
    monkeypatch.setattr(timing, "settle", lambda accelerator: HOT if accelerator is found.accelerator else REST)
    return found


def test_collectives_begin_once_all_devices_are_at_rest(context: Context) -> None:
    given: Any = context
    assert next(bandwidth.rank_main(given)) == DeviceSettled("collectives", HOT)
    assert context.done == ["letting the device come to rest before collectives", "exchange"]


def test_links_and_products_of_ranks_each_begin_at_rest(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def part(name: str) -> Any:
        def run(*_: Any) -> Iterator[Report]:
            context.done.append(name)
            return iter(())

        return run

    monkeypatch.setattr(links, "groups", part("groups"))
    monkeypatch.setattr(links, "StallDetector", lambda _: SimpleNamespace(stalls=[]))
    monkeypatch.setattr(links, "RepeatedAllReduce", part("sums"))
    monkeypatch.setattr(links, "_transfers_and_sums", part(TRANSFERS))
    monkeypatch.setattr(links, "compare_ranks", part(PRODUCTS))
    given: Any = context
    assert list(links.rank_main(given)) == [DeviceSettled(TRANSFERS, HOT), DeviceSettled(PRODUCTS, HOT)]
    before = "letting the device come to rest before "
    parts = [one for one in context.done if one.startswith(before) or one in (TRANSFERS, PRODUCTS)]
    assert parts == [before + TRANSFERS, TRANSFERS, before + PRODUCTS, PRODUCTS]


@pytest.mark.parametrize(("waits", "passes"), [(0.0, 6), (0.9, 21), (5.0, 21)])
def test_transfers_at_the_end_go_on_while_the_host_keeps_ranks_waiting(
    waits: float, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass takes a second, for so many seconds of which the threads wait; each is ten times as slow as at first."""
    now, given = [0.0], Context(settings=SimpleNamespace(budget_s=10.0))

    def transfers(context: Any, pair: Any, numel: int, seconds: list[float]) -> Iterator[Report]:
        now[0] += 1.0
        seconds.append(0.01)
        return iter(())

    monkeypatch.setattr(links, "_transfers", transfers)
    monkeypatch.setattr(links, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(links, "in_line_s", lambda: waits * now[0])
    context: Any = given
    (report,) = links._later(context, {(0, 1): [0.001]}, 256)
    assert isinstance(report, LaterLinkTimes)
    assert replace(report, waited=0.0) == LaterLinkTimes((0, 1), 1024, 0.001, 0.01, passes)
    assert report.waited == pytest.approx(min(waits, 1.0))


def outcome(*settled: Settled, before: str) -> tuple[RanksOutcome, Placement]:
    """Ranks on chips of their own, the last of them half as fast as the others; each came to rest as is given."""
    times = [ProductTimes("alone", {"256": 2e-3 if number == len(settled) - 1 else 1e-3}) for number in range(len(settled))]
    reports = tuple((DeviceSettled(before, one), took) for one, took in zip(settled, times, strict=True))
    facts = tuple(AcceleratorFacts(f"cuda:{number}", "cuda", number, "cuda", None, None) for number in range(len(settled)))
    return RanksOutcome(reports, None, 1.0), Placement(facts, len(settled))


def rows(told: Iterator[Yield]) -> list[dict[str, Any]]:
    return [dict(item.cells) for item in told if isinstance(item, Row) and "settled" in item.cells]


def slowest(told: Iterator[Yield]) -> Measurement:
    return next(item for item in told if isinstance(item, Measurement) and item.name == "straggler_share")


def test_a_chip_that_is_slow_and_was_hot_says_both() -> None:
    ended, placement = outcome(REST, REST, HOT, before=PRODUCTS)
    assert rows(of_links.links(ended, placement))[2] == {
        "rank": 2, "device": "cuda:2", "before": PRODUCTS, "settled": HOT.unsettled, "settling_s": 5.0, "before_c": 90.0, "after_c": 85.0,
    }  # fmt: skip
    one = slowest(of_links.links(ended, placement))
    assert one.value == 0.5
    assert str(one.about).endswith("at rest before: no, after 5 s temperature_c falls, from 86 to 85")


def test_a_chip_that_is_slow_and_was_at_rest_has_no_excuse() -> None:
    for ended, placement in (outcome(HOT, REST, REST, before=PRODUCTS), outcome(REST, REST, HOT, before=TRANSFERS)):
        assert "at rest" not in str(slowest(of_links.links(ended, placement)).about)


def test_where_nothing_was_waited_for_nothing_is_told() -> None:
    ended, placement = outcome(Settled(), Settled(), before=PRODUCTS)
    assert rows(of_links.links(ended, placement)) == []


def test_bandwidth_tells_what_had_not_come_to_rest() -> None:
    ended, placement = outcome(REST, HOT, before="collectives")
    stack: Any = type("Stack", (), {"counters": lambda self, facts: None, "links": lambda self, facts: None})()
    told = rows(of_bandwidth.measurements(ended, placement, stack))
    assert [row["settled"] for row in told] == ["yes", HOT.unsettled]


def test_reports_pass_the_pipe_unchanged() -> None:
    for settled in (REST, HOT, Settled()):
        report = DeviceSettled(PRODUCTS, settled)
        assert decode_report(encode_report(report)) == report
