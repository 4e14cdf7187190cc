"""Merging and the picture: every host is accounted for, odd ones are named, one host spoils nobody else's result."""

from __future__ import annotations

import datetime
import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from readiness import check_registry
from readiness.comparison.comparable_values import directions
from readiness.datamodel import Decision, Use
from readiness.documents.assessment import dumps, to_json
from readiness.errors import BadFileError, UsageError
from readiness.fleet import fleet_summary, page, reports, store, workbook
from readiness.fleet import merge as merging
from readiness.fleet.fleet_summary import Fleet, Problem
from tests.support import fleets, saved

NOW = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)
DIRECTIONS = directions(check_registry.shipped())
Hosts = list[dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "hosts"


def merged(folder: Path, database: Path, *places: Path) -> merging.Merged:
    connection = store.open_store(database, create=True)
    try:
        return merging.merge(connection, merging.found_files(places or [folder]), processes=1, now=NOW)
    finally:
        connection.close()


def read(database: Path, profile: str | None = None) -> Fleet:
    connection = store.open_store(database, create=False)
    try:
        return fleet_summary.read(connection, DIRECTIONS, profile)
    finally:
        connection.close()


def fleet_of(folder: Path, hosts: Hosts) -> Fleet:
    fleets.write(folder, hosts)
    merged(folder, folder.parent / "fleet.sqlite")
    return read(folder.parent / "fleet.sqlite")


def sound(hosts: int, seed: int = 1, **further: Any) -> Hosts:
    return [fleets.host(f"node-{number:04}", seed, **further) for number in range(hosts)]


def odd_hosts(fleet: Fleet) -> set[str]:
    return {one.host for one in (*fleet.odd, *fleet.drift)} | {host.name for host in fleet.hosts if host.worst != "ready"}


# ------------------------------------------------------------------------------------------------------ what is odd


def test_five_odd_hosts_among_a_thousand_are_found_and_nobody_else(folder: Path) -> None:
    hosts = sound(1000, chips=2, count=30)
    speed = next(
        place for place, one in enumerate(hosts[0]["figures"]) if one["unit"] not in (None, "1", "GiB", "bytes")
        and 400 < hosts[0]["accelerators"][0]["values"][place] < 600
    )  # fmt: skip
    counter = next(
        place for place, one in enumerate(hosts[0]["figures"])
        if hosts[0]["accelerators"][0]["values"][place] == 0 and DIRECTIONS.get((one["check"], one["name"])) == "lower"
    )  # fmt: skip
    hosts[100]["accelerators"][1]["facts"]["driver"] = "535.0.0"
    hosts[200]["accelerators"][0]["values"][speed] *= 0.8
    hosts[300]["accelerators"][1]["values"][counter] = 5000
    del hosts[400]["accelerators"][1]
    hosts[500]["accelerators"][0]["facts"]["environment threads"] = "8"
    fleet = fleet_of(folder, hosts)
    assert odd_hosts(fleet) == {"node-0100", "node-0200", "node-0300", "node-0400", "node-0500"}
    assert {(one.host, one.accelerator) for one in fleet.odd} == {("node-0200", "cuda:0"), ("node-0300", "cuda:1")}
    drift = {one.host: (one.what, one.value) for one in fleet.drift}
    assert drift == {
        "node-0100": ("H20 (cuda) driver", "535.0.0"),
        "node-0400": ("H20: number of accelerators", "1"),
        "node-0500": ("H20 (cuda) environment threads", "8"),
    }
    assert fleet.ready(Use.TRAINING) == sorted(host["host"]["name"] for host in hosts)


@pytest.mark.parametrize("seed", range(20))
def test_no_sound_host_is_blamed(folder: Path, seed: int) -> None:
    fleet = fleet_of(folder, sound(30, seed, chips=4, count=80))
    assert odd_hosts(fleet) == set()
    assert fleet.looked_at > 4_000


def test_speeds_of_a_busy_host_are_not_judged(folder: Path) -> None:
    hosts = sound(20, chips=1, count=80)
    item = hosts[7]["accelerators"][0]
    for place, one in enumerate(hosts[7]["figures"]):
        if 400 < item["values"][place] < 600:
            item["values"][place] *= 0.5
            item.setdefault("busy", []).append(one["check"])
    assert item["busy"]
    assert fleet_of(folder, hosts).odd == ()
    item["busy"] = []
    assert {one.host for one in fleet_of(folder, hosts).odd} == {"node-0007"}


def test_a_fleet_of_two_generations_is_divided_and_not_odd(folder: Path) -> None:
    hosts = sound(40, chips=1, count=5)
    for host in hosts[:20]:
        host["accelerators"][0]["facts"]["driver"] = "535.0.0"
    fleet = fleet_of(folder, hosts)
    assert fleet.drift == ()
    assert fleet.splits == ("H20 (cuda) driver: 535.0.0 on 20, 580.1.0 on 20",)
    assert [len(one.hosts) for one in fleet.uniform_groups] == [20, 20]


def test_what_is_measured_on_some_hosts_only_is_compared_there(folder: Path) -> None:
    hosts = sound(20, chips=1, count=10) + [fleets.host(f"more-{number:02}", 1, chips=1, count=40) for number in range(20)]
    fleet = fleet_of(folder, hosts)
    assert odd_hosts(fleet) == set()


# ---------------------------------------------------------------------------------------------- who is accounted for


def test_every_host_stays_in_the_denominator(folder: Path) -> None:
    hosts = sound(3, chips=1, count=5)
    fleets.fail(hosts[1], 0, "device-not-faulty", "Xid 79: it has fallen off the bus")
    other = fleets.host("node-other", 1, chips=1, count=5) | {"profile": {"name": "smoke", "sha256": "cd" * 32}}
    fleets.write(folder, [*hosts, other])
    (folder / "node-broken.json").write_text("{")
    database = folder.parent / "fleet.sqlite"
    connection = store.open_store(database, create=True)
    store.expect(connection, [
        store.Expected("node-0000"), store.Expected("node-silent"), store.Expected("node-drained", "drained", "a fan"),
    ])  # fmt: skip
    connection.close()
    merged(folder, database)
    fleet = read(database)
    assert fleet.profile == "general"
    told = {host.name: (host.worst, [problem for problem, _ in host.problems]) for host in fleet.hosts}
    assert told == {
        "node-0000": (Decision.READY, []), "node-0001": (Decision.NOT_READY, []), "node-0002": (Decision.READY, []),
        "node-other": (Decision.UNDETERMINED, [Problem.OTHER_PROFILE]),
        "node-silent": (Decision.UNDETERMINED, [Problem.MISSING]),
        "node-drained": (Decision.UNDETERMINED, [Problem.SET_ASIDE]),
        "node-broken": (Decision.UNDETERMINED, [Problem.BROKEN]),
    }  # fmt: skip
    assert reports.counts(fleet, Use.TRAINING) == "2 of 7 hosts ready, 1 not, 4 undetermined (4 of these without a run)"
    assert reports.ready_list(fleet, Use.TRAINING) == "node-0000\nnode-0002\n"
    assert reports.failed_list(fleet, Use.TRAINING).split() == sorted(told.keys() - {"node-0000", "node-0002"})
    assert [one.host for one in fleet.set_aside] == ["node-drained"]
    text = reports.table(fleet)
    for words in ("device-not-faulty holds: Xid 79", "a fan", "node-broken.json", "not JSON"):
        assert words in text
    assert read(database, "smoke").profile == "smoke"
    with pytest.raises(UsageError, match=r"did you mean smoke\? choose one of general, smoke"):
        read(database, "smok")


def test_a_fleet_of_which_nobody_reported_has_a_picture(folder: Path) -> None:
    database = folder.parent / "fleet.sqlite"
    connection = store.open_store(database, create=True)
    store.expect(connection, [store.Expected("node-1"), store.Expected("node-2", "drained", "a fan")])
    connection.close()
    fleet = read(database)
    assert [(host.name, host.worst) for host in fleet.hosts] == [
        ("node-1", Decision.UNDETERMINED), ("node-2", Decision.UNDETERMINED),
    ]  # fmt: skip
    assert "0 of 2 hosts ready, 0 not, 2 undetermined (2 of these without a run)" in reports.table(fleet)
    assert "A fleet of 2 hosts" in page.render(fleet, "0")


def test_a_host_without_an_accelerator_is_undetermined(folder: Path) -> None:
    host = fleets.host("node-1", 1, chips=1, count=5)
    host["accelerators"] = []
    fleet = fleet_of(folder, [host])
    assert fleet.hosts[0].worst is Decision.UNDETERMINED
    assert "no accelerator was assessed" in reports.table(fleet)


def test_the_worst_accelerator_decides(folder: Path) -> None:
    host = fleets.host("node-1", 1, chips=3, count=5)
    fleets.fail(host, 2, "matmul-right", "bfloat16 is off")
    fleet = fleet_of(folder, [host])
    assert fleet.hosts[0].worst is Decision.NOT_READY
    assert fleet.hosts[0].scores[Use.TRAINING] == 60.0
    assert "matmul-right holds on cuda:2: bfloat16 is off" in reports.reasons(fleet.hosts[0])


# -------------------------------------------------------------------------------------------------------- merging


def told(database: Path) -> str:
    return dumps(reports.as_json(read(database), "0"))


def test_order_and_repetition_change_nothing(folder: Path) -> None:
    hosts = sound(12, chips=2, count=10)
    hosts += [fleets.host("node-0003", 2, chips=2, count=10, started="2026-11-30T11:00:00Z")]
    (folder / "again").mkdir(parents=True)
    for number, host in enumerate(hosts):
        file = folder / ("again" if number == 12 else ".") / f"{host['host']['name']}.json"
        file.write_text(json.dumps(host))
    (folder / "copy.json").write_text((folder / "node-0001.json").read_text())
    (folder / "junk.json").write_text("[]")
    files = merging.found_files([folder])
    assert len(files) == 15
    seen = set()
    for seed in range(5):
        database = folder.parent / f"{seed}.sqlite"
        random.Random(seed).shuffle(files)
        connection = store.open_store(database, create=True)
        for start in range(0, len(files), 4):
            merging.merge(connection, files[start : start + 4], processes=1, now=NOW)
        again = merging.merge(connection, files, processes=1, now=NOW)
        assert (again.added, again.known, list(again.broken)) == (0, 15, [str(folder / "junk.json")])
        connection.close()
        seen.add(told(database))
    assert len(seen) == 1
    assert json.loads(seen.pop())["uses"]["training"]["ready"] == 12
    latest = {host.name: host.started for host in read(folder.parent / "0.sqlite").hosts}
    assert latest["node-0003"] == "2026-11-30T11:00:00Z"


def test_an_assessment_and_its_summary_are_one_run(tmp_path: Path) -> None:
    from reports import host

    assessment = saved.small(tmp_path)
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "summary.json").write_text(host.render(assessment))
    database = tmp_path / "fleet.sqlite"
    merged(tmp_path / "hosts", database)
    before = read(database)
    assert before.unchecked == 1
    (tmp_path / "hosts" / "whole.json").write_text(dumps(to_json(assessment)))
    assert merged(tmp_path / "hosts", database).added == 1
    after = read(database)
    assert after.unchecked == 0
    assert [host.name for host in after.hosts] == [host.name for host in before.hosts]
    assert sqlite3.connect(database).execute("SELECT count(*) FROM run").fetchone() == (1,)


