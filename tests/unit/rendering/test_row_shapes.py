"""Rows with a published shape: what fits and what does not, in the schema, in pictures, in tables and in the documentation."""

from __future__ import annotations

import json
import math
from types import MappingProxyType
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from readiness.datamodel import Evidence, Status
from readiness.documents import schema
from readiness.documents.strict_json import plain
from readiness.probes.bandwidth.measurements import by_size
from readiness.probes.operators.summary import _CODES
from readiness.probes.ranks_common.measurements import pair_matrix
from readiness.probes.soak.measurements import samples_row
from readiness.rendering import pictures, row_shapes, rows
from readiness.rendering.charts import LineChart
from readiness.rendering.formats import render
from tests.support import build
from tests.support.paths import ROOT
from tests.unit.reports.test_html import Page, rows_of

OPERATORS = {
    "shape": "operators/1", "dtype": "float32", "codes": {"n": "native", "w": "wrong"}, "operators": ["add", "mm"],
    "forward": "nw", "backward": "nn",
}  # fmt: skip
PAIRS = {"shape": "pairs/1", "what": "one way", "unit": "GB/s", "chips": ["a", "b"], "values": [[None, 3.0], [3.0, None]]}
BANDWIDTH = {
    "shape": "bandwidth/1", "unit": "GB/s", "ranks": 2, "operations": ["all_gather", "all_reduce"], "bytes": [65536, 2097152],
    "values": [[1.5, None], [1.0, 4.0]], "raw": 9.0, "raw_kind": "socket",
}  # fmt: skip
SERIES = {"shape": "series/1", "columns": {"at_s": [1.0, 2.0], "device_ms": [1.0, None]}}
TRAINING = {"shape": "training/1", "dtype": "float32", "losses": [3.0, "NaN"], "reference_losses": [3.0, 2.0]}
SOUND: dict[str, dict[str, Any]] = {row["shape"]: row for row in (BANDWIDTH, OPERATORS, PAIRS, SERIES, TRAINING)}  # type: ignore[misc]
ODD: list[tuple[dict[str, Any], str]] = [
    ({"shape": "series/2"}, "not known"),
    ({"shape": 7}, "not known"),
    ({"shape": ["series/1"]}, "not known"),
    ({"shape": "series/1"}, "'columns' is a required property"),
    ({**SERIES, "columns": {"device_ms": [1.0]}}, "'at_s' is a required property"),
    ({**SERIES, "columns": {"at_s": [1.0], "device_ms": ["warm"]}}, "at columns.device_ms[0]"),
    ({**SERIES, "columns": {"at_s": [1.0, 2.0], "device_ms": [1.0]}}, "2 times, and 1 values in device_ms"),
    ({**OPERATORS, "forward": "n"}, "2 operators, and 1 letters in forward"),
    ({**OPERATORS, "codes": {"native": "n"}}, "codes"),
    ({**PAIRS, "values": [[None, 3.0]]}, "no 2 by 2 matrix"),
    ({**PAIRS, "values": [[None], [3.0]]}, "no 2 by 2 matrix"),
    ({**PAIRS, "chips": []}, "chips"),
    ({**BANDWIDTH, "values": [[1.0, 2.0]]}, "2 operations and 2 sizes, and values that are no such table"),
    ({**BANDWIDTH, "values": [[1.0], [2.0]]}, "no such table"),
    ({**BANDWIDTH, "bytes": ["large", 1]}, "at bytes[0]"),
    ({**BANDWIDTH, "raw": "fast"}, "at raw"),
    ({**TRAINING, "losses": [3.0]}, "1 losses, and 2 in reference_losses"),
    ({"shape": "training/1", "losses": [3.0]}, "'reference_losses' is a required property"),
]


def test_the_schema_is_a_schema_and_has_every_shape() -> None:
    document = json.loads(schema.text("rows"))
    Draft202012Validator.check_schema(document)
    assert set(row_shapes._definitions()) == set(SOUND) == set(row_shapes._FURTHER)
    assert [part["$ref"] for part in document["anyOf"]] == [f"#/$defs/{name}" for name, _ in row_shapes._definitions().values()]


@pytest.mark.parametrize("shape", SOUND)
def test_a_sound_row_fits_also_with_further_cells(shape: str) -> None:
    row = {**SOUND[shape], "added_later": 1}
    assert row_shapes.problem(row) is None
    assert Draft202012Validator(json.loads(schema.text("rows"))).is_valid(row)
    assert list(row_shapes.of([row, {"no": "shape"}], shape)) == [row]


@pytest.mark.parametrize(("row", "said"), ODD)
def test_rows_that_do_not_fit_their_shape_are_reported_and_not_drawn(row: dict[str, Any], said: str) -> None:
    problem = row_shapes.problem(row)
    assert problem is not None
    assert said in problem
    item = rows_of("stability.load", row)
    assert pictures.of_families(item) == {}
    (told,) = pictures.left_out(item)["stability"]
    assert "makes no picture" in told
    assert "makes no picture" in Page(render("html", build.assessment(item))).text
    text = rows.as_text({"npu:0": item.evidence[0]}, 100)
    assert "does not fit" in text
    assert "1 row" in text
    assert "CURVES" not in render("table", build.assessment(item))


