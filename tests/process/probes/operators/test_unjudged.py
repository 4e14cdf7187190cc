"""Operators that cannot be judged on the CPU are listed in docs/operators.md, and no others are."""

from __future__ import annotations

import re

from readiness.probes.operators import op_semantics
from tests.support import run_check
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("| entry | why |")[2].partition("\n\n")[0]
LISTED = set(re.findall(r"`([^`]+)`", TABLE))
#: Back-ends of attention that the CPU does not have.
UNCLAIMED = {"attention.cudnn", "attention.efficient"}


def test_the_page_on_operators_lists_them() -> None:
    assert op_semantics.UNJUDGEABLE.keys() | UNCLAIMED == LISTED


def test_they_are_what_the_sweep_cannot_judge() -> None:
    evidence = run_check("operators.sweep", only=tuple(sorted(LISTED | {"attention.flash"})), dtypes=("float32", "bfloat16"))
    rows = {(row["operator"], row["outcome"]) for row in evidence.rows if row.get("outcome", "summary") != "summary"}
    assert rows == {(name, "cannot be judged") for name in LISTED}