def test_a_verdict_that_does_not_follow_from_its_evidence_is_no_hosts(tmp_path: Path) -> None:
    document = to_json(saved.small(tmp_path))
    document["accelerators"][0]["verdicts"]["training"] |= {"verdict": "ready", "score": 100.0, "ceiling": 100.0}
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "node.json").write_text(dumps(document))
    found = merged(tmp_path / "hosts", tmp_path / "fleet.sqlite")
    assert (found.added, len(found.broken)) == (0, 1)


def test_a_file_that_was_replaced_says_what_it_says_now(folder: Path) -> None:
    database = folder.parent / "fleet.sqlite"
    host = fleets.host("node-1", 1, chips=1, count=5)
    fleets.fail(host, 0, "device-not-faulty", "broken")
    fleets.write(folder, [host])
    merged(folder, database)
    assert read(database).hosts[0].worst is Decision.NOT_READY
    fleets.write(folder, [fleets.host("node-1", 2, chips=1, count=5, started="2026-11-30T09:00:00Z")])
    merged(folder, database)
    assert read(database).hosts[0].worst is Decision.READY
    (folder / "node-1.json").write_text("cut off")
    merged(folder, database)
    assert read(database).hosts[0].problems[0][0] is Problem.BROKEN
    store.open_store(folder.parent / "empty.sqlite", create=True).close()
    with pytest.raises(UsageError, match="no host has reported"):
        read(folder.parent / "empty.sqlite")


