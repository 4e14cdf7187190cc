"""Signed objects: a pickle is loaded only if a rank of the same group signed it.

PyTorch carries Python objects between ranks as pickles (distributed checkpoints and pipelines need it), and a pickle can do
anything when it is loaded. The collectives' ports take whoever connects: gloo believes that he is a rank. So each object is
sent with a code that takes a secret of the group, which ranks are given by the process that starts them, never by a port.
"""

from __future__ import annotations

import hashlib
import hmac
import pickle
from typing import IO, Any

_CODE_BYTES = hashlib.sha256().digest_size


def sign_objects(secret: bytes) -> None:
    """Sign all objects that this process sends, and refuse to load unsigned ones.

    A refusal is a `pickle.UnpicklingError`, as for bytes that are no pickle.
    """
    from torch.distributed import distributed_c10d

    module: Any = distributed_c10d
    pickler, unpickler = _classes(secret)
    module._pickler, module._unpickler = pickler, unpickler


def _classes(secret: bytes) -> tuple[type, type]:
    def code(content: bytes) -> bytes:
        return hmac.digest(secret, content, hashlib.sha256)

    class SignedPickler:
        """Pickler that writes a signature before the pickle."""

        def __init__(self, file: IO[bytes]) -> None:
            self._file = file

        def dump(self, value: object) -> None:
            """Write one object."""
            content = pickle.dumps(value)
            self._file.write(code(content) + content)

    class SignedUnpickler:
        """Unpickler for the output of `SignedPickler`."""

        def __init__(self, file: IO[bytes]) -> None:
            self._file = file

        def load(self) -> Any:
            """Read one object. Raises UnpicklingError for what no rank of the group has sent."""
            signature, content = self._file.read(_CODE_BYTES), self._file.read()
            if not hmac.compare_digest(signature, code(content)):
                raise pickle.UnpicklingError("an object was received that no rank of this group sent, or not as it was sent")
            return pickle.loads(content)  # noqa: S301 - of our own group

    return SignedPickler, SignedUnpickler
