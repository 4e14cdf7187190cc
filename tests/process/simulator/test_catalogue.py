"""The table of real defects: complete, true to its sources, made of chips that load, and some of them seen to act."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from readiness import check_registry
from readiness.probes.operators import opinfo
from readiness.simulator import machine_file as chips
from readiness.simulator.faults import kinds
from readiness.simulator.machine_file import Chip
from tests.process.simulator import catalogue
from tests.support.paths import ROOT
from tests.support.simulator import inside

ROWS = catalogue.rows()
REPORTED = catalogue.reported()
PLANTED = [row for row in (*ROWS, *REPORTED) if not row.beyond]
BY_ID = {row.id: row for row in ROWS}
SOURCE = ROOT.parent / "shared" / "data" / "defects.json"


def load(row: catalogue.Row, folder: Path) -> Chip:
    file = folder / "chip.toml"
    file.write_text(row.chip(), encoding="utf-8")
    return chips.load(file, kinds())


def test_every_row_of_the_catalogue_is_there_once() -> None:
    assert len(ROWS) == 135
    assert not {row.id for row in ROWS} & {row.id for row in REPORTED}
    assert all(row.condition for row in REPORTED)
    assert [name for name, count in Counter(row.id for row in ROWS).items() if count > 1] == []


@pytest.mark.skipif(not SOURCE.is_file(), reason="the catalogue is not beside this checkout")
def test_ids_and_citations_are_those_of_the_catalogue() -> None:
    source = [(entry["id"], entry["vendor"], entry["class"], entry["citation"]) for entry in json.loads(SOURCE.read_text())]
    assert [(row.id, row.vendor, row.family, row.source) for row in ROWS] == source


@pytest.mark.skipif(not SOURCE.is_file(), reason="the catalogue is not beside this checkout")
def test_summaries_are_our_own_words() -> None:
    copied = [entry["id"] for entry in json.loads(SOURCE.read_text()) if BY_ID[entry["id"]].summary in entry["summary"]]
    assert copied == []


@pytest.mark.parametrize("row", [*ROWS, *REPORTED], ids=lambda row: row.id)
def test_a_catalogue_row_is_planted_or_gives_a_reason(row: catalogue.Row) -> None:
    known = check_registry.discover()
    if row.beyond:
        assert (row.defects, row.checks, row.operators, row.missed) == ((), (), (), None)
    else:
        assert row.defects
        assert row.checks
        assert set(row.checks) <= known.keys()
        assert bool(row.operators) == ("operators.sweep" in row.checks)


@pytest.mark.parametrize("row", PLANTED, ids=lambda row: row.id)
def test_a_planted_row_is_a_chip(row: catalogue.Row, tmp_path: Path) -> None:
    chip = load(row, tmp_path)
    assert chip.name == row.id
    assert chip.chips == row.chips
    assert Chip.from_json(chip.to_json()) == chip


def test_every_kind_has_a_precedent_or_is_listed_without() -> None:
    used = {defect["kind"] for row in PLANTED for defect in row.defects}
    assert used <= kinds().keys()
    assert sorted(kinds().keys() - used) == catalogue.unprecedented()


def test_the_operators_of_the_sweep_are_the_databases() -> None:
    names = tuple(sorted({name for row in (*ROWS, *REPORTED) for name in row.operators}))
    assert len(opinfo.select(opinfo.load(), "all", names)) >= len(names)


def test_the_narrowed_profile_judges_shares_as_the_whole_sweep_would() -> None:
    import tomllib

    written = tomllib.loads(BY_ID["musa-std-missing"].profile())
    assert written["settings"]["operators.sweep"]["only"] == ["std"]
    entries = {entry["id"]: entry for entry in written["require"]}
    assert entries["operators-right-float32"] == {
        "id": "operators-right-float32", "where": {"dtype": "float32", "catalogue": "chosen"}
    }  # fmt: skip
    # One of one missing: a share of 0, which 2 % of all operators allow.
    assert entries["operators-forward-float32"]["at_least"] < 0


def within(row: str, tmp_path: Path, function: Any) -> Any:
    return inside(load(BY_ID[row], tmp_path), function)


def test_masked_attention_of_an_awkward_length_has_no_gradient_of_queries(tmp_path: Path) -> None:
    def ask() -> list[list[bool]]:
        found = []
        for length, masked in ((192, True), (192, False), (193, True)):
            query, key, value = (torch.randn(1, 2, length, 16).to("sim").requires_grad_() for _ in range(3))
            mask = torch.ones(length, length, dtype=torch.bool).to("sim") if masked else None
            out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            gradients = torch.autograd.grad(out.sum(), (query, key, value))
            found.append([bool(gradient.cpu().isnan().any()) for gradient in gradients])
        return found

    sound = [False, False, False]
    assert within("cudnn-sdpa-bwd-nan", tmp_path, ask) == [[True, False, False], sound, sound]


def test_saturation_and_the_other_remainder(tmp_path: Path) -> None:
    def overflow() -> list[float]:
        return [float((torch.tensor([65504.0]).half().to("sim") * 2).cpu()), float(torch.tensor([-1.0]).to("sim").sqrt().cpu())]

    assert within("ascend-saturation-mode", tmp_path, overflow) == [65504.0, 0.0]

    def remainder() -> float:
        return float(torch.fmod(torch.tensor([-7.0]).to("sim"), torch.tensor([3.0]).to("sim")).cpu())

    assert within("ascend-fmod-floormod", tmp_path, remainder) == 2.0


def test_a_row_is_run_from_end_to_end() -> None:
    result = catalogue.run(BY_ID["sram-uce-threshold"], seed=3)
    assert result.caught_by == ("driver.faults",), result
    assert result.cells()[:2] == ["sram-uce-threshold", "ecc_hbm"]
    table = list(catalogue.markdown([result, catalogue.Result(BY_ID["rccl-graph-multistream"])]))
    assert table[-1] == "| together | 1 | 0 | 0 | 1 |"
    assert "captures operators, and no collectives" in table[3]
