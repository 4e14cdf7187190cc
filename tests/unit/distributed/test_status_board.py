"""The status board: how often a rank looks whether the others have arrived."""

from __future__ import annotations

import tempfile
import time

import pytest

from readiness.distributed.status_board import StatusBoard


def test_a_rank_that_waits_for_long_looks_seldom_and_is_never_late_beside_its_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now, naps = 100.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        naps.append((now - 100.0, seconds))
        now += seconds
        if now >= 110.0:
            other.exchange(1, 2.0)

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    with tempfile.TemporaryFile() as shared:
        one, other = StatusBoard(shared.fileno(), 2), StatusBoard(shared.fileno(), 2)
        assert one.exchange(0, 1.0) == (1.0, 2.0)
        one.close()
        other.close()
    assert naps[0] == (0.0, 0.0005)
    assert all(seconds <= max(0.0005, 0.02 * waited_s) for waited_s, seconds in naps)
    assert len(naps) < 3000, "of 20,000 at the first pace"
