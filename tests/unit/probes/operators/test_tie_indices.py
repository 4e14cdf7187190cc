"""Places that an operator tells: of equal values any will do, and only of those."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readiness.probes.operators.edge_inputs import EdgeSample
from readiness.probes.operators.samples import Sample
from readiness.probes.operators.tie_indices import indices_equivalent

VALUES = torch.tensor([[2, 5, 5, 1], [3, 3, 0, 3]])


def alike(name: str, have: Any, expected: Any, *arguments: Any, **keywords: Any) -> bool:
    sample = Sample((VALUES, *arguments), keywords, EdgeSample())
    return indices_equivalent(name, sample, torch.tensor(have), torch.tensor(expected))


@pytest.mark.parametrize(
    ("name", "have", "expected", "arguments", "right"),
    [
        ("argmax", [2, 3], [1, 0], (1,), True),
        ("argmax", [0, 0], [1, 0], (1,), False),
        ("argmax", 2, 1, (), True),
        ("argmax", 0, 1, (), False),
        ("argmax", 99, 1, (), False),
        ("max.reduction_with_dim", [[2], [1]], [[1], [0]], (1, True), True),
        ("max.reduction_with_dim", [3, 1], [1, 0], (1,), False),
        ("sort", [[3, 0, 2, 1], [2, 3, 0, 1]], [[3, 0, 1, 2], [2, 0, 1, 3]], (), True),
        ("sort", [[3, 0, 1, 1], [2, 3, 0, 1]], [[3, 0, 1, 2], [2, 0, 1, 3]], (), False),
        ("sort", [[0, 3, 1, 2], [2, 3, 0, 1]], [[3, 0, 1, 2], [2, 0, 1, 3]], (), False),
        ("topk", [[2, 1], [3, 0]], [[1, 2], [0, 1]], (2,), True),
        ("topk", [[1, 1], [3, 0]], [[1, 2], [0, 1]], (2,), False),
        ("topk", [[0, 0], [0, 0]], [[1, 2], [0, 1]], (2,), False),
    ],
)
def test_what_is_pointed_at_must_be_what_it_should(name: str, have: Any, expected: Any, arguments: tuple[Any, ...], right: bool) -> None:
    assert alike(name, have, expected, *arguments) is right


def test_not_a_number_is_like_another() -> None:
    values = torch.tensor([torch.nan, 1.0, torch.nan])
    sample = Sample((values,), {}, EdgeSample())
    assert indices_equivalent("argmax", sample, torch.tensor(2), torch.tensor(0))
    assert not indices_equivalent("argmax", sample, torch.tensor(1), torch.tensor(0))


def test_operators_without_indices_are_equivalent() -> None:
    assert alike("nn.functional.max_pool1d", [[0]], [[1]])
