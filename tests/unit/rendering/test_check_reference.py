"""What a measure means stands beside its check alone: `explain`, docs/checks.md and requirements take it from there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from readiness import Accelerator, Action, Better, Measure, Measurement, check
from readiness.check_registry import Check
from readiness.cli import explain
from readiness.datamodel import Remedy, Requirement
from readiness.profile import group_expansion, loader, shipped
from readiness.profile.default_prose import with_defaults
from readiness.rendering import check_reference
from tests.support import checks
from tests.support.paths import ROOT
from tests.unit.profile.test_loader import HEAD, write

DOCUMENT = ROOT / "docs" / "checks.md"
REQUIREMENT = '[[require]]\nid = "one"\ncheck = "own.topic"\nmeasure = "error"\nat_most = 1.0\n'


@check(
    "own.topic",
    title="Own things hold",
    measures={
        "error": Measure(
            "m|s", meaning="Worst a|b of *all* [x] in share_of_all.", better=Better.LOWER, title="Things are right in {dtype}",
            why="Why {dtype} matters.", remedy="Mend {dtype}.", action=Action.REPLACE,
        ),
        "share_of_all": Measure("1", meaning="A share.", why="Shares count.", remedy="See own.topic."),
        "plain": Measure("GB/s"),
    },
    typical_s=0.5,
    least={"count": 2},
    most={"count": 9},
)  # fmt: skip
def topic(
    accelerator: Accelerator, *, count: int = 3, names: tuple[str, ...] = ("a\nb", 'c"d'), share: float = 1.0, none: None = None
) -> Iterator[Measurement]:
    """Measures own things.

    As `count` says, <b>boldly</b>.
    """
    yield Measurement("error", 0.0)


CHECKLIST: dict[str, Check] = {topic.id: topic}


def test_the_document_is_generated_from_the_checks() -> None:
    made = check_reference.markdown(checks().values())
    stale = "docs/checks.md is stale: write it anew with `python -m readiness.rendering.check_reference > docs/checks.md`"
    assert DOCUMENT.read_text(encoding="utf-8") == made, stale


def test_the_document_has_all_of_a_check() -> None:
    made = check_reference.markdown([topic])
    assert "### own.topic\n\n**Own things hold.** Measures own things.\n\nAs `count` says, \\<b>boldly\\</b>.\n" in made
    assert "Runs on each accelerator; about 0.5 s; time limit 60 s, then three times that." in made
    assert '[settings."own.topic"]\ncount = 3  # at least 2, at most 9\nnames = ["a\\nb", "c\\"d"]\nshare = 1.0\n# none is not set\n' in made
    assert "| `error` | m\\|s | lower | Worst a\\|b of \\*all\\* \\[x\\] in `share_of_all`. |" in made
    assert "| `plain` | GB/s |  |  |" in made
    assert "- `error`: Why `dtype` matters. **What to do:** Mend `dtype`. (`replace`)\n" in made
    assert "- `share_of_all`: Shares count. **What to do:** See `own.topic`.\n" in made
    assert "[own.topic](#owntopic)" in made


def test_a_soak_has_no_usual_duration() -> None:
    lasting = replace(topic, lasting="count")
    assert "Runs on each accelerator; for as long as `run --soak` says." in check_reference.markdown([lasting])
    assert "| each accelerator | `--soak` |" in check_reference.markdown([lasting])
    assert "cost     for as long as `run --soak` says\n" in explain._check(lasting)


def test_explain_has_all_of_a_check() -> None:
    shown = " ".join(explain._check(topic).split())
    assert "error (m|s, better lower) Worst a|b of *all* [x] in share_of_all." in shown
    assert "why: Why {dtype} matters. remedy: Mend {dtype}. (replace)" in shown
    assert "plain (GB/s)" in shown
    assert 'count = 3 # at least 2, at most 9 names = ["a\\nb", "c\\"d"] share = 1.0 # none is not set' in shown
    for item in checks().values():
        shown = "".join(explain._check(item).split())  # lines break at blanks and at hyphens
        for measure in item.measures.values():
            for text in (measure.meaning, measure.why, measure.remedy):
                assert "".join(text.split()) in shown, (item.id, text)


def required(folder: Path, further: str) -> Requirement:
    (found,) = loader.load(write(folder, HEAD + REQUIREMENT + further), CHECKLIST).requirements
    return found


BFLOAT16 = 'where = { dtype = "bfloat16" }\n'


@pytest.mark.parametrize(
    ("further", "why", "remedy"),
    [
        (BFLOAT16, "Why bfloat16 matters.", Remedy("Mend bfloat16.", Action.REPLACE)),
        (f'{BFLOAT16}why = "Ours."\n', "Ours.", Remedy("Mend bfloat16.", Action.REPLACE)),
        (f'{BFLOAT16}remedy = "Ours."\n', "Why bfloat16 matters.", Remedy("Ours.", Action.NONE)),
        (f'{BFLOAT16}action = "retry"\n', "Why bfloat16 matters.", Remedy("Mend bfloat16.", Action.RETRY)),
        (f'{BFLOAT16}remedy = "Ours."\naction = "retry"\n', "Why bfloat16 matters.", Remedy("Ours.", Action.RETRY)),
        ("", "", None),  # the texts speak of a dtype, and the requirement of none
        ('action = "retry"\n', "", None),
    ],
)  # fmt: skip
def test_prose_that_a_profile_leaves_out_comes_from_the_measure(tmp_path: Path, further: str, why: str, remedy: Remedy | None) -> None:
    found = required(tmp_path, further)
    assert (found.why, found.remedy) == (why, remedy)
    assert found.title == ("Things are right in bfloat16" if further.startswith("where") else "Own things hold (error)")


def test_prose_of_the_measure_is_no_demand(tmp_path: Path) -> None:
    file = write(tmp_path, HEAD + REQUIREMENT + BFLOAT16)
    silent = replace(topic, measures={name: replace(one, why="", remedy="", title="") for name, one in topic.measures.items()})
    assert loader.load(file, CHECKLIST).sha256 == loader.load(file, {topic.id: silent}).sha256


@pytest.mark.parametrize("name", shipped.names())
def test_no_profile_repeats_the_prose_of_a_measure(name: str) -> None:
    merged = loader._gather(loader.file_of(name), {}, ())
    for id, entry in merged.entries.items():
        stated = loader._requirement(id, group_expansion.with_values(entry, merged.values), merged)
        default = with_defaults(replace(stated, title="", why="", remedy=None), checks())
        assert not stated.title or stated.title != default.title, (id, "title")
        assert not stated.why or stated.why != default.why, (id, "why")
        remedy = stated.remedy.text if stated.remedy else ""
        assert not remedy or default.remedy is None or remedy != default.remedy.text, (id, "remedy")


def test_every_measure_has_meaning_and_reason() -> None:
    for item in checks().values():
        for name, measure in item.measures.items():
            assert measure.meaning.endswith("."), (item.id, name)
            assert measure.why.endswith("."), (item.id, name)
            assert measure.better is None or measure.remedy.endswith("."), (item.id, name)
            assert bool(measure.remedy) or measure.action is Action.NONE, (item.id, name)
            assert not re.search(r"\b(told|heard|cries)\b", measure.meaning), (item.id, name)
