"""The profile of a traced workload: it extends `general`, and demands more of the dtype in which the model computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from readiness.datamodel import Level, Profile, Use
from readiness.profile import loader
from readiness.tracing import profile_writer, workload_schema
from tests.support import checks
from tests.unit.tracing.test_workload_schema import COPY, MM, workload


def written(folder: Path, dtype: str) -> Profile:
    """The profile of a small workload in this dtype, written and read back."""
    traced = workload(MM, COPY, dtype=dtype)
    (folder / "test.json.gz").write_bytes(workload_schema.dumps(traced))
    file = folder / "test.toml"
    file.write_text(profile_writer.profile(traced, file="test.json.gz"), encoding="utf-8")
    return loader.load(str(file), checks())


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_of_general_nothing_becomes_harder_where_it_already_says_must(tmp_path: Path, dtype: str) -> None:
    general = {item.id: item for item in loader.load("general", checks()).requirements}
    own = {item.id: item for item in written(tmp_path, dtype).requirements}
    assert {id: (own[id].level, own[id].level_of_several) for id in general} == {
        id: (item.level, item.level_of_several) for id, item in general.items()
    }


def test_a_model_in_float16_makes_musts_of_what_general_wants_of_float16(tmp_path: Path) -> None:
    general = {item.id: item for item in loader.load("general", checks()).requirements}
    own = {item.id: item for item in written(tmp_path, "float16").requirements}
    raised = {id for id in general if own[id].level is not general[id].level}
    assert raised == {
        "operators-core-forward-float16", "operators-core-right-float16", "operators-core-survive-float16",
        "operators-core-backward-float16", "special-propagation-float16", "special-overflow-float16",
        "special-precision-float16",
    }  # fmt: skip
    assert {own[id].level for id in raised} == {Level.MUST}
    several = {id for id in general if own[id].level_of_several is not general[id].level_of_several}
    assert several == {"collectives-right-float16"}
    assert own["collectives-right-float16"].level_of_several is Level.MUST
    assert own["collectives-right-float16"].level is Level.SHOULD
    asked = own["special-subnormal-matmul-float16"]
    assert (asked.level, asked.where, asked.uses) == (Level.SHOULD, {"dtype": "float16", "kind": "subnormal matmul"}, (Use.TRAINING,))
    assert "special-subnormal-matmul-float16" not in {item.id for item in written(tmp_path, "bfloat16").requirements}
    for id in raised | several:
        assert own[id].limit == general[id].limit
        assert "computes in float16" in own[id].why


def test_every_should_that_is_written_says_what_a_month_is_without_it(tmp_path: Path) -> None:
    own = [item for item in written(tmp_path, "bfloat16").requirements if item.check == "operators.workload"]
    assert {item.level for item in own} == {Level.MUST, Level.SHOULD, Level.INFO}
    assert [item.id for item in own if item.level is Level.SHOULD and "month" not in item.why.lower()] == []
