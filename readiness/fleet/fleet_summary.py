"""Summary of a fleet from its database: which hosts are ready, which are odd, which did not report. Only reads."""

from __future__ import annotations

import json
import math
import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from readiness.comparison.comparable_values import Kind, kind
from readiness.comparison.reference import Directions
from readiness.datamodel import Decision, Level, Outcome, Use
from readiness.errors import UsageError, did_you_mean
from readiness.fleet import outliers, store
from readiness.fleet.links import summary
from readiness.host.identity import host_name
from readiness.rendering.verdicts import WORST_FIRST

#: A value of a version or setting that more than half have is the fleet's, and a host with one that so few have is odd.
_MAJORITY = 0.5
_FEW = 0.10
#: So many figures are read from the database at a time: memory stays bounded, whatever the fleet.
_COLUMNS = 64
_NO_PROFILE = "none"


class Problem(StrEnum):
    """Why a host has no verdict of this profile that counts, or what its files claim wrongly."""

    MISSING = "did not report"
    SET_ASIDE = "was set aside by the scheduler and did not report"
    OTHER_PROFILE = "was judged by another profile only"
    FAILED = "its run did not come to its end"
    BROKEN = "its file is no host's"
    CONTESTED = "files of different machines name it"
    FOREIGN = "a file of another name claims to be it"
    UNLISTED = "it has accelerators that could not be listed"
    SHARED_SERIAL = "another host has an accelerator of the same serial number"
    FAILS_WITH_OTHERS = "it fails with the hosts that it was tried with"
    UNTRIED_WITH_OTHERS = "it could not be tried with other hosts"


#: With these a verdict says less than it seems: it may be another machine's, or only of some accelerators.
_DOUBTS = (Problem.CONTESTED, Problem.UNLISTED)


@dataclass(frozen=True, slots=True)
class Blocker:
    """A requirement that is open on some accelerators of a host."""

    requirement: str
    title: str
    level: Level
    outcome: Outcome
    uses: tuple[Use, ...]
    accelerators: tuple[str, ...]
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Oddity:
    """What distinguishes a host, or one of its accelerators, from the others. `what` is a figure, a version or a setting."""

    host: str
    accelerator: str
    what: str
    value: str
    usual: str
    share: float | None = None  # of a figure, to the median


@dataclass(frozen=True, slots=True)
class Host:
    """A host. `decisions` has an entry for each use; `run` is None for one without a run that counts."""

    name: str
    decisions: Mapping[Use, Decision]
    scores: Mapping[Use, float]
    chips: int
    device: str
    run: str | None
    started: str
    file: str
    simulated: bool = False
    open: tuple[Blocker, ...] = ()
    diagnosis: tuple[str, ...] = ()
    problems: tuple[tuple[Problem, str], ...] = ()

    @property
    def worst(self) -> Decision:
        """The worst decision of all uses; undetermined without any."""
        return min(self.decisions.values(), key=WORST_FIRST.index, default=Decision.UNDETERMINED)

    @property
    def reported(self) -> bool:
        """Whether a run of it counts."""
        return self.run is not None


@dataclass(frozen=True, slots=True)
class UniformGroup:
    """Ready hosts with the same accelerators and versions. `what` says which."""

    what: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Distribution:
    """How a figure with odd values is distributed over a model: for a histogram."""

    what: str
    model: str
    unit: str
    values: tuple[float, ...]
    odd: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fleet:
    """All of it. `hosts` are sorted worst first; `drift` and `odd` most remarkable first."""

    profile: str
    profile_sha256: str
    uses: tuple[Use, ...]
    hosts: tuple[Host, ...]
    odd: tuple[Oddity, ...]
    drift: tuple[Oddity, ...]
    splits: tuple[str, ...]
    broken: Mapping[str, str]
    unchecked: int
    uniform_groups: tuple[UniformGroup, ...]
    distributions: tuple[Distribution, ...]
    looked_at: int
    set_aside: tuple[store.Expected, ...] = ()
    other_profiles: Mapping[str, int] = field(default_factory=dict)
    between: summary.LinksSummary | None = None

    def of(self, use: Use, decision: Decision) -> list[Host]:
        """The hosts with this verdict."""
        return [host for host in self.hosts if host.decisions.get(use) is decision]

    def ready(self, use: Use) -> list[str]:
        """The names of the hosts that are ready."""
        return sorted(host.name for host in self.of(use, Decision.READY))


