"""Calls at several lengths laid side by side: lines, curves, and what cannot be laid so."""

from __future__ import annotations

import pytest

from readiness.tracing import symbolic_sizes
from readiness.tracing.call_recorder import distinct
from readiness.tracing.workload_schema import Call, Form, Phase, Spec

FORWARD = Phase.FORWARD


def heard(*calls: Call) -> list[tuple[Phase, Call]]:
    return [(FORWARD, call) for call in calls]


def mm(rows: int, width: int) -> Call:
    return Call("aten::mm", (Spec("float32", (rows, width)), Spec("float32", (width, 7))), ())


def test_a_size_that_grows_with_the_length_and_one_that_does_not() -> None:
    full = [(length, heard(mm(length + 1, 4096))) for length in (4096, 3072, 2048)]
    small = [(length, heard(mm(length + 1, 64))) for length in (64, 48, 32)]
    ((phase, call, raw),) = symbolic_sizes.align(full, small)
    assert (phase, raw) == (FORWARD, mm(4097, 4096))
    assert call.specs()[0].shape == (Form(1, 1, 1, 1), Form(0, 4096, 0, 64))
    assert call.specs()[1].shape == (Form(0, 4096, 0, 64), 7)


def test_a_curve_has_no_slope() -> None:
    full = [(length, heard(mm(length * length, 5))) for length in (4, 3, 2)]
    ((_, call, _),) = symbolic_sizes.align(full, [])
    assert call.specs()[0].shape == (Form(None, 16, None, 16), 5)


@pytest.mark.parametrize(
    ("other", "message"),
    [(heard(), "number of calls"), (heard(Call("aten::bmm", (), ())), "is recorded beside"),
     (heard(Call("aten::mm", (Spec("bfloat16", (2, 5)), Spec("float32", (5, 7))), ())), "differs in kind")],
)  # fmt: skip
def test_traces_that_cannot_be_aligned_are_reported(other: list[tuple[Phase, Call]], message: str) -> None:
    with pytest.raises(symbolic_sizes.AlignmentError, match=message):
        symbolic_sizes.align([(2, heard(mm(2, 5))), (1, other)], [])


def test_lists_keep_one_row_of_each_kind() -> None:
    first, second = Spec("float32", (3,)), Spec("float32", (4,))
    call = Call("aten::_foreach_add_.List", ((first, second, first), (first, second, first)), ())
    assert distinct(call).arguments == ((first, second), (first, second))
    scalars = Call("aten::_foreach_div_.ScalarList", ((first, first, second), (1.0, 1.0, 1.0)), ())
    assert distinct(scalars).arguments == ((first, second), (1.0, 1.0))
    assert distinct(mm(2, 3)) == mm(2, 3)
