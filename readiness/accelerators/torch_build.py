"""What the installed torch was built for, read from its source text: nothing here imports torch.

`torch.cuda` being there says little: ROCm, MetaX, Iluvatar, Hygon and others present themselves as `cuda`. The build
says for whom it was made: in `torch/version.py` and in the suffix of its version.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

#: Suffix of torch's version (after the `+`) or name in `torch.version`, and whose build that is.
#: Source: the versions these vendors publish, such as 2.8.0+metax3.5.3.9 with `torch.version.maca`.
FOREIGN_BUILDS: Mapping[str, str] = {
    "metax": "MetaX",
    "maca": "MetaX",
    "corex": "Iluvatar",
    "das": "Hygon",
    "dtk": "Hygon",
    "musa": "Moore Threads",
}


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """Version of torch and the platforms in `torch/version.py`: `cuda`, `hip`, `xpu`, `maca`; None where it has None."""

    version: str
    names: Mapping[str, str | None] = field(default_factory=dict)

    def runtime(self, name: str) -> str | None:
        """The version of the runtime that torch was built against, None where it was built without."""
        return self.names.get(name) or None

    @property
    def maker(self) -> str | None:
        """The vendor that made this build for its own devices, None for an ordinary one."""
        suffix = self.version.partition("+")[2].lower()
        for mark, vendor in FOREIGN_BUILDS.items():
            if re.match(rf"(?:.*[._-])?{mark}(?![a-z])", suffix) or self.runtime(mark):
                return vendor
        return None


def installed() -> TorchBuild | None:
    """The torch of this environment, None where there is none."""
    specification = find_spec("torch")
    if specification is None:
        return None
    for folder in specification.submodule_search_locations or ():
        try:
            return parse((Path(folder) / "version.py").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    version = distribution_version("torch")
    return TorchBuild(version) if version is not None else None


def parse(text: str) -> TorchBuild:
    """Parse the text of a `torch/version.py`. Raises ValueError if it has no version."""
    names: dict[str, str | None] = {}
    for name, value in re.findall(r"^(\w+)\s*(?::[^=\n]+)?=\s*(.+?)\s*$", text, re.MULTILINE):
        try:
            literal = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            continue
        if literal is None or isinstance(literal, str):
            names[name] = literal
    version = names.pop("__version__", None)
    if not version:
        raise ValueError("it has no version")
    return TorchBuild(version, names)


def distribution_version(*distributions: str) -> str | None:
    """The version of the first of these distributions that is installed."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def missing_module(name: str) -> str | None:
    """Return why this plug-in cannot be imported, without importing it; None if it is there."""
    try:
        specification = find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        specification = None
    return None if specification is not None else f"{name} is not installed"
