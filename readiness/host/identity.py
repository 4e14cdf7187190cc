"""Identity of the host: evidence of two machines is never taken for evidence of one, nor one counted for two."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readiness.datamodel import AcceleratorFacts

Identity = Mapping[str, str]
_LONGEST_NAME = 253
_NO_NAME = "unnamed"


def identity(root: Path = Path("/")) -> dict[str, str]:
    """Return the host's identity: `boot` (since its start), `id` (its installation), `name`, `network`.

    A container has its host's `boot`, and a network of its own, or its host's. What cannot be read is left out. The ids of
    the system are told as digests of ours: systemd asks not to hand its own around (machine-id(5)).
    """
    found = {"name": platform.node()}
    for key, file in (("boot", "proc/sys/kernel/random/boot_id"), ("id", "etc/machine-id")):
        with contextlib.suppress(OSError, ValueError):
            text = (root / file).read_text().strip()
            found[key] = hashlib.sha256(f"readiness {text}".encode()).hexdigest()[:16] if text else ""
    with contextlib.suppress(OSError):
        found["network"] = str((root / "proc/self/ns/net").stat(follow_symlinks=True).st_ino)
    return {key: value for key, value in found.items() if value}


def same(one: Identity, other: Identity) -> bool:
    """Return whether both are of one machine, also over restarts; true if neither has enough information.

    A container is called anew each time that it is made, and is the machine that it runs on; images of containers have the
    `id` of whoever made them, on every machine.
    """
    if "boot" not in one or "boot" not in other:
        return one.get("name") == other.get("name")
    if one["boot"] == other["boot"]:
        return True
    return one.get("name") == other.get("name") and one.get("id") == other.get("id")


def accelerator(facts: AcceleratorFacts) -> tuple[Any, ...]:
    """Return the identity of an accelerator and its software, as far as known."""
    odd = (facts.properties.get(key) for key in ("unusable", "chip"))
    return facts.id, facts.stack, facts.model, facts.serial, dict(facts.software), *odd


def same_place(one: Identity, other: Identity) -> bool:
    """Return whether both are the same machine now, in one network: two names for one host."""
    return all(key in one and one[key] == other.get(key) for key in ("boot", "network"))


def this_host() -> str:
    """Return this host's name: that of READINESS_HOST, where containers of one name are several hosts, else the system's."""
    return os.environ.get("READINESS_HOST") or platform.node()


def host_name(name: object) -> str:
    """A host's name in the characters that names of hosts have; what is none becomes `unnamed`."""
    text = re.sub(r"[^A-Za-z0-9_.-]", "_", str(name or "")[:_LONGEST_NAME]).strip(".-")
    return text or _NO_NAME
