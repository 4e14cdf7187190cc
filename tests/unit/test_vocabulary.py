"""Identifiers of the code use the field's words: no metaphor, and no verb that stands for many things."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Words that have no use in identifiers, with the words that stand in their place.
REPLACEMENTS = {
    "accusations": "false_alarms", "alike": "group_devices, same_...", "asked": "requested", "asker": "query",
    "asking": "matching, requested", "badness": "severity_key", "broom": "cleanup helper",
    "crew": "TaskSupervisor", "drilled": "rank_faults.monitor", "drilling": "rank_faults.parent",
    "driverless": "host_backed", "errand": "TaskQueue", "fares": "status", "heard": "received, recorded",
    "hears": "receives, records", "innocents": "unaffected devices", "mortal": "TaskProcess", "nursery": "forkserver",
    "ours": "shipped, own", "outpost": "remote agent", "plugged": "torch_plugin", "proofs": "soak_claims",
    "said": "recorded, text", "slate": "SharedPhase", "stray": "orphan", "strays": "orphans",
    "tallies": "counts", "tally": "counts, summary", "telling": "rendering", "theirs": "other, remote",
    "told": "reported, grouped, settings", "unlike": "delta_encode, distinct",
    "yardstick": "baseline", "yardsticks": "baselines",
}  # fmt: skip
#: Docstrings and comments.
PROSE = re.compile(r'"""[\s\S]*?"""|#.*')


def words(identifier: str) -> Iterator[str]:
    """Split at underscores and capitals."""
    for part in identifier.split("_"):
        yield from (word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", part))


def identifiers(source: str) -> Iterator[tuple[int, str]]:
    """Every name that the code binds or imports, with its line."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def given_up(source: str) -> list[str]:
    """Identifiers with a word that is not used, each with its line and the replacement."""
    code = PROSE.sub("", source).lower()
    if not any(word in code for word in REPLACEMENTS):
        return []  # most files: parsing them takes longer
    return [
        f"{line}: {name}: not {word!r}, but {REPLACEMENTS[word]}"
        for line, name in identifiers(source)
        for word in words(name)
        if word in REPLACEMENTS
    ]


@pytest.mark.parametrize("folder", ["readiness", "checks", "reports"])
def test_identifiers_use_the_fields_words(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = [f"{file.relative_to(ROOT)}:1: {file.stem}" for file in files if set(words(file.stem)) & REPLACEMENTS.keys()]
    found += [f"{file.relative_to(ROOT)}:{text}" for file in files for text in given_up(file.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("def told(): ...", 1), ("class _MortalChild: ...", 1), ("x = 1\nfor said in (): ...", 2), ("def f(*, asked): ...", 1),
        ("import readiness as telling", 1), ("self.tally = 0", 1), ("match 1:\n    case theirs: ...", 2),
        ("try: ...\nexcept ValueError as heard: ...", 2),
    ],
)  # fmt: skip
def test_every_kind_of_identifier_is_found(source: str, line: int) -> None:
    (text,) = given_up(source)
    assert text.startswith(f"{line}: ")


def test_texts_attributes_of_others_and_longer_words_are_none() -> None:
    assert given_up('"told"; x.told; courses = retold = hourly = thunder["said"]') == []