def test_of_a_thousand_hosts_broken_duplicated_and_older_files_are_counted_exactly(folder: Path) -> None:
    hosts = sound(1000, chips=1, count=5)
    fleets.write(folder, hosts)
    for number in range(0, 400, 100):  # cut off: no host's, and its host stays in the denominator
        (folder / f"node-{number:04}.json").write_text((folder / f"node-{number:04}.json").read_text()[:-50])
    for number in range(1, 301, 100):  # the same file twice
        (folder / f"copy-of-{number}.json").write_text((folder / f"node-{number:04}.json").read_text())
    for number in range(2, 302, 100):  # a form that an older readiness wrote
        (folder / f"node-{number:04}.json").write_text(json.dumps(hosts[number] | {"schema": "readiness.host/0"}))
    for number in range(3, 303, 100):  # an older run of the same host, which had failed
        older = fleets.host(f"node-{number:04}", 2, chips=1, count=5, started="2026-01-01T00:00:00Z")
        fleets.fail(older, 0, "device-not-faulty", "mended since")
        (folder / f"january-{number}.json").write_text(json.dumps(older))
    database = folder.parent / "fleet.sqlite"
    for added, known in ((999, 0), (0, 1006)):  # 1006 files; what was broken is tried again and known
        found = merged(folder, database)
        assert (found.added, found.known, len(found.broken)) == (added, known, 7)
    connection = store.open_store(database, create=False)
    assert connection.execute("SELECT count(*) FROM file").fetchone() == (1006,)
    assert connection.execute("SELECT count(*) FROM run").fetchone() == (993 + 3,)
    connection.close()
    fleet = read(database)
    assert len(fleet.hosts) == 1000
    assert len(fleet.ready(Use.TRAINING)) == 993
    broken = {host.name for host in fleet.hosts if host.problems}
    assert broken == {f"node-{number:04}" for number in (0, 100, 200, 300, 2, 102, 202)}
    assert fleet.of(Use.TRAINING, Decision.NOT_READY) == []


