from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.multichip import support
from tests.ranks.support import nothing_left
from tests.simulator.support import chip, inside


@pytest.fixture(scope="session")
def on_simulated_chips() -> support.Simulated:
    """Runs a check on a simulated machine; the prepared process that this takes is there before a test looks for any."""
    inside(chip(), lambda: None)
    return support.on_simulated_chips


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield
