"""The documentation says what is so: commands, profiles, codes and examples are held against the tool."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from readiness import check_registry
from readiness.engine import runner
from readiness.errors import Exit
from readiness.isolation.forkserver import LARGEST_MESSAGE_BYTES
from readiness.profile import loader, shipped
from readiness.rendering import formats
from tests.support import checks
from tests.support.command_line import readiness
from tests.support.pages import without_tools
from tests.support.paths import ROOT

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]
#: The most lines that a page may have which people read from its top to its end.
LONGEST = {"README.md": 150, "CONTRIBUTING.md": 100}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in this language; all are read in order, so that no end of one is taken for a beginning."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    return [text for which, text in found if which == language]


def block(page: str, language: str, containing: str) -> str:
    """The fenced block of the page that contains this text."""
    found = [text for text in blocks(ROOT / page, language) if containing in text]
    assert len(found) == 1, found
    return found[0]


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> list[tuple[str, str]]:
    """Every line of an unnamed or shell block that begins with `readiness`, with the page; and those of deploy/."""
    of_pages = [
        (page.name, line)
        for page in PAGES
        for language in ("", "sh", "bash", "console")
        for text in blocks(page, language)
        for line in text.splitlines()
        if line.startswith("readiness ")
    ]
    files = [file for file in (ROOT / "deploy").rglob("*") if file.is_file()]
    in_lists = [
        (file.name, shlex.join(json.loads(text)))
        for file in files for text in re.findall(r'command: (\["readiness".*\])', text_of(file))
    ]  # fmt: skip
    in_scripts = [
        (file.name, text) for file in files for text in re.findall(r"(?:^ *|\$\()(readiness [^|>\n]*)", text_of(file), re.MULTILINE)
    ]
    assert in_lists
    assert len(in_scripts) > 3
    return of_pages + in_lists + in_scripts


def test_ci_calls_the_readmes_test_command_to_the_letter() -> None:
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("not a checkout: the script of CI is not shipped")
    command = block("README.md", "", "pytest").strip()
    assert command.replace("pip install", "pip install --quiet") in script.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize(("name", "most"), LONGEST.items())
def test_a_page_for_newcomers_stays_short(name: str, most: int) -> None:
    assert len(text_of(ROOT / name).splitlines()) <= most


def test_every_page_is_linked_from_the_readme() -> None:
    assert {page.name for page in DOCS} <= set(re.findall(r"\]\(docs/([a-z-]+\.md)", text_of(README)))


def files_to_write(page: str) -> dict[str, str]:
    """The files that a page asks its readers to write, by name."""
    return dict(re.findall(r"Put this into `([^`]+)`[^\n]*\n\n```\w+\n(.*?)^```", text_of(ROOT / page), re.DOTALL | re.MULTILINE))


@pytest.mark.timeout(1200)
def test_who_follows_the_pages_has_a_check_and_a_profile_that_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is written and every command typed as the pages say; only the run of all that `general` asks is left out."""
    monkeypatch.chdir(tmp_path)
    files = files_to_write("docs/usage.md") | files_to_write("docs/profiles.md")
    assert {name: len(text.splitlines()) <= most for (name, text), most in zip(files.items(), (30, 15), strict=True)} == {
        "mychecks/driver/pattern.py": True, "ours.toml": True,
    }  # fmt: skip
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    typed = [line for page, line in commands() if page in ("usage.md", "profiles.md") and "mychecks" in line]
    assert len(typed) == 5
    for line in typed:
        words = shlex.split(line)[1:]
        if words[0] == "run" and "-k" not in words:
            continue
        result = readiness(*words, *(["-f", "json=a.json"] if words[0] == "run" else []), state=tmp_path)
        assert result.returncode == (Exit.UNDETERMINED if words[0] == "run" else Exit.READY), (line, result.stderr)
        assert "driver.pattern" in result.stdout or words[0] == "run", line
    (item,) = json.loads(Path("a.json").read_text())["accelerators"]
    findings = [finding for finding in item["findings"] if finding["requirement"] == "pattern-comes-back"]
    assert [finding["outcome"] for finding in findings] == ["pass", "pass"]
    assert {finding["title"] for finding in findings} == {"Numbers come back from the device as they went (wrong elements, dtype=float32)"}
    assert {finding["why"] for finding in findings} == {"A number that comes back otherwise is a wrong weight."}
    (evidence,) = [one for one in item["evidence"] if one["check"] == "driver.pattern"]
    assert (evidence["rows"], evidence["settings"]) == ([{"numbers": 4096, "wrong": 0}], {"numbers": 4096})


def test_waivers_and_chips_of_the_pages_are_read(tmp_path: Path) -> None:
    from readiness.documents import waivers
    from readiness.simulator import machine_file
    from readiness.simulator.faults import kinds

    file = tmp_path / "file.toml"
    file.write_text(block("docs/usage.md", "toml", "readiness.waivers/1"))
    assert len(waivers.load(file, loader.load("general", checks()))) == 1
    file.write_text(block("docs/simulator.md", "toml", "readiness.chip/1"))
    assert machine_file.load(file, kinds()).chips == 4


