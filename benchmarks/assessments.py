"""Cost of reading and judging a saved assessment, by its size, against parsing its JSON alone.

Run by hand: `python benchmarks/assessments.py [ACCELERATORS ...]`. Seconds of a processor, so that a busy host changes
little; the named alternatives are `json.loads` of the same text, and `jsonschema` in place of the compiled schema (for up
to a thousand accelerators). What each report costs is in `benchmarks/reports.py`.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jsonschema import Draft202012Validator

from readiness.datamodel import AcceleratorAssessment
from readiness.documents import assessment, consistency, files, schema
from readiness.judging.rejudge import rejudge
from tests.support import saved

SIZES = (1, 100, 1_000, 5_000)
T = TypeVar("T")


def made(folder: Path, count: int, *, distinct: bool = False) -> str:
    """The text of an assessment of so many accelerators, each with eighteen findings from three pieces of evidence."""
    one = saved.small(folder)
    item = one.accelerators[0]
    alone = tuple(replace(piece, accelerators=()) for piece in item.evidence if not piece.check.startswith("group."))
    items = tuple(
        replace(item, facts=replace(item.facts, id=f"sim:{number}", index=number), evidence=alone) for number in range(count)
    )
    if distinct:
        items = tuple(map(_distinct, items))
    demanded = saved.profile(folder)
    judged = rejudge(replace(one, accelerators=items, joined=()), demanded, saved.BOTH, basis=one.basis)
    return assessment.dumps(assessment.to_json(judged))


def _distinct(item: AcceleratorAssessment) -> AcceleratorAssessment:
    """Return the accelerator with a model, figures, reasons and details that no other has."""
    share = 1 + item.facts.index * 1e-6
    evidence = tuple(
        replace(piece, measurements=tuple(
            replace(one, value=one.value * share if isinstance(one.value, float) else one.value,
                    about=f"{one.about or 'an operator'} on chip {item.facts.index}")
            for one in piece.measurements
        ), rows=tuple({**row, "chip": item.facts.index} for row in piece.rows))
        for piece in item.evidence
    )  # fmt: skip
    return replace(item, facts=replace(item.facts, model=f"model {item.facts.index}"), evidence=evidence)


def main() -> None:
    """Time every step for every size and print a table."""
    print(f"{'accelerators':>12} {'MiB':>6}  {'step':28} {'s':>7} {'x json.loads':>13}")
    with tempfile.TemporaryDirectory() as folder:
        for count in map(int, sys.argv[1:] or SIZES):
            measure(Path(folder), count)
    print(f"memory at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")


def measure(folder: Path, count: int) -> None:
    """All steps for one size."""
    text = made(folder, count)
    floor = 0.0

    def step(name: str, function: Callable[[], T]) -> T:
        nonlocal floor
        begun = time.process_time()
        found = function()
        took = time.process_time() - begun
        floor = floor or took
        print(f"{count:12} {len(text) / 2**20:6.1f}  {name:28} {took:7.3f} {took / floor:13.1f}", flush=True)
        return found

    step("json.loads", lambda: json.loads(text))
    document: Any = step("read strictly", lambda: files.parse_json(text))
    step("compiled schema", lambda: schema.first_problem("assessment", document))
    if count <= 1_000:
        whole = Draft202012Validator(json.loads(schema.text("assessment")))
        step("jsonschema", lambda: next(whole.iter_errors(document), None))
    read = step("schema and values", lambda: assessment.parsed(document, "here"))
    step("derived again and compared", lambda: consistency.validate(read, "here"))
    demanded = saved.profile(folder)
    step("judged", lambda: rejudge(read, demanded, saved.BOTH, basis=read.basis))


if __name__ == "__main__":
    main()
