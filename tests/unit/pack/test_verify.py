"""A pack that was altered is found, whatever was altered; one that was not is whole."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from readiness.datamodel import Profile
from readiness.judging.profile_demands import digest_of
from readiness.pack import build, container, signing, verify
from readiness.pack.contents import (
    ENVELOPES,
    MANIFEST,
    OUTSIDE_MANIFEST,
    PACK,
    PAGE,
    PUBLIC_KEY,
    STATEMENT,
    TEST_RESULT,
    dumped,
    manifest,
)
from readiness.pack.verify import State
from tests.support import packs

ASSESSMENT = "assessments/a.json"
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[signing.SigningKey, Path]:
    """A private key and the file of its public half."""
    mine, public = packs.key_files(tmp_path_factory.mktemp("key"))
    return signing.read_private(mine), public


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, key: tuple[signing.SigningKey, Path]) -> Files:
    """A signed pack with everything in it but the PDF."""
    folder = tmp_path_factory.mktemp("pack")
    (folder / "rack.png").write_bytes(b"\x89PNG a picture")
    return packs.contents(folder, key[0], attachments=[folder / "rack.png"], with_workbook=True)


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The same without signatures, as whoever forges one starts from."""
    folder = tmp_path_factory.mktemp("unsigned")
    (folder / "rack.png").write_bytes(b"\x89PNG a picture")
    return packs.contents(folder, attachments=[folder / "rack.png"], with_workbook=True)


def profile_of(files: Files) -> str:
    return next(path for path in files if path.startswith("profiles/"))


# ------------------------------------------------------------------------------------------------------ whole, signed


def test_a_signed_pack_is_whole(files: Files, key: tuple[signing.SigningKey, Path]) -> None:
    found = verify.of_contents(files, signing.read_public(key[1]))
    assert (found.state, found.altered, found.reasons) == (State.SIGNED, [], [])
    assert found.signed_by == key[0].signer.public_key.keyid


def test_without_a_key_or_with_another_one_it_is_whole_and_not_vouched_for(files: Files, tmp_path: Path) -> None:
    assert verify.of_contents(files, None).state is State.UNVOUCHED
    other = verify.of_contents(files, signing.read_public(packs.key_files(tmp_path)[1]))
    assert other.state is State.UNVOUCHED
    assert "and not by" in other.reasons[0]


def test_an_unsigned_pack_is_whole_and_not_vouched_for(tmp_path: Path, key: tuple[signing.SigningKey, Path]) -> None:
    found = verify.of_contents(packs.contents(tmp_path), signing.read_public(key[1]))
    assert (found.state, found.reasons) == (State.UNVOUCHED, ["it is not signed"])


def test_a_profile_that_demands_something_else_today_makes_it_stale(unsigned: Files) -> None:
    found = verify.of_contents(unsigned, None)
    assert found.core is not None
    judged = found.core.subjects[0].assessment
    same = Profile(judged.profile_name, "", judged.uses, (), sha256=judged.profile_sha256)
    verify.stale(found.core, {"small": same}, found)
    assert found.reasons == ["it is not signed"]
    verify.stale(found.core, {"small": replace(same, sha256="0" * 64)}, found)
    assert "stale" in found.reasons[-1]
    verify.stale(found.core, {}, found)
    assert "not known here" in found.notes[-1]


# --------------------------------------------------------------------------------------------------------- single bits


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_each_of_a_thousand_single_bit_changes_is_found_and_named(files: Files, key: tuple[signing.SigningKey, Path]) -> None:
    random_ = random.Random(20261130)
    public = signing.read_public(key[1])
    bits = [(path, bit) for path, content in files.items() for bit in random_.sample(range(8 * len(content)), 40)]
    sizes = [8 * len(content) for content in files.values()]
    further = random_.choices(list(files), weights=sizes, k=1000 - len(bits))
    bits += [(path, random_.randrange(8 * len(files[path]))) for path in further]
    assert len(bits) == 1000
    for path, bit in bits:
        found = verify.of_contents({**files, path: flipped(files[path], bit)}, public)
        assert found.state is State.ALTERED, (path, bit)
        if path not in OUTSIDE_MANIFEST:
            assert path in [one.file for one in found.altered], (path, bit)


def test_every_bit_of_an_archive_counts(files: Files, tmp_path: Path) -> None:
    whole = container.archive(files)
    random_ = random.Random(7)
    index = whole.index(b"PK\x01\x02")
    bits = [random_.randrange(8 * len(whole)) for _ in range(100)]
    bits += [random_.randrange(8 * index, 8 * len(whole)) for _ in range(100)] + list(range(8 * 30))
    place = tmp_path / "pack.zip"
    for bit in bits:
        place.write_bytes(flipped(whole, bit))
        assert verify.verify(place, None).state is State.ALTERED, bit
    place.write_bytes(whole)
    assert verify.verify(place, None).state is State.UNVOUCHED


