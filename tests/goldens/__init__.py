"""Goldens: what the command line prints and what simulated machines are assessed as, kept as files beside this one.

`python -m tests.goldens` writes them anew; `python -m tests.goldens --machines general` assesses the shipped simulated machines
under `general` (minutes each). What differs between two runs of one seed, as times do, is masked when they are made.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.command_server import command_server
from tests.support.paths import ROOT

FOLDER = Path(__file__).parent
MACHINES = ("healthy", "apprentice", "ascend-as-reported", "h20-as-reported", "h20-as-reported-together")
COMMANDS = (
    "run", "judge", "report", "compare", "diff", "baseline", "pack", "verify", "devices", "list", "explain", "fit", "rehearse",
    "schema", "trace",
)  # fmt: skip
SCHEMAS = ("assessment", "baseline", "difference", "comparison", "chip", "pack", "fit", "profile", "rehearsal", "rows", "waivers", "workload")
#: The seed chooses what is tried of each list, with this one a sort of short rows: the others take a second more on each chip.
SEED = 8
#: Four chips that are alike: two of them are asked what is asked of each chip alone, and all four what is asked of them together.
CHIPS, TOGETHER = {"h20-as-reported": 2}, "-together"
#: Errors below it are rounding.
_TINY = 1e-5

_PRINT = """
import contextlib, io, json, sys
from readiness.__main__ import main
texts = {}
for arguments in json.load(sys.stdin):
    sys.argv = ["readiness", *arguments]
    out, streams = io.StringIO(), (sys.stdout, sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main()
    sys.stdout, sys.stderr = streams
    texts[" ".join(arguments)] = out.getvalue()
json.dump(texts, sys.stdout)
"""


def checks_and_profiles() -> tuple[list[str], list[str]]:
    """The ids of the shipped checks and the names of the shipped profiles."""
    checks = sorted(
        ".".join(file.relative_to(ROOT / "checks").with_suffix("").parts) for file in (ROOT / "checks").glob("*/*.py")
    )
    return checks, sorted(file.stem for file in (ROOT / "profiles").glob("*.toml"))


def commands() -> list[list[str]]:
    """The command lines whose output is kept."""
    checks, profiles = checks_and_profiles()
    return [
        ["--help"],
        *([command, "--help"] for command in COMMANDS),
        ["list"],
        ["rehearse", "--kinds"],
        *(["schema", name] for name in SCHEMAS),
        *(["explain", name] for name in (*checks, *profiles)),
    ]


def file_of(arguments: list[str]) -> Path:
    """Where the output of a command line is kept."""
    return FOLDER / "texts" / f"{'-'.join(argument.strip('-') for argument in arguments)}.txt"


def texts() -> dict[str, str]:
    """What each command line prints now, by its arguments."""
    done = subprocess.run(
        [sys.executable, "-c", _PRINT],
        input=json.dumps(commands()), capture_output=True, text=True, check=True, cwd=ROOT, timeout=240,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"},
    )  # fmt: skip
    printed: dict[str, str] = json.loads(done.stdout)
    return {key: re.sub(r"(?m)^(declared ).*?/(checks/.*?):\d+$", r"\1\2", text) for key, text in printed.items()}


def page(folder: Path) -> str:
    """The HTML report of a small assessment in which every kind of finding occurs; its profile is written into the folder."""
    from readiness.documents import assessment
    from readiness.rendering import formats
    from tests.support import saved

    return formats.render("html", assessment.from_json(assessment.to_json(saved.small(folder)), "here"))


def reports(folder: Path) -> dict[str, str]:
    """Every report of assessments in which every situation occurs, by the name of its file; pages without style and script.

    A profile is written into the folder, which the reports do not tell.
    """
    from readiness.comparison import change_reports, machine_page, machine_reports, machine_workbook
    from readiness.comparison.changes import compare as changes_between
    from readiness.comparison.machines import compare
    from readiness.comparison.reference import of_run
    from readiness.documents.assessment import dumps
    from readiness.pack import build as pack
    from readiness.rendering import formats
    from tests.support import build, packs

    made = {f"{name}{one.suffix}": formats.render(name, build.everything()) for name, one in formats.formats().items()}
    made["table-of-simulated.txt"] = formats.render("table", build.simulated())
    machines = compare([("all", build.everything()), ("simulated", build.simulated()), ("serving", build.one_use())], {})
    made["compare.html"] = machine_page.render(machines, "1.0")
    made["compare.txt"] = machine_reports.table(machines, verbose=True)
    made["compare.md"] = machine_reports.markdown(machines, "1.0")
    made["compare.json"] = dumps(machine_reports.as_json(machines, "1.0"))
    made["compare-xlsx.txt"] = _cells(machine_workbook.render(machines, "1.0"))
    difference = changes_between(of_run(build.simulated(), {}, "before"), build.simulated(bad=1), {}, title="after")
    made["diff.txt"] = change_reports.table(difference, verbose=True)
    made["diff.md"] = change_reports.markdown(difference, "1.0")
    made["diff.json"] = dumps(change_reports.as_json(difference, "1.0"))
    files = pack.whole(packs.core(folder, with_workbook=True))
    for path in ("index.html", "statement.json", "test-result.json", "system.json", "bom.cdx.json", "waivers.json"):
        made[f"pack-{path}"] = files[path].decode()
    made["pack-xlsx.txt"] = _cells(files["requirements.xlsx"])
    return {
        name: _without_folder(_without_style(text) if name.endswith(".html") else text, folder)
        for name, text in made.items()
    }  # fmt: skip


def _without_folder(text: str, folder: Path) -> str:
    """The text without what follows from the sources, and from the folder of its profile: the path, digests and sizes."""
    text = re.sub(r"[0-9a-f]{64}|(?<=small-)[0-9a-f]{12}|(?<=source )[0-9a-f]{16}", "0", text.replace(str(folder), "FOLDER"))
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    return re.sub(r'(<td data-column="bytes" class="number">)[0-9,]+', r"\1SIZE", text)


def _without_style(page: str) -> str:
    return re.sub(r"(?s)(<(style|script)>).*?(</\2>)", r"\1\3", page)


def _cells(workbook: bytes) -> str:
    """The texts of a workbook, a line for each row, as another program reads them."""
    import openpyxl

    lines = []
    for sheet in openpyxl.load_workbook(io.BytesIO(workbook)):
        lines.append(f"== {sheet.title}")
        lines += [" | ".join("" if cell is None else str(cell) for cell in row) for row in sheet.values]
    return "\n".join(lines) + "\n"


def digests() -> dict[str, str]:
    """The digest of each shipped profile: of what it demands, whatever its prose says."""
    code = (
        "import json; from readiness import check_registry; from readiness.profile import loader, shipped\n"
        "print(json.dumps({name: loader.load(name, check_registry.shipped()).sha256 for name in shipped.names()}, indent=1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=240)
    return dict(json.loads(done.stdout))


def assess(machine: str, profile: str, file: Path) -> dict[str, Any]:
    """The assessment of a shipped simulated machine, whatever its verdict. Takes seconds under `smoke`, minutes under `general`."""
    arguments = ["run", "--device", f"sim:{_described(machine, file.parent)}", "--profile", profile, "--seed", str(SEED), "-f", f"json={file}"]
    arguments += ["-k", "multichip"] if machine.endswith(TOGETHER) else []
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(file.parent), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    server = command_server(torch=True)
    if server.can(arguments, environment):
        done = server.run("from readiness.__main__ import main; main()", arguments, environment, timeout_s=1800)
    else:
        done = subprocess.run(
            [sys.executable, "-m", "readiness", *arguments],
            capture_output=True, text=True, check=False, cwd=ROOT, timeout=1800, stdin=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
    assert done.returncode in (0, 1, 3), done.stderr
    return dict(json.loads(file.read_text()))


def _described(machine: str, folder: Path) -> str:
    """The machine's name, or a copy of its file with fewer chips."""
    if machine not in CHIPS:
        return machine.removesuffix(TOGETHER)
    text = (ROOT / "readiness/simulator/chips" / f"{machine}.toml").read_text()
    fewer = re.sub(r"(?m)^chips = \d+$", f"chips = {CHIPS[machine]}", text)
    assert fewer != text
    (folder / f"{machine}.toml").write_text(fewer)
    return str(folder / f"{machine}.toml")


def outline(assessment: Mapping[str, Any]) -> dict[str, Any]:
    """What an assessment says without times and machine: statuses, measurements, outcomes, verdicts. A flat map by place."""
    return dict(_outline(assessment))


def _outline(assessment: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for accelerator in assessment["accelerators"]:
        at = accelerator["id"]
        for evidence in accelerator["evidence"]:
            yield f"{at} {evidence['check']}", evidence["status"]
            for one in evidence["measurements"]:
                labels = " ".join(f"{key}={value}" for key, value in sorted(one["labels"].items()))
                yield f"{at} {evidence['check']} {one['name']} ({one['unit']}) {labels}", one["value"]
        for finding in accelerator["findings"]:
            yield f"{at} {finding['use']} {finding['requirement']} {finding['level']} {finding['limit']}", finding["outcome"]
        for use, verdict in accelerator["verdicts"].items():
            yield f"{at} {use}", verdict["verdict"]


MASKED = "masked"
#: What two runs agree on by chance: memory, bandwidth and time.
_UNSTEADY = re.compile(r"growth|gbps|_us\b|_s\b|pace|speed|share_of|latency|jitter|overlap|copies-carry")


def masked(one: Mapping[str, Any], other: Mapping[str, Any], kept: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The outline that two runs agree on; places in one of them alone are left out.

    A value that differs between them is masked, on all chips: a defect that acts by chance or by time could act on any.
    What is masked in the golden that is `kept` stays so: two runs may agree by chance.
    """
    unsteady = {_of_any_chip(place) for place, value in (kept or {}).items() if value == MASKED}
    unsteady |= {_of_any_chip(place) for place in one if place in other and one[place] != other[place]}
    return {
        place: MASKED if _of_any_chip(place) in unsteady or _UNSTEADY.search(place) else one[place]
        for place in one if place in other
    }  # fmt: skip


def _of_any_chip(place: str) -> str:
    return re.sub(r"^sim:\d+ ", "", place)


def differences(golden: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What an outline says otherwise than its golden, in words.

    Places that only the new one has are no difference, nor are rates that are gone: a busy host says nothing of them.
    """
    return [
        f"{place}: {found.get(place, 'is gone')} in place of {value}"
        for place, value in golden.items()
        if not (_agree(value, found[place]) if place in found else value == MASKED and _UNSTEADY.search(place))
    ]


def _agree(value: Any, found: Any) -> bool:
    """Fractions depend on the processor and its libraries: they agree within a factor of ten, or where both are tiny."""
    if value in (MASKED, found):
        return True
    if not isinstance(value, float) or not isinstance(found, int | float) or isinstance(found, bool):
        return False
    small, large = sorted((abs(value), abs(found)))
    return large < _TINY or (value * found > 0 and large <= 10 * small)
