"""Optional imports: packages beyond readiness's own dependencies, each of an extra of pyproject.toml."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from readiness.errors import UsageError


@contextlib.contextmanager
def optional(extra: str, what: str, *, place: str | None = None) -> Iterator[None]:
    """Import within it what belongs to an extra. Raises UsageError, which names the extra, where it is not installed.

    `what` is what needs it: a format, an option, or a part of a document.
    """
    try:
        yield
    except (ImportError, OSError) as problem:  # OSError: a library of the system that WeasyPrint looks for
        raise UsageError(
            f"{what} needs what is not installed: {problem}",
            place=place,
            remedy=f"pip install 'readiness[{extra}]'; all else works without it",
        ) from None
