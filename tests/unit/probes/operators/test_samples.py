"""Which samples and variants are tried: those whose result is defined."""

from __future__ import annotations

import torch

from readiness.probes.operators import opinfo, sample_variants, samples

ENTRIES = {entry.name: entry for entry in opinfo.load()}


def test_no_range_of_bins_is_made_around_a_single_value() -> None:
    """It would lie on the edge between two bins, where rounding chooses."""
    drawn = samples.draw(ENTRIES["histc"], torch.float32, seed=3, gradients=False)
    unbounded = [sample for sample in drawn if sample.keywords["min"] == sample.keywords["max"]]
    assert unbounded
    assert all(len(set(sample.tensors()[0].flatten().tolist())) > 1 for sample in unbounded)
    assert any(sample.tensors()[0].numel() == 1 for sample in drawn)  # within bounds that are given it has its place


def test_whole_numbers_are_not_replaced_by_fractions() -> None:
    for dtype, written in ((torch.float32, True), (torch.int64, False)):
        drawn = samples.draw(ENTRIES["mvlgamma.mvlgamma_p_1"], dtype, seed=3, gradients=False)
        labels = {sample.label for sample in sample_variants.further(ENTRIES["mvlgamma.mvlgamma_p_1"], dtype, drawn, drawn[0])}
        assert ("in place on a view" in labels) is written
    drawn = samples.draw(ENTRIES["add"], torch.int64, seed=3, gradients=False)
    assert "in place on a view" in {sample.label for sample in sample_variants.further(ENTRIES["add"], torch.int64, drawn, drawn[0])}
