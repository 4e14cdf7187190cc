"""What the sweep exempts from the comparison that all operators share, as docs/operators.md lists it.

`python -m readiness.probes.operators.exemptions` prints the page's tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from readiness.probes.operators import known_defects, op_semantics
from readiness.probes.operators.known_defects import KnownDefect

#: Each table of `op_semantics` that forgives something, and why.
FORGIVING = {
    "HOST_ONLY": "PyTorch has them on no accelerator of its own in this dtype: not asked of devices",
    "HOST_ONLY_BACKWARD": "the same for gradients",
    "DROPS_AT_RANDOM": "called without dropping: no two devices drop the same",
    "RESULTS": "so many outputs are results; each device chooses the shape of the others, which it keeps for its gradient",
    "CHOOSES": "choose some of equal values: gradients are held value by value, unless `stable=True` asks for an order",
    "RETURNS_INDICES": "may return the index of any of equal values, unless `stable=True` asks for an order",
    "ADDED_UP_WIDER": "the CPU adds up in float64 what is float32: held to float64 alone",
    "UNSPECIFIED": "memory as it was found: shape, dtype and device alone",
    "RANDOM": "another device draws other numbers: shape, dtype, finite, and the same again from the same seed",
    "UNORDERED": "come in no defined order: shape, dtype, finite, and the same again",
    "NO_VIEWS": "ask for dense inputs at multiples of 16, or take long: not tried on views",
    "SHRINKS": "subtract nearly the same from their argument: held to the size of the argument",
    "UPDATES": "write what is left of a parameter after steps that each round it: held to half the size of the parameter",
    "CENTRES": "subtract the mean of whole numbers: held to the square of the largest of these",
    "LOSES_TAILS": "make their tail of one plus what is nearly -1: each element is held to the size of its argument",
    "CANCELS_NEAR_ZERO": "have a gradient of terms as large as the inverse of the argument: each element is held to those",
    "COUNTS_IN_BINS": "not tried where their range is made around a single value, which lies on an edge between two bins",
    "NO_QUOTIENTS": "have a gradient that is no limit of differences, by definition: not held against difference quotients",
    "NORMALISES": "of up to 16 values that are nearly equal, digits are lost in proportion to what they have in common",
    "ILL_CONDITIONED": "lose more digits than rounding explains, by PyTorch's own formulas: so many times more is forgiven",
    "ILL_CONDITIONED_IF_COMPLEX": "the same where numbers are complex",
    "KEEP_LOGARITHMS": "keep logarithms of sums in float32: four times more is forgiven there",
    "FROM_LOGARITHM": "make their gradient of the logarithm that they returned: it is held to the size of that",
    "FROM_PROBABILITIES": "make their gradient of the rounded probabilities that they returned: where it is below a "
                          "twentieth of these in every place, it is held to their size",
    "OVERFLOWS": "inner steps leave the range of the dtype: up to a quarter of the elements may be not finite",
    "OVERFLOWS_MOSTLY": "the same with most elements",
    "ELEMENTARY": "each make has its own library: four times as many roundings in float32",
    "ROUNDED_IF_COMPLEX": "exact, and rounded where numbers are complex",
}
#: Tables that forgive nothing: they make the comparison stricter, add circumstances, or choose.
OTHERS = frozenset({
    "UNJUDGEABLE", "HOSTED", "ELEMENTWISE", "KEEPS_STRIDES", "PASSES_NAN", "PASSES_NAN_BACKWARD", "EXACT", "INDICES_ALONG",
    "CORE", "SPREADS", "WRITES_ARGUMENTS",
})  # fmt: skip


def tables() -> Iterator[str]:
    """The lines of both tables: what is forgiven, and what PyTorch is known to get wrong."""
    yield "| table | what is forgiven | operators |"
    yield "|---|---|---|"
    for name, reason in FORGIVING.items():
        yield f"| `{name}` | {reason} | {'; '.join(_operators(getattr(op_semantics, name)))} |"
    yield ""
    yield "| operators | dtypes | where | what is wrong | report | seen in torch |"
    yield "|---|---|---|---|---|---|"
    for defect in known_defects.KNOWN:
        cells = (
            _listed(defect.operators), ", ".join(sorted(defect.dtypes)) if defect.dtypes else "all",
            ", ".join(filter(None, (*_circumstances(defect), defect.phase))),
            defect.what + (", on every device" if defect.everywhere else ""), defect.report or "none found",
            defect.builds + (f"; mended by {defect.mended}" if defect.mended else ""),
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _circumstances(defect: KnownDefect) -> list[str]:
    return ["anywhere"] if defect.where is None else [words or "plainly called" for words in defect.where]


def _operators(table: Any) -> list[str]:
    if not isinstance(table, dict):
        return [_listed(table)]
    dtypes = [f"{_listed(names)} in {dtype}" for dtype, names in table.items() if isinstance(names, frozenset)]
    return dtypes or [f"`{name}` ({value:g})" for name, value in table.items()]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


if __name__ == "__main__":
    print("\n".join(tables()))
