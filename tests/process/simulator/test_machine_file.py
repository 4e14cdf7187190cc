"""Simulated chips: what their files may say, how they travel to a worker, and what becomes of hostile ones."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readiness.accelerators import sim, torch_build, version_rules
from readiness.datamodel import AcceleratorFacts
from readiness.documents import assessment, schema, toml
from readiness.errors import BadFileError, Exit, UsageError
from readiness.isolation import forkserver
from readiness.simulator import machine_file as chips
from readiness.simulator.machine_file import Chip, Condition, Defect
from tests.support.command_line import readiness

KINDS = (
    "counter", "hang", "ignore-argument", "low-precision", "management-library", "nan", "slow", "version", "wrong-gradient", "wrong-operator", "wrong-result",
)  # fmt: skip
HEAD = 'schema = "readiness.chip/1"\nname = "test"\ntitle = "A test"\n'
DEFECT = '[[defect]]\nkind = "nan"\n'
LIBRARY = '[[defect]]\nkind = "management-library"\n'
MANAGED = HEAD + 'management = "libdcmi"\n'
FULL = (
    HEAD
    + """\
description = \"\"\"
Two
lines.\"\"\"
source = "https://example.org/report"
chips = 4
memory_gib = 0.5
vendor = "Example & Sons <b>"
model = "A1 \\"prime\\""
software = { driver = "2.1.0", driver_library = "2.1.0" }

[counters]
uncorrected = 1
link_errors = 12

[[defect]]
kind = "low-precision"
op = "aten::_softmax*"
dtype = "bfloat16"
severity = 1e-2
name = "soft"
source = "somewhere"

[[defect]]
kind = "hang"
op = ["c10d::allreduce*", "c10d::broadcas[!_]?"]
dtype = ["float16", "float8_e4m3fn"]
set = { peer = 3, text = "x", deep = true, share = 0.25 }
[defect.when]
numel_over = 4096
numel_under = 1000000
noncontiguous = true
offset = false
empty = false
negative = true
ndim = [2, 3]
multiple_of = 128
remainder = 64
after_calls = 20
every = 7
probability = 1
chip = [0, 3]
rank = [0, 2]
group_under = 4
memory_format = "channels_last"
conjugate = false
expanded = true
dtype = ["int32"]
value_over = -2
value_under = 2.5
nan = true
infinite = false
deterministic = true
unseen = "shape"
of = "tensors"
temperature = 70
after_s = 30
backward = true

[[defect]]
kind = "version"
set = { driver_library = "2.0.9", firmware = false }
when = { chip = 1 }