def test_the_kind_of_defect_of_contributing_works(tmp_path: Path) -> None:
    """In a process of its own: it joins the kinds."""
    (tmp_path / "zero_tail.py").write_text(block("CONTRIBUTING.md", "python", "zero-tail"))
    code = (
        "import torch, zero_tail; from readiness.simulator.faults import kinds\n"
        "class One:\n  severity = kinds()['zero-tail'].severity\n  whole = torch.ones(100)\n"
        "  def floats(self): return [self.whole]\n"
        "kinds()['zero-tail'].act(One()); print(int(One.whole.sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["90"]


def test_settings_on_the_page_of_checks_are_what_profiles_take(tmp_path: Path) -> None:
    shown: dict[str, Any] = {}
    for text in blocks(ROOT / "docs" / "checks.md", "toml"):
        shown |= tomllib.loads(text)["settings"]
    as_lists = {id: json.loads(json.dumps(check.settings)) for id, check in checks().items() if check.settings}
    assert shown == as_lists
    text = "\n".join(blocks(ROOT / "docs" / "checks.md", "toml")).replace('workload = ""', "")  # none: the file must be there
    head = 'schema = "readiness.profile/1"\nname = "all"\ntitle = "All"\nextends = ["deepseek-v3"]\n'
    (tmp_path / "all.toml").write_text(head + text)
    assert loader.load(str(tmp_path / "all.toml"), checks()).settings["parity.matmul"] == as_lists["parity.matmul"]


def test_the_readme_names_every_profile_and_family_and_no_other() -> None:
    named = set(re.findall(r"^\| `([a-z0-9-]+)`(?: \(default\))? \|", text_of(README), re.MULTILINE))
    families = {check.family for check in checks().values()}
    assert named == set(shipped.names()) | families


@pytest.mark.parametrize("page", ["README.md", "docs/verdicts.md"])
def test_the_exit_codes_are_all_named(page: str) -> None:
    text = text_of(ROOT / page)
    named = re.findall(r"^\| `[A-Z ]+` \| (\d+) \||^\| (\d+) \||\b(\d+): (?:a mistake|an internal fault|interrupted)", text, re.MULTILINE)
    assert {int(number) for numbers in named for number in numbers if number} == set(Exit)


def test_the_commands_of_the_pages_parse() -> None:
    from typer.main import get_command

    from readiness.cli import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    of_all = {"--help", "--install-completion", "--version"}
    assert len(commands()) > 20
    for page, line in commands():
        words = shlex.split(re.split(r"\s{2,}|\s#", line)[0])
        if words[1].startswith("-"):
            assert words[1] in of_all, (page, line)
            continue
        command = known[words[1]]
        if hasattr(command, "commands"):
            command = command.commands[words[2]]
        options = {option for parameter in command.params for option in parameter.opts} | of_all
        own = words[2 : words.index("--")] if "--" in words else words[2:]
        for word in own:
            if word.startswith("-"):
                assert word.partition("=")[0] in options, (page, line)
    for text in ("json=a.json", "junit=a.xml", "markdown=-"):
        assert formats.parse_request(text)


def test_the_readme_names_every_command() -> None:
    """Or the page on usage, which it links first."""
    from typer.main import get_command

    from readiness.cli import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert known <= {line.split()[1] for page, line in commands() if page in ("README.md", "usage.md")}


def test_the_map_of_the_code_names_what_is_there() -> None:
    """Every package and every module that the picture of the house names."""
    house = blocks(ROOT / "docs" / "architecture.md", "")[0]
    shown = re.findall(r"^  ([a-z_]+)/\s+(.*)$", house, re.MULTILINE)
    packages = {folder.name for folder in (ROOT / "readiness").iterdir() if (folder / "__init__.py").exists()}
    assert {name for name, _ in shown} == packages
    for name, text in shown:
        files = {file.stem for file in (ROOT / "readiness" / name).rglob("*.py")}
        named = set(re.findall(r"\b[a-z]+_[a-z_]+\b", text)) - {folder.name for folder in (ROOT / "readiness" / name).rglob("*")}
        assert named <= files, name
    text = text_of(ROOT / "docs" / "architecture.md")
    for module in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text):
        assert any((ROOT / top / module).exists() for top in ("", "readiness", "checks")), module


def test_every_check_has_a_reason_and_fits_its_message() -> None:
    """A check's documentation is its docstring; a profile's settings must reach its worker."""
    for check in checks().values():
        first, _, rest = check.documentation.partition("\n")
        assert first.endswith("."), check.id
        assert re.match(r"[A-Z][a-z]+s\b", first), f"{check.id}: say what it does: `Compares ...`"
        assert len(check.documentation.splitlines()) <= 18, f"{check.id}: what measures mean stands in measures="
        assert len(rest) > 100, check.id
        assert len(check.title) <= 100, check.id
        assert len(str(check.settings)) < LARGEST_MESSAGE_BYTES // 4


def test_the_engines_files_stay_readable() -> None:
    """A file of more than 700 lines is probably two things."""
    long = {
        str(file.relative_to(ROOT)): count
        for folder in ("readiness", "checks", "reports")
        for file in (ROOT / folder).rglob("*.py")
        if (count := len(file.read_text(encoding="utf-8").splitlines())) > 700
    }
    assert long == {}


def test_the_modules_that_the_command_line_needs_know_no_family() -> None:
    assert not {name for name in vars(runner) if name in ("catalogue", "ranks", "parity", "driver")}
    assert check_registry.discover().keys() == checks().keys()


def test_the_example_of_a_comparison_is_small_and_names_nobody() -> None:
    page = (ROOT / "docs" / "examples" / "comparison.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 1_000_000
    assert (ROOT / "docs" / "examples" / "comparison.png").stat().st_size < 200_000
    without_tools(page)  # it is of this version's templates
    for use, machines in (("To train", "h20-as-reported"), ("To serve", "h20-as-reported or ascend-as-reported")):
        assert f"<h2>{use}</h2>\n<p class=\"answer\">{machines}</p>" in page
    assert not re.search(r"/(?:tmp|home|root|work)/|-generic|-amd64|hostname", page)
