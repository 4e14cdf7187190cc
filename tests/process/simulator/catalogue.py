"""The catalogue of real defects, each row planted in a simulated chip and looked for: `python -m tests.process.simulator.catalogue`.

A row is run like any device: `readiness run` on a chip file made of it, with only the checks that ought to see it, under
profile general. It is caught where a must or a should of these checks fails. The name `healthy` runs all those checks on
chips with nothing wrong: there nothing may be caught.

The sweep of all operators takes minutes, so a row names the operators that it can concern. Counts of wrong or crashed
operators are judged as they stand; for the shares, one operator is made to weigh what it weighs among all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from readiness import check_registry
from readiness.datamodel import Requirement
from readiness.probes.operators import op_semantics
from readiness.profile import loader
from tests.support.paths import RESOURCES, ROOT

TABLE = RESOURCES / "catalogue.toml"
#: Reported defects that slipped through once, of the same form.
REPORTED = RESOURCES / "missed_defects.toml"
#: Public reports that nobody had built for when they were first tried, of the same form.
PUBLIC = RESOURCES / "public_defects.toml"
HEALTHY = "healthy"
_SWEEP = "operators.sweep"
#: Operators of the database that are judged in float32 (forward, backward) and in bfloat16. Seen on a healthy chip.
_JUDGED = {
    ("forward_coverage", "float32"): 728, ("backward_coverage", "float32"): 541,
    ("forward_coverage", "bfloat16"): 598, ("backward_coverage", "bfloat16"): 457,
}  # fmt: skip
#: What makes the rows quicker without making the checks blind: a hang is a hang after a quarter of a minute.
_PATIENCE_S, _LOAD_S, _LONG_LOAD_S, _LIMIT_S = 15.0, 12.0, 40.0, 30.0
_GROUP_CHECKS = ("multichip.bandwidth", "multichip.collectives", "multichip.data_parallel", "multichip.integrity", "multichip.links")


@dataclass(frozen=True, slots=True)
class Row:
    """One defect of the catalogue; the fields are explained in catalogue.toml. `defects` are as in a chip file."""

    id: str
    vendor: str
    family: str
    summary: str
    source: str
    defects: tuple[Mapping[str, Any], ...] = ()
    chips: int = 1
    machine: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    note: str | None = None
    missed: str | None = None
    beyond: str | None = None
    condition: str = ""

    @property
    def kinds(self) -> str:
        """What is planted, in words."""
        return ", ".join(dict.fromkeys(defect["kind"] for defect in self.defects))

    @property
    def hangs(self) -> bool:
        """Whether it can make a check last until it is ended."""
        return any(defect["kind"] in ("hang", "straggler") for defect in self.defects)

    @property
    def takes_time(self) -> bool:
        """Whether it needs load for a while before it acts."""
        return any({"after_s", "temperature"} & defect.get("when", {}).keys() for defect in self.defects)

    def chip(self) -> str:
        """The chip file."""
        document = {
            "schema": "readiness.chip/1",
            "name": self.id,
            "title": self.summary,
            "source": self.source,
            "chips": self.chips,
            "memory_gib": 0.5 if "driver.memory" in self.checks else 4.0,  # that check fills it
            "software": {"driver": "1.0.0", "driver_library": "1.0.0"},
            **self.machine,
            "defect": list(self.defects),
        }
        return "".join(f"{key} = {as_toml(value)}\n" for key, value in document.items())

    def profile(self) -> str:
        """The profile: general, with checks made quicker and the sweep narrowed to the row's operators."""
        settings: dict[str, dict[str, Any]] = {name: {"patience_s": _PATIENCE_S} for name in _GROUP_CHECKS}
        settings["stability.load"] = {"seconds": _LONG_LOAD_S if self.takes_time else _LOAD_S}
        entries = []
        dropped: list[str] = []
        if self.operators:
            settings[_SWEEP] = {"only": list(self.operators), "catalogue": "all"}
            requirements = loader.load("general", check_registry.discover()).requirements
            if not op_semantics.CORE.issuperset(self.operators):  # what is asked of the core is not asked of others
                dropped = [item.id for item in requirements if item.where.get("catalogue") == "core"]
            entries = [self._narrowed(item) for item in requirements if item.check == _SWEEP and item.id not in dropped]
        if "parity.compiled" in self.checks:  # profiles of language models ask for it
            asked = {item.id: item for item in loader.load("deepseek-v3", check_registry.discover()).requirements}
            entries += [
                {"id": id, "check": asked[id].check, "measure": asked[id].measure, "at_most": asked[id].limit.bound}
                for id in ("compiled-losses", "compiled-weights")
            ]
        document = {
            "schema": "readiness.profile/1", "name": "catalogue", "title": "General, for one row of the catalogue",
            "extends": ["general"], "drop": dropped, "settings": settings, "require": entries,
        }  # fmt: skip
        return "".join(f"{key} = {as_toml(value)}\n" for key, value in document.items())

    def _narrowed(self, requirement: Requirement) -> dict[str, Any]:
        entry: dict[str, Any] = {"id": requirement.id, "where": {**requirement.where, "catalogue": "chosen"}}
        judged = _JUDGED.get((requirement.measure, requirement.where.get("dtype", "")))
        if judged is not None:
            # So many operators may be missing among all; as a share of the few that are swept, that is below zero.
            allowed = (1 - float(requirement.limit.bound)) * judged
            entry["at_least"] = 1 - allowed / len(self.operators)
            entry["zero"] = entry["at_least"] - 1
        return entry


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a row: the checks that caught it and the blocker's text, or why they could not tell."""

    row: Row
    caught_by: tuple[str, ...] = ()
    text: str = ""
    seconds: float = 0.0
    unable: str = ""

    @property
    def word(self) -> str:
        """In a word."""
        if self.row.beyond:
            return "beyond"
        return "caught" if self.caught_by else "unable to tell" if self.unable else "missed"

    def cells(self) -> list[str]:
        """Its line of the table."""
        text = self.row.beyond or self.text or self.unable or self.row.missed or ""
        outcome = f"caught by {', '.join(self.caught_by)}" if self.caught_by else self.word
        return [
            self.row.id, self.row.family, self.row.kinds, ", ".join(self.row.checks), outcome, f"{self.seconds:.0f}", text
        ]  # fmt: skip


