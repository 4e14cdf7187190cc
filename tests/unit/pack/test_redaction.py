"""What tells who and where is taken out everywhere, and the document still follows from its evidence."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from readiness.datamodel import Assessment, Joined, Measurement
from readiness.documents import assessment as documents
from readiness.judging.rejudge import rejudge
from readiness.pack import build, redaction
from readiness.pack.redaction import Redaction, Secret, kinds_of
from tests.support import packs, saved

SECRETS = (
    "gpu-node17", "gpu-node17.lab.example.com", "node2", "S0", "GPU-7d3f7a1c-aaaa-bbbb-cccc-123456789abc", "alice", "10.11.12.13",
    "fe80::1ff:fe23:4567:890a", "02:42:ac:11:00:02", "BOARD-9931", "172.16.254.9",
)  # fmt: skip
KEPT = ("127.0.0.1", "0.0.0.0", "25.0.3.2", "0000:3b:00.0", "12:30:45", "aten::mm", "c10d::*")


def revealing(folder: Path) -> Assessment:
    """The small assessment of a machine that tells much of itself."""
    made = saved.small(folder)
    items = []
    for item in made.accelerators:
        pieces = tuple(
            replace(
                piece,
                log="on gpu-node17.lab.example.com at 12:30:45: aten::mm, c10d::* of /home/alice/run; peer 10.11.12.13:29500, "
                "eth0 02:42:ac:11:00:02, lo 127.0.0.1, listens 0.0.0.0, device 0000:3b:00.0",
                environment={"variables": {"NCCL_SOCKET_IFNAME": "172.16.254.9", "HOME": "/home/alice"}},
                rows=tuple({**row, "host": "gpu-node17", "gpu-node17": "fe80::1ff:fe23:4567:890a"} for row in piece.rows),
            )
            for piece in item.evidence
        )
        facts = replace(
            item.facts,
            properties={
                "uuid": "GPU-7d3f7a1c-aaaa-bbbb-cccc-123456789abc", "board_serial": "BOARD-9931", "user": "alice",
                "firmware_version": "25.0.3.2", "path": "/home/alice/chip.toml",
            },
        )  # fmt: skip
        items.append(replace(item, facts=facts, evidence=pieces))
    return replace(
        made, accelerators=tuple(items), joined=(Joined("node2", "node2/sim:0", "sim"),),
        host={**made.host, "name": "gpu-node17", "hosts": ["gpu-node17", "node2"]},
    )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Assessment:
    return revealing(tmp_path)


def taken_out(made: Assessment, *kept: Secret) -> tuple[Any, Redaction]:
    redaction = Redaction(kept)
    return redaction.applied("a.json", documents.to_json(made)), redaction


def test_nothing_is_left_anywhere_and_it_is_still_sound(made: Assessment) -> None:
    document, _ = taken_out(made)
    text = json.dumps(document)
    for secret in SECRETS:
        assert secret not in text, secret
    for harmless in KEPT:
        assert harmless in text, harmless
    read = documents.from_json(document, "here")
    assert read.accelerators[0].verdicts == made.accelerators[0].verdicts
    assert [finding.outcome for finding in read.accelerators[0].findings] == [
        finding.outcome for finding in made.accelerators[0].findings
    ]


def test_the_same_value_has_the_same_placeholder_also_over_several_files(made: Assessment) -> None:
    redaction = Redaction()
    first = redaction.applied("a.json", documents.to_json(made))
    second = redaction.applied("b.json", documents.to_json(made))
    assert first == second
    assert first["host"]["name"] == first["host"]["hosts"][0]
    assert first["joined"][0]["id"] == f"{first['joined'][0]['host']}/sim:0"
    assert first["accelerators"][0]["serial"] != first["accelerators"][1]["serial"]
    assert first["host"]["name"] in first["accelerators"][0]["evidence"][0]["log"]


def test_what_was_taken_out_is_listed_without_its_value(made: Assessment) -> None:
    _, redaction = taken_out(made)
    listed = redaction.listed()
    assert {entry["what"] for entry in listed} == {"serials", "hosts", "addresses", "users"}
    assert all(entry["places"] >= len(entry["first"]) >= 1 for entry in listed)
    assert any("a.json.host.name" in entry["first"] for entry in listed)
    text = json.dumps(listed)
    assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize(
    ("kept", "there"),
    [(Secret.HOSTS, "gpu-node17"), (Secret.SERIALS, "S0"), (Secret.ADDRESSES, "10.11.12.13"), (Secret.USERS, "/home/alice")],
)
def test_requested_kinds_are_kept_and_the_rest_is_redacted(made: Assessment, kept: Secret, there: str) -> None:
    document, redaction = taken_out(made, kept)
    assert there in json.dumps(document)
    assert kept.value not in {entry["what"] for entry in redaction.listed()}
    others = {Secret.HOSTS: "node2", Secret.SERIALS: "BOARD-9931", Secret.ADDRESSES: "172.16", Secret.USERS: "alice"}
    for secret, text in others.items():
        assert (text in json.dumps(document)) is (secret is kept)


def test_everything_can_be_kept(made: Assessment) -> None:
    assert kinds_of(["all"]) == frozenset(Secret)
    document, redaction = taken_out(made, *Secret)
    assert document == documents.to_json(made)
    assert redaction.listed() == []


@pytest.mark.parametrize("name", ["vm", "a", "sim", "cpu", "general", "mm", "training", "pass", "measured", "torch", "node.2", "x" * 60, "float32", "two"])
def test_a_host_of_any_name_leaves_a_sound_document(tmp_path: Path, name: str) -> None:
    """Host names are words like others: ids, outcomes and measures must not lose theirs."""
    made = saved.small(tmp_path, joined=(Joined(name, f"{name}/sim:0", "sim"),))
    document, _ = taken_out(packs.with_host(made, name=name))
    read = documents.from_json(document, "here")
    assert read.host["name"].startswith("host-") or name in ("sim", "cpu")
    assert read.accelerators[0].verdicts == made.accelerators[0].verdicts


def test_a_label_called_host_is_no_name_of_one(tmp_path: Path) -> None:
    made = saved.small(tmp_path)
    items = tuple(
        replace(
            item,
            evidence=tuple(
                replace(piece, measurements=(*piece.measurements, Measurement("wrong", 0, {"host": "excluded"}, "1")))
                if piece.check == "group.sum" else piece
                for piece in item.evidence
            ),
        )
        for item in made.accelerators
    )  # fmt: skip
    document, redaction = taken_out(replace(made, accelerators=items))
    assert '"host": "excluded"' in json.dumps(document)
    assert "excluded" not in [value for _, value in redaction.found]


def test_a_user_in_the_paths_of_a_profile_is_taken_out_and_its_digest_stays(tmp_path: Path) -> None:
    home = tmp_path / "home" / "margaret" / "work"
    home.mkdir(parents=True)
    made = saved.small(home)
    demanded = saved.profile(home)
    made = rejudge(made, demanded, saved.BOTH, basis=made.basis)
    assert "margaret" in json.dumps(documents.to_json(made))
    document, _ = taken_out(made)
    assert "margaret" not in json.dumps(document)
    assert documents.from_json(document, "here").profile_sha256 == made.profile_sha256


def test_a_pack_holds_the_redacted_file_and_the_digest_of_the_other(tmp_path: Path) -> None:
    file = packs.written(tmp_path, revealing(tmp_path))
    core = build.read(build.Request(assessments=[file]))
    files = build.whole(core)
    for path, content in files.items():
        for secret in SECRETS:
            assert secret.encode() not in content, (path, secret)
    entry = core.pack["assessments"][0]
    assert entry["sha256_before_redaction"] != entry["sha256"]
    assert core.pack["kept"] == []


def test_any_number_of_values_is_taken_out_in_one_pass_and_the_list_of_them_stays_short() -> None:
    """A log can name a hundred thousand people and addresses; each was a pattern of its own, searched in every text."""
    count = 2 * redaction.MOST_LISTED
    named = " ".join(f"/home/u{number}-x" for number in range(count))
    again = " ".join(f"u{number}-x 10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(count))
    made = Redaction()
    document = made.applied("a", {"rows": [{"log": named}, {"log": again}, {"log": "u7-x and u77-x-y"}]})
    text = json.dumps(document)
    assert not re.search(r"u[0-9]+-x[ \"]|10\.[0-9]+\.", text)
    assert "u77-x-y" in text  # another word
    listed = made.listed()
    assert len(listed) == redaction.MOST_LISTED + 2
    assert [entry["places"] for entry in listed if entry["what"] == "users"][-1] == 2 * (count - redaction.MOST_LISTED)
    assert listed[-1]["placeholder"] == f"user-10001 to user-{count}, {redaction.MOST_LISTED} values"
    assert sum(entry["what"] == "addresses" for entry in listed) == 1


def test_the_longest_value_is_found_and_parts_of_words_are_not() -> None:
    host, serial, short = "node-1", "node-1 rear (2)", "n1"
    made = Redaction()
    texts = [
        "node-1", "node-1.example.com.", "node-1 rear (2)!", "node-1 rear (2)x", "node-10 anode-1", "n1/cuda:0 n1", "(node-1)",
        "/home/bo/x bo", "x#77 #77",
    ]
    document = made.applied("a", {
        "accelerators": [{"id": "n1/cuda:0", "serial": serial}], "host": {"name": host}, "rows": [{"board_serial": "#77"}, *({"text": text} for text in texts)],
    })  # fmt: skip
    assert short not in json.dumps(document["accelerators"])
    assert [row["text"] for row in document["rows"][1:]] == [
        "host-2", "host-2.", "serial-1!", "host-2 rear (2)x", "node-10 anode-1", "host-1/cuda:0 n1", "(host-2)",
        "/home/user-1/x bo", "x#77 serial-2",
    ]  # fmt: skip
