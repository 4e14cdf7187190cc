"""All figures of a fleet as a Parquet file, written and read by the real library."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
import pytest

from readiness.errors import UsageError
from readiness.fleet import export, fleet_summary, store
from readiness.fleet.fleet_summary import Fleet
from tests.support import fleets


def exported(folder: Path, hosts: list[dict[str, object]]) -> tuple[Fleet, Path]:
    connection = store.open_store(folder / "fleet.sqlite", create=True)
    for made in hosts:
        store.add(connection, [store.Entry(f"/{made['started']}.json", "1", None, store.digest_of(made), made, True)])
    fleet = fleet_summary.read(connection, {})
    file = folder / "it's a fleet.parquet"
    export.write(connection, fleet, file)
    connection.close()
    return fleet, file


def test_every_figure_of_every_run_that_counts_is_in_it(tmp_path: Path) -> None:
    hosts = [
        fleets.host(f"node-{number}", 1, chips=2, count=10, started=f"2026-11-01T10:00:0{number}Z") for number in range(3)
    ]
    older = fleets.host("node-0", 2, chips=2, count=10, started="2026-10-01T10:00:00Z")
    odd = hosts[1]["accelerators"][1]
    odd |= {"model": 'a "model", of\ntwo lines; ü', "serial": "", "values": [None, *odd["values"][1:]]}
    _, file = exported(tmp_path, [*hosts, older])
    with duckdb.connect() as base:
        rows = base.execute("SELECT * FROM read_parquet(?)", [str(file)]).fetchall()
        names = [column[0] for column in base.description or ()]
    assert names == [
        "host", "started", "profile", "accelerator", "stack", "model", "serial", "training", "inference", "check", "measure",
        "labels", "unit", "value",
    ]  # fmt: skip
    assert len(rows) == 3 * 2 * 10 - 1, "what is missing has no row; a run that does not count has none"
    found = {
        (row["host"], row["accelerator"], row["check"], row["measure"], row["labels"]): row["value"]
        for row in (dict(zip(names, row, strict=True)) for row in rows)
    }
    for made in hosts:
        for item in made["accelerators"]:
            for figure, value in zip(made["figures"], item["values"], strict=True):
                labels = json.dumps(figure["labels"], sort_keys=True)
                place = (made["host"]["name"], item["id"], figure["check"], figure["name"], labels)
                assert found.get(place) == value
    models = {row[names.index("model")] for row in rows}
    assert models == {"H20", 'a "model", of\ntwo lines; ü'}
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".readiness-")]


def test_a_fleet_without_a_run_is_a_table_without_rows(tmp_path: Path) -> None:
    connection = store.open_store(tmp_path / "fleet.sqlite", create=True)
    store.expect(connection, [store.Expected("node-1")])
    file = tmp_path / "fleet.parquet"
    export.write(connection, fleet_summary.read(connection, {}), file)
    connection.close()
    with duckdb.connect() as base:
        assert base.execute("SELECT count(*) FROM read_parquet(?)", [str(file)]).fetchone() == (0,)


def test_without_the_library_one_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(UsageError, match="a Parquet file needs what is not installed: import of duckdb") as problem:
        export.require_library()
    assert "readiness[parquet]" in (problem.value.remedy or "")


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    connection = store.open_store(tmp_path / "fleet.sqlite", create=True)
    store.expect(connection, [store.Expected("node-1")])
    fleet = fleet_summary.read(connection, {})
    with pytest.raises(OSError, match="director"):
        export.write(connection, fleet, tmp_path / "taken")
    connection.close()
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
