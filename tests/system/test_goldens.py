"""What users see stays as it is, unless somebody changes it on purpose (`python -m tests.goldens` writes the files anew)."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests import goldens


@cache
def _texts() -> dict[str, str]:
    return goldens.texts()


@pytest.mark.parametrize("arguments", goldens.commands(), ids=" ".join)
def test_output_of_commands_is_as_kept(arguments: list[str]) -> None:
    assert _texts()[" ".join(arguments)] == goldens.file_of(arguments).read_text()


def test_nothing_is_kept_of_what_is_gone() -> None:
    kept = {file.name for file in (goldens.FOLDER / "texts").iterdir()}
    assert kept == {goldens.file_of(arguments).name for arguments in goldens.commands()}


def test_digests_of_profiles_are_as_kept() -> None:
    assert goldens.digests() == json.loads((goldens.FOLDER / "digests.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(1800)  # another process may be at the same machine: its work is waited for
@pytest.mark.parametrize("machine", goldens.MACHINES)
def test_simulated_machines_are_assessed_as_kept(machine: str, assessed: Callable[[str], Path]) -> None:
    golden = json.loads((goldens.FOLDER / "machines" / f"smoke-{machine}.json").read_text())
    found = goldens.outline(json.loads(assessed(machine).read_text()))
    assert not goldens.differences(golden, found)
    assert sum(value != goldens.MASKED for value in golden.values()) > len(golden) / 2
