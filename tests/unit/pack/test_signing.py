"""Signatures of packs, checked by securesystemslib itself; keys that are none; extras that are not installed."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from readiness.errors import BadFileError, Exit, UsageError
from readiness.pack import signing, verify
from readiness.pack.contents import ENVELOPES, STATEMENT
from readiness.pack.verify import State
from tests.support import packs


@pytest.mark.parametrize("kind", ["ed25519", "SECP256R1", "SECP384R1", "SECP521R1"])
def test_an_envelope_is_verified_by_securesystemslib_itself(tmp_path: Path, kind: str) -> None:
    mine, public = packs.key_files(tmp_path, kind)
    files = packs.contents(tmp_path, signing.read_private(mine))
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = SSlibKey.from_crypto(load_pem_public_key(public.read_bytes()))
    for name, path in ENVELOPES.items():
        envelope = Envelope.from_dict(json.loads(files[path]))
        assert envelope.verify([key], 1) == {key.keyid: key}
        assert envelope.payload == files[name]
        assert envelope.payload_type == "application/vnd.in-toto+json"
        envelope.payload += b" "
        with pytest.raises(VerificationError):
            envelope.verify([key], 1)
    assert verify.of_contents(files, signing.read_public(public)).state is State.SIGNED


def test_ed25519_signs_the_same_pack_with_the_same_bytes(tmp_path: Path) -> None:
    key = signing.read_private(packs.key_files(tmp_path)[0])
    assert packs.contents(tmp_path, key) == packs.contents(tmp_path, key)


def test_a_private_key_with_a_password(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    private = ed25519.Ed25519PrivateKey.generate()
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    assert signing.read_private(file, b"secret").public.startswith(b"-----BEGIN PUBLIC KEY")
    for password in (None, b"wrong"):
        with pytest.raises(BadFileError, match="password"):
            signing.read_private(file, password)


def test_what_is_no_such_key_is_refused(tmp_path: Path) -> None:
    mine, public = packs.key_files(tmp_path)
    other = rsa.generate_private_key(65537, 2048)
    (tmp_path / "rsa.pem").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "no.pem").write_bytes(b"no key")
    with pytest.raises(BadFileError, match="not an Ed25519 or ECDSA"):
        signing.read_private(tmp_path / "rsa.pem")
    for file in (tmp_path / "no.pem", public):
        with pytest.raises(BadFileError, match="no private key"):
            signing.read_private(file)
    with pytest.raises(BadFileError, match="private key, which nobody else must have"):
        signing.read_public(mine)
    with pytest.raises(BadFileError, match="no public key"):
        signing.read_public(tmp_path / "no.pem")
    with pytest.raises(BadFileError, match="no such file"):
        signing.read_public(tmp_path / "nothing")


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if only readiness itself were installed."""
    real = builtins.__import__

    def lacking(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] in ("securesystemslib", "cryptography", "xlsxwriter", "weasyprint"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", lacking)


@pytest.mark.usefixtures("without_extras")
def test_without_an_extra_one_error_names_it(tmp_path: Path) -> None:
    from readiness.pack import pdf, workbook

    key = tmp_path / "key.pem"
    key.write_bytes(b"-----BEGIN PRIVATE KEY-----")
    for extra, act in (
        ("sign", lambda: signing.read_private(key)), ("sign", lambda: signing.read_public(key)),
        ("xlsx", workbook.refuse_missing), ("pdf", pdf.refuse_missing),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=rf"readiness\[{extra}\]") as problem:
            act()
        assert problem.value.exit_code is Exit.USAGE


def test_a_missing_system_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from readiness.pack import pdf

    real = builtins.__import__

    def lacking(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "weasyprint":
            raise OSError("cannot load library 'libgobject-2.0-0'")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(UsageError, match="libgobject"):
        pdf.refuse_missing()


def test_a_signed_pack_is_whole_where_the_extras_are_not_installed_and_the_signature_is_not_believed(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    mine, public = packs.key_files(tmp_path)
    files = packs.contents(tmp_path, signing.read_private(mine), with_workbook=True)
    request.getfixturevalue("without_extras")
    found = verify.of_contents(files, None)
    assert found.state is State.UNVOUCHED
    assert "not checked" in found.reasons[0]
    assert any("requirements.xlsx" in note for note in found.notes)
    assert verify.of_contents({**files, STATEMENT: files[STATEMENT] + b" "}, None).state is State.ALTERED
    with pytest.raises(UsageError, match="sign"):
        signing.read_public(public)
