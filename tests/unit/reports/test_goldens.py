"""Every report is as it was, and the same bytes each time; `python -m tests.goldens` writes them anew, for a change on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import goldens

KEPT = goldens.FOLDER / "reports"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return goldens.reports(tmp_path_factory.mktemp("goldens"))


@pytest.mark.parametrize("name", sorted(file.name for file in KEPT.iterdir()))
def test_a_report_is_as_kept(name: str, made: dict[str, str]) -> None:
    assert made[name] == (KEPT / name).read_text(encoding="utf-8")


def test_every_report_is_kept_and_has_the_same_bytes_in_two_runs(made: dict[str, str], tmp_path: Path) -> None:
    assert set(made) == {file.name for file in KEPT.iterdir()}
    assert goldens.reports(tmp_path) == made
