"""Words that a shell asks to complete: what there is, without torch and without a complaint."""

from __future__ import annotations

from pathlib import Path

import pytest

from readiness.errors import Exit
from tests.support.command_line import CODE, forked, readiness
from tests.support.engine import MISBEHAVING

#: Says on stderr whether torch was imported.
WITHOUT_TORCH = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); " + CODE
#: With time for the user's files on a busy host, too.
PATIENT = "from readiness.engine import check_declarations; check_declarations.COMPLETION_LIMIT_S = 100.0; " + WITHOUT_TORCH


def completed(state: Path, line: str, code: str = WITHOUT_TORCH, *, fresh: bool = True) -> list[str]:
    """What bash is told for the last word of a line; where it needs no `fresh` interpreter, by one that has no torch either."""
    words = line.split(" ")
    asked = {"_READINESS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    result = readiness(state=state, code=code, **asked) if fresh else forked(code, state=state, **asked)
    assert (result.returncode, result.stderr) == (Exit.READY, "False\n"), result
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("readiness run --profile q", ["qwen3-dense", "qwen3-moe"]),
        ("readiness judge -p deep", ["deepseek-v3"]),
        ("readiness explain a --profile sm", ["smoke"]),
        ("readiness rehearse -p gen", ["general"]),
        ("readiness run -f j", ["json", "junit"]),
        ("readiness judge a.json --format ju", ["junit"]),
        ("readiness report -f mark", ["markdown"]),
        ("readiness rehearse -f ta", ["table"]),
        ("readiness rehearse --chip narrow-s", ["narrow-sums"]),
        ("readiness run --device sim:narrow-s", ["sim:narrow-sums"]),
        ("readiness run -d c", ["cpu"]),
        ("readiness run -k parity.mat", ["parity.matmul"]),
        ("readiness rehearse -k driver.st", ["driver.stack", "driver.streams"]),
        ("readiness report --rows driver.sta", ["driver.stack"]),
        ("readiness explain parity.mat", ["parity.matmul"]),
        ("readiness explain gener", ["general"]),
        ("readiness explain stack-cons", ["stack-consistent"]),
        ("readiness run --profile nothing-like-it", []),
    ],
)
def test_what_there_is_is_offered(tmp_path: Path, line: str, found: list[str]) -> None:
    assert completed(tmp_path, line, fresh="--profile q" in line) == found


def test_checks_of_the_user_are_offered(tmp_path: Path) -> None:
    assert completed(tmp_path, f"readiness run --checks {MISBEHAVING} -k trouble.we", PATIENT) == ["trouble.well"]


@pytest.mark.parametrize("text", ["import os\nos._exit(0)", "while True:\n    pass", "print('noise')\nraise ValueError('noise')"])
def test_a_file_that_is_broken_costs_its_own_names_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "file.py").write_text(text)
    assert completed(tmp_path, f"readiness run --checks {tmp_path / 'checks'} -k parity.mat") == ["parity.matmul"]
    assert completed(tmp_path, "readiness run --checks /no/such/folder -k parity.mat") == ["parity.matmul"]
