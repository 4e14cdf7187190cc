"""A fleet as a workbook: hosts, what is open on them, odd values, drift, files. Every text is written as text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from readiness.fleet import reports
from readiness.fleet.fleet_summary import Fleet
from readiness.rendering.workbook import Workbook, open_workbook


def render(fleet: Fleet, version: str) -> bytes:
    """The file. Two renderings give the same bytes. Raises UsageError where xlsxwriter is not installed."""
    stream = io.BytesIO()
    started = max((host.started for host in fleet.hosts), default="")
    book = open_workbook(stream, f"A fleet of {len(fleet.hosts)} hosts", version, started)
    sheets = Workbook(book)
    uses = [use.value for use in fleet.uses]
    heads = ["host", *uses, *(f"{use}: score" for use in uses), "accelerators", "device", "started", "why", "file"]
    widths = [26, *(16 for _ in uses), *(10 for _ in uses), 13, 40, 22, 90, 50]
    sheets.table("Hosts", heads, widths, _hosts(fleet))
    sheets.table(
        "Open", ["host", "requirement", "what holds where it is met", "level", "outcome", "uses", "accelerators", "reason",
                 "remedy"], [26, 34, 50, 9, 10, 20, 24, 70, 70], _open(fleet),
    )  # fmt: skip
    oddities = ["host", "accelerator", "what", "value", "to the median", "the others"]
    for name, found in (("Odd", fleet.odd), ("Differs", fleet.drift)):
        rows = ([one.host, one.accelerator, one.what, one.value, one.share, one.usual] for one in found)
        sheets.table(name, oddities, [26, 14, 70, 24, 14, 50], rows)
    sheets.table("Files", ["file", "problem"], [70, 90], ([path, problem] for path, problem in fleet.broken.items()))
    if fleet.between is not None:
        heads = ["round", "what for", "hosts", "outcome", "GB/s", "latency us", "tail ratio", "why"]
        rows = (
            [one.round, one.purpose.value, ", ".join(one.hosts), one.outcome.value, one.gbps, one.latency_us, one.tail_ratio,
             "; ".join(one.reasons)]
            for one in fleet.between.trials
        )  # fmt: skip
        sheets.table("Between", heads, [8, 34, 50, 10, 10, 12, 10, 90], rows)
    notes = [[f"{use}: {reports.counts(fleet, use)}"] for use in fleet.uses]
    sheets.table("Notes", ["note"], [140], [*notes, *([text] for text in fleet.splits), [reports.footnote(fleet)]])
    book.close()
    return stream.getvalue()


def _hosts(fleet: Fleet) -> Iterator[Sequence[Any]]:
    for host in fleet.hosts:
        yield [
            host.name, *(host.decisions.get(use) for use in fleet.uses), *(host.scores.get(use) for use in fleet.uses),
            host.chips, host.device, host.started, "\n".join(reports.reasons(host)[:10]), host.file,
        ]  # fmt: skip


def _open(fleet: Fleet) -> Iterable[Sequence[Any]]:
    for host in fleet.hosts:
        for one in host.open:
            yield [
                host.name, one.requirement, one.title, one.level.value, one.outcome.value, ", ".join(one.uses),
                ", ".join(one.accelerators), one.reason, one.remedy,
            ]  # fmt: skip