# ------------------------------------------------------------------------------------------------- hostile content


def test_one_host_spoils_nobody_elses_result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "LARGEST_FILE_BYTES", 200_000)
    hosts = sound(5, chips=1, count=5)
    fleets.write(folder, hosts)
    lying = json.loads((folder / "node-0002.json").read_text())
    lying["accelerators"][0]["serial"] = "another machine"
    lying["started"] = "2026-11-30T11:59:00Z"
    fleets.fail(lying, 0, "device-not-faulty", "a lie")
    (folder / "impostor.json").write_text(json.dumps(lying))
    bold = fleets.host("node-bold", 1, chips=1, count=5)
    fleets.fail(bold, 0, "device-not-faulty", "broken")
    bold["accelerators"][0]["verdicts"]["training"]["verdict"] = "ready"
    future = fleets.host("node-future", 1, chips=1, count=5, started="2099-01-01T00:00:00Z")
    thief = fleets.host("node-thief", 1, chips=1, count=5)
    thief["accelerators"][0]["serial"] = hosts[4]["accelerators"][0]["serial"]
    fleets.write(folder, [bold, future, thief])
    (folder / "huge.json").write_text(json.dumps(fleets.host("node-huge", 1) | {"padding": "x" * 300_000}))
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "markup<script>.json").write_text('{"schema": "<script>alert(1)</script>"}')
    found = merged(folder, folder.parent / "fleet.sqlite")
    fleet = read(folder.parent / "fleet.sqlite")
    problems = {Path(path).name: text for path, text in found.broken.items()}
    assert problems.keys() == {"node-bold.json", "node-future.json", "huge.json", "deep.json", "markup<script>.json"}
    assert "does not follow" in problems["node-bold.json"]
    assert "in the future" in problems["node-future.json"]
    assert "larger than" in problems["huge.json"]
    of = {host.name: host for host in fleet.hosts}
    assert all(of[host["host"]["name"]].worst is Decision.READY for host in hosts), "the lie about node-0002 does not count"
    assert of["node-0002"].problems == ((Problem.FOREIGN, str(folder / "impostor.json")),)
    assert of["node-0004"].problems == ((Problem.SHARED_SERIAL, "node-thief"),)
    html = page.render(fleet, "0")
    assert "<script>alert" not in html
    assert "markup&lt;script&gt;" in html
    for host in hosts:
        assert host["host"]["name"] in fleet.ready(Use.TRAINING)


