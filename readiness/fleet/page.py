"""A fleet as one HTML page: verdict counts, a map of hosts, the worst ones, odd values with histograms, drift."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from readiness.datamodel import Decision, Use
from readiness.fleet import reports
from readiness.fleet.fleet_summary import Distribution, Fleet, Host, Oddity
from readiness.fleet.links import reports as link_reports
from readiness.fleet.links import summary
from readiness.rendering import charts, html, verdicts

_SIGNS = {Decision.READY: "R", Decision.UNDETERMINED: "?", Decision.NOT_READY: "N"}
_COLUMNS = 24
#: Longer lists are cut on the page; the JSON report and the workbook have all of them.
_MOST_HOSTS = 200
_MOST_ROWS = 500
_MOST_HISTOGRAMS = 6
_BINS = 16


def render(fleet: Fleet, version: str) -> str:
    """The page; needs no script and no request. Two renderings give the same bytes."""
    poor = [host for host in fleet.hosts if host.worst is not Decision.READY or host.problems]
    return html.render(
        "fleet.html.jinja",
        simulated=any(host.simulated for host in fleet.hosts),
        count=len(fleet.hosts),
        profile=f"{fleet.profile} {fleet.profile_sha256[:12]}",
        uses=[_use(fleet, use) for use in fleet.uses],
        map=list(_map(fleet)),
        poor=[_host(host) for host in poor[:_MOST_HOSTS]],
        more_poor=max(len(poor) - _MOST_HOSTS, 0),
        odd=_oddities(fleet.odd), more_odd=max(len(fleet.odd) - _MOST_ROWS, 0),
        drift=_oddities(fleet.drift), more_drift=max(len(fleet.drift) - _MOST_ROWS, 0),
        histograms=[chart for one in fleet.distributions[:_MOST_HISTOGRAMS] if (chart := _histogram(one)) is not None],
        splits=fleet.splits,
        uniform_groups=[[one.what, len(one.hosts), ", ".join(one.hosts[:40]) + (" ..." if len(one.hosts) > 40 else "")]
               for one in fleet.uniform_groups[:_MOST_ROWS]],
        broken=[[path, problem] for path, problem in list(fleet.broken.items())[:_MOST_ROWS]],
        more_broken=max(len(fleet.broken) - _MOST_ROWS, 0),
        set_aside=[[one.host, one.state, one.reason] for one in fleet.set_aside[:_MOST_ROWS]],
        between=None if fleet.between is None else _between(fleet.between),
        footnote=reports.footnote(fleet),
        foot=f"readiness {version}",
    )  # fmt: skip


def _use(fleet: Fleet, use: Use) -> dict[str, Any]:
    ready = len(fleet.of(use, Decision.READY))
    all_but_failed = "good" if ready == len(fleet.hosts) else "open"
    style = "bad" if fleet.of(use, Decision.NOT_READY) else all_but_failed
    return {
        "use": use.value, "ready": ready, "style": style, "counts": reports.counts(fleet, use),
        "parts": [
            (decision.value, html.STYLES[decision], 100 * len(fleet.of(use, decision)) / max(len(fleet.hosts), 1))
            for decision in reversed(verdicts.WORST_FIRST)
        ],
    }  # fmt: skip


def _between(between: summary.LinksSummary) -> dict[str, Any]:
    heads, rows = link_reports.matrix(between)
    found = list(summary.sentences(between))
    return {
        "short": summary.in_short(between), "sentences": found[:_MOST_ROWS], "more": max(len(found) - _MOST_ROWS, 0),
        "heads": heads, "rows": rows,
        "rounds": [
            [one.number, ", ".join(one.purposes), one.trials, one.good, one.bad, one.unknown + one.waiting]
            for one in between.rounds
        ],
        "distribution": _rates(between),
    }  # fmt: skip


def _rates(between: summary.LinksSummary) -> charts.BarChart | None:
    """Return the rates of all pairs as a histogram; bins with bad pairs are marked."""
    pairs = [one for one in between.trials if len(one.hosts) == 2 and one.gbps is not None]
    values = tuple(sorted(one.gbps for one in pairs if one.gbps is not None))
    odd = tuple(one.gbps for one in pairs if one.gbps is not None and one.outcome == "bad")
    if len(values) < 2:
        return None
    return _histogram(Distribution("rate between two hosts", "pairs", "GB/s", values, odd))


def _map(fleet: Fleet) -> Iterator[tuple[str, list[charts.Cell]]]:
    """Rows of cells, a cell for each host in the order of names, which is the order of racks in most fleets."""
    hosts = sorted(fleet.hosts, key=lambda host: _natural(host.name))
    for start in range(0, len(hosts), _COLUMNS):
        row = hosts[start : start + _COLUMNS]
        yield row[0].name, [_cell(host) for host in row]


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which node-2 stands before node-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


def _cell(host: Host) -> charts.Cell:
    if not host.reported:
        return charts.Cell("-", "open", f"{host.name}: no run")
    words = ", ".join(f"{use.value} {decision.value}" for use, decision in host.decisions.items())
    return charts.Cell(_SIGNS[host.worst], html.STYLES[host.worst], f"{host.name}: {words}")


def _host(host: Host) -> dict[str, Any]:
    return {
        "name": host.name, "device": host.device, "style": html.STYLES[host.worst],
        "word": host.worst.value if host.reported else "no run", "reasons": reports.reasons(host),
        "verdicts": ", ".join(
            f"{use.value} {decision.value} ({host.scores[use]:g})" for use, decision in host.decisions.items()
        ) if host.reported else "",
        "started": host.started, "file": host.file,
    }  # fmt: skip


def _oddities(found: Sequence[Oddity]) -> list[list[Any]]:
    return [
        [f"{one.host} {one.accelerator}".rstrip(), one.what, one.value,
         "" if one.share is None else f"{one.share:.2g}", one.usual]
        for one in found[:_MOST_ROWS]
    ]  # fmt: skip


def _histogram(one: Distribution) -> charts.BarChart | None:
    """Return counts of values in bins of one width, by their logarithm: one odd value is seen beside a thousand."""
    low, high = one.values[0], one.values[-1]
    if not high > low:
        return None
    width = (high - low) / _BINS
    counted = [0] * _BINS
    odd = [False] * _BINS
    for value in one.values:
        counted[min(int((value - low) / width), _BINS - 1)] += 1
    for value in one.odd:
        odd[min(int((value - low) / width), _BINS - 1)] = True
    bars = [
        (f"{low + number * width:.4g} to {low + (number + 1) * width:.4g}", float(count), str(count), odd[number])
        for number, count in enumerate(counted)
    ]
    unit = f" in {one.unit}" if one.unit else ""
    return charts.bar_chart(f"{one.what}{unit}: {len(one.values)} x {one.model}", bars, log=True)
