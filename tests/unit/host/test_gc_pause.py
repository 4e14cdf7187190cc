"""Garbage is not collected while much is created that stays, and is again afterwards."""

from __future__ import annotations

import contextlib
import gc

from readiness.host.gc_pause import without_collection


def test_it_is_off_within_and_on_again_whatever_happens() -> None:
    assert gc.isenabled()
    with without_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    with contextlib.suppress(ImportError), without_collection():
        raise ImportError
    assert gc.isenabled()


def test_where_it_was_off_it_stays_off() -> None:
    gc.disable()
    try:
        with without_collection(), without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
