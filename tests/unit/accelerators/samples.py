"""Where recorded outputs of vendors' tools lie: beside the checkout on some machines, never in it."""

from __future__ import annotations

import pytest

from tests.support.paths import ROOT

RECORDED = ROOT.parent / "shared/data/vendor_samples"

needs_recordings = pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded vendor samples are not on this machine")


def recorded(name: str) -> str:
    """A recorded sample without its first line, which names its source."""
    return (RECORDED / name).read_text(encoding="utf-8").partition("\n")[2]
