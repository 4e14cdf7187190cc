"""The order in which several processes take the tests: nothing is lost, and each begins with long ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import LONGEST, dealt
from tests.support.paths import ROOT


@pytest.mark.parametrize("workers", [2, 3, 7])
@pytest.mark.parametrize("others", [0, 5, 400])
def test_every_test_is_dealt_once_and_long_ones_first(workers: int, others: int) -> None:
    long = [Path(f"long{number}") for number in range(5)]
    items: list[Any] = [SimpleNamespace(path=Path(f"other{number}"), number=number) for number in range(others)]
    items += [SimpleNamespace(path=path, number=number) for path in long for number in range(3)]
    found: list[Any] = dealt(items, long, workers)
    assert sorted(map(id, found)) == sorted(map(id, items))
    if others == 400:
        share = len(items) // workers
        assert [found[share * worker].path for worker in range(min(workers, 5))] == long[:workers]
        assert [found[share * worker].number for worker in range(min(workers, 5))] == [0] * min(workers, 5)


def test_the_long_files_are_there() -> None:
    assert [file for file in LONGEST if not (ROOT / "tests" / file).is_file()] == []
