"""A fleet in words: as text for a terminal, as JSON, as metrics, and as lists of hosts for schedulers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from readiness import rendering
from readiness.datamodel import Decision, Outcome, Use
from readiness.fleet.fleet_summary import Fleet, Host, Oddity
from readiness.fleet.links import reports as link_reports
from readiness.fleet.outliers import FALSE_ALARMS
from readiness.rendering import Paint, clean, verdicts, wrap
from readiness.rendering.metrics import Family, metrics_text

SCHEMA = "readiness.fleet/1"
#: So much of each list, unless all of it is asked for.
_MOST = 12
_MOST_REASONS = 3
_REPORTED_FIRST = (Decision.READY, Decision.NOT_READY, Decision.UNDETERMINED)


def counts(fleet: Fleet, use: Use) -> str:
    """`940 of 1000 hosts are ready, 30 are not, 30 are undetermined (12 of these did not report)`."""
    total = len(fleet.hosts)
    ready, not_ready = len(fleet.of(use, Decision.READY)), len(fleet.of(use, Decision.NOT_READY))
    unknown = fleet.of(use, Decision.UNDETERMINED)
    text = f"{ready} of {total} host{'s' if total != 1 else ''} ready, {not_ready} not, {len(unknown)} undetermined"
    silent = sum(not host.reported for host in unknown)
    return f"{text} ({silent} of these without a run)" if silent else text


def _hosts_text(count: int) -> str:
    return f"{count} host{'' if count == 1 else 's'}"


def reasons(host: Host) -> list[str]:
    """Return why a host is not ready, in sentences: its defects, else what failed or is unknown, then its problems."""
    found = [clean(text, 300) for text in host.diagnosis] if host.worst is Decision.NOT_READY else []
    wanted = Outcome.FAIL if host.worst is Decision.NOT_READY else Outcome.UNKNOWN
    musts = [one for one in host.open if one.level == "must" and one.outcome is wanted]
    if not found:
        for one in musts:
            where = "" if len(one.accelerators) == host.chips else f" on {', '.join(one.accelerators[:4])}"
            reason = f": {clean(one.reason, 160)}" if one.reason else ""
            found.append(f"{clean(one.title, 160) or one.requirement}{where}{reason}")
    found += [f"{problem.value}{f' ({clean(detail, 160)})' if detail else ''}" for problem, detail in host.problems]
    if host.reported and not host.chips:
        found.append("no accelerator was assessed")
    return found


def table(fleet: Fleet, *, colour: bool = False, width: int = 100, verbose: bool = False) -> str:
    """Lines of at most `width` columns: verdicts, the worst hosts, odd values, drift, files that are no host's."""
    return "\n".join(_lines(fleet, rendering.painter(colour), width, None if verbose else _MOST)) + "\n"


def _lines(fleet: Fleet, paint: Paint, width: int, most: int | None) -> Iterator[str]:
    profile = f"the profile {fleet.profile} {fleet.profile_sha256[:12]}"
    yield from wrap(f"{_hosts_text(len(fleet.hosts))} judged by {profile}", width)
    if any(host.simulated for host in fleet.hosts):
        yield from wrap("Simulated chips are among them: a rehearsal, not a measurement of a product.", width)
    for use in fleet.uses:
        yield from wrap(f"{use.value}: {counts(fleet, use)}", width, first="  ", rest="    ")
    if fleet.uniform_groups:
        largest = fleet.uniform_groups[0]
        number = _hosts_text(len(largest.hosts))
        yield from wrap(
            f"The largest group of ready hosts that are alike: {number} ({clean(largest.what, 300)})",
            width, first="  ", rest="    ",
        )  # fmt: skip
    poor = [host for host in fleet.hosts if host.worst is not Decision.READY or host.problems]
    yield from _heading(f"HOSTS THAT ARE NOT READY, WORST FIRST ({len(poor)})", poor, paint)
    for host in poor[:most]:
        word = host.worst.value.upper() if host.reported else "NO RUN"
        line, *more = wrap(f"{host.name}  {word}  {host.device}", width, first="  ", rest="    ")
        yield line.replace(word, paint(word, verdicts.STYLES[host.worst]), 1)
        yield from more
        why = reasons(host)
        for reason in why[:_MOST_REASONS]:
            yield from wrap(reason, width, first="    - ", rest="      ")
        if len(why) > _MOST_REASONS:
            yield f"    - and {len(why) - _MOST_REASONS} more"
    yield from _rest(len(poor), most)
    if fleet.between is not None:
        yield ""
        yield from link_reports.lines(fleet.between, paint, width, most)
    title = f"ODD VALUES, AGAINST ACCELERATORS OF THE SAME MODEL ({len(fleet.odd)})"
    yield from _heading(title, fleet.odd, paint)
    yield from _odd_values(fleet.odd, width, most)
    yield from _heading(f"VERSIONS AND SETTINGS THAT DIFFER FROM THE MAJORITY'S ({len(fleet.drift)})", fleet.drift, paint)
    yield from _oddities(fleet.drift, width, most)
    yield from _heading("THE FLEET IS DIVIDED ON", fleet.splits, paint)
    for text in fleet.splits[:most]:
        yield from wrap(clean(text, 400), width, first="  ", rest="    ")
    yield from _rest(len(fleet.splits), most)
    yield from _heading(f"FILES THAT ARE NO HOST'S ({len(fleet.broken)})", fleet.broken, paint)
    for path, problem in list(fleet.broken.items())[:most]:
        yield from wrap(f"{clean(path, 300)}: {clean(problem, 300)}", width, first="  ", rest="    ")
    yield from _rest(len(fleet.broken), most)
    yield from _heading("SET ASIDE BY THE SCHEDULER BEFORE", fleet.set_aside, paint)
    for one in fleet.set_aside[:most]:
        yield from wrap(f"{clean(one.host, 253)}: {one.state} {clean(one.reason, 200)}".rstrip(), width, first="  ")
    yield from _rest(len(fleet.set_aside), most)
    yield ""
    yield from wrap(footnote(fleet), width)


