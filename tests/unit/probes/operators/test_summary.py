"""What a sweep says in figures, and which operators it names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from readiness.probes.operators import opinfo
from readiness.probes.operators.layouts import Layout
from readiness.probes.operators.outcomes import Outcome, Phase, SweepResult
from readiness.probes.operators.summary import KNOWN_DEFECT, SweepSummary, rows
from readiness.probes.operators.sweep import Swept

ENTRIES = {entry.name: entry for entry in opinfo.load()}


def swept(
    name: str, outcome: Outcome, phase: Phase = Phase.FORWARD, *, backward: bool = True, layout: Layout = Layout.CONTIGUOUS,
    raised: bool = False,
) -> Swept:
    return Swept(ENTRIES[name], "bfloat16", SweepResult(outcome, phase, "so it was", backward, layout, raised))


def summarised(*found: Swept) -> dict[str, tuple[float, str | None]]:
    counted = SweepSummary("sim:2")
    for one in found:
        counted.add(one)
    return {name: (value, about) for name, value, about in counted.measurements()}


def test_nothing_poor_is_about_nothing() -> None:
    found = summarised(swept("mm", Outcome.NATIVE), swept("sparse.mm.reduce", Outcome.UNJUDGED))
    assert {about for _, about in found.values()} == {None}
    assert found["forward_coverage"][0] == 1.0
    assert found["judged"][0] == 1
    assert found["unjudged"][0] == 1


def test_where_nothing_could_be_judged_nothing_is_counted_as_right() -> None:
    assert summarised(swept("sparse.mm.reduce", Outcome.UNJUDGED)) == {
        "judged": (0, None), "judged_backward": (0, None), "unjudged": (1, None)
    }  # fmt: skip
    assert summarised() == {"judged": (0, None), "judged_backward": (0, None), "unjudged": (0, None)}


@pytest.mark.parametrize(
    ("outcome", "name", "words"),
    [
        (Outcome.MISSING, "missing", "missing"),
        (Outcome.WRONG, "wrong", "wrong"),
        (Outcome.CRASHED, "crashed", "crashes"),
        (Outcome.HANG, "crashed", "hangs"),
        (Outcome.NONDETERMINISTIC, "nondeterministic", "nondeterministic"),
        (Outcome.FALLBACK, "fallbacks", "runs on the CPU"),
    ],
)
def test_each_outcome_has_its_figure_and_words(outcome: Outcome, name: str, words: str) -> None:
    found = summarised(swept("mm", outcome), swept("add", Outcome.DECOMPOSED))
    told = f"sim:2: mm in bfloat16: {words}"
    assert found[name] == (1, told)
    covered = outcome in (Outcome.NONDETERMINISTIC, Outcome.FALLBACK)
    for coverage in ("forward_coverage", "backward_coverage"):
        assert found[coverage] == ((1.0, None) if covered else (0.5, told))
    others = {about for other, (_, about) in found.items() if other != name and not other.endswith("_coverage")}
    assert others == {None}


def test_an_operator_that_is_there_and_raises_is_missing_and_counted_apart() -> None:
    found = summarised(swept("mm", Outcome.MISSING, raised=True), swept("add", Outcome.MISSING), swept("mul", Outcome.NATIVE))
    assert found["errors"] == (1, "sim:2: mm in bfloat16: fails")
    assert found["missing"] == (1, "sim:2: add in bfloat16: missing")
    assert found["forward_coverage"][0] == 1 / 3


def test_whose_kernels_ran_is_counted() -> None:
    found = summarised(swept("mm", Outcome.NATIVE), swept("add", Outcome.NATIVE), swept("mul", Outcome.DECOMPOSED))
    assert (found["native"], found["decomposed"], found["forward_coverage"]) == ((2, None), (1, None), (1.0, None))


def test_there_are_nine_outcomes() -> None:
    assert [outcome.value for outcome in Outcome] == [
        "native", "decomposed", "CPU fallback", "missing", "wrong", "nondeterministic", "crash", "hang", "cannot be judged",
    ]  # fmt: skip


def test_gradient_and_layout_are_named() -> None:
    found = summarised(
        swept("softmax", Outcome.WRONG, layout=Layout.STRIDED),
        swept("mm", Outcome.WRONG, Phase.BACKWARD, layout=Layout.OFFSET),
        swept("empty_like", Outcome.MISSING, backward=False),
    )
    assert found["wrong"][1] == (
        "sim:2: mm in bfloat16: wrong in its gradient on an input at an offset; "
        "softmax in bfloat16: wrong on a strided input"
    )
    assert found["forward_coverage"] == (
        1 / 3, "sim:2: softmax in bfloat16: wrong on a strided input; empty_like in bfloat16: missing"
    )  # fmt: skip
    assert found["backward_coverage"][0] == 0.0
    assert "empty_like" not in str(found["backward_coverage"][1])


def test_many_are_cut_and_counted() -> None:
    """What language models need comes first; the text stays one short line."""
    core = [name for name, entry in ENTRIES.items() if entry.core]
    chosen = list(dict.fromkeys([*sorted(ENTRIES)[:40], *core[:30]]))
    _, about = summarised(*[swept(name, Outcome.WRONG, Phase.BACKWARD, layout=Layout.OFFSET) for name in chosen])["wrong"]
    assert about is not None
    assert len(about) < 300
    assert "\n" not in about
    named = about.removeprefix("sim:2: ").split("; ")
    assert named[-1] == f"and {len(chosen) - len(named) + 1} more"
    assert all(ENTRIES[told.partition(" in ")[0]].core for told in named[:-1])


def test_row_names_the_layout() -> None:
    assert list(rows(swept("mm", Outcome.NATIVE))) == []
    [cells] = rows(swept("mm", Outcome.WRONG, layout=Layout.STRIDED))
    assert cells["detail"] == "on a strided input: so it was"


def test_a_known_defect_hides_no_other_row() -> None:
    result = replace(swept("mm", Outcome.NATIVE).result, refused_offset="so it was", known="as reported")
    found = [(cells["outcome"], cells["detail"]) for cells in rows(replace(swept("mm", Outcome.NATIVE), result=result))]
    assert found == [("native", "but so it was"), (KNOWN_DEFECT, "as reported")]