@pytest.mark.parametrize("path", ["index.html", "signatures/statement.dsse.json", "statement.json", "manifest.json", "pack.json"])
def test_every_byte_that_is_added_counts(files: Files, path: str) -> None:
    assert verify.of_contents({**files, path: files[path] + b"\n"}, None).state is State.ALTERED


def test_every_file_that_is_taken_out_or_added_counts(unsigned: Files) -> None:
    for path in unsigned:
        left = {name: content for name, content in unsigned.items() if name != path}
        found = verify.of_contents(left, None)
        assert path in [one.file for one in found.altered], path
        if path not in OUTSIDE_MANIFEST and path != PUBLIC_KEY:
            assert verify.of_contents(packs.made_anew(left) if path != PACK else left, None).state is State.ALTERED, path
    for name in ("more.txt", "assessments/b.json", "signatures/more.pem", "signatures/statement.tsr"):
        assert verify.of_contents({**unsigned, name: b"{}"}, None).state is State.ALTERED, name
        if not name.startswith("signatures/"):
            assert verify.of_contents(packs.made_anew({**unsigned, name: b"{}"}), None).state is State.ALTERED, name


# -------------------------------------------------------------------------------------- altered, and the manifest made anew


def edited(files: Files, path: str, edit: Callable[[Any], None]) -> Files:
    document = json.loads(files[path])
    edit(document)
    return packs.altered(files, path, document)


def verdict(document: Any) -> None:
    document["accelerators"][0]["verdicts"]["training"]["verdict"] = "undetermined"


def score(document: Any) -> None:
    document["accelerators"][1]["verdicts"]["inference"]["score"] += 1


def dropped_evidence(document: Any) -> None:
    del document["accelerators"][0]["evidence"][1]


def topic(document: Any) -> Any:
    return next(piece for piece in document["accelerators"][0]["evidence"] if piece["check"] == "family.topic")


def dropped_measurement(document: Any) -> None:
    topic(document)["measurements"] = [one for one in topic(document)["measurements"] if one["name"] != "speed"]


def dropped_finding(document: Any) -> None:
    del document["accelerators"][0]["findings"][0]


def dropped_accelerator(document: Any) -> None:
    del document["accelerators"][0]


def measured_better(document: Any) -> None:
    for one in topic(document)["measurements"]:
        if one["name"] == "error":
            one["value"] = 0.0


def easier_limit(document: Any) -> None:
    for entry in document["profile"]["demands"]["require"]:
        entry["level"] = "info"


def easier_limit_with_its_digest(document: Any) -> None:
    easier_limit(document)
    document["profile"]["sha256"] = digest_of(document["profile"]["demands"])


def waived(document: Any) -> None:
    for finding in document["accelerators"][0]["findings"]:
        if finding["outcome"] == "fail":
            finding["waived"] = {"requirement": finding["requirement"], "accelerator": "*", "reason": "x", "by": "x", "until": "2099-01-01"}


EDITS = [
    verdict, score, dropped_evidence, dropped_measurement, dropped_finding, dropped_accelerator, measured_better, easier_limit,
    easier_limit_with_its_digest, waived,
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_assessment_is_found_even_when_the_manifest_is_made_anew(unsigned: Files, edit: Callable[[Any], None]) -> None:
    forged = packs.made_anew(edited(unsigned, ASSESSMENT, edit))
    found = verify.of_contents(forged, None)
    assert found.state is State.ALTERED
    assert ASSESSMENT in [one.file for one in found.altered]


def test_every_piece_of_evidence_that_is_dropped_is_found(unsigned: Files) -> None:
    whole = json.loads(unsigned[ASSESSMENT])
    for number, item in enumerate(whole["accelerators"]):
        for place in range(len(item["evidence"])):
            document = json.loads(unsigned[ASSESSMENT])
            del document["accelerators"][number]["evidence"][place]
            found = verify.of_contents(packs.made_anew(packs.altered(unsigned, ASSESSMENT, document)), None)
            assert found.state is State.ALTERED, (number, place)
            if item["evidence"][place]["measurements"]:
                assert ASSESSMENT in [one.file for one in found.altered], (number, place)


def test_a_swapped_profile_is_found_even_when_the_manifest_is_made_anew(unsigned: Files) -> None:
    path = profile_of(unsigned)

    def easier(document: Any) -> None:
        document["demands"]["require"][0]["limit"]["bound"] = 1e9

    def renamed(document: Any) -> None:
        document["name"] = "another"

    def of_another(document: Any) -> None:
        document["sha256"] = "0" * 64

    for edit in (easier, renamed, of_another):
        found = verify.of_contents(packs.made_anew(edited(unsigned, path, edit)), None)
        assert [one.file for one in found.altered] == [path], edit


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (PAGE, b">READY<", b">NOT READY<"), (PAGE, b"<h2", b"<h2 "), ("system.json", b"not stated", b"measured"),
        ("waivers.json", b"Ada", b"Eve"), ("bom.cdx.json", b"Acme", b"Other"),
    ],
)  # fmt: skip
def test_an_edited_report_is_found_even_when_the_manifest_is_made_anew(unsigned: Files, path: str, old: bytes, new: bytes) -> None:
    assert old in unsigned[path]
    found = verify.of_contents(packs.made_anew({**unsigned, path: unsigned[path].replace(old, new)}), None)
    assert [one.file for one in found.altered] == [path]