def footnote(fleet: Fleet) -> str:
    """How odd values are found, what was believed, and what was judged otherwise: one paragraph."""
    text = (
        f"Odd values: {fleet.looked_at} were looked at; a healthy fleet gives {FALSE_ALARMS:g} false alarms on average "
        "where values are normally distributed."
    )
    if fleet.unchecked:
        text += (
            f" The verdicts of {fleet.unchecked} runs come from summaries and were not derived again; "
            "merge whole assessments to have that done."
        )
    if fleet.other_profiles:
        listed = ", ".join(f"{clean(name, 100)} ({count} hosts)" for name, count in fleet.other_profiles.items())
        text += f" Runs under other profiles are left out: {listed}."
    return text


def _heading(text: str, what: Any, paint: Paint) -> Iterator[str]:
    if what:
        yield ""
        yield paint(text, "bold")


def _rest(count: int, most: int | None) -> Iterator[str]:
    if most is not None and count > most:
        yield f"  and {count - most} more: -v lists all"


def _oddities(found: Sequence[Oddity], width: int, most: int | None) -> Iterator[str]:
    for one in found[:most]:
        yield from wrap(oddity_text(one), width, first="  ", rest="    ")
    yield from _rest(len(found), most)


def _odd_values(found: Sequence[Oddity], width: int, most: int | None) -> Iterator[str]:
    """Yield the odd values of each accelerator together, the worst of them first."""
    groups: dict[tuple[str, str], list[Oddity]] = {}
    for one in found:
        groups.setdefault((one.host, one.accelerator), []).append(one)
    for (host, accelerator), of_one in list(groups.items())[:most]:
        shown = of_one if most is None else of_one[:_MOST_REASONS]
        if len(of_one) > 1:
            count = f"{len(of_one)} odd values" + ("" if len(shown) == len(of_one) else f", the worst {len(shown)} of them")
            yield from wrap(clean(f"{host} {accelerator}: {count}", 400), width, first="  ", rest="    ")
        for one in shown:
            text = oddity_text(one) if len(of_one) == 1 else _value_text(one)
            yield from wrap(text, width, first="  " if len(of_one) == 1 else "    - ", rest="      ")
    yield from _rest(len(groups), most)


def _value_text(one: Oddity) -> str:
    share = "" if one.share is None else f" ({one.share:.2g} of the median)"
    return clean(f"{one.what} is {one.value}{share}, {one.usual}", 600)


def oddity_text(one: Oddity) -> str:
    """`node-7 cuda:3: throughput.matmul rate (dtype=bfloat16) is 310 TFLOP/s (0.52 of the median), usually 598 TFLOP/s`."""
    return clean(f"{one.host} {one.accelerator}".rstrip() + f": {_value_text(one)}", 600)


# ------------------------------------------------------------------------------------------------- for programs


