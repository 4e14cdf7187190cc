"""Matrix entries, groups, `keep` and levels by the number of chips: an author writes less, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from readiness.datamodel import AcceleratorFacts, Level, Profile
from readiness.errors import BadFileError
from readiness.judging.judge import judge
from readiness.profile import loader
from tests.support import checks

HEAD = 'schema = "readiness.profile/1"\nname = "ours"\ntitle = "Ours"\n'
PLAIN = """
[[require]]
id = "products-float32"
check = "parity.matmul"
measure = "relative_error"
where = { dtype = "float32", op = "matmul" }
at_most = 1e-5
level = "should"
weight = 2
why = "A float32 product."
[[require]]
id = "products-bfloat16"
check = "parity.matmul"
measure = "relative_error"
where = { dtype = "bfloat16", op = "matmul" }
at_most = 3e-3
zero = 1.0
level = "should"
why = "A bfloat16 product."
"""
MATRIX = """
[[group]]
check = "parity.matmul"
measure = "relative_error"
where = { op = "matmul" }
level = "should"
why."products-{dtype}" = "A {dtype} product."
require = [
  { id = "products-{dtype}", for = { dtype = { float32 = { at_most = 1e-5, weight = 2 }, bfloat16 = { at_most = 3e-3, zero = 1.0 } } } },
]
"""


SHARED = """
[[group]]
check = "parity.matmul"
measure = "relative_error"
where = { op = "matmul" }
level = "should"
for.dtype.float32 = { at_most = 1e-5, weight = 2 }
for.dtype.bfloat16 = { at_most = 3e-3, zero = 1.0 }
why."products-*" = "A {dtype} product."
require = [
  { id = "products-{dtype}" },
]
"""
TEXTS = """
[[group]]
check = "stability.load"
measure = "mismatches"
at_most = 0
for.dtype = ["float32", "bfloat16"]
why."load-*" = "Of all."
why."load-{phase}-{dtype}" = "Of the entry in {dtype}."
why.load-backward-bfloat16 = "Of one."
require = [
  { id = "load-{phase}-{dtype}", for.phase = ["forward", "backward"] },
  { id = "load-own-{dtype}", where = { phase = "forward" }, for.dtype = ["float16"], why = "Its own." },
  { id = "load-once", where = { phase = "backward" } },
]
"""


def load(tmp_path: Path, text: str, name: str = "ours.toml") -> Profile:
    (tmp_path / name).write_text(HEAD + text)
    return loader.load(str(tmp_path / name), checks())


def summary(one: Profile) -> list[tuple[object, ...]]:
    return [(r.id, r.check, r.measure, dict(r.where), r.limit, r.level, r.weight, r.why) for r in one.requirements]


def test_a_matrix_entry_is_the_plain_entries_that_it_stands_for(tmp_path: Path) -> None:
    plain, matrix = load(tmp_path, PLAIN), load(tmp_path, MATRIX)
    assert summary(plain) == summary(matrix)
    assert plain.sha256 == matrix.sha256


def test_what_a_group_is_for_holds_for_each_entry_that_names_the_label(tmp_path: Path) -> None:
    matrix, shared = load(tmp_path, MATRIX), load(tmp_path, SHARED)
    assert summary(matrix) == summary(shared)
    assert matrix.sha256 == shared.sha256
    found = {r.id: dict(r.where) for r in load(tmp_path, TEXTS).requirements}
    assert found == {
        **{f"load-{phase}-{dtype}": {"phase": phase, "dtype": dtype} for phase in ("forward", "backward") for dtype in ("float32", "bfloat16")},
        "load-own-float16": {"phase": "forward", "dtype": "float16"},  # its own values, not those of the group
        "load-once": {"phase": "backward"},
    }


def test_the_narrowest_text_of_a_group_holds(tmp_path: Path) -> None:
    assert {r.id: r.why for r in load(tmp_path, TEXTS).requirements} == {
        "load-forward-float32": "Of the entry in float32.",
        "load-forward-bfloat16": "Of the entry in bfloat16.",
        "load-backward-float32": "Of the entry in float32.",
        "load-backward-bfloat16": "Of one.",
        "load-own-float16": "Its own.",
        "load-once": "Of all.",
    }


def test_several_labels_are_multiplied_and_lists_have_no_terms_of_their_own(tmp_path: Path) -> None:
    found = load(tmp_path, """
