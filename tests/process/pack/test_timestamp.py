"""Time stamps of a pack: what an authority states of it, and every reply that does not."""

from __future__ import annotations

import builtins
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from readiness.errors import BadFileError, Exit, UsageError
from readiness.pack import build, timestamp, verify
from readiness.pack.contents import STATEMENT, TIMESTAMP, TIMESTAMP_REPLY, Core, dumped
from readiness.pack.verify import State
from tests.support import packs

pytestmark = packs.needs_openssl
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> packs.Authority:
    return packs.Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    return packs.core(tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def stamped(core: Core, authority: packs.Authority) -> Files:
    statement = build.whole(core)[STATEMENT]
    return build.whole(core, None, (Path("r.tsr"), authority.reply(timestamp.request(statement))))


def test_the_query_is_the_same_each_time_and_openssl_reads_it(authority: packs.Authority) -> None:
    query = timestamp.request(b"a statement")
    assert timestamp.request(b"a statement") == query
    assert hashlib.sha256(b"a statement").digest() in query
    (authority.folder / "q.tsq").write_bytes(query)
    authority.run("ts", "-query", "-in", "q.tsq", "-text")


def test_a_stamp_is_of_this_pack_and_has_time_and_authority(stamped: Files, authority: packs.Authority) -> None:
    said = json.loads(stamped[TIMESTAMP])
    assert (said["of"], said["authority"], said["policy"]) == (STATEMENT, "CN=an authority", "1.2.3")
    assert said["sha256"] == hashlib.sha256(stamped[TIMESTAMP_REPLY]).hexdigest()
    assert said["time"].startswith("20")
    assert said["time"].endswith("Z")
    unchecked = verify.of_contents(stamped, None)
    assert (unchecked.altered, unchecked.reasons) == ([], ["it is not signed"])
    assert unchecked.stamped is not None
    assert not unchecked.stamped["signature_checked"]
    checked = verify.of_contents(stamped, None, timestamp.read_authorities(authority.certificate))
    assert checked.stamped is not None
    assert checked.stamped["signature_checked"]
    assert checked.reasons == ["it is not signed"]


def test_another_digest_and_a_reply_without_the_certificate_are_read_too(core: Core, authority: packs.Authority) -> None:
    made = build.whole(core)
    (authority.folder / "data").write_bytes(made[STATEMENT])
    authority.run("ts", "-query", "-data", "data", "-sha512", "-out", "own.tsq")
    reply = authority.reply((authority.folder / "own.tsq").read_bytes())
    stamp = timestamp.stamp(reply, made)
    assert stamp is not None
    assert stamp.authority.startswith("certificate ")
    assert "CN=an authority" in stamp.authority


@pytest.mark.parametrize("path", [TIMESTAMP, TIMESTAMP_REPLY])
def test_half_a_time_stamp_is_altered(stamped: Files, path: str) -> None:
    found = verify.of_contents({name: content for name, content in stamped.items() if name != path}, None)
    assert [one.file for one in found.altered] == [path]


def test_every_single_bit_of_both_counts(stamped: Files) -> None:
    random_ = random.Random(11)
    for path in (TIMESTAMP, TIMESTAMP_REPLY):
        content = stamped[path]
        for bit in random_.sample(range(8 * len(content)), 60):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            found = verify.Verification()
            verify._timestamp({**stamped, path: bytes(changed)}, None, found)
            assert found.altered, (path, bit)


def test_a_reply_that_is_altered_with_its_digest_made_anew_does_not_pass_as_signed(stamped: Files, authority: packs.Authority) -> None:
    """Whoever changes bits of the reply and all that is derived from it still lacks the authority's signature, or its words stay."""
    trusted = timestamp.read_authorities(authority.certificate)
    random_ = random.Random(12)
    content = stamped[TIMESTAMP_REPLY]
    honest = json.loads(stamped[TIMESTAMP])
    for bit in random_.sample(range(8 * len(content)), 300):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        reply = bytes(changed)
        try:
            stamp = timestamp.stamp(reply, stamped)
        except BadFileError:
            continue
        if stamp is None:
            continue
        found = verify.Verification()
        verify._timestamp({**stamped, TIMESTAMP_REPLY: reply, TIMESTAMP: timestamp.described(reply, stamp)}, trusted, found)
        same = {key: value for key, value in timestamp.as_json(stamp).items() if key != "authority"}
        is_passed = found.stamped is not None and found.stamped["signature_checked"]
        assert not is_passed or same.items() <= honest.items(), bit


def test_a_certificate_of_no_known_version_is_a_bad_file(stamped: Files) -> None:
    """The library has a class of its own for it, which is no ValueError."""
    version = b"\xa0\x03\x02\x01\x02"
    assert version in stamped[TIMESTAMP_REPLY]
    with pytest.raises(BadFileError, match="cannot be read"):
        timestamp.stamp(stamped[TIMESTAMP_REPLY].replace(version, version[:-1] + b"\x22"), stamped)


def test_the_stamp_of_another_pack_is_refused_and_found(stamped: Files, core: Core, authority: packs.Authority, tmp_path: Path) -> None:
    other = authority.reply(timestamp.request(b"something else"))
    with pytest.raises(BadFileError, match="not of this pack"):
        build.whole(core, None, (tmp_path / "other.tsr", other))
    said = {**json.loads(stamped[TIMESTAMP]), "sha256": hashlib.sha256(other).hexdigest()}
    found = verify.of_contents({**stamped, TIMESTAMP_REPLY: other, TIMESTAMP: dumped(said)}, None)
    assert found.state is State.ALTERED
    assert found.altered[0].what == "it is the time stamp of another pack"


def test_what_is_no_reply_is_refused(tmp_path: Path, authority: packs.Authority) -> None:
    file = tmp_path / "reply.tsr"
    for content in (b"", b"no", b"\x30\x03\x02\x01\x05", b"{}", b"\x00" * 1000):
        file.write_bytes(content)
        with pytest.raises(BadFileError):
            timestamp.read(file)
    file.write_bytes(authority.certificate.read_bytes())
    with pytest.raises(BadFileError, match="no reply"):
        timestamp.read(file)
    file.write_bytes(b"x")
    with pytest.raises(BadFileError, match="no certificate"):
        timestamp.read_authorities(tmp_path / "reply.tsr")


def test_without_the_extra_one_error_names_it_and_a_stamped_pack_is_still_verified(
    stamped: Files, authority: packs.Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def lacking(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] == "rfc3161_client":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", lacking)
    for act in (timestamp.refuse_missing, lambda: timestamp.read_authorities(authority.certificate)):
        with pytest.raises(UsageError, match=r"readiness\[timestamp\]") as problem:
            act()
        assert problem.value.exit_code is Exit.USAGE
    found = verify.of_contents(stamped, None)
    assert (found.altered, found.stamped) == ([], None)
    assert any("not looked at" in note for note in found.notes)