[[defect]]
kind = "counter"
set = { link_errors = 5 }
when = { chip = [2] }
"""
)


def write(folder: Path, text: str | bytes, name: str = "test.toml") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def load(folder: Path, text: str) -> Chip:
    return chips.load(write(folder, text), KINDS)


def test_every_key_arrives(tmp_path: Path) -> None:
    chip = load(tmp_path, FULL)
    assert (chip.name, chip.title, chip.description) == ("test", "A test", "Two\nlines.")
    assert (chip.chips, chip.memory_gib, chip.memory_bytes) == (4, 0.5, 2**29)
    assert (chip.vendor, chip.model, chip.source) == ("Example & Sons <b>", 'A1 "prime"', "https://example.org/report")
    assert chip.software == {"driver": "2.1.0", "driver_library": "2.1.0"}
    assert chip.counters == {"uncorrected": 1, "link_errors": 12}
    assert len(chip.sha256) == 64
    assert chip.path == str(tmp_path / "test.toml")
    soft, hang, version, counter = chip.defects
    assert soft == Defect("low-precision", ("aten::_softmax*",), ("bfloat16",), severity=0.01, name="soft", source="somewhere")
    assert (hang.op, hang.dtype) == (("c10d::allreduce*", "c10d::broadcas[!_]?"), ("float16", "float8_e4m3fn"))
    assert hang.set == {"peer": 3, "text": "x", "deep": True, "share": 0.25}
    assert hang.when == Condition(
        numel_over=4096, numel_under=1_000_000, noncontiguous=True, offset=False, empty=False, negative=True, ndim=(2, 3),
        multiple_of=128, remainder=64, after_calls=20, every=7, probability=1.0, chip=(0, 3), rank=(0, 2), group_under=4, temperature=70.0,
        after_s=30.0, backward=True, memory_format="channels_last", conjugate=False, expanded=True, dtype=("int32",), value_over=-2.0,
        value_under=2.5, nan=True, infinite=False, deterministic=True, unseen="shape", of=("tensors",),
    )  # fmt: skip
    assert [hang.on_chip(number) for number in range(4)] == [True, False, False, True]
    assert version.when == Condition(chip=(1,))
    assert counter.when == Condition(chip=(2,))
    assert soft.on_chip(63)


def test_every_key_but_a_few_has_a_default(tmp_path: Path) -> None:
    chip = load(tmp_path, HEAD + DEFECT)
    expected = Chip("test", "A test", defects=(Defect("nan"),), sha256=chip.sha256, path=chip.path)
    assert chip == expected
    assert (chip.chips, chip.memory_gib) == (1, 4.0)
    assert chip.software == {"driver": "1.0.0", "runtime": "1.0.0"}
    assert chip.counters == {"uncorrected": 0, "corrected": 0, "link_errors": 0, "link_retries": 0}
    assert chip.defects[0].op == ("*",)
    assert chip.defects[0].when == Condition()


def test_whole_numbers_are_whole(tmp_path: Path) -> None:
    chip = load(tmp_path, HEAD + "chips = 2.0\n" + DEFECT + "when = { every = 4.0, ndim = 2.0, chip = [1.0], after_s = 1 }\n")
    when = chip.defects[0].when
    assert [type(value) for value in (chip.chips, when.every, when.ndim[0], when.chip[0])] == [int] * 4
    assert type(when.after_s) is float


def test_the_dataclasses_match_the_schema() -> None:
    """A condition that one of them forgot would be lost without a word."""
    document = json.loads(schema.text("chip"))
    assert set(document["$defs"]["when"]["properties"]) == {known.name for known in fields(Condition)}
    assert set(document["$defs"]["defect"]["properties"]) == {known.name for known in fields(Defect)}
    assert set(document["properties"]) - {"schema", "defect"} == {known.name for known in fields(Chip)} - {
        "defects", "sha256", "path",
    }  # fmt: skip


def test_the_schema_is_valid_and_refuses_unknown_keys_everywhere() -> None:
    from jsonschema import Draft202012Validator

    document = json.loads(schema.text("chip"))
    Draft202012Validator.check_schema(document)

    def objects(part: Any) -> Any:
        if isinstance(part, dict):
            if part.get("type") == "object":
                yield part
            for value in part.values():
                yield from objects(value)

    found = list(objects(document))
    assert len(found) == 7
    for part in found:
        assert part.get("additionalProperties") is False or ("propertyNames" in part and "maxProperties" in part)


def test_the_schema_knows_the_data_types_of_torch() -> None:
    import re

    import torch

    known = json.loads(schema.text("chip"))["$defs"]["dtype"]["enum"]
    of_torch = {str(value).removeprefix("torch.") for value in vars(torch).values() if isinstance(value, torch.dtype)}
    parts_of_bytes = {name for name in of_torch if re.fullmatch(r"q.*|bits.*|u?int[1-7]", name)}
    assert of_torch - parts_of_bytes <= set(known)


def through(facts: AcceleratorFacts) -> AcceleratorFacts:
    """The facts as a worker, a journal or a saved assessment gets them."""
    return assessment.facts_from_json(json.loads(json.dumps(assessment.facts_to_json(facts), allow_nan=False)))


def test_a_chip_travels_in_the_facts_unchanged(tmp_path: Path) -> None:
    chip = load(tmp_path, FULL)
    for facts in sim.facts(chip):
        assert through(facts) == facts
        assert Chip.from_json(through(facts).properties["chip"]) == chip
    assert repr(Chip.from_json(json.loads(json.dumps(chip.to_json())))) == repr(chip)


values = st.one_of(st.text(max_size=20), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
defects = st.builds(
    Defect,
    kind=st.sampled_from(KINDS),
    op=st.lists(st.sampled_from(["*", "aten::mm", "c10d::*"]), min_size=1).map(tuple),
    dtype=st.lists(st.sampled_from(["float32", "bool"])).map(tuple),
    when=st.builds(
        Condition,
        noncontiguous=st.none() | st.booleans(),
        ndim=st.lists(st.integers(0, 8)).map(tuple),
        remainder=st.integers(0, 9),
        probability=st.none() | st.floats(0, 1, exclude_min=True),
        chip=st.lists(st.integers(0, 63)).map(tuple),
        backward=st.none() | st.booleans(),
    ),
    severity=st.none() | st.floats(0, 1e12),
    set=st.dictionaries(st.text(min_size=1, max_size=9), values, max_size=3),
    name=st.none() | st.text(max_size=9),
)


@given(st.lists(defects, max_size=4), st.dictionaries(st.text(max_size=9), st.integers(0, 2**53), max_size=3))
def test_any_chip_survives_the_journey(own: list[Defect], counters: dict[str, int]) -> None:
    chip = Chip("any", "Any", chips=2, counters=counters, defects=tuple(own))
    second = through(sim.facts(chip)[1])
    assert Chip.from_json(second.properties["chip"]) == chip


def test_the_facts_of_each_chip(tmp_path: Path) -> None:
    build = torch_build.installed()
    assert build is not None
    first, second, *_ = found = sim.facts(load(tmp_path, FULL))
    assert [facts.id for facts in found] == ["sim:0", "sim:1", "sim:2", "sim:3"]
    assert [(facts.kind, facts.stack, facts.index) for facts in found] == [("sim", "sim", number) for number in range(4)]
    assert [facts.serial for facts in found] == [f"SIM-test-{number}" for number in range(4)]
    assert (first.vendor, first.model, first.memory_bytes) == ("Example & Sons <b>", 'A1 "prime"', 2**29)
    assert first.counters == {"uncorrected": 1, "link_errors": 12}
    assert first.software == {"torch": build.version, "driver": "2.1.0", "driver_library": "2.1.0"}
    assert second.software == {"torch": build.version, "driver": "2.1.0", "driver_library": "2.0.9", "firmware": None}
    assert (second.properties["simulated"], second.properties["number"]) == (True, 1)
    assert "not a measurement of a product" in second.properties["notice"]


def test_a_defect_of_the_version_stack_is_one_that_the_rules_see(tmp_path: Path) -> None:
    first, second, *_ = sim.facts(load(tmp_path, FULL))
    assert [item.ruling for item in version_rules.judge(first)] == [version_rules.Ruling.HOLDS]
    assert [item.ruling for item in version_rules.judge(second)] == [version_rules.Ruling.BROKEN]


def test_a_plain_chip_is_reported_as_simulated(tmp_path: Path) -> None:
    (facts,) = sim.facts(load(tmp_path, HEAD + "counters = {}\n"))
    assert (facts.vendor, facts.model) == ("simulated", "simulated test")
    assert facts.counters is None


def test_a_tiny_memory_is_still_one() -> None:
    assert Chip("a", "A", memory_gib=1e-300).memory_bytes == 1


def test_a_chip_fits_into_a_message(tmp_path: Path) -> None:
    """The largest chip that is let in leaves room for a check's settings and 63 peers in the message to a worker."""
    source = "https://example.org/" + "x" * 80
    entry = f'[[defect]]\nkind = "wrong-result"\nop = "aten::_softmax*"\ndtype = ["bfloat16"]\nseverity = 0.01\nsource = "{source}"\n'
    chip = load(tmp_path, HEAD + "chips = 8\n" + (entry + "when = { numel_over = 4096, chip = [1, 2], probability = 0.001 }\n") * 40)
    size = len(json.dumps(chip.to_json()))
    assert size < 16 * 2**10
    assert forkserver.LARGEST_MESSAGE_BYTES - chips.LARGEST_CHIP_BYTES >= 2**16
    with pytest.raises(BadFileError, match="the maximum for a simulated chip is 64 KiB"):
        load(tmp_path, HEAD + entry.replace("xx", "\u00fc") * 256)


