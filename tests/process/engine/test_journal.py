"""A run's folder that somebody else has filled, and journals that are none: one clear error, nothing run, nothing lost."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from readiness.accelerators import remote_devices
from readiness.accelerators.remote_devices import Host
from readiness.datamodel import Evidence, Status
from readiness.engine.discovery import Discovery
from readiness.engine.journal import Journal
from readiness.engine.resume import reconcile_devices
from readiness.errors import BadFileError, Exit, UsageError
from readiness.profile import loader as profiles
from tests.support import checks, cpu
from tests.support.command_line import readiness

Records = list[dict[str, Any]]
REQUEST = {
    "profile": "smoke", "uses": [], "devices": ["cpu"], "expression": "driver.random", "within_s": None, "timeout_s": None,
    "soak_s": None, "seed": 7, "failed": False, "rehearse": False, "hosts": [], "reach": None, "address": None,
    "shared": None, "only": None, "sha256": "", "elsewhere": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def digest() -> str:
    """Of the profile that the run was asked for."""
    return profiles.load("smoke", checks()).sha256


@pytest.fixture
def folder(tmp_path: Path, digest: str) -> Path:
    """A run that was begun: what was asked, one accelerator, one piece of evidence."""
    with Journal(tmp_path / "run") as journal:
        journal.save_request(REQUEST | {"sha256": digest})
        journal.open()
        journal.begin_session()
        journal.found((cpu().facts,), {}, 0.5)
        journal.append("cpu:0", Evidence("driver.random", Status.SKIPPED, reason="a test"), 1.5)
    return tmp_path / "run"


def read(folder: Path) -> Journal:
    """The journal as a run that goes on finds it."""
    with Journal(folder) as journal:
        journal.saved_request()
        journal.open()
    return journal


def test_what_was_kept_is_read_back(folder: Path) -> None:
    journal = read(folder)
    assert [facts.id for facts in journal.accelerators] == ["cpu:0"]
    assert list(journal.evidence) == [("cpu:0", "driver.random")]
    assert journal.seconds_before == 1.5


def put(**changes: Any) -> Callable[[Records], object]:
    """Changes of the record of what was found; of its accelerator where the name begins with one."""

    def change(records: Records) -> None:
        for name, value in changes.items():
            where, _, key = name.rpartition("__")
            (records[1]["accelerators"][0] if where else records[1])[key] = value

    return change


def of(number: int, **changes: Any) -> Callable[[Records], object]:
    return lambda records: records[number].update(changes)


def without(number: int, name: str) -> Callable[[Records], object]:
    return lambda records: records[number].pop(name)


def twice(records: Records) -> None:
    records[1]["accelerators"] *= 2


def found_twice(records: Records) -> None:
    records.insert(2, records[1])


BAD: dict[str, Callable[[Records], object]] = {
    "accelerators are a word": put(accelerators="cpu:0"),
    "accelerators are none": put(accelerators=[]),
    "accelerators are words": put(accelerators=["cpu:0"]),
    "accelerators are by name": put(accelerators={"cpu:0": {}}),
    "accelerators are missing": without(1, "accelerators"),
    "an accelerator twice": twice,
    "two records of what was found": found_twice,
    "an id is a number": put(a__id=3),
    "an id is markup": put(a__id="<b>cpu:0"),
    "an index is a word": put(a__index="0"),
    "a model is a list": put(a__model=["cpu"]),
    "software is a list": put(a__stack=["torch"]),
    "software is a number": put(a__stack={"torch": 2}),
    "properties are a word": put(a__properties="none"),
    "counters are words": put(a__counters={"faults": "none"}),
    "counters are a list": put(a__counters=[1]),
    "a stack is a list": put(a__driven_by=[]),
    "another host": put(a__properties={"host": {"name": "n", "command": ["true"], "address": "127.0.0.1"}}),
    "failures are a list": put(failures=[]),
    "failures are numbers": put(failures={"cuda": 1}),
    "failures are missing": without(1, "failures"),
    "a machine is a list": put(machine=[["name", "here"]]),
    "a machine of numbers": put(machine={"name": 1}),
    "at is a word": of(2, at="now"),
    "at is a list": of(0, at=[0]),
    "at is nothing": of(1, at=None),
    "at is true": of(1, at=True),
    "at is negative": of(2, at=-1.0),
    "at is endless": of(2, at=1e300),
    "at is missing": without(2, "at"),
    "a kind is a list": of(0, kind=["session"]),
    "a kind is missing": without(0, "kind"),
    "evidence is a word": of(2, evidence="measured"),
    "evidence is of a list": of(2, accelerator=["cpu:0"]),
    "evidence of no status": lambda records: records[2]["evidence"].update(status="fine"),
    "evidence of no check": lambda records: records[2]["evidence"].pop("check"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_record_is_one_clear_error_with_its_line(what: str, folder: Path) -> None:
    file = folder / "journal.jsonl"
    records: Records = [json.loads(line) for line in file.read_text().splitlines()]
    bad = copy.deepcopy(records)
    BAD[what](bad)
    assert bad != records
    content = "".join(json.dumps(record) + "\n" for record in bad)
    file.write_text(content)
    with pytest.raises(BadFileError, match="this is not a record of a run") as problem:
        read(folder)
    assert str(problem.value.place).startswith(f"{file}:")
    assert problem.value.exit_code is Exit.USAGE
    assert problem.value.remedy
    assert file.read_text() == content, "nothing is lost"


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[1]", "3", "null", "NaN", '{"kind": "session", "at": NaN}', '{"kind": "session", "at": 1e999}', "[" * 100_000, '{"at": 0, "at": 1}'],
)
def test_a_line_that_is_no_record_is_an_error_with_its_place(line: str, folder: Path) -> None:
    with (folder / "journal.jsonl").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(BadFileError, match="this is not a record of a run") as problem:
        read(folder)
    assert str(problem.value.place).endswith("journal.jsonl:4")


def test_sessions_that_took_longer_than_any_run_are_reported(folder: Path) -> None:
    with (folder / "journal.jsonl").open("a") as stream:
        stream.writelines('{"kind": "session", "at": 1e11}\n' for _ in range(3))
    with pytest.raises(BadFileError, match="longer than a run can take"):
        read(folder)


@pytest.mark.parametrize("started", [7, "", "yesterday", "2026-11-30", "2026-11-30T06:55:00Z\n", None, ["2026"]])
def test_an_invalid_start_time_is_an_error(started: object, folder: Path) -> None:
    document = json.loads((folder / "run.json").read_text()) | {"started": started}
    (folder / "run.json").write_text(json.dumps(document))
    with pytest.raises(BadFileError, match="started"):
        read(folder)


def test_a_record_of_a_later_version_is_left_alone(folder: Path) -> None:
    with (folder / "journal.jsonl").open("a") as stream:
        stream.write('{"kind": "weather", "at": 2.0, "sun": []}\n')
    assert read(folder).seconds_before == 2.0


@pytest.mark.parametrize("torn", [b"{", b'{"kind": "evidence", "at": 3', b"\0" * 100, b'{"ki\0\0\0'])
def test_what_a_kill_or_a_power_cut_left_at_the_end_is_dropped(torn: bytes, folder: Path) -> None:
    file = folder / "journal.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + torn.rstrip(b"\0") if torn.startswith(b"{") else whole + torn)
    assert len(read(folder).evidence) == 1
    assert file.read_bytes() == whole


def test_a_file_of_the_users_is_no_torn_line(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text("my diary, without a newline")
    with pytest.raises(BadFileError, match="its last line is not a record of readiness"), Journal(tmp_path) as journal:
        journal.open()
    assert (tmp_path / "journal.jsonl").read_text() == "my diary, without a newline"


@pytest.mark.parametrize("content", [b"precious, no line", b"precious\n"])
@pytest.mark.parametrize("name", ["journal.jsonl", "run.json", "lock"])
def test_a_link_in_the_folder_leads_nowhere(name: str, content: bytes, folder: Path) -> None:
    target = folder.parent / "target"
    target.write_bytes(content)
    (folder / name).unlink()
    (folder / name).symlink_to(target)
    with pytest.raises(UsageError, match="symbolic link"):
        read(folder)
    assert target.read_bytes() == content


@pytest.mark.parametrize("name", ["journal.jsonl", "run.json", "lock"])
def test_a_pipe_in_the_folder_is_not_waited_for(name: str, folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    signal.alarm(60)  # a file that is waited for blocks in the kernel
    try:
        with pytest.raises(UsageError, match="regular file"):
            read(folder)
    finally:
        signal.alarm(0)


def test_what_checks_keep_leads_nowhere(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "kept").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(UsageError, match="it is not a folder"):
        read(folder)
    (folder / "kept").unlink()
    (folder / "kept").mkdir(mode=0o700)
    (folder / "kept" / "multichip.soak-cpu_0.checkpoint").symlink_to(folder.parent / "target")
    with pytest.raises(UsageError, match="symbolic link"):
        read(folder)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_folder_that_others_may_write_is_not_gone_on_with(mode: int, folder: Path) -> None:
    folder.chmod(mode)
    with pytest.raises(UsageError, match="other users may write to it"):
        read(folder)


def test_a_folder_of_another_user_is_not_gone_on_with_even_by_root(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives folders away")
    os.chown(folder, 4711, 4711)
    with pytest.raises(UsageError, match="it belongs to user 4711"):
        read(folder)


def test_a_run_under_a_mask_that_lets_the_group_write_can_go_on(tmp_path: Path) -> None:
    mask = os.umask(0o002)
    try:
        for _ in range(2):
            with Journal(tmp_path / "run") as journal:
                if journal.saved_request() is None:
                    journal.save_request(REQUEST)
                journal.open()
                journal.begin_session()
                journal.kept(("cpu:0", "many.step0"), make=True)
    finally:
        os.umask(mask)


def test_a_worker_gets_the_accelerator_as_discovered_now(folder: Path) -> None:
    """All but the fault counters, which are from the very start: a worker does what a description says."""
    now = cpu().facts
    with Journal(folder) as journal:
        journal.open()
        journal.accelerators = (
            replace(now, counters={"faults": 3}, properties={**now.properties, "pci_address": "../../etc"}),
        )
        (settled,) = reconcile_devices((now,), Discovery((now,), {}, {}), journal, 0.0)
    assert settled == replace(now, counters={"faults": 3})


def touching(file: Path) -> list[str]:
    return ["/bin/sh", "-c", f"touch {file}; exit 1"]


def test_no_command_of_a_folder_is_run(folder: Path, tmp_path: Path) -> None:
    """Neither one that is said to reach other hosts, nor one that stands with an accelerator."""
    proof = tmp_path / "proof"
    document = json.loads((folder / "run.json").read_text())
    document["asked"] |= {"hosts": ["n"], "reach": f"/bin/sh -c 'touch {proof}' {{host}} {{python}}", "address": "127.0.0.1"}
    (folder / "run.json").write_text(json.dumps(document))
    result = readiness("run", "--resume", str(folder), "-q", state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "commands are never read from a file" in " ".join(result.stderr.split())
    document["asked"] |= {"hosts": [], "reach": None, "address": None}
    (folder / "run.json").write_text(json.dumps(document))
    journal = folder / "journal.jsonl"
    session, found, *_ = map(json.loads, journal.read_text().splitlines())
    host = remote_devices.on_host(Host("n", tuple(touching(proof)), "127.0.0.1"), cpu().facts).properties["host"]
    found["accelerators"][0]["properties"]["host"] = host
    journal.write_text(json.dumps(session) + "\n" + json.dumps(found) + "\n")
    result = readiness("run", "--resume", str(folder), "-q", state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "names a host" in " ".join(result.stderr.split())
    assert not proof.exists()


def test_the_command_line_must_name_other_hosts_again(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "run.json").read_text())
    document["asked"] |= {"hosts": ["n"], "reach": "true {host}", "address": "127.0.0.1"}
    (folder / "run.json").write_text(json.dumps(document))
    for again, words in {
        (): "--reach, --address and --shared if they were given",
        ("--host", "n"): "--reach, --address and --shared if they were given",
        ("--host", "m", "--reach", "true {host}", "--address", "127.0.0.1"): "was started with hosts = ['n'], not ['m']",
        ("--host", "n", "--reach", "false {host}", "--address", "127.0.0.1"): "was started with reach = 'true {host}'",
        ("--host", "n", "--reach", "true {host}", "--address", "127.0.0.1"): "n answers '', which is not a list of accelerators",
    }.items():
        result = readiness("run", "--resume", str(folder), "-q", *again, state=tmp_path)
        assert result.returncode == Exit.USAGE
        assert words in " ".join(result.stderr.split())