def as_json(fleet: Fleet, version: str) -> dict[str, Any]:
    """Return the fleet as JSON: `readiness.fleet/1`."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "readiness", "version": version},
        "profile": {"name": fleet.profile, "sha256": fleet.profile_sha256},
        "uses": {
            use.value: {
                decision.value: len(fleet.of(use, decision)) for decision in _REPORTED_FIRST
            } | {"without a run": sum(not host.reported for host in fleet.hosts)}
            for use in fleet.uses
        },
        "hosts": [_host(host) for host in fleet.hosts],
        "odd": [_oddity(one) for one in fleet.odd],
        "drift": [_oddity(one) for one in fleet.drift],
        "divided": list(fleet.splits),
        "broken_files": dict(fleet.broken),
        "set_aside": [{"host": one.host, "state": one.state, "reason": one.reason} for one in fleet.set_aside],
        "uniform_ready_groups": [{"what": one.what, "hosts": list(one.hosts)} for one in fleet.uniform_groups],
        "values_looked_at": fleet.looked_at,
        "false_alarms_expected": FALSE_ALARMS,
        "runs_not_derived_again": fleet.unchecked,
        "other_profiles": dict(fleet.other_profiles),
        "between_hosts": None if fleet.between is None else link_reports.as_json(fleet.between),
    }  # fmt: skip


def _host(host: Host) -> dict[str, Any]:
    return {
        "host": host.name, "reported": host.reported, "started": host.started or None, "file": host.file or None,
        "accelerators": host.chips, "device": host.device, "simulated": host.simulated,
        "verdicts": {use.value: decision.value for use, decision in host.decisions.items()},
        "scores": {use.value: score for use, score in host.scores.items()},
        "open": [
            {
                "requirement": one.requirement, "title": one.title, "level": one.level.value, "outcome": one.outcome.value,
                "uses": [use.value for use in one.uses], "accelerators": list(one.accelerators), "reason": one.reason,
                "remedy": one.remedy,
            }
            for one in host.open
        ],
        "reasons": reasons(host),
        "problems": [{"problem": problem.value, "detail": detail} for problem, detail in host.problems],
    }  # fmt: skip


def _oddity(one: Oddity) -> dict[str, Any]:
    return {
        "host": one.host, "accelerator": one.accelerator or None, "what": one.what, "value": one.value, "usual": one.usual,
        "share_of_median": one.share,
    }  # fmt: skip


def openmetrics(fleet: Fleet, version: str) -> str:
    """Return the fleet as metrics: counts by verdict, each host's verdict and score, and how much is odd on it."""
    info = Family("readiness_fleet_info", "The fleet: profile and version.")
    info.add(1, version=version, profile=fleet.profile, profile_sha256=fleet.profile_sha256)
    hosts = Family("readiness_fleet_hosts", "How many hosts have this verdict.")
    verdict = Family("readiness_fleet_host_verdict", "0 ready, 1 not ready, 3 undetermined.")
    score = Family("readiness_fleet_host_score", "Points proven of the worst accelerator, 0 to 100.")
    reported = Family("readiness_fleet_host_reported", "Whether a run of the host counts.")
    odd = Family("readiness_fleet_host_odd", "How many values, versions and settings of the host are odd.")
    broken = Family("readiness_fleet_broken_files", "How many files are no host's.")
    broken.add(len(fleet.broken))
    counted = Counter(one.host for one in (*fleet.odd, *fleet.drift))
    codes = {Decision.READY: 0, Decision.NOT_READY: 1, Decision.UNDETERMINED: 3}
    for use in fleet.uses:
        for decision in _REPORTED_FIRST:
            hosts.add(len(fleet.of(use, decision)), use=use.value, verdict=decision.value)
    for host in fleet.hosts:
        reported.add(host.reported, host=host.name)
        odd.add(counted[host.name], host=host.name)
        for use, decision in host.decisions.items():
            verdict.add(codes[decision], host=host.name, use=use.value)
            score.add(host.scores[use], host=host.name, use=use.value)
    families = [info, hosts, verdict, score, reported, odd, broken]
    if fleet.between is not None:
        pairs = Family("readiness_fleet_pairs", "How many pairs of hosts came out so.")
        for outcome, count in (
            ("good", fleet.between.pairs_good), ("bad", fleet.between.pairs_bad), ("unknown", fleet.between.pairs_untried),
        ):  # fmt: skip
            pairs.add(count, outcome=outcome)
        families.append(pairs)
    return metrics_text(families)


def ready_list(fleet: Fleet, use: Use) -> str:
    """Return the names of hosts that are ready for a use, one in a line."""
    return "".join(f"{name}\n" for name in fleet.ready(use))


def failed_list(fleet: Fleet, use: Use) -> str:
    """Return the names of all other hosts of the fleet, one in a line."""
    ready = set(fleet.ready(use))
    return "".join(f"{name}\n" for name in sorted(host.name for host in fleet.hosts if host.name not in ready))


def drain_commands(fleet: Fleet, use: Use, scheduler: str) -> str:
    """Return commands that take hosts that are not ready out of service. They are printed, never run."""
    lines = []
    for host in fleet.of(use, Decision.NOT_READY):
        why = re.sub(r"[^A-Za-z0-9 ._:,=()/-]", "", (reasons(host) or ["not ready"])[0])[:80].strip()
        if scheduler == "slurm":
            lines.append(f"scontrol update nodename={host.name} state=drain reason='readiness: {why}'")
        else:
            lines.append(f"kubectl cordon {host.name}  # {why}")
    return "".join(f"{line}\n" for line in sorted(lines))