HOSTILE: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", r":1: .*'schema' is a required property"),
    "no_toml": ("{]", r":1: not TOML"),
    "half_a_string": (HEAD + 'description = "never clo', r":4: not TOML"),
    "cut_short": (HEAD + DEFECT[:-5], r":5: "),
    "not_text": (b"\xff\xfe\x00schema", r"not UTF-8"),
    "binary": (bytes(range(256)) * 16, r"not UTF-8|not TOML"),
    "huge": ("#" * (2**20 + 1), r"larger than 1024 KiB"),
    "deep": (HEAD + "description = " + "[" * 100_000 + "]" * 100_000 + "\n", r"nested too deeply|not TOML"),
    "huge_number": (HEAD + "memory_gib = " + "9" * 5000 + "\n", r":4: a number of more than 250 digits"),
    "large_number": (HEAD + "memory_gib = 1" + "0" * 400 + "\n", r":4: a number of more than 250 digits"),
    "a_key_twice": (HEAD + 'name = "test"\n', r"not TOML"),
    "a_profile": ('schema = "readiness.profile/1"\nname = "test"\ntitle = "A"\n', r":1: schema: 'readiness.chip/1' was expected"),
    "another_schema": (HEAD.replace("chip/1", "chip/9"), r":1: schema"),
    "schema_is_a_list": (HEAD.replace('"readiness.chip/1"', "[]"), r":1: schema"),
    "name_with_a_path": (HEAD.replace('"test"', '"../../etc/passwd"'), r":2: name: "),
    "name_with_html": (HEAD.replace('"test"', '"<script>alert(1)</script>"'), r":2: name: "),
    "name_with_an_end_of_line": (HEAD.replace('"test"', '"test\\n"'), r":2: name: "),
    "name_is_a_number": (HEAD.replace('"test"', '"0"'), r":2: name: "),
    "title_is_a_number": (HEAD.replace('"A test"', "3"), r":3: title: 3 is not of type 'string'"),
    "title_is_blank": (HEAD.replace('"A test"', '" "'), r":3: title"),
    "title_is_endless": (HEAD.replace("A test", "A" * 100_000), r":3: title: .*too long"),
    "title_speaks_to_the_terminal": (HEAD.replace("A test", "\\u001b[2J"), r":3: title"),
    "unknown_key": (HEAD + "chip = 3\n", r"'chip' was unexpected"),
    "no_chips": (HEAD + "chips = 0\n", r":4: chips"),
    "many_chips": (HEAD + "chips = 65\n", r":4: chips"),
    "half_a_chip": (HEAD + "chips = 1.5\n", r":4: chips: 1.5 is not of type 'integer'"),
    "chips_is_true": (HEAD + "chips = true\n", r":4: chips"),
    "chips_is_nan": (HEAD + "chips = nan\n", r":4: chips"),
    "no_memory": (HEAD + "memory_gib = 0\n", r":4: memory_gib"),
    "memory_is_nan": (HEAD + "memory_gib = nan\n", r":4: memory_gib: it is nan"),
    "memory_is_infinite": (HEAD + "memory_gib = inf\n", r":4: memory_gib: inf is greater"),
    "memory_is_text": (HEAD + 'memory_gib = "4"\n', r":4: memory_gib: '4' is not of type 'number'"),
    "vendor_is_a_list": (HEAD + "vendor = []\n", r":4: vendor"),
    "software_is_text": (HEAD + 'software = "1.0"\n', r":4: software"),
    "a_version_is_a_number": (HEAD + "software = { driver = 1.0 }\n", r":4: software.driver"),
    "a_component_with_html": (HEAD + '[software]\n"<b>" = "1"\n', r":5: software: |:4: software: "),
    "a_counter_below_zero": (HEAD + "counters = { corrected = -1 }\n", r":4: counters.corrected"),
    "a_counter_is_infinite": (HEAD + "counters = { corrected = inf }\n", r":4: counters.corrected"),
    "defect_is_a_table": (HEAD + '[defect]\nkind = "nan"\n', r":4: defect"),
    "too_many_defects": (HEAD + DEFECT * 257, r"defect: .*(too long|non-empty|expected)"),
    "no_kind": (HEAD + '[[defect]]\nop = "*"\n', r":4: defect\[0\]: 'kind' is a required property"),
    "unknown_kind": (HEAD + DEFECT + '[[defect]]\nkind = "hangs"\n', r":7: defect\[1\].kind: .*'hangs'\n.*did you mean hang\?"),
    "kind_like_no_other": (HEAD + '[[defect]]\nkind = "zzz"\n', r":5: .*'zzz'\n.*counter, hang"),
    "kind_is_code": (HEAD + "[[defect]]\nkind = \"__import__('os')\"\n", r":5: defect\[0\].kind"),
    "unknown_key_of_defect": (HEAD + DEFECT + "sevrity = 2\n", r":6: defect\[0\].sevrity: .*'sevrity' was unexpected"),
    "unknown_condition": (HEAD + DEFECT + "when = { numel_above = 2 }\n", r":6: defect\[0\].when.numel_above: .*'numel_above' was unexpected"),
    "op_is_empty": (HEAD + DEFECT + 'op = ""\n', r":6: defect\[0\].op"),
    "ops_are_none": (HEAD + DEFECT + "op = []\n", r":6: defect\[0\].op"),
    "op_in_a_list_is_empty": (HEAD + DEFECT + 'op = ["aten::mm", ""]\n', r":6: defect\[0\].op\[1\]"),
    "op_is_a_number": (HEAD + DEFECT + "op = 3\n", r":6: defect\[0\].op: 3 is not of type"),
    "op_is_code": (HEAD + DEFECT + 'op = "$(reboot)"\n', r":6: defect\[0\].op"),
    "dtype_unknown": (HEAD + DEFECT + 'dtype = "bfloat17"\n', r":6: defect\[0\].dtype: 'bfloat17' is not one of"),
    "dtype_unknown_in_a_list": (HEAD + DEFECT + 'dtype = ["float32", "half"]\n', r":6: defect\[0\].dtype\[1\]: 'half' is not one of"),
    "dtypes_are_none": (HEAD + DEFECT + "dtype = []\n", r":6: defect\[0\].dtype"),
    "severity_is_nan": (HEAD + DEFECT + "severity = nan\n", r":6: defect\[0\].severity: it is nan"),
    "severity_is_infinite": (HEAD + DEFECT + "severity = inf\n", r":6: defect\[0\].severity: inf is greater"),
    "severity_is_negative": (HEAD + DEFECT + "severity = -1\n", r":6: defect\[0\].severity"),
    "severity_is_text": (HEAD + DEFECT + 'severity = "bad"\n', r":6: defect\[0\].severity"),
    "severity_is_true": (HEAD + DEFECT + "severity = true\n", r":6: defect\[0\].severity"),
    "every_zeroth": (HEAD + DEFECT + "when = { every = 0 }\n", r":6: defect\[0\].when.every"),
    "every_half": (HEAD + DEFECT + "when = { every = 0.5 }\n", r":6: defect\[0\].when.every"),
    "after_no_calls": (HEAD + DEFECT + "when = { after_calls = 0 }\n", r":6: defect\[0\].when.after_calls"),
    "never": (HEAD + DEFECT + "when = { probability = 0 }\n", r":6: defect\[0\].when.probability"),
    "more_than_always": (HEAD + DEFECT + "when = { probability = 1.1 }\n", r":6: defect\[0\].when.probability"),
    "probability_is_nan": (HEAD + DEFECT + "[defect.when]\nprobability = nan\n", r":7: defect\[0\].when.probability: it is nan"),
    "temperature_is_nan": (HEAD + DEFECT + "when = { temperature = nan }\n", r":6: defect\[0\].when.temperature: it is nan"),
    "colder_than_cold": (HEAD + DEFECT + "when = { temperature = -300 }\n", r":6: defect\[0\].when.temperature"),
    "noncontiguous_is_a_number": (HEAD + DEFECT + "when = { noncontiguous = 1 }\n", r":6: .*1 is not of type 'boolean'"),
    "ndim_is_empty": (HEAD + DEFECT + "when = { ndim = [] }\n", r":6: defect\[0\].when.ndim"),
    "ndim_is_negative": (HEAD + DEFECT + "when = { ndim = -1 }\n", r":6: defect\[0\].when.ndim"),
    "no_size_fits": (HEAD + DEFECT + "when = { numel_over = 5, numel_under = 6 }\n", r":6: .*numel_under: no number"),
    "no_size_is_below": (HEAD + DEFECT + "when = { numel_under = 0 }\n", r":6: .*numel_under"),
    "remainder_of_nothing": (HEAD + DEFECT + "when = { remainder = 1 }\n", r":6: .*remainder: a remainder needs multiple_of"),
    "remainder_too_large": (HEAD + DEFECT + "when = { multiple_of = 8, remainder = 8 }\n", r":6: .*remainder: no size has the remainder 8"),
    "a_chip_beyond": (HEAD + "chips = 2\n" + DEFECT + "when = { chip = [1, 2] }\n", r":7: defect\[0\].when.chip: there is no chip 2"),
    "a_chip_beyond_the_only_one": (HEAD + DEFECT + "when = { chip = 1 }\n", r":6: .*there is no chip 1: the machine has 1"),
    "a_chip_below": (HEAD + DEFECT + "when = { chip = -1 }\n", r":6: defect\[0\].when.chip"),
    "a_group_of_one": (HEAD + DEFECT + "when = { group_under = 2 }\n", r":6: defect\[0\].when.group_under"),
    "no_chip_at_all": (HEAD + DEFECT + "when = { chip = [] }\n", r":6: defect\[0\].when.chip"),
    "set_is_empty": (HEAD + DEFECT + "set = {}\n", r":6: defect\[0\].set"),
    "set_is_a_list": (HEAD + DEFECT + "set = { a = [1] }\n", r":6: defect\[0\].set.a"),
    "set_is_nan": (HEAD + DEFECT + "set = { a = nan }\n", r":6: defect\[0\].set.a: it is nan"),
    "set_is_infinite": (HEAD + DEFECT + "set = { a = -inf }\n", r":6: defect\[0\].set.a"),
    "set_is_a_date": (HEAD + DEFECT + "set = { a = 2026-01-01 }\n", r":6: defect\[0\].set.a"),
    "dimension_of_nothing": (HEAD + DEFECT + "when = { dimension = 1 }\n", r":6: .*when.dimension: it has no meaning without multiple_of"),
    "argument_is_a_list": (HEAD + DEFECT + "when = { argument = { dim = [1] } }\n", r":6: defect\[0\].when.argument.dim"),
    "arguments_are_none": (HEAD + DEFECT + "when = { argument = {} }\n", r":6: defect\[0\].when.argument"),
    "other_operator_unnamed": (HEAD + '[[defect]]\nkind = "wrong-operator"\n', r":4: defect\[0\]: kind wrong-operator needs set\.operator"),
    "ignored_argument_unnamed": (HEAD + '[[defect]]\nkind = "ignore-argument"\nset = { argument = 1 }\n', r":4: .*needs set\.argument"),
    "version_of_nothing": (HEAD + '[[defect]]\nkind = "version"\n', r":4: defect\[0\]: kind version needs a `set`"),
    "version_is_a_number": (HEAD + '[[defect]]\nkind = "version"\nset = { driver = 1.0 }\n', r":6: .*set.driver: 1.0 is not a version"),
    "version_is_true": (HEAD + '[[defect]]\nkind = "version"\nset = { driver = true }\n', r":6: .*True is not a version"),
    "version_by_and_by": (HEAD + '[[defect]]\nkind = "version"\nset = { driver = "0" }\nwhen = { every = 2 }\n', r":7: .*when.every: "),
    "version_of_an_operator": (HEAD + '[[defect]]\nkind = "version"\nset = { driver = "0" }\nop = "mm"\n', r":7: defect\[0\].op: it does not apply"),
    "counter_by_and_by": (HEAD + '[[defect]]\nkind = "counter"\nset = { corrected = 1 }\nwhen = { after_s = 2 }\n', r":7: .*when.after_s: it does not apply"),
    "counter_of_nothing": (HEAD + '[[defect]]\nkind = "counter"\n', r":4: defect\[0\]: kind counter needs a `set`"),
    "counter_unknown": (HEAD + '[[defect]]\nkind = "counter"\nset = { ecc = 1 }\n', r":6: .*no counter 'ecc'\n.*corrected"),
    "counter_by_text": (HEAD + '[[defect]]\nkind = "counter"\nset = { corrected = "1" }\n', r":6: .*cannot increase by '1'"),
    "counter_by_half": (HEAD + '[[defect]]\nkind = "counter"\nset = { corrected = 0.5 }\n', r":6: .*cannot increase by 0.5"),
    "counter_back": (HEAD + '[[defect]]\nkind = "counter"\nset = { corrected = -1 }\n', r":6: .*cannot increase by -1"),
    "library_unnamed": (HEAD + LIBRARY + 'set = { function = "get_device_health", value = 2 }\n', r":6: defect\[0\].set: .*through one only\n.*management = "),
    "library_function": (MANAGED + LIBRARY + 'set = { function = "get_health", hangs = true }\n', r":7: .*set.function: the library has no function 'get_health'\n.*get_device_health"),
    "library_no_function": (MANAGED + LIBRARY + "set = { hangs = true }\n", r":7: .*set: the library has no function None"),
    "library_no_way": (MANAGED + LIBRARY + 'set = { function = "get_device_health" }\n', r":7: .*set: it does not say how"),
    "library_two_ways": (MANAGED + LIBRARY + 'set = { function = "get_device_health", value = 2, answer = 1 }\n', r":7: .*more than once"),
    "library_answers_well": (MANAGED + LIBRARY + 'set = { function = "get_device_health", answer = 0 }\n', r":7: .*set: it does not say how"),
    "library_answers_text": (MANAGED + LIBRARY + 'set = { function = "get_device_health", answer = "no" }\n', r":7: .*set.answer: 'no' is no answer"),
    "library_hangs_not": (MANAGED + LIBRARY + 'set = { function = "get_device_health", hangs = 1 }\n', r":7: .*set.hangs: 1 is no hangs"),
    "library_else": (MANAGED + LIBRARY + 'set = { function = "get_device_health", after = 1 }\n', r":7: .*set.after: a function has no 'after'"),
    "library_no_figure": (MANAGED + LIBRARY + 'set = { function = "get_device_ecc_info", value = 1 }\n', r":7: .*set.value: get_device_ecc_info does not give this figure"),
    "library_large_figure": (MANAGED + LIBRARY + 'set = { function = "get_device_health", value = 4294967296 }\n', r":7: .*32 bits"),
    "library_by_and_by": (MANAGED + LIBRARY + 'set = { function = "get_device_health", value = 2 }\nwhen = { every = 2 }\n', r":8: .*when.every: it does not apply"),
    "library_of_nobody": (HEAD + 'management = "nvml"\n', r":4: management: 'nvml' is not one of"),
    "an_operator_that_is_none": (HEAD + DEFECT + 'op = "aten::no_such_operator"\n', r":6: defect\[0\].op: nothing called aten::no_such_operator"),
    "an_operator_misspelt": (HEAD + DEFECT + 'op = ["mm", "adddmm"]\n', r":6: defect\[0\].op\[1\]: .*aten::adddmm.*\n.*did you mean aten::addmm"),
    "an_operator_taken_apart": (HEAD + DEFECT + 'op = "linear"\n', r":6: defect\[0\].op: PyTorch takes aten::linear apart.*\n.*addmm and mm"),
    "an_overload_taken_apart": (HEAD + DEFECT + 'op = "fmod.Scalar"\n', r":6: .*takes aten::fmod.Scalar apart.*\n.*aten::fmod.Tensor"),
    "a_copy_that_is_none": (HEAD + DEFECT + 'op = "copy::to_moon"\n', r":6: .*nothing called copy::to_moon .*\n.*copy::to_host"),
    "a_space_misspelt": (HEAD + DEFECT + 'op = "atn::mm"\n', r":6: defect\[0\].op: there are no operators atn::\n.*did you mean aten::"),
    "of_no_argument": (HEAD + DEFECT + 'op = "mm"\nwhen = { of = ["self", "mat3"] }\n', r":7: defect\[0\].when.of: .*argument 'mat3'\n.*mat2"),
    "a_condition_on_no_argument": (HEAD + DEFECT + 'op = "mm"\nwhen = { argument = { alpha = 2 } }\n', r":7: .*when.argument: .*'alpha'"),
    "ignores_no_argument": (HEAD + '[[defect]]\nkind = "ignore-argument"\nop = "mm"\nset = { argument = "alpha" }\n', r":7: .*set.argument: .*'alpha'"),
    "no_value_fits": (HEAD + DEFECT + "when = { value_over = 2, value_under = 2 }\n", r":6: .*value_under: no value is in this range"),
    "a_value_is_nan": (HEAD + DEFECT + "when = { value_over = nan }\n", r":6: defect\[0\].when.value_over: it is nan"),
    "a_format_and_contiguous": (HEAD + DEFECT + 'when = { memory_format = "channels_last", noncontiguous = false }\n', r":6: .*memory_format: "),
    "no_such_format": (HEAD + DEFECT + 'when = { memory_format = "channels_first" }\n', r":6: .*memory_format: 'channels_first' is not one of"),
    "a_conjugate_of_reals": (HEAD + DEFECT + 'dtype = "float32"\nwhen = { conjugate = true }\n', r":7: .*conjugate: only complex"),
    "a_gradient_outside": (HEAD + '[[defect]]\nkind = "wrong-gradient"\nwhen = { backward = false }\n', r":6: .*backward: a wrong-gradient acts in the"),
    "a_rank_of_an_operator": (HEAD + DEFECT + 'op = "mm"\nwhen = { rank = 0 }\n', r":7: .*when.rank: only collectives"),
    "unseen_what": (HEAD + DEFECT + 'when = { unseen = "colour" }\n', r":6: .*unseen: 'colour' is not one of"),
    "expects_nothing": (HEAD + DEFECT + "expected = []\n", r":6: defect\[0\].expected"),
    "two_of_a_name": (HEAD + (DEFECT + 'name = "a"\n') * 2, r":9: defect\[1\].name: two defects are called 'a'"),
    "name_of_defect_with_html": (HEAD + DEFECT + 'name = "<b>"\n', r":6: defect\[0\].name"),
}