def rows(table: Path = TABLE) -> list[Row]:
    """A table, in its order."""
    return [_row(entry) for entry in tomllib.loads(table.read_text(encoding="utf-8"))["row"]]


def reported() -> list[Row]:
    """Reported defects beside the catalogue's: those that slipped through, and those that nobody had built for."""
    return [*rows(REPORTED), *rows(PUBLIC)]


def unprecedented() -> list[str]:
    """Kinds of defects that no row of the catalogue has a precedent for."""
    found: list[str] = tomllib.loads(TABLE.read_text(encoding="utf-8"))["unprecedented"]
    return found


def healthy(among: Sequence[Row]) -> Row:
    """A machine with nothing wrong, and all that is asked of the others."""
    return Row(
        id=HEALTHY, vendor="", family="", summary="No defect", source="none", chips=2,
        checks=tuple(sorted({check for row in among for check in row.checks})),
        operators=tuple(sorted({name for row in among for name in row.operators})),
        defects=({"kind": "throttle", "when": {"after_s": 1e6}},),  # never: a load as long as the longest of the rows
    )  # fmt: skip


def _row(entry: Mapping[str, Any]) -> Row:
    values: dict[str, Any] = {}
    for key, value in entry.items():
        values[{"class": "family", "defect": "defects"}.get(key, key)] = tuple(value) if isinstance(value, list) else value
    return Row(**values)


def as_toml(value: Any) -> str:
    """A value as TOML, in one line."""
    match value:
        case bool():
            return str(value).lower()
        case Mapping():
            return f"{{ {', '.join(f'{json.dumps(key)} = {as_toml(item)}' for key, item in value.items())} }}"
        case list() | tuple():
            return f"[{', '.join(map(as_toml, value))}]"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def run(row: Row, seed: int) -> Result:
    """Run the checks of a row on its chip, in processes of their own."""
    if row.beyond:
        return Result(row)
    started = time.monotonic()
    told = _assess(row, seed)
    if isinstance(told, str):
        return Result(row, unable=told, seconds=time.monotonic() - started)
    caught = {check: texts for check in row.checks if (texts := _beside_sound(row, check, _failed(told, check), seed))}
    told_first = next((text for found in caught.values() for text in found.values()), "")
    return Result(row, tuple(caught), told_first, time.monotonic() - started, _ended_otherwise(told, row.checks))


