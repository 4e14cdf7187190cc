"""What is known between the hosts of a fleet, for reports: lines, JSON, and the matrix of suspects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from readiness.fleet.links.attribution import Outcome
from readiness.fleet.links.summary import LinksSummary, TriedTrial, in_short, sentences
from readiness.rendering import Paint, charts, clean, wrap

_MOST_HOSTS = 24
_STYLES = {Outcome.GOOD: "good", Outcome.BAD: "bad", Outcome.UNKNOWN: "open"}
_SIGNS = {Outcome.GOOD: "ok", Outcome.BAD: "bad", Outcome.UNKNOWN: "?"}


def lines(between: LinksSummary, paint: Paint, width: int, most: int | None) -> Iterator[str]:
    """Yield lines of at most this width: counts, then what came of it, then the matrix of suspects."""
    yield paint("BETWEEN HOSTS", "bold")
    yield from wrap(in_short(between), width, first="  ", rest="    ")
    found = list(sentences(between))
    for style, text in found[:most]:
        first, *rest = wrap(clean(text, 600), width, first="  - ", rest="    ")
        yield first if style == "note" else paint(first, style)
        yield from rest
    if most is not None and len(found) > most:
        yield f"  and {len(found) - most} more: -v lists all"
    if not found:
        yield "  Every pair and group that was tried is right."
    suspects = between.suspects[:most]
    for host in suspects:
        met = ", ".join(_met(one, host) for one in between.with_host(host))
        text = clean(f"{host} with {met}", 2000) if met else f"{host}: not tried"
        yield from wrap(text, width, first="    ", rest="      ")


def _met(one: TriedTrial, host: str) -> str:
    other = one.hosts[1] if one.hosts[0] == host else one.hosts[0]
    figures = "" if one.gbps is None else f", {one.gbps:.3g} GB/s"
    return f"{other} (round {one.round}: {one.outcome.value}{figures})"


def as_json(between: LinksSummary) -> dict[str, Any]:
    """Return all of it, with every trial: the matrix of rates and latencies."""
    found = between.conclusion
    return {
        "hosts": list(between.hosts),
        "finished": between.finished,
        "pairs": {
            "possible": between.pairs, "good": between.pairs_good, "bad": between.pairs_bad,
            "unknown": between.pairs_untried,
        },
        "bad_hosts": list(found.bad_hosts),
        "unsteady_hosts": list(found.unsteady_hosts),
        "bad_links": [list(pair) for pair in found.bad_links],
        "unsteady_links": [list(pair) for pair in found.unsteady_links],
        "unresolved_pairs": [list(pair) for pair in found.unresolved_pairs],
        "divided": [list(part) for part in found.divided],
        "unconnected": [list(part) for part in found.unconnected],
        "bad_groups": [list(group) for group in found.bad_groups],
        "unknown_hosts": list(found.unknown_hosts),
        "unknown_groups": [list(group) for group in found.unknown_groups],
        "sentences": [text for _, text in sentences(between)],
        "rounds": [
            {
                "round": one.number, "purposes": [purpose.value for purpose in one.purposes], "trials": one.trials,
                "good": one.good, "bad": one.bad, "unknown": one.unknown, "waiting": one.waiting,
            }
            for one in between.rounds
        ],
        "trials": [
            {
                "round": one.round, "hosts": list(one.hosts), "purpose": one.purpose.value, "outcome": one.outcome.value,
                "reasons": list(one.reasons), "gbps": one.gbps, "latency_us": one.latency_us, "tail_ratio": one.tail_ratio,
                "started": one.started, "seconds": round(one.seconds, 3),
            }
            for one in between.trials
        ],
    }  # fmt: skip


def matrix(between: LinksSummary) -> tuple[list[str], list[tuple[str, list[charts.Cell]]]]:
    """Return heads and rows of cells: suspects against the hosts that they were tried with."""
    suspects = between.suspects[:_MOST_HOSTS]
    met = {other for host in suspects for one in between.with_host(host) for other in one.hosts}
    heads = [host for host in between.hosts if host in met][:_MOST_HOSTS]
    latest: dict[frozenset[str], TriedTrial] = {}
    for one in between.trials:
        if len(one.hosts) == 2:
            known = latest.get(frozenset(one.hosts))
            if known is None or known.outcome is not Outcome.BAD:
                latest[frozenset(one.hosts)] = one
    rows = [(host, [_cell(host, other, latest.get(frozenset((host, other)))) for other in heads]) for host in suspects]
    return heads, rows


def _cell(host: str, other: str, one: TriedTrial | None) -> charts.Cell:
    if one is None:
        return charts.Cell("", "none", f"{host} with {other}: not tried" if host != other else host)
    rate = _SIGNS[one.outcome] if one.gbps is None else f"{one.gbps:.2g}"
    latency = "" if one.latency_us is None else f", {one.latency_us:.3g} us"
    hint = f"{host} with {other}: {'; '.join((one.outcome.value + latency, *one.reasons[:2]))}"
    return charts.Cell(rate, _STYLES[one.outcome], hint)