def test_what_libraries_call_their_operators_is_nobodys_business_here(tmp_path: Path) -> None:
    chip = load(tmp_path, HEAD + DEFECT + 'op = ["torchvision::nms", "npu::npu_fusion_attention"]\n')
    assert chip.defects[0].op == ("torchvision::nms", "npu::npu_fusion_attention")


def test_the_table_of_operators_is_that_of_the_installed_pytorch() -> None:
    import torch

    from readiness.simulator import operator_names, operator_table

    written = Path(operator_names.__file__).with_name("operator_names.txt").read_text().splitlines()
    if written[0] != f"# torch {torch.__version__.partition('+')[0]}":
        pytest.skip(f"the table is of {written[0]}, installed is {torch.__version__}")
    assert written == list(operator_table.lines()), "python -m readiness.simulator.operator_table writes it anew"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_chips(tmp_path: Path, name: str) -> None:
    text, message = HOSTILE[name]
    file = write(tmp_path, text)
    with pytest.raises(BadFileError, match=f"(?s){message}") as caught:
        chips.load(file, KINDS)
    assert caught.value.exit_code is Exit.USAGE
    assert caught.value.place is not None
    assert str(file) in caught.value.place
    assert caught.value.remedy
    assert len(str(caught.value)) < 1000


def test_a_folder_a_fifo_and_nothing_are_no_chips(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    for name, message in (("folder", "not a file"), ("pipe", "not a file"), ("none", "no such file"), ("loop", "cannot be read|no such")):
        with pytest.raises(BadFileError, match=message):
            chips.find(str(tmp_path / f"{name}.toml"), KINDS)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, HEAD)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadFileError, match=r"cannot be read: .*Permission denied"):
        chips.load(file, KINDS)


