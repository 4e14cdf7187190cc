"""Packs of the small assessment, as files by name."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from readiness.datamodel import Assessment
from readiness.documents import assessment as documents
from readiness.pack import build, signing
from readiness.pack.contents import (
    ENVELOPES,
    MANIFEST,
    PACK,
    STATEMENT,
    TEST_RESULT,
    Core,
    dumped,
    manifest,
    sha256,
)
from tests.support import saved

HOSTILE = "<script>alert(1)</script> =cmd()|' /C calc'!A0 ]]> \x1b[31mred\x07 \u202eevil\u200b \"quote' &amp; ::error::x"


def written(folder: Path, made: Assessment | None = None, name: str = "a") -> Path:
    """The small assessment, or another, as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(documents.dumps(documents.to_json(saved.small(folder) if made is None else made)))
    return file


def core(folder: Path, **changes: Any) -> Core:
    """What a pack of the small assessment is made of."""
    return build.read(build.Request(assessments=[written(folder)], **changes))


def contents(folder: Path, key: signing.SigningKey | None = None, **changes: Any) -> dict[str, bytes]:
    """All files of such a pack."""
    return build.whole(core(folder, **changes), key)


def key_files(folder: Path, kind: str = "ed25519") -> tuple[Path, Path]:
    """A new key pair in PEM: private, public."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    private = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(getattr(ec, kind)())
    folder.mkdir(parents=True, exist_ok=True)
    mine, public = folder / "key.pem", folder / "pub.pem"
    mine.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return mine, public


class Authority:
    """A time-stamping authority of our own, made by openssl in a folder: `certificate` is what its stamps are checked by."""

    def __init__(self, folder: Path) -> None:
        found = shutil.which("openssl")
        assert found is not None
        self.openssl, self.folder = found, folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tsa.cnf").write_text(
            "[req]\ndistinguished_name = dn\nx509_extensions = ext\nprompt = no\n[dn]\nCN = an authority\n"
            "[ext]\nextendedKeyUsage = critical,timeStamping\n[tsa]\ndefault_tsa = own\n"
            "[own]\nserial = serial\nsigner_digest = sha256\ndefault_policy = 1.2.3\ndigests = sha256, sha512\n"
            "accuracy = secs:1\ness_cert_id_chain = no\n"
        )
        (folder / "serial").write_text("01\n")
        self.run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out", "tsa.pem",
                 "-config", "tsa.cnf", "-days", "2")  # fmt: skip
        self.certificate = folder / "tsa.pem"

    def run(self, *arguments: object, right: bool = True) -> None:
        """openssl with these arguments, in the folder."""
        done = subprocess.run(
            [self.openssl, *map(str, arguments)], cwd=self.folder, capture_output=True, text=True, check=False, timeout=120
        )
        assert (done.returncode == 0) is right, done.stderr

    def reply(self, query: bytes, *options: str) -> bytes:
        """The answer to a query."""
        (self.folder / "query.tsq").write_bytes(query)
        self.run("ts", "-reply", "-queryfile", "query.tsq", "-signer", "tsa.pem", "-inkey", "tsa.key", "-config", "tsa.cnf",
                 "-out", "reply.tsr", *options)  # fmt: skip
        return (self.folder / "reply.tsr").read_bytes()


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")


def altered(files: Mapping[str, bytes], path: str, document: Any) -> dict[str, bytes]:
    """The files with another JSON document at a path."""
    return {**files, path: dumped(document)}


def made_anew(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with digests, manifest and statements that fit them, as whoever alters a pack would make them; unsigned."""
    kept = {path: content for path, content in files.items() if path not in (*ENVELOPES.values(), "signatures/public-key.pem")}
    pack = json.loads(kept[PACK])
    for entry in pack["assessments"]:
        if entry["path"] in kept:
            entry["sha256"] = sha256(kept[entry["path"]])
    kept[PACK] = dumped(pack)
    listed = manifest(kept)
    kept[MANIFEST] = dumped(listed)
    digests = {entry["path"]: entry["sha256"] for entry in listed["files"]} | {MANIFEST: sha256(kept[MANIFEST])}
    for path in (STATEMENT, TEST_RESULT):
        statement = json.loads(kept[path])
        for subject in statement["subject"]:
            subject["digest"]["sha256"] = digests.get(subject["name"], subject["digest"]["sha256"])
        kept[path] = dumped(statement)
    return kept


def with_host(made: Assessment, **host: Any) -> Assessment:
    """An assessment of a machine that tells more of itself."""
    return replace(made, host={**made.host, **host})