[[require]]
id = "load-{phase}-{dtype}"
check = "stability.load"
measure = "mismatches"
at_most = 0
for.phase = ["forward", "backward"]
for.dtype = { float32 = {}, bfloat16 = { level = "info" } }
""")
    assert [r.id for r in found.requirements] == ["load-forward-float32", "load-forward-bfloat16", "load-backward-float32", "load-backward-bfloat16"]
    assert dict(found.requirements[3].where) == {"phase": "backward", "dtype": "bfloat16"}
    assert [r.level for r in found.requirements] == [Level.MUST, Level.INFO] * 2


def test_an_own_limit_replaces_that_of_the_entry_whole(tmp_path: Path) -> None:
    found = load(tmp_path, MATRIX.replace('level = "should"', 'level = "should"\nat_least = 1.0\nzero = 0.5'))
    assert str(found.requirements[0].limit) == "at_most 1e-05"
    assert found.requirements[0].limit.zero is None


def test_a_child_lays_over_one_of_them_by_its_id(tmp_path: Path) -> None:
    load(tmp_path, MATRIX, "base.toml")
    (tmp_path / "base.toml").write_text((tmp_path / "base.toml").read_text().replace('"ours"', '"base"'))
    found = load(tmp_path, 'extends = ["base"]\n[[require]]\nid = "products-float32"\nat_most = 1e-6\n')
    assert [str(r.limit) for r in found.requirements] == ["at_most 1e-06", "at_most 0.003"]


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        (MATRIX.replace("products-{dtype}", "products"), "does not contain {dtype}", 12),
        (MATRIX.replace('why."products-', 'why."product-'), "the group has no requirement 'product-{dtype}'", 10),
        (MATRIX.replace('why."products-{dtype}"', 'why."product-*"'), r"the group has no requirement 'product-\*'", 10),
        (SHARED.replace('at_most = 3e-3, zero = 1.0 }', 'at_most = 3e-3, zero = 1.0 }\nfor.mode = ["default"]'), "for: no id of the group contains {mode}", 12),
        (TEXTS.replace('why."load-{phase}-{dtype}"', 'why."*-once"'), r"why: both 'load-\*' and '\*-once' fit the requirement 'load-once'", 16),
        (TEXTS.replace('["float32", "bfloat16"]\n', '["float32", 16]\n'), "for", 9),
        (MATRIX.replace("float32 = {", "'FLOAT 32' = {"), "is not an id", 12),
        (PLAIN.replace("products-float32", "products-{dtype}"), "is not an id", 5),
        (MATRIX + MATRIX, "two requirements have the id", 22),
        (MATRIX.replace("at_most = 1e-5", "at_mots = 1e-5"), "at_mots", 12),
        (MATRIX.replace('level = "should"', 'level = "shuold"'), "shuold", 9),
    ],
)  # fmt: skip
def test_mistakes_have_their_line(tmp_path: Path, text: str, what: str, line: int) -> None:
    with pytest.raises(BadFileError, match=what) as raised:
        load(tmp_path, text)
    assert raised.value.place == f"{tmp_path / 'ours.toml'}:{line}"


def test_keep_names_the_inherited_requirements_that_stay(tmp_path: Path) -> None:
    load(tmp_path, MATRIX + PLAIN.replace("products-", "others-"), "base.toml")
    (tmp_path / "base.toml").write_text((tmp_path / "base.toml").read_text().replace('"ours"', '"base"'))
    found = load(tmp_path, 'extends = ["base"]\nkeep = ["products-*"]\ndrop = ["*-bfloat16"]\n')
    assert [r.id for r in found.requirements] == ["products-float32"]
    assert len(load(tmp_path, 'extends = ["base"]\nkeep = ["parity.*"]\n').requirements) == 4
    with pytest.raises(BadFileError, match=r"keep\[1\].*'product'"):
        load(tmp_path, 'extends = ["base"]\nkeep = ["products-*", "product"]\n')


def test_the_level_follows_the_number_of_chips(tmp_path: Path) -> None:
    found = load(tmp_path, MATRIX.replace('level = "should"', 'level = "should"\nlevel_of_several = "must"'))
    facts = AcceleratorFacts("cpu:0", "cpu", 0, "cpu", None, None)
    for chips, level in ((1, Level.SHOULD), (2, Level.MUST)):
        findings = judge(found, facts, [], chips=chips).findings
        assert {finding.level for finding in findings} == {level}
    assert found.sha256 != load(tmp_path, MATRIX).sha256


def test_values_stand_in_for_names_in_what_is_extended(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(HEAD.replace('"ours"', '"base"') + """
[[require]]
id = "calls"
check = "operators.workload"
measure = "obstacles"
where = { workload = "{model}", other = "{unknown}" }
at_least = 1.0
why = "{model} calls them."
""")
    found = load(tmp_path, 'extends = ["base"]\nvalues = { model = "gpt2" }\n')
    assert dict(found.requirements[0].where) == {"workload": "gpt2", "other": "{unknown}"}
    assert found.requirements[0].why == "gpt2 calls them."


def test_values_stand_in_for_names_in_settings(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(HEAD.replace('"ours"', '"base"') + """
[settings."operators.workload"]
workload = "{model}"
[settings."operators.sweep"]
dtypes = ["{dtype}", "int64"]
rms_ratio = 3
""")
    found = load(tmp_path, 'extends = ["base"]\nvalues = { model = "qwen3-8b", dtype = "float16" }\n')
    assert found.settings == {
        "operators.workload": {"workload": "qwen3-8b"},
        "operators.sweep": {"dtypes": ["float16", "int64"], "rms_ratio": 3},
    }
    written = load(tmp_path, """
[settings."operators.workload"]
workload = "qwen3-8b"
[settings."operators.sweep"]
dtypes = ["float16", "int64"]
rms_ratio = 3
""")
    assert found.sha256 == written.sha256


def test_parents_that_disagree_on_a_value_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(HEAD.replace('"ours"', f'"{name}"') + f'values = {{ model = "{name}" }}\n')
    with pytest.raises(BadFileError, match="disagree on the value 'model'"):
        load(tmp_path, 'extends = ["one", "two"]\n')
    assert load(tmp_path, 'extends = ["one", "two"]\nvalues = { model = "two" }\n').requirements == ()