@given(st.text())
def test_no_text_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("any") / "test.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadFileError):
        chips.load(file, KINDS)


json_like: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "op", "when", "chip", "set"]), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["chips", "memory_gib", "software", "counters", "defect", "vendor", "description"]), json_like)
def test_no_value_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, key: str, value: Any) -> None:
    file = write(tmp_path_factory.mktemp("any"), HEAD + f"{key} = {as_toml(value)}\n")
    try:
        chip = chips.load(file, KINDS)
    except BadFileError:
        return
    assert through(sim.facts(chip)[0]).properties["chip"] == chip.to_json()


def as_toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(map(as_toml, value))}]"
        case dict():
            return f"{{{', '.join(f'{key} = {as_toml(item)}' for key, item in value.items())}}}"
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f")
        case _:
            return str(value)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three shipped chips, two of them with a story; one name is in both folders."""
    for name in ("chips/apprentice", "chips/veteran", "seeded_faults/hang", "seeded_faults/veteran"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, HEAD.replace("test", Path(name).name), f"{name}.toml")
    (tmp_path / "chips" / "notes.txt").write_text("no chip")
    monkeypatch.setattr(chips, "_FOLDER", tmp_path)
    return tmp_path


def test_a_name_is_looked_up_among_the_shipped(shipped: Path) -> None:
    assert chips.names() == {
        "apprentice": shipped / "chips" / "apprentice.toml",
        "veteran": shipped / "chips" / "veteran.toml",
        "hang": shipped / "seeded_faults" / "hang.toml",
    }
    assert chips.find("hang", KINDS).name == "hang"
    assert chips.find("veteran", KINDS).path == str(shipped / "chips" / "veteran.toml")


@pytest.mark.parametrize("name", chips.names())
def test_the_shipped_chips_load(name: str) -> None:
    from readiness.simulator.faults import kinds

    assert chips.find(name, kinds()).name == name


def test_what_looks_like_a_file_is_one(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, HEAD, "own.toml")
    assert chips.find("own.toml", KINDS).name == chips.find(str(file), KINDS).name == "test"
    with pytest.raises(BadFileError, match="no such file"):
        chips.find("hang.toml", KINDS)
    with pytest.raises(BadFileError, match="no such file"):
        chips.find("./hang", KINDS)


@pytest.mark.parametrize("name", ["veteram", "", "..", "hang\0", "HANG", "<script>", "x" * 100_000, "notes", "\udcff"])
def test_a_name_that_is_none(shipped: Path, name: str) -> None:
    with pytest.raises(UsageError, match="there is no simulated chip") as caught:
        chips.find(name, KINDS)
    assert caught.value.place == "--device"
    assert caught.value.exit_code is Exit.USAGE
    assert caught.value.remedy is not None
    assert len(str(caught.value)) < 1000
    if name == "veteram":
        assert caught.value.remedy.startswith("choose one of veteran, apprentice, or give a file")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/", "/dev/zero", "a\0/b", "no/such.toml", "/proc/self/mem"])
def test_a_path_that_leads_nowhere_good(name: str) -> None:
    with pytest.raises(BadFileError) as caught:
        chips.find(name, KINDS)
    assert caught.value.remedy
    assert len(str(caught.value)) < 1000


def test_chips_without_folders_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chips, "_FOLDER", tmp_path)
    assert chips.names() == {}
    with pytest.raises(UsageError, match="none, or give a file"):
        chips.find("any", KINDS)


def test_an_invalid_chip_is_refused() -> None:
    for document in ({}, {"name": "a"}, {"name": "a", "title": "A", "nonsense": 1}, {"name": "a", "title": "A", "defects": [{}]}):
        with pytest.raises(TypeError):
            Chip.from_json(document)


def test_a_chip_that_is_another_is_not_equal(tmp_path: Path) -> None:
    chip = load(tmp_path, FULL)
    changes: list[dict[str, Any]] = [{"chips": 5}, {"defects": chip.defects[1:]}, {"counters": {}}, {"sha256": "0"}]
    for change in changes:
        other = replace(chip, **change)
        assert other != chip
        assert Chip.from_json(other.to_json()) == other


def test_the_schema_is_printed(tmp_path: Path) -> None:
    result = readiness("schema", "chip", state=tmp_path)
    assert result.returncode == Exit.READY
    assert json.loads(result.stdout)["properties"]["schema"]["const"] == "readiness.chip/1"


@pytest.mark.parametrize("name", ["no_toml", "unknown_kind", "name_with_html"])
def test_a_hostile_chip_through_the_front_door(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, HOSTILE[name][0])
    result = readiness("run", "--device", f"sim:{file}", state=tmp_path)
    assert result.returncode == Exit.USAGE, result.stderr
    assert f"{file}:" in result.stderr
    assert "remedy:" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_the_limit_of_a_file_is_that_of_all_toml() -> None:
    assert toml.LARGEST_FILE_BYTES == 2**20
