"""Offline mode of this process: a configuration must not cause a download, nor send a token.

Said before anything is imported that might ask: libraries read their switches once. Nothing here imports torch.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

_SWITCHES = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_XET": "1", "DO_NOT_TRACK": "1",
}  # fmt: skip
#: Where tokens and passwords are looked for: in files that hold none.
_FILES = {"HF_TOKEN_PATH": os.devnull, "HF_STORED_TOKENS_PATH": os.devnull, "NETRC": os.devnull}
#: What huggingface_hub raises where it may not ask.
_REFUSALS = ("OfflineModeIsEnabled", "LocalEntryNotFoundError")
_HUBS = ("HF_", "HUGGING", "TRANSFORMERS_")
#: The events of the interpreter that lead out of this machine, with the place of the address among their arguments.
_NETWORK_EVENTS = {
    "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
}  # fmt: skip


def go_offline() -> None:
    """Set libraries offline, remove the user's tokens from this process, and block remaining network access.

    For good: a hook of the interpreter cannot be taken back. Native code that opens a socket by itself is not refused.
    """
    for name in [name for name in os.environ if name.upper().startswith(_HUBS) and "TOKEN" in name.upper()]:
        del os.environ[name]
    os.environ.update(_SWITCHES | _FILES)
    sys.addaudithook(_block)


def _block(event: str, arguments: tuple[Any, ...]) -> None:
    if (place := _NETWORK_EVENTS.get(event)) is None:
        return
    address = arguments[place]
    if place and not isinstance(address, tuple):
        return  # of this machine: a path, or a socket that is connected
    raise OSError(errno.ENETUNREACH, f"the network is not used while a model is traced; it asked for {str(address)[:200]}")


def is_network_error(problem: BaseException) -> bool:
    """True if an exception was caused by an attempt to use the network."""
    chain: BaseException | None = problem
    for _ in range(20):
        if chain is None:
            return False
        if type(chain).__name__ in _REFUSALS or (isinstance(chain, OSError) and chain.errno == errno.ENETUNREACH):
            return True
        chain = chain.__cause__ or chain.__context__
    return False
