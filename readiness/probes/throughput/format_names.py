"""Names of number formats of products: dtypes of torch, and two that are none. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence

from readiness.errors import UsageError

#: 8-bit floats with a scale for every 128 values of a row, and for every 128 x 128 of the other matrix.
BLOCKS = "float8_block_scaled"
WHOLE = ("int8",)
BYTES = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
#: `tfloat32` is float32 in TF32.
KNOWN = ("float64", "float32", "tfloat32", "float16", "bfloat16", *BYTES, BLOCKS, *WHOLE)


def refuse_unknown(names: Sequence[str]) -> None:
    """Raise UsageError for a name that is no format."""
    for name in names:
        if name not in KNOWN:
            raise UsageError(
                f"throughput.formats: {str(name)[:60]!r} is no format of products", place="setting formats",
                remedy=f"choose of {', '.join(KNOWN)}",
            )  # fmt: skip


def rated_as(name: str) -> str:
    """Return the format under which the rate of this one is sold: scales cost a unit nothing."""
    return "float8_e4m3fn" if name == BLOCKS else name
