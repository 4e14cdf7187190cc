"""None of the files from outside takes more time or memory than its size is worth."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command_server import command_server
from tests.support.paths import RESOURCES

#: What a command may take on a file of the largest size, in seconds of a processor and bytes of address space.
MOST_CPU_S, MOST_BYTES = 60, 5 * 2**30


MIB = 2**20 - 100


#: Texts of a mebibyte that took tomllib or the search for lines a minute and more, and what is said of them.
TOML: dict[str, tuple[Callable[[], str], str]] = {
    "one long line": (lambda: "a = 1" + " " * MIB, "was unexpected"),
    "many texts in a line": (lambda: "a = [" + '"",' * (MIB // 3) + "]", "was unexpected"),
    "key of many parts": (lambda: "a." * (MIB // 2) + "a = 1", "a key of more than 30 parts"),
    "key of many quoted parts": (lambda: '"a" . ' * (MIB // 6) + "a = 1", "a key of more than 30 parts"),
    "table of many parts": (lambda: "[" + "a." * (MIB // 2) + "a]", "a key of more than 30 parts"),
    "inline table of many parts": (lambda: "b = { " + "a." * (MIB // 2) + "a = 1 }", "a key of more than 30 parts"),
    "number of many digits": (lambda: "a = " + "9" * MIB, "a number of more than 250 digits"),
    "hexadecimal number": (lambda: "a = 0x" + "f" * MIB, "a number of more than 250 digits"),
    "float of many digits": (lambda: "a = 1." + "9" * MIB, "a number of more than 250 digits"),
    "open text": (lambda: 'a = "' + "\\" * MIB, "not TOML"),
    "open texts": (lambda: "a = " + '"""x' * (MIB // 4), "not TOML"),
    "brackets": (lambda: "a = " + "[" * MIB, "nested too deeply"),
    "tables": (lambda: "[[a]]\n" * (MIB // 6), "was unexpected"),
}


def in_bounds(code: str, *arguments: str) -> str:
    """What code in another process prints, which is killed where it takes more than a file of this size is worth."""
    bounded = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_CPU, ({MOST_CPU_S}, {MOST_CPU_S}))\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({MOST_BYTES}, {MOST_BYTES}))\n" + code
    )
    done = command_server(torch=False).run(bounded, arguments, os.environ, timeout_s=250)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


def test_no_text_of_toml_takes_minutes(tmp_path: Path) -> None:
    for name, (make, _) in TOML.items():
        (tmp_path / f"{name}.toml").write_text(make())
    messages = in_bounds(
        "import sys\n"
        "from pathlib import Path\n"
        "from readiness.documents import toml\n"
        "from readiness.errors import BadFileError\n"
        "for file in sys.argv[1:]:\n"
        "    try:\n"
        "        toml.read(Path(file), 'profile')\n"
        "    except BadFileError as problem:\n"
        "        print(problem.place.startswith(f'{file}:') or 'deeply' in problem.what, problem.what)\n",
        *(str(tmp_path / f"{name}.toml") for name in TOML),
    ).splitlines()
    assert len(messages) == len(TOML)
    for line, (name, (_, what)) in zip(messages, TOML.items(), strict=True):
        assert line.startswith("True "), (name, line)
        assert what in line, (name, line)


ASSESSMENTS: dict[str, tuple[Callable[[], str], str]] = {
    "a list of 1.2 MB": (lambda: "[" + "1," * 600_000 + "1]", "is not of type 'object'"),
    "numbers for accelerators": (lambda: '{"accelerators": [' + "1," * 600_000 + "1]}", "is a required property"),
    "228 MB of nothing": (lambda: "[" + "{}," * (228 * 10**6 // 3) + "{}]", "values; the maximum is 16,000,000"),
    "100 MB of one key": (lambda: "{" + '"a":1,' * (10**8 // 6) + '"a":1}', "values; the maximum is 16,000,000"),
    "5 MB of one key": (lambda: "{" + '"a":1,' * (5 * 10**6 // 6) + '"a":1}', "the key 'a' occurs twice"),
    "many keys": (lambda: "{" + ",".join(f'"{number}":1' for number in range(10**6)) + "}", "is a required property"),
    "a text of 200 MB": (lambda: '"' + "x" * 200 * 10**6 + '"', "is not of type 'object'"),
    "blanks": (lambda: " " * 250 * 2**20, "not JSON"),
    "brackets": (lambda: "[" * 10**7, "nested too deeply"),
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_file_of_json_takes_minutes_or_all_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for name, (make, what) in ASSESSMENTS.items():
        file.write_text(make())
        messages = in_bounds(
            "import sys\n"
            "from pathlib import Path\n"
            "from readiness.documents import assessment\n"
            "from readiness.errors import BadFileError\n"
            "try:\n"
            "    assessment.read(Path(sys.argv[1]))\n"
            "except BadFileError as problem:\n"
            "    print(problem.what)\n",
            str(file),
        )
        assert what in messages, (name, messages)
        assert len(messages) < 1000, name


MANY = 10_000


CHECK = "driver.autocast"


SUBSET = """
schema = "readiness.profile/1"
name = "subset"
title = "Of one check"
[[require]]
id = "autocast-right"
check = "driver.autocast"
measure = "autocast_errors"
at_most = 0
[[require]]
id = "autocast-near"
check = "driver.autocast"
measure = "relative_error"
at_most = 0.01
level = "should"
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_accelerators_are_judged_and_reported(tmp_path: Path) -> None:
    document = json.loads((RESOURCES / "assessments" / "early.json").read_text())
    (item,) = document["accelerators"]
    (piece,) = (entry for entry in item["evidence"] if entry["check"] == CHECK)
    findings = [entry for entry in item["findings"] if entry["check"] == CHECK]
    ready = {"verdict": "ready", "score": 100.0, "ceiling": 100.0, "blockers": [], "limits": [], "unknown": [], "waived": []}
    nothing = ready | {"verdict": "undetermined", "score": 0.0}
    document["accelerators"] = [
        item | {
            "id": f"cuda:{number}", "kind": "cuda", "index": number, "driven_by": "cuda", "findings": findings,
            "evidence": [piece | {"accelerators": [f"cuda:{number}"], "seconds": number / 1000}],
            "verdicts": {"training": ready, "inference": nothing},
        }
        for number in range(MANY)
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "subset.toml").write_text(SUBSET)
    code = "import sys; from readiness.__main__ import main; sys.argv = ['readiness', *sys.argv[1:]]; main()"
    messages = in_bounds(
        code, "judge", str(tmp_path / "a.json"), "-q", f"--profile={tmp_path / 'subset.toml'}", f"-fjson={tmp_path / 'b.json'}"
    )
    assert "READY 100..100" in messages
    messages = in_bounds(code, "report", str(tmp_path / "b.json"), *(f"-f{name}={tmp_path / name}" for name in FORMATS))
    assert "READY 100..100" in " ".join(messages.split())
    assert f"{MANY} accelerators" in messages or "cuda:0 to cuda:9999" in messages
    for name in FORMATS:
        assert (tmp_path / name).stat().st_size > 50


FORMATS = ("junit", "markdown", "line")
