"""Views of the same values: what lies where, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from readiness.probes.operators import layouts, opinfo, samples
from readiness.probes.operators.layouts import Layout
from readiness.probes.operators.op_call import CPU

DTYPES = [torch.float32, torch.bfloat16, torch.complex64, torch.int64, torch.uint8, torch.bool]


def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    return (torch.rand(shape, generator=generator) * 100 + 0.5).to(dtype)


@given(shape=st.lists(st.integers(0, 5), max_size=5).map(tuple), dtype=st.sampled_from(DTYPES))
def test_values_stay(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = drawn(shape, dtype)
    for layout in Layout:
        view = layouts.in_layout(layout, CPU)(tensor)
        assert view.dtype == dtype
        assert view.shape == tensor.shape
        assert torch.equal(view, tensor)
        assert view.data_ptr() != tensor.data_ptr() or not tensor.numel()


@given(shape=st.lists(st.integers(2, 5), min_size=1, max_size=4).map(tuple))
def test_every_stride_is_another(shape: tuple[int, ...]) -> None:
    tensor = drawn(shape, torch.float32)
    view = layouts.in_layout(Layout.STRIDED, CPU)(tensor)
    assert not view.is_contiguous()
    assert min(view.stride()) == 2
    assert list(view.stride()) == sorted(view.stride())
    memory = torch.as_strided(view, (2 * tensor.numel(),), (1,), 0)
    assert not torch.isin(memory[1::2], tensor).any()


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)])
def test_offset(shape: tuple[int, ...]) -> None:
    tensor = drawn(shape, torch.float32)
    view = layouts.in_layout(Layout.OFFSET, CPU)(tensor)
    assert view.storage_offset() == 1
    assert view.is_contiguous()
    assert not torch.equal(torch.as_strided(view, view.shape, view.stride(), 0), tensor)


def test_indices_stay_within_range() -> None:
    """What lies around an index is an index too: a kernel that reads it is wrong, and need not crash."""
    index = torch.tensor([[0, 4, 2], [1, 3, 0]])
    for layout in layouts.VIEWS:
        memory = layouts.in_layout(layout, CPU)(index).untyped_storage()
        values = torch.tensor([], dtype=torch.int64).set_(memory)
        assert 0 <= int(values.min()) <= int(values.max()) <= 4


def test_numbers_have_no_strides() -> None:
    number, row = (samples.Sample((torch.ones(shape),), {}, None) for shape in ((), (3,)))
    assert not layouts.layout_differs(Layout.STRIDED, number)
    assert layouts.layout_differs(Layout.OFFSET, number)
    assert layouts.layout_differs(Layout.STRIDED, row)
    assert not layouts.layout_differs(Layout.OFFSET, samples.Sample((2.0,), {}, None))


def test_gradients_are_computed_for_the_view() -> None:
    sample = samples.Sample((torch.ones(2, 3, requires_grad=True),), {}, None)
    (view,) = sample.converted(layouts.in_layout(Layout.STRIDED, CPU), CPU).tensors()
    assert view.is_leaf
    assert view.requires_grad
    assert not view.is_contiguous()


def test_what_belongs_on_the_host_stays_there() -> None:
    entry = next(entry for entry in opinfo.load() if entry.name == "tensor_split")
    meta = torch.device("meta")
    for sample in samples.draw(entry, torch.float32, seed=1, gradients=True):
        moved = sample.converted(lambda tensor: tensor.to(meta), meta)
        assert moved.arguments[0].device == meta
        assert not isinstance(moved.arguments[1], torch.Tensor) or moved.arguments[1].device == CPU
