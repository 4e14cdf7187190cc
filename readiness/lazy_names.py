"""Names of a package that are imported when first used: the command line must not pay for what it does not need."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(namespace: dict[str, Any], places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of the package whose globals are given; what it found is kept in them.

    `places` has for each name the module below the package that defines it; `MODULE:OTHER` if it is called OTHER there,
    `MODULE:` if the module itself is meant.
    """
    package = str(namespace["__name__"])

    def found(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        place, colon, other = places[name].partition(":")
        module = importlib.import_module(f"{package}.{place}")
        value = namespace[name] = module if colon and not other else getattr(module, other or name)
        return value

    return found
