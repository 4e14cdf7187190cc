"""What becomes of an assessment when somebody alters one place of it: `python -m tests.support.mutations FILE` tries all of them.

Every node of the document is deleted, and altered in each of a few ways; what `report` says of the result is counted. What
goes unnoticed and changes what is told of an accelerator is listed.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from readiness import __version__
from readiness.datamodel import Assessment
from readiness.documents import assessment
from readiness.errors import BadFileError

DELETED = object()
#: Nothing else says that a decision to live with a failure had once been taken.
NOT_DERIVABLE = "expired_waiver: deleted"
#: Other words of the same kind: an alteration that still fits the schema is the one to fear.
WORDS = (
    ("training", "inference"), ("must", "should", "info"), ("pass", "fail", "unknown", "not_applicable"),
    ("ready", "not ready", "undetermined"), ("measured", "skipped", "error", "timeout", "crashed"),
    ("at_least", "at_most", "between", "equals"),
)  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One place altered: the way to it, and what stands there now."""

    path: tuple[str | int, ...]
    value: Any

    def __str__(self) -> str:
        what = "deleted" if self.value is DELETED else json.dumps(self.value)[:60]
        return f"{'.'.join(map(str, self.path))}: {what}"


def mutations(document: Any, above: tuple[str | int, ...] = ()) -> Iterator[Mutation]:
    """Everything that is tried, in the order of the document."""
    steps = list(document) if isinstance(document, dict) else range(len(document))
    for step in steps:
        value, path = document[step], (*above, step)
        yield Mutation(path, DELETED)
        yield from (Mutation(path, other) for other in others(value))
        if isinstance(value, dict | list):
            yield from mutations(value, path)


def others(value: Any) -> Iterator[Any]:
    """Other values of the same kind."""
    match value:
        case bool():
            yield not value
        case int() | float():
            yield from (other for other in (0, -value, value * 2 + 1, value / 2, value + 0.1) if other != value)
        case str():
            yield from (word for words in WORDS if value in words for word in words if word != value)
            yield f"{value}x"
            yield ""
        case None:
            yield from (0.0, "x", True)
        case dict() if value:
            yield {}
        case list() if value:
            yield []
            yield value[:-1] or [*value, value[0]]
            yield value[1:] or value * 2
        case _:
            return


def applied(document: Any, mutation: Mutation) -> Any:
    """Alter the document itself; what takes it back again."""
    inner = document
    for step in mutation.path[:-1]:
        inner = inner[step]
    step = mutation.path[-1]
    before = list(inner) if isinstance(inner, list) else dict(inner)
    if mutation.value is DELETED:
        del inner[step]
    else:
        inner[step] = mutation.value

    def undo() -> None:
        inner.clear()
        inner.extend(before) if isinstance(inner, list) else inner.update(before)

    return undo


def rendered(saved: Assessment) -> str:
    """All that a report says of verdicts and of what they follow from, and with which exit code `judge` ends."""
    items = [
        (
            item.facts.id,
            [replace(finding, title="", why="", remedy=None, reason=None, waived=None, expired_waiver=None) for finding in item.findings],
            [(finding.waived is None, finding.expired_waiver is None) for finding in item.findings],
            sorted(item.verdicts.items()),
        )
        for item in saved.accelerators
    ]
    return repr((saved.uses, items, saved.profile_sha256))


@dataclass(frozen=True)
class Answer:
    """What becomes of one alteration: refused, told with a note, without consequence, or unnoticed."""

    mutation: Mutation
    word: str


def answers(document: Any) -> Iterator[Answer]:
    """What becomes of each alteration of a document, one at a time."""
    saved = assessment.from_json(document, "here")
    before, notes = rendered(saved), assessment.notes(saved, __version__)
    for mutation in list(mutations(document)):
        undo = applied(document, mutation)
        try:
            altered = assessment.from_json(document, "here")
            if assessment.notes(altered, __version__) != notes:
                word = "noted"
            else:
                word = "without consequence" if rendered(altered) == before else "unnoticed"
        except BadFileError:
            word = "refused"
        finally:
            undo()
        yield Answer(mutation, word)


def main(file: str) -> None:
    """Count them, and list what went unnoticed."""
    counts: Counter[str] = Counter()
    for answer in answers(json.loads(Path(file).read_text(encoding="utf-8"))):
        counts[answer.word] += 1
        if answer.word == "unnoticed":
            print(answer.mutation)
    print(dict(counts))


if __name__ == "__main__":
    main(sys.argv[1])