def read(connection: sqlite3.Connection, directions: Directions, profile: str | None = None) -> Fleet:
    """Read the fleet as judged by one profile: the named one, else that of most hosts. Raises UsageError."""
    name, sha256, others = _profile(connection, profile)
    serials = _serials(connection)
    chosen = _runs_that_count(connection, name, sha256, serials)
    uses = _uses(connection, chosen) or tuple(Use)
    expected = {one.host: one for one in _expected(connection)}
    hosts = [_host(connection, choice, uses) for choice in chosen.values()]
    hosts += _without_run(connection, chosen, expected, uses)
    hosts = _with_shared_serials(chosen, hosts, serials)
    between = summary.read(connection)
    hosts = hosts if between is None else [_with_trials(host, between) for host in hosts]
    runs = {choice.run: choice.host for choice in chosen.values()}
    odd, distributions, looked_at = _odd_values(connection, runs, directions)
    drift, splits = _drift(connection, runs)
    return Fleet(
        profile=name, profile_sha256=sha256, uses=uses,
        hosts=tuple(sorted(hosts, key=lambda host: (WORST_FIRST.index(host.worst), -len(host.open), host.name))),
        odd=tuple(odd), drift=tuple(drift), splits=tuple(splits), broken=store.broken_files(connection),
        unchecked=connection.execute("SELECT count(*) FROM run WHERE checked = 0").fetchone()[0],
        uniform_groups=tuple(_uniform_groups(connection, hosts)), distributions=tuple(distributions), looked_at=looked_at,
        set_aside=tuple(one for one in expected.values() if one.state not in ("expected", "failed")),
        other_profiles=others, between=between,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------- which runs count


def runs_that_count(connection: sqlite3.Connection, profile: str | None = None) -> dict[str, str]:
    """Return the digest of each host's run under one profile: the named one, else that of most hosts. Raises UsageError."""
    name, sha256, _ = _profile(connection, profile)
    return {host: choice.run for host, choice in _runs_that_count(connection, name, sha256, _serials(connection)).items()}


@dataclass(frozen=True, slots=True)
class _Choice:
    host: str
    run: str
    started: str
    file: str
    problems: tuple[tuple[Problem, str], ...]


def _profile(connection: sqlite3.Connection, wanted: str | None) -> tuple[str, str, dict[str, int]]:
    counted = connection.execute(
        "SELECT profile, profile_sha256, count(DISTINCT host) AS hosts FROM run GROUP BY profile, profile_sha256 "
        "ORDER BY hosts DESC, profile, profile_sha256"
    ).fetchall()
    if not counted and wanted is None and (store.broken_files(connection) or any(_expected(connection))):
        return _NO_PROFILE, "", {}
    if not counted:
        raise UsageError(
            "no host has reported yet", place="fleet",
            remedy="merge the files of hosts: readiness fleet merge DIR... -o fleet.sqlite",
        )  # fmt: skip
    candidates = [row for row in counted if wanted is None or row[0] == wanted]
    if not candidates:
        names = sorted({row[0] for row in counted})
        raise UsageError(
            f"no host was judged by the profile {wanted!r}", place="--profile",
            remedy=f"{did_you_mean(wanted or '', names)}choose one of {', '.join(names)}",
        )  # fmt: skip
    name, sha256, _ = candidates[0]
    others = {f"{row[0]} {row[1][:12]}": row[2] for row in counted if (row[0], row[1]) != (name, sha256)}
    return name, sha256, others


def _runs_that_count(
    connection: sqlite3.Connection, profile: str, sha256: str, serials: Mapping[str, frozenset[str]]
) -> dict[str, _Choice]:
    """Return the run of each host: the latest in a file of its name, else the latest of all.

    A host writes the file of its own name; a file of another name that claims to be it must not stand before it.
    """
    candidates: dict[str, list[tuple[bool, str, str, str]]] = {}
    for host, started, digest, paths in connection.execute(
        "SELECT host, started, digest, group_concat(path, char(10)) FROM run JOIN file ON file.run = run.digest "
        "WHERE profile = ? AND profile_sha256 = ? GROUP BY digest",
        (profile, sha256),
    ):
        files = sorted(paths.split("\n"))
        own = [path for path in files if PurePath(path).stem == host]
        candidates.setdefault(host, []).append((bool(own), started, digest, (own or files)[0]))
    return {host: _choose(host, found, serials) for host, found in sorted(candidates.items())}


def _choose(host: str, found: Sequence[tuple[bool, str, str, str]], serials: Mapping[str, frozenset[str]]) -> _Choice:
    ranked = sorted(found, key=lambda one: (one[0], one[1], one[2]), reverse=True)
    named, started, run, file = ranked[0]
    problems = []
    for other_named, _, other, other_file in ranked[1:]:
        mine, others = serials.get(run, frozenset()), serials.get(other, frozenset())
        if mine and others and not mine & others:
            problem = Problem.FOREIGN if named and not other_named else Problem.CONTESTED
            problems.append((problem, other_file))
    return _Choice(host, run, started, file, tuple(problems))


def _serials(connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for run, serial in connection.execute("SELECT run, serial FROM accelerator WHERE serial IS NOT NULL AND simulated = 0"):
        found.setdefault(run, set()).add(serial)
    return {run: frozenset(serials) for run, serials in found.items()}


def _uses(connection: sqlite3.Connection, chosen: Mapping[str, _Choice]) -> tuple[Use, ...]:
    wanted = {choice.run for choice in chosen.values()}
    found = {
        use for digest, uses in connection.execute("SELECT digest, uses FROM run") if digest in wanted
        for use in json.loads(uses)
    }  # fmt: skip
    return tuple(use for use in Use if use in found)


def _expected(connection: sqlite3.Connection) -> Iterator[store.Expected]:
    for host, state, reason in connection.execute("SELECT host, state, reason FROM expected ORDER BY host"):
        yield store.Expected(host, state, reason)


# ------------------------------------------------------------------------------------------------------------- hosts


def _host(connection: sqlite3.Connection, choice: _Choice, uses: Sequence[Use]) -> Host:
    diagnosis, failed_stacks = connection.execute(
        "SELECT diagnosis, failed_stacks FROM run WHERE digest = ?", (choice.run,)
    ).fetchone()
    unlisted = [(Problem.UNLISTED, f"{stack}: {reason}") for stack, reason in sorted(json.loads(failed_stacks).items())]
    decisions: dict[Use, Decision] = {}
    scores: dict[Use, float] = {}
    devices: Counter[str] = Counter()
    simulated = False
    listed: dict[tuple[Any, ...], tuple[Mapping[str, Any], list[str]]] = {}
    for id, stack, model, is_simulated, verdicts, open_findings in connection.execute(
        "SELECT id, stack, model, simulated, verdicts, open FROM accelerator WHERE run = ? ORDER BY number", (choice.run,)
    ):
        devices[model or stack] += 1
        simulated = simulated or bool(is_simulated)
        given = json.loads(verdicts)
        for use in uses:
            verdict = given.get(use.value)
            decision = Decision.UNDETERMINED if verdict is None else Decision(verdict["verdict"])
            decisions[use] = min(decisions.get(use, Decision.READY), decision, key=WORST_FIRST.index)
            scores[use] = min(scores.get(use, 100.0), 0.0 if verdict is None else verdict["score"])
        for one in json.loads(open_findings):
            if not one.get("waived") and one["level"] != Level.INFO:
                key = (one["requirement"], one["level"], one["outcome"], *one["uses"])
                listed.setdefault(key, (one, []))[1].append(id)
    for use in uses:  # of a host without an accelerator nothing is known
        decisions.setdefault(use, Decision.UNDETERMINED)
        scores.setdefault(use, 0.0)
    problems = (*choice.problems, *unlisted)
    if any(problem in _DOUBTS for problem, _ in problems):
        decisions = {
            use: Decision.UNDETERMINED if decision is Decision.READY else decision for use, decision in decisions.items()
        }
    blockers = [_blocker(one, ids) for one, ids in listed.values()]
    blockers.sort(key=lambda one: (list(Level).index(one.level), one.outcome is not Outcome.FAIL, one.requirement))
    return Host(
        name=choice.host, decisions=decisions, scores=scores, chips=devices.total(),
        device="; ".join(f"{count} x {device}" for device, count in sorted(devices.items())) or "no accelerator",
        run=choice.run, started=choice.started, file=choice.file, simulated=simulated, open=tuple(blockers),
        diagnosis=tuple(json.loads(diagnosis)), problems=problems,
    )  # fmt: skip


def _blocker(one: Mapping[str, Any], ids: Sequence[str]) -> Blocker:
    return Blocker(
        one["requirement"], one.get("title") or "", Level(one["level"]), Outcome(one["outcome"]),
        tuple(use for use in Use if use.value in one["uses"]), tuple(ids), one.get("reason") or "", one.get("remedy") or "",
    )  # fmt: skip


def _without_run(
    connection: sqlite3.Connection, chosen: Mapping[str, _Choice], expected: Mapping[str, store.Expected],
    uses: Sequence[Use],
) -> Iterator[Host]:  # fmt: skip
    """Return hosts that count in the denominator and have no verdict: expected, of another profile, with a broken file."""
    of_others = {host for (host,) in connection.execute("SELECT DISTINCT host FROM run")} - chosen.keys()
    broken = {PurePath(path).stem: text for path, text in store.broken_files(connection).items()}
    broken = {name: text for name, text in broken.items() if host_name(name) == name}
    for name in sorted({*of_others, *expected, *broken} - chosen.keys()):
        if name in of_others:
            problem = (Problem.OTHER_PROFILE, "")
        elif name in broken:
            problem = (Problem.BROKEN, broken[name])
        elif expected[name].state == "failed":
            problem = (Problem.FAILED, expected[name].reason)
        elif expected[name].state != "expected":
            problem = (Problem.SET_ASIDE, expected[name].reason or expected[name].state)
        else:
            problem = (Problem.MISSING, "")
        yield Host(
            name=name, decisions=dict.fromkeys(uses, Decision.UNDETERMINED), scores=dict.fromkeys(uses, 0.0), chips=0,
            device="", run=None, started="", file="", problems=(problem,),
        )  # fmt: skip


def _with_shared_serials(
    chosen: Mapping[str, _Choice], hosts: Sequence[Host], serials: Mapping[str, frozenset[str]]
) -> list[Host]:
    """Return the hosts, those with an accelerator that another one has too marked."""
    by_run = {choice.run: choice.host for choice in chosen.values()}
    owners: dict[str, set[str]] = {}
    for run, of_run in serials.items():
        for serial in of_run if run in by_run else ():
            owners.setdefault(serial, set()).add(by_run[run])
    shared: dict[str, set[str]] = {}
    for names in owners.values():
        for name in names if len(names) > 1 else ():
            shared.setdefault(name, set()).update(names - {name})
    return [
        replace(host, problems=(*host.problems, *((Problem.SHARED_SERIAL, other) for other in sorted(shared[host.name]))))
        if host.name in shared else host
        for host in hosts
    ]  # fmt: skip


def _with_trials(host: Host, between: summary.LinksSummary) -> Host:
    """Return a host with what its trials with others say: one that fails with them does not train with them."""
    found = between.conclusion
    if host.name in found.blamed:
        problem, instead = Problem.FAILS_WITH_OTHERS, Decision.NOT_READY
    elif host.name in found.unknown_hosts:
        problem, instead = Problem.UNTRIED_WITH_OTHERS, Decision.UNDETERMINED
    else:
        return host
    why = summary.why(between, (host.name,)).removeprefix(": ")
    decisions = {
        use: instead if use is Use.TRAINING and decision is Decision.READY else decision
        for use, decision in host.decisions.items()
    }
    return replace(host, decisions=decisions, problems=(*host.problems, (problem, why)))


# ---------------------------------------------------------------------------------------------------------- odd values


def _odd_values(
    connection: sqlite3.Connection, runs: Mapping[str, str], directions: Directions
) -> tuple[list[Oddity], list[Distribution], int]:
    """Return odd values by model of accelerator, the most remarkable first, and how many were looked at."""
    groups: dict[tuple[str, str, str], list[tuple[str, int, str]]] = {}
    for run, number, id, stack, model, figures in connection.execute(
        "SELECT run, number, id, stack, coalesce(model, ''), figures FROM accelerator"
    ):
        if run in runs:
            groups.setdefault((stack, model, figures), []).append((run, number, id))
    busy = _busy(connection, runs)
    plan = [(key, places, _judged_figures(connection, key[2], directions)) for key, places in sorted(groups.items())]
    models: dict[tuple[str, str], dict[str, _Column]] = {}
    looked_at = sum(len(places) * len(wanted) for _, places, wanted in plan)
    allowed = outliers.deviations_allowed(looked_at)
    found: list[Oddity] = []
    distributions: list[Distribution] = []
    names = sorted({figure.name for _, _, wanted in plan for figure in wanted})
    for start in range(0, len(names), _COLUMNS):
        block = set(names[start : start + _COLUMNS])
        models.clear()
        for (stack, model, _), places, wanted in plan:
            of_block = [figure for figure in wanted if figure.name in block]
            if of_block:
                _read_columns(connection, models.setdefault((stack, model), {}), places, of_block, busy)
        for (_, model), columns in sorted(models.items()):
            for name in sorted(columns):
                _judge_column(columns[name], model, allowed, runs, found, distributions)
    found.sort(key=lambda one: (-abs((one.share or 0.0) - 1), one.host, one.accelerator, one.what))
    return found, distributions, looked_at


def _busy(connection: sqlite3.Connection, runs: Mapping[str, str]) -> dict[tuple[str, int], frozenset[str]]:
    """Return the checks during which other work kept the host busy, by run and number: no speed of others is judged."""
    return {
        (run, number): frozenset(json.loads(checks))
        for run, number, checks in connection.execute("SELECT run, number, busy FROM accelerator WHERE busy != '[]'")
        if run in runs
    }


@dataclass(frozen=True, slots=True)
class _Judged:
    """A figure whose worse side is known, and its place among the values."""

    place: int
    check: str
    name: str
    unit: str
    kind: Kind
    better: Any


@dataclass(slots=True)
class _Column:
    """Values of one figure. `parts` say from which place on they are of which accelerators: run, number, id."""

    figure: _Judged
    values: array[float] = field(default_factory=lambda: array("d"))
    parts: list[tuple[int, Sequence[tuple[str, int, str]]]] = field(default_factory=list)

    def where(self, place: int) -> tuple[str, str]:
        """Return the run and the accelerator of a value."""
        start, places = next(part for part in reversed(self.parts) if part[0] <= place)
        run, _, id = places[place - start]
        return run, id


def _judged_figures(connection: sqlite3.Connection, digest: str, directions: Directions) -> list[_Judged]:
    (content,) = connection.execute("SELECT content FROM figures WHERE digest = ?", (digest,)).fetchone()
    found = []
    for place, one in enumerate(json.loads(content)):
        better = directions.get((one["check"], one["name"]))
        if better is None:
            continue
        unit = one.get("unit")
        labels = ", ".join(f"{key}={value}" for key, value in sorted(one["labels"].items()))
        name = f"{one['check']} {one['name']}" + (f" ({labels})" if labels else "")
        sort = kind(one["name"], unit, better)
        found.append(_Judged(place, one["check"], name, unit if unit not in (None, "1") else "", sort, better))
    return found


def _read_columns(
    connection: sqlite3.Connection, columns: dict[str, _Column], places: Sequence[tuple[str, int, str]],
    figures: Sequence[_Judged], busy: Mapping[tuple[str, int], frozenset[str]],
) -> None:  # fmt: skip
    first = min(figure.place for figure in figures)
    last = max(figure.place for figure in figures)
    width = last - first + 1
    into = [(figure.place - first, columns.setdefault(figure.name, _Column(figure))) for figure in figures]
    for _, column in into:
        column.parts.append((len(column.values), places))
    for run, number, _ in places:
        (part,) = connection.execute(
            "SELECT substr(figure_values, ?, ?) FROM accelerator WHERE run = ? AND number = ?",
            (8 * first + 1, 8 * width, run, number),
        ).fetchone()
        values = array("d")
        values.frombytes(part)
        if len(values) < width:
            raise ValueError("an accelerator has fewer values than figures")
        disturbed = busy.get((run, number), frozenset())
        for offset, column in into:
            is_disturbed = column.figure.check in disturbed and column.figure.kind.is_speed
            column.values.append(math.nan if is_disturbed else values[offset])


def _judge_column(
    column: _Column, model: str, allowed: float, runs: Mapping[str, str], found: list[Oddity],
    distributions: list[Distribution],
) -> None:  # fmt: skip
    figure = column.figure
    judged = outliers.find_outliers(column.values, figure.kind, figure.better, allowed)
    if judged is None or not judged[1]:
        return
    peers, places = judged
    for place in places:
        run, id = column.where(place)
        value = column.values[place]
        found.append(
            Oddity(
                runs[run], id, figure.name, _figure_text(value, figure.unit),
                f"usually {_figure_text(peers.median, figure.unit)} ({peers.count} of {model or 'this kind'})",
                value / peers.median if peers.median else None,
            )
        )
    if figure.kind in (Kind.PERFORMANCE, Kind.SHARE):
        finite = tuple(sorted(value for value in column.values if not math.isnan(value)))
        distributions.append(
            Distribution(figure.name, model, figure.unit, finite, tuple(sorted(column.values[place] for place in places)))
        )


def _figure_text(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}".strip()


# ---------------------------------------------------------------------------------------------------- versions, settings


_Facts = dict[tuple[str, str], dict[str, set[str]]]


def _drift(connection: sqlite3.Connection, runs: Mapping[str, str]) -> tuple[list[Oddity], list[str]]:
    """Return hosts whose versions or settings few have, and those facts on which the fleet is divided."""
    found: list[Oddity] = []
    splits: list[str] = []
    for (where, name), by_value in sorted(_facts(connection, runs).items()):
        if len(by_value) > 1:
            _judge_fact(name if where == "host" else f"{where} {name}", by_value, found, splits)
    return found, splits


def _facts(connection: sqlite3.Connection, runs: Mapping[str, str]) -> _Facts:
    """Return the hosts by what they say of themselves and of each model of accelerator, and by its value."""
    values: _Facts = {}

    def note(where: str, name: str, value: object, host: str) -> None:
        text = "unknown" if value is None else str(value)
        values.setdefault((where, name), {}).setdefault(text, set()).add(host)

    for run, facts in connection.execute("SELECT digest, facts FROM run"):
        if run in runs:
            for name, value in json.loads(facts).items():
                note("host", name, value, runs[run])
    chips: dict[str, Counter[str]] = {}
    for run, stack, model, memory, facts in connection.execute(
        "SELECT run, stack, coalesce(model, stack), memory_bytes, facts FROM accelerator"
    ):
        if run in runs:
            chips.setdefault(runs[run], Counter())[model] += 1
            for name, value in (json.loads(facts) | {"memory_bytes": memory}).items():
                note(f"{model} ({stack})", name, value, runs[run])
    for host, counted in chips.items():
        for model, count in counted.items():
            note(f"{model}:", "number of accelerators", count, host)
    return values


def _judge_fact(label: str, by_value: Mapping[str, set[str]], found: list[Oddity], splits: list[str]) -> None:
    total = len(set().union(*by_value.values()))
    usual, holders = max(by_value.items(), key=lambda entry: (len(entry[1]), entry[0]))
    if len(holders) <= _MAJORITY * total:
        listed = sorted(by_value.items(), key=lambda entry: (-len(entry[1]), entry[0]))[:4]
        more = f", {len(by_value) - 4} more" if len(by_value) > 4 else ""
        splits.append(f"{label}: " + ", ".join(f"{value} on {len(hosts)}" for value, hosts in listed) + more)
        return
    for value, hosts in sorted(by_value.items()):
        if value == usual:
            continue
        if len(hosts) <= max(1, _FEW * total):
            usually = f"{usual} on {len(holders)} of {total} hosts"
            found += [Oddity(host, "", label, value, usually) for host in sorted(hosts)]
        else:
            splits.append(f"{label}: {usual} on {len(holders)}, {value} on {len(hosts)}")


def _uniform_groups(connection: sqlite3.Connection, hosts: Sequence[Host]) -> Iterator[UniformGroup]:
    """Return groups of hosts that are ready for every use and have the same accelerators and versions, largest first."""
    groups: dict[str, list[str]] = {}
    for host in hosts:
        if host.run is None or host.worst is not Decision.READY:
            continue
        versions: set[str] = set()
        for (facts,) in connection.execute("SELECT facts FROM accelerator WHERE run = ?", (host.run,)):
            named = sorted(json.loads(facts).items())
            versions.add(", ".join(f"{name} {value}" for name, value in named if not name.startswith("environment")))
        groups.setdefault("; ".join([host.device, *sorted(versions)]), []).append(host.name)
    for what, names in sorted(groups.items(), key=lambda entry: (-len(entry[1]), entry[0])):
        yield UniformGroup(what, tuple(sorted(names)))
