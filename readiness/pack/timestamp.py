"""RFC 3161 time stamps of a pack: the query for an authority, its reply and its check (extra `timestamp`).

The statement is stamped: it holds the digest of every file, is the same each time a pack is made of the same, and is what a
signature is over. A reply about the signed envelope is taken too. Nothing here asks a network.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from readiness.documents import files
from readiness.documents.strict_json import Json
from readiness.errors import BadFileError
from readiness.optional_imports import optional
from readiness.pack.contents import ENVELOPES, STATEMENT, TIMESTAMP_REPLY, dumped, sha256
from readiness.rendering.text import clean

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampResponse

LARGEST_REPLY_BYTES = 2**20
_LARGEST_CERTIFICATES_BYTES = 2**22
#: What a reply may be about, and by which digest.
_STAMPED = (STATEMENT, ENVELOPES[STATEMENT])
_DIGESTS = {
    "2.16.840.1.101.3.4.2.1": hashlib.sha256, "2.16.840.1.101.3.4.2.2": hashlib.sha384,
    "2.16.840.1.101.3.4.2.3": hashlib.sha512,
}  # fmt: skip
_GRANTED = (0, 1)
_HOW = "ask an authority with the file that `readiness pack --timestamp-request FILE` writes, as docs/packs.md says"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Time stamp: an authority states that it has seen the file `of` at this time; `serial` is its own number."""

    of: str
    time: str
    authority: str
    policy: str
    serial: int


@contextlib.contextmanager
def _readable(place: str, what: str, remedy: str) -> Iterator[None]:
    """Raise BadFileError if the library cannot read what is in a file."""
    try:
        yield
    except Exception:  # noqa: BLE001 - of other bytes than expected the libraries raise classes of their own, too
        raise BadFileError(what, place=place, remedy=remedy) from None


def refuse_missing() -> None:
    """Raise UsageError, which names the extra, if it is not installed."""
    with optional("timestamp", "--timestamp-request"):
        import rfc3161_client  # noqa: F401


def request(statement: bytes) -> bytes:
    """Return the query for an authority, in DER; the same for the same statement. Raises UsageError without the extra."""
    with optional("timestamp", "--timestamp-request"):
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
    built = TimestampRequestBuilder().data(statement).hash_algorithm(HashAlgorithm.SHA256)
    return built.nonce(nonce=False).cert_request(cert_request=True).build().as_bytes()


def read(file: Path) -> bytes:
    """Read the reply of an authority, in DER. Raises UsageError without the extra, BadFileError for no stamp."""
    content = files.read_bytes(file, largest_bytes=LARGEST_REPLY_BYTES)
    _response(content, str(file))
    return content


def _response(content: bytes, place: str) -> TimeStampResponse:
    with optional("timestamp", "a time stamp"):
        from rfc3161_client import decode_timestamp_response
    with _readable(place, "it is no reply of a time-stamping authority (RFC 3161, DER)", _HOW):
        response = decode_timestamp_response(content)
        status = response.status
    if status not in _GRANTED:
        listed = "; ".join(clean(text, 200) for text in response.status_string) or "no reason given"
        raise BadFileError(f"the authority has not stamped it: status {status}, {listed}", place=place, remedy=_HOW)
    return response


def stamp(reply: bytes, contents: Mapping[str, bytes], place: str = TIMESTAMP_REPLY) -> Stamp | None:
    """Return what a reply states about a pack, None if it is about something else. Raises as `read`."""
    response = _response(reply, place)
    with _readable(place, "its time-stamp token cannot be read", _HOW):
        info = response.tst_info
        digest = _DIGESTS.get(info.message_imprint.hash_algorithm.dotted_string)
        wanted = bytes(info.message_imprint.message)
        about = [
            path for path in _STAMPED
            if digest is not None and path in contents and digest(contents[path]).digest() == wanted
        ]  # fmt: skip
        if not about:
            return None
        return Stamp(
            about[0], info.gen_time.isoformat().replace("+00:00", "Z"), _authority(response),
            info.policy.dotted_string, info.serial_number,
        )  # fmt: skip


def _authority(response: TimeStampResponse) -> str:
    """Return the subject of the signer's certificate, else its issuer and number."""
    from cryptography import x509

    signers = list(response.signed_data.signer_infos)
    certificates = [x509.load_der_x509_certificate(one) for one in sorted(response.signed_data.certificates)]
    for signer in signers:
        for one in certificates:
            if (one.issuer, one.serial_number) == (signer.issuer, signer.serial_number):
                return clean(one.subject.rfc4514_string(), 300)
    names = [f"certificate {one.serial_number} of {one.issuer.rfc4514_string()}" for one in signers]
    return clean("; ".join(names), 300) or "not named"


def described(reply: bytes, found: Stamp) -> bytes:
    """Return the file beside the reply in the pack: its digest and what it states."""
    return dumped({"reply": TIMESTAMP_REPLY, "sha256": sha256(reply), **as_json(found)})


def as_json(found: Stamp) -> Json:
    """Return a stamp as JSON."""
    return {
        "of": found.of, "time": found.time, "authority": found.authority, "policy": found.policy,
        "serial": str(found.serial),
    }  # fmt: skip


def refuse_other(reply: bytes, contents: Mapping[str, bytes], place: str) -> Stamp:
    """Return what the reply states about a pack. Raises BadFileError if it is about something else."""
    found = stamp(reply, contents, place)
    if found is None:
        raise BadFileError(
            "this time stamp is not of this pack: it is about another digest than that of its statement", place=place,
            remedy="give the assessments and options with which --timestamp-request wrote the query, "
                   "or ask for a stamp of this pack",
        )  # fmt: skip
    return found


# -------------------------------------------------------------------------------------------------------- authorities


def read_authorities(file: Path) -> list[Certificate]:
    """Read the certificates that are trusted for time stamps, in PEM. Raises UsageError and BadFileError."""
    content = files.read_bytes(file, largest_bytes=_LARGEST_CERTIFICATES_BYTES)
    with optional("timestamp", "--timestamp-ca"):
        import rfc3161_client  # noqa: F401
        from cryptography import x509
    with _readable(str(file), "it is no certificate in PEM", "give that of the authority, or of who certified it"):
        return x509.load_pem_x509_certificates(content)


def mismatch(reply: bytes, found: Stamp, contents: Mapping[str, bytes], trusted: list[Certificate]) -> str | None:
    """Return why the signature of a stamp is not by a trusted authority, None if it is.

    Certificates need to hold at the time of the stamp, not today.
    """
    from rfc3161_client import VerificationError, VerifierBuilder

    try:
        VerifierBuilder(roots=trusted).build().verify_message(_response(reply, TIMESTAMP_REPLY), contents[found.of])
    except VerificationError as problem:
        return clean(str(problem), 300)
    except Exception as problem:  # noqa: BLE001 - likewise: who cannot check it has not found it to be right
        return clean(f"it cannot be checked: {problem}", 300)
    return None