def test_two_machines_of_one_name_count_for_neither_list(folder: Path) -> None:
    for number in range(2):
        host = fleets.host("node-1", number, chips=1, count=5, started=f"2026-11-30T1{number}:00:00Z")
        host["accelerators"][0]["serial"] = f"machine {number}"
        folder.mkdir(exist_ok=True)
        (folder / f"run{number}.json").write_text(json.dumps(host))
    merged(folder, folder.parent / "fleet.sqlite")
    fleet = read(folder.parent / "fleet.sqlite")
    assert [problem for problem, _ in fleet.hosts[0].problems] == [Problem.CONTESTED]
    assert fleet.ready(Use.TRAINING) == []
    assert reports.failed_list(fleet, Use.TRAINING) == "node-1\n"


def test_a_host_with_accelerators_that_could_not_be_listed_is_not_among_the_ready(folder: Path) -> None:
    hosts = sound(2, chips=1, count=5)
    hosts[1]["failed_stacks"] = {"cuda": "the driver does not answer"}
    fleet = fleet_of(folder, hosts)
    assert fleet.ready(Use.TRAINING) == ["node-0000"]
    assert [host.name for host in fleet.of(Use.TRAINING, Decision.UNDETERMINED)] == ["node-0001"]
    assert reports.failed_list(fleet, Use.TRAINING) == "node-0001\n"
    assert [one.hosts for one in fleet.uniform_groups] == [("node-0000",)]
    assert "it has accelerators that could not be listed (cuda: the driver does not answer)" in reports.table(fleet)


