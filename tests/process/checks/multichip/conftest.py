from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import multichip as support
from tests.support.ranks import nothing_left
from tests.support.simulator import chip, inside


@pytest.fixture(scope="session")
def on_simulated_chips() -> support.Simulated:
    """Runs a check on a simulated machine; the prepared process that this takes is there before a test looks for any."""
    inside(chip(), lambda: None)
    return support.on_simulated_chips


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield
