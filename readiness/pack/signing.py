"""DSSE envelopes around the statements of a pack, signed and verified by securesystemslib (extra `sign`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readiness.documents import files
from readiness.errors import BadFileError
from readiness.optional_imports import optional
from readiness.pack.contents import dumped
from readiness.pack.in_toto import PAYLOAD_TYPE

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

_LARGEST_KEY_BYTES = 2**16
_KINDS = "an Ed25519 or ECDSA (P-256, P-384, P-521) key"
_HOW = "`openssl genpkey -algorithm ed25519 -out KEY.pem`, and `openssl pkey -in KEY.pem -pubout -out PUB.pem`"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that signs envelopes, and its public half as PEM."""

    signer: CryptoSigner
    public: bytes

    def signed(self, payload: bytes) -> bytes:
        """The envelope of a statement, as a file of the pack."""
        from securesystemslib.dsse import Envelope

        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        envelope.sign(self.signer)
        return dumped(envelope.to_dict())


def read_private(file: Path, password: bytes | None = None) -> SigningKey:
    """A private key in PEM. Raises UsageError without the extra, BadFileError for what is no such key."""
    with optional("sign", "--sign"):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            PublicFormat,
            load_pem_private_key,
        )
        from securesystemslib.signer import CryptoSigner

    content = files.read_bytes(file, largest_bytes=_LARGEST_KEY_BYTES)
    try:
        private = load_pem_private_key(content, password)
    except TypeError:
        raise BadFileError(
            "it is protected by a password, or has none that was given", place=str(file),
            remedy="put the password into READINESS_SIGN_PASSWORD, or unset that",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadFileError("it is no private key in PEM, or the password is wrong", place=str(file), remedy=_HOW) from None
    _refuse_other_kinds(private, file)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        return SigningKey(CryptoSigner(private), public)
    except ValueError:
        raise BadFileError(f"it is not {_KINDS}", place=str(file), remedy=_HOW) from None


def read_public(file: Path) -> SSlibKey:
    """A public key in PEM. Raises UsageError without the extra, BadFileError for what is no such key."""
    return public_key(files.read_bytes(file, largest_bytes=_LARGEST_KEY_BYTES), str(file))


def public_key(content: bytes, place: str) -> SSlibKey:
    """A public key from PEM. Raises as `read_public`."""
    with optional("sign", "a signature"):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from securesystemslib.signer import SSlibKey

    try:
        public = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        private = b"PRIVATE KEY" in content
        what = "it is a private key, which nobody else must have" if private else "it is no public key in PEM"
        raise BadFileError(what, place=place, remedy=_HOW) from None
    _refuse_other_kinds(public, place)
    try:
        return SSlibKey.from_crypto(public)
    except ValueError:
        raise BadFileError(f"it is not {_KINDS}", place=place, remedy=_HOW) from None


def _refuse_other_kinds(key: Any, place: Path | str) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    known = (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey, ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)
    if not isinstance(key, known):
        raise BadFileError(f"it is not {_KINDS}", place=str(place), remedy=_HOW)


def payload_of(document: Mapping[str, Any], key: SSlibKey) -> bytes | None:
    """Return the content of an envelope if its signature by this key is valid; else None. Never raises for content."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError

    try:
        envelope = Envelope.from_dict({**document, "signatures": [dict(one) for one in document["signatures"]]})
        envelope.verify([key], 1)
    except (KeyError, TypeError, ValueError, AttributeError, VerificationError, UnverifiedSignatureError):
        return None
    return envelope.payload if envelope.payload_type == PAYLOAD_TYPE else None


def is_canonical(document: Mapping[str, Any]) -> bool:
    """Return whether an envelope is encoded in our canonical way: base64 has spare bits in its last letter."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope.from_dict({**document, "signatures": [dict(one) for one in document["signatures"]]})
    return bool(envelope.to_dict() == dict(document))


def key_ids(document: Mapping[str, Any]) -> list[str]:
    """Return the key ids that an envelope names for its signatures."""
    signatures = document.get("signatures")
    return [str(one.get("keyid")) for one in signatures if isinstance(one, dict)] if isinstance(signatures, list) else []