# ---------------------------------------------------------------------------------------------------------- database


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda file: file.write_text("no database at all, but text" * 50), "not a fleet's database"),
        (lambda file: sqlite3.connect(file).execute("CREATE TABLE other (x)").connection.close(), "not a fleet's database"),
        (lambda file: None, "there is no such file"),
    ],
)
def test_what_is_no_fleets_database_is_refused(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    file = tmp_path / "fleet.sqlite"
    make(file)
    content = file.read_bytes() if file.exists() else None
    with pytest.raises(UsageError, match=says):
        store.open_store(file, create=False).close()
    if content is not None:
        with pytest.raises(BadFileError, match=says):
            store.open_store(file, create=True).close()
        assert file.read_bytes() == content, "nothing of it was overwritten"


def test_a_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "fleet.sqlite"
    store.open_store(file, create=True).close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(BadFileError, match="form of this database is 9"):
        store.open_store(file, create=False)


# ----------------------------------------------------------------------------------------------------------- reports


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    folder = tmp_path_factory.mktemp("mixed") / "hosts"
    hosts = sound(30, chips=2, count=30)
    fleets.fail(hosts[3], 1, "device-not-faulty", "=HYPERLINK(\"http://x\")")
    hosts[4]["accelerators"][0]["facts"]["driver"] = "<i>535</i>"
    hosts[5]["accelerators"][0]["values"] = [value * 0.5 for value in hosts[5]["accelerators"][0]["values"]]
    fleets.write(folder, hosts)
    (folder / "node-broken.json").write_text("{")
    merged(folder, folder.parent / "fleet.sqlite")
    return read(folder.parent / "fleet.sqlite")


def test_two_renderings_are_the_same_bytes(mixed: Fleet) -> None:
    assert page.render(mixed, "0") == page.render(mixed, "0")
    assert workbook.render(mixed, "0") == workbook.render(mixed, "0")


def test_the_page_shows_the_worst_host_odd_values_and_what_differs(mixed: Fleet) -> None:
    html = page.render(mixed, "0").replace("<wbr>", "")
    for words in (
        "29 of 31 ready", "node-0003", "device-not-faulty holds", "&lt;i&gt;535&lt;/i&gt;", "node-0005 cuda:0", "node-broken",
    ):  # fmt: skip
        assert words in html, words
    assert "http-equiv" in html
    assert "<i>535" not in html


def test_the_workbook_has_no_formula(mixed: Fleet) -> None:
    import io

    import openpyxl

    book = openpyxl.load_workbook(io.BytesIO(workbook.render(mixed, "0")))
    assert book.sheetnames == ["Hosts", "Open", "Odd", "Differs", "Files", "Notes"]
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert any("HYPERLINK" in str(cell.value) for cell in cells)
    assert {cell.data_type for cell in cells} <= {"s", "n"}
    assert [row[0].value for row in book["Hosts"].iter_rows(min_row=2, max_row=2)] == ["node-0003"]


def test_metrics_are_read_by_the_library(mixed: Fleet) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    text = reports.openmetrics(mixed, "0")
    samples = {
        (one.name, one.labels.get("host"), one.labels.get("use"), one.labels.get("verdict")): one.value
        for family in text_string_to_metric_families(text.removesuffix("# EOF\n"))
        for one in family.samples
    }
    assert samples["readiness_fleet_hosts", None, "training", "ready"] == 29
    assert samples["readiness_fleet_host_verdict", "node-0003", "training", None] == 1
    assert samples["readiness_fleet_host_verdict", "node-broken", "training", None] == 3
    assert samples["readiness_fleet_host_reported", "node-broken", None, None] == 0
    assert samples["readiness_fleet_host_odd", "node-0005", None, None] > 0
    assert samples["readiness_fleet_host_odd", "node-0001", None, None] == 0


@pytest.mark.parametrize(
    ("scheduler", "line"),
    [
        ("slurm", "scontrol update nodename=node-0003 state=drain reason='readiness: device-not-faulty holds on cuda:1: =HYPERLINK(http://x)'\n"),
        ("kubernetes", "kubectl cordon node-0003  # device-not-faulty holds on cuda:1: =HYPERLINK(http://x)\n"),
    ],
)
def test_commands_for_schedulers_hold_nothing_that_a_shell_obeys(mixed: Fleet, scheduler: str, line: str) -> None:
    assert reports.drain_commands(mixed, Use.TRAINING, scheduler) == line


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(mixed: Fleet, columns: int) -> None:
    for line in reports.table(mixed, width=columns, verbose=True).splitlines():
        assert len(line) <= columns
