"""Optional imports: parts of a pack that need a package beyond readiness's own dependencies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from readiness.errors import UsageError


@contextlib.contextmanager
def optional(extra: str, what: str) -> Iterator[None]:
    """Import within it what belongs to an extra. Raises UsageError, which names the extra, where it is not installed."""
    try:
        yield
    except (ImportError, OSError) as problem:  # OSError: a library of the system that WeasyPrint looks for
        raise UsageError(
            f"{what} needs what is not installed: {problem}",
            remedy=f"pip install 'readiness[{extra}]'; a pack without it needs nothing more",
        ) from None