def test_an_edited_workbook_is_found_even_when_the_manifest_is_made_anew(unsigned: Files) -> None:
    book = load_workbook(io.BytesIO(unsigned["requirements.xlsx"]))
    book["Verdicts"]["E7"] = "ready"
    changed = io.BytesIO()
    book.save(changed)
    for content in (changed.getvalue(), b"no archive", b""):
        found = verify.of_contents(packs.made_anew({**unsigned, "requirements.xlsx": content}), None)
        assert [one.file for one in found.altered] == ["requirements.xlsx"]


@pytest.mark.parametrize("path", [STATEMENT, TEST_RESULT])
def test_an_edited_statement_is_found(unsigned: Files, path: str) -> None:
    def better(document: Any) -> None:
        document["predicate"]["result"] = "PASSED"

    found = verify.of_contents(packs.made_anew(edited(unsigned, path, better)), None)
    assert [one.file for one in found.altered] == [path]


def test_edited_redactions_and_covers_are_found(unsigned: Files) -> None:
    """What is said on the page stands in pack.json: an edit of one of the two is seen by the other."""

    def other_cover(document: Any) -> None:
        document["cover"]["operator"] = "Somebody else"

    def no_redactions(document: Any) -> None:
        document["redactions"] = []

    for edit in (other_cover, no_redactions):
        assert verify.of_contents(packs.made_anew(edited(unsigned, PACK, edit)), None).state is State.ALTERED


def test_a_signature_of_another_pack_does_not_fit(files: Files, tmp_path: Path, key: tuple[signing.SigningKey, Path]) -> None:
    other = packs.contents(tmp_path, key[0], cover=build.Cover(subject="Another"))
    mixed = files | {path: other[path] for path in ENVELOPES.values()}
    found = verify.of_contents(mixed, signing.read_public(key[1]))
    assert {one.file for one in found.altered} == set(ENVELOPES.values())


def test_a_forged_pack_signed_by_another_key_is_not_signed_by_the_given_key(
    files: Files, tmp_path: Path, key: tuple[signing.SigningKey, Path]
) -> None:
    """Whoever makes a whole pack of his own can sign it; not as somebody else."""
    mine = signing.read_private(packs.key_files(tmp_path)[0])
    forged = packs.contents(tmp_path / "b", mine)
    assert verify.of_contents(forged, signing.read_public(key[1])).state is State.UNVOUCHED
    assert verify.of_contents(forged | {PUBLIC_KEY: files[PUBLIC_KEY]}, signing.read_public(key[1])).state is State.ALTERED


def test_pages_of_another_build_are_not_made_again_with_a_note(
    files: Files, unsigned: Files, monkeypatch: pytest.MonkeyPatch, key: tuple[signing.SigningKey, Path]
) -> None:
    monkeypatch.setattr(verify, "source_digest", lambda: "0" * 64)
    found = verify.of_contents(files, signing.read_public(key[1]))
    assert found.state is State.SIGNED
    assert any("another build" in note for note in found.notes)
    forged = packs.made_anew(edited(unsigned, ASSESSMENT, verdict))
    assert ASSESSMENT in [one.file for one in verify.of_contents(forged, None).altered]


# -------------------------------------------------------------------------------------------------------------- content


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b"{", b'{"schema": 1}', b"[" * 5000])
def test_nonsense_in_any_file_is_altered_and_no_fault(unsigned: Files, content: bytes) -> None:
    for path in unsigned:
        assert verify.of_contents({**unsigned, path: content}, None).state is State.ALTERED, path
        if path not in OUTSIDE_MANIFEST and path not in (PACK, PUBLIC_KEY) and not path.startswith("attachments/"):
            assert verify.of_contents(packs.made_anew({**unsigned, path: content}), None).state is State.ALTERED, path


def test_nonsense_in_pack_json_with_the_manifest_made_anew(unsigned: Files) -> None:
    for content in (b"{}", b"[]", b"{", b"[" * 5000):
        changed = {**unsigned, PACK: content}
        changed[MANIFEST] = dumped(manifest(changed))
        assert PACK in [one.file for one in verify.of_contents(changed, None).altered]
