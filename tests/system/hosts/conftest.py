from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.ranks import nothing_left
from tests.system.hosts import wire


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def laid() -> Iterator[wire.Wire]:
    """Two hosts with a good wire between them."""
    if (reason := wire.refusal()) is not None:
        pytest.skip(reason)
    with wire.hosts() as made:
        yield made