def _assess(row: Row, seed: int) -> Mapping[str, Any] | str:
    """The assessment, or why there is none."""
    with tempfile.TemporaryDirectory(prefix="readiness-") as folder:
        chip, chosen, told = (Path(folder) / name for name in ("chip.toml", "profile.toml", "assessment.json"))
        chip.write_text(row.chip(), encoding="utf-8")
        chosen.write_text(row.profile(), encoding="utf-8")
        command = [
            sys.executable, "-m", "readiness", "run", "--device", f"sim:{chip}", "--profile", str(chosen), "-q",
            "-k", " or ".join(row.checks), "--seed", str(seed), "-f", f"json={told}",
            *(["--timeout", f"{_LIMIT_S:g}s"] if row.hangs else []),
        ]  # fmt: skip
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if told.is_file():
            found: Mapping[str, Any] = json.loads(told.read_text(encoding="utf-8"))
            return found
        return " ".join(ended.stderr.split())[-300:] or f"exit code {ended.returncode}"


def _failed(assessment: Mapping[str, Any], check: str) -> dict[str, str]:
    """The requirements on a check that fail, and what is told of each."""
    return {
        finding["requirement"]: f"{finding['requirement']} on {accelerator['id']}: {finding['reason'] or finding['value']}"
        for accelerator in reversed(assessment["accelerators"])
        for finding in accelerator["findings"]
        if finding["check"] == check and finding["outcome"] == "fail" and finding["level"] != "info"
    }


_sound: dict[tuple[str, int, tuple[str, ...], str], set[str]] = {}
_turn = Lock()


def _beside_sound(row: Row, check: str, failed: dict[str, str], seed: int) -> dict[str, str]:
    """Those that do not fail where nothing is wrong: the simulated chip computes as the host's CPU does."""
    if not failed or row.id == HEALTHY:
        return failed
    operators = row.operators if check == _SWEEP else ()
    key = check, row.chips, operators, as_toml(row.machine)
    with _turn:
        if key not in _sound:
            sound = replace(row, id=HEALTHY, checks=(check,), operators=operators, defects=())
            told = _assess(sound, seed)
            _sound[key] = set() if isinstance(told, str) else set(_failed(told, check))
    return {requirement: text for requirement, text in failed.items() if requirement not in _sound[key]}


def _ended_otherwise(assessment: Mapping[str, Any], checks: Sequence[str]) -> str:
    evidence = [item for accelerator in assessment["accelerators"] for item in accelerator["evidence"]]
    ended = [item for item in evidence if item["check"] in checks and item["status"] in ("error", "skipped")]
    return " ".join("; ".join(f"{item['check']}: {item.get('reason') or item['status']}" for item in ended).split())[:300]


def markdown(results: Sequence[Result]) -> Iterator[str]:
    """The table and its sums, line by line."""
    yield "| id | class | kinds | expected of | outcome | seconds | the blocker's text, or why not |"
    yield "|---|---|---|---|---|---:|---|"
    for result in results:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in result.cells()) + " |"
    words = ("caught", "missed", "unable to tell", "beyond")
    yield ""
    yield f"| class | {' | '.join(words)} |"
    yield "|---|" + "---:|" * len(words)
    families: dict[str, list[str]] = {}
    for result in results:
        families.setdefault(result.row.family, []).append(result.word)
    for family, found in [*sorted(families.items()), ("together", [result.word for result in results])]:
        yield f"| {family} | {' | '.join(str(found.count(word)) for word in words)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows that are named, or all, and print what became of them; 1 where one was missed for no known reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.process.simulator.catalogue", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help="rows, classes, or 'healthy'; all rows unless told")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="rows at once")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    table = [*rows(), *reported()]
    known = {row.id: [row] for row in [*table, healthy(table)]}
    for row in table:
        known.setdefault(row.family, []).append(row)
    if strange := [name for name in options.ids if name not in known]:
        parser.error(f"no row and no class is called {', '.join(strange)}")
    chosen = list({row.id: row for name in options.ids for row in known[name]}.values()) if options.ids else table
    with ThreadPoolExecutor(max(options.j, 1)) as pool:
        pending = [pool.submit(run, row, options.seed) for row in chosen]
        results = []
        for work in pending:
            results.append(work.result())
            print("\t".join(results[-1].cells()), file=sys.stderr, flush=True)
    print("\n".join(markdown(results)))
    surprises = [item for item in results if item.word in ("missed", "unable to tell") and not item.row.missed]
    return 1 if surprises or any(item.caught_by and item.row.id == HEALTHY for item in results) else 0


if __name__ == "__main__":
    sys.exit(main())
