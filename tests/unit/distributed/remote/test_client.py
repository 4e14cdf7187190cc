"""How often processes that carry boards between hosts look at them."""

from __future__ import annotations

import pytest

from readiness.distributed.remote.client import STATUS_EVERY_S, TICK_S, tick_s


def test_boards_are_looked_at_less_often_where_nothing_moves() -> None:
    waits = [tick_s(quiet_s) for quiet_s in (0.0, 0.01, 0.1, 0.2, 1.0, 3600.0)]
    assert waits[0] == waits[1] == TICK_S
    assert waits == sorted(waits)
    assert waits[-1] == waits[-2] < STATUS_EVERY_S / 10


@pytest.mark.parametrize("quiet_s", [0.1, 0.2, 1.0, 60.0])
def test_what_moves_again_is_seen_soon_beside_the_time_it_has_rested(quiet_s: float) -> None:
    assert tick_s(quiet_s) <= 0.02 * quiet_s