def test_several_odd_rows_are_one_sentence() -> None:
    item = rows_of("stability.load", {"shape": "series/1"}, {"shape": "series/9"}, SERIES)
    assert pictures.left_out(item)["stability"][0].endswith("(and 1 more)")


def test_what_checks_write_fits() -> None:
    from readiness.probes.operators.summary import OperatorMap
    from readiness.probes.stability.measurements import _series

    class Chip:
        def __init__(self, id: str) -> None:
            self.id = id

    class Placement:
        ranks = (Chip("a"), Chip("b"))

    class Span:
        ended_s, device_s, host_s = 1.0, 0.1, math.nan
        sensors = MappingProxyType({"temperature_c": 40.0, "power_w": math.nan})

    buses = {("all_reduce", 64): {2: (1.23456, "a"), 4: (2.0, "b")}, ("all_gather", 64): {4: (3.0, "c")}}
    samples = [{"spent_s": 2.0, "round_s": 0.5, "loss": math.nan}, {"spent_s": 4.0, "round_s": 0.5, "power_w": 90.0}]
    made = [
        *(plain(found.cells) for found in by_size(buses, (9.0, "socket"))),
        plain(samples_row(samples).cells),
        *(found.cells for found in pair_matrix(Placement(), {(0, 1): 3.0}, "one way", "GB/s")),  # type: ignore[arg-type]
        _series([Span()]),  # type: ignore[list-item]
        *OperatorMap().rows(),
        {**OPERATORS, "codes": _CODES},
    ]
    assert [row_shapes.problem(row) for row in made] == [None] * 6
    assert [(row["ranks"], row["operations"], row["values"]) for row in made[:2]] == [
        (2, ["all_reduce"], [[1.235]]), (4, ["all_gather", "all_reduce"], [[3.0], [2.0]])
    ]  # fmt: skip
    assert made[2]["columns"] == {"at_s": [2.0, 4.0], "round_s": [0.5, 0.5], "loss": ["NaN", None], "power_w": [None, 90.0]}


def test_bandwidth_by_size_and_a_soak_make_pictures() -> None:
    soak = {"shape": "series/1", "columns": {"at_s": [2.0, 4.0, 6.0], "round_s": [0.5, 0.6, 0.5], "power_w": [90.0, None, 91.0]}}
    item = build.accelerator(
        (), facts_=build.facts("npu:0"),
        evidence_=(
            Evidence("multichip.bandwidth", Status.MEASURED, rows=(BANDWIDTH, {**BANDWIDTH, "ranks": 4, "raw": None})),
            Evidence("multichip.soak", Status.MEASURED, rows=(soak,)),
        ),
    )
    found = {picture.title: picture for picture in pictures.of_families(item)["multichip"]}
    assert {"Bandwidth by message size, 2 ranks", "Bandwidth by message size, 4 ranks"} <= found.keys()
    assert {"Time of one round during multichip.soak", "Power during multichip.soak"} <= found.keys()
    two, four = (found[f"Bandwidth by message size, {ranks} ranks"] for ranks in (2, 4))
    assert "what a raw socket over the link reached" in two.more
    assert "raw" not in four.more
    assert isinstance(two.chart, LineChart)
    assert [line.name for line in two.chart.lines] == ["all_gather", "all_reduce"]
    assert [rule.text for rule in two.chart.rules] == ["raw socket 9 GB/s"]
    text = rows.as_text({"npu:0": item.evidence[0]}, None)
    assert "all_reduce" in text
    assert "64 KiB, 2 MiB" in text


def test_rows_for_people_have_curves_and_leave_out_what_is_no_table() -> None:
    losses = [4.0, 3.0, 2.5, 2.0, 1.5, 1.2, 1.1, 1.05, 1.0]
    training = {**TRAINING, "losses": losses, "reference_losses": losses}
    readings = {"shape": "series/1", "columns": {"at_s": losses, "device_ms": losses}}
    evidence = Evidence("a.b", Status.MEASURED, rows=(training, readings, OPERATORS, PAIRS, {"op": "mm"}))
    text = rows.as_text({"npu:0": evidence}, None)
    assert "4 rows" in text
    assert "and 2 for pictures" in text
    assert "█▆▅▃▂▁▁▁▁ 4 to 1 (9 values)" in text
    assert "shape" not in text
    narrow = rows.as_text({"npu:0": evidence}, 60, blocks=False)
    assert narrow.isascii()
    assert "reading: device_ms" in narrow


def test_the_documentation_has_every_shape_from_the_schema() -> None:
    """`python -m readiness.rendering.row_shapes` prints it anew."""
    assert row_shapes.reference() in (ROOT / "docs" / "reports.md").read_text()
