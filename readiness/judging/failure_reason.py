"""The reason of a failure: what the worst measurement is about, and all else that failed, in classes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from readiness.datamodel import Measurement

#: Labels whose values are names that need no key beside them, the most telling first.
_NAMING = ("op", "mode", "drill")
#: A list of what else failed is cut after so many characters.
_LONGEST_LIST = 280
_ALSO = "also failed: "


def failure_reason(worst: Measurement, failed: Sequence[Measurement]) -> str | None:
    """Return what the worst measurement is about, and what failed beside it: the worst must hide no other failure."""
    others = _others(worst, failed)
    if not others:
        return worst.about
    return f"{worst.about}; {_ALSO}{others}" if worst.about else f"{_ALSO}{others}"


def is_reason(saved: str | None, derived: str | None) -> bool:
    """Return whether a saved reason is the derived one. Early versions said what the worst is about, and no more."""
    if saved == derived:
        return True
    first, separator, _ = (derived or "").rpartition(_ALSO)
    return bool(separator) and (saved or "") == first.removesuffix("; ")


def _others(worst: Measurement, failed: Sequence[Measurement]) -> str:
    """Return `gather, scatter (dtype=bfloat16, float32)`: failures beside the worst by the labels in which they differ."""
    rest = [item for item in failed if dict(item.labels) != dict(worst.labels)]
    keys = sorted({key for item in failed for key in item.labels})
    differing = [key for key in keys if len({item.labels.get(key) for item in failed}) > 1]
    if not rest:
        return ""
    leading = next((key for key in _NAMING if key in differing), differing[0])
    names: dict[str, dict[str, set[str]]] = {}
    for item in rest:
        name = str(item.labels.get(leading, "none"))
        values = names.setdefault(name if leading in _NAMING else f"{leading}={name}", {})
        for key in differing:
            if key != leading and key in item.labels:
                values.setdefault(key, set()).add(str(item.labels[key]))
    classes: dict[str, list[str]] = {}
    for name, values in sorted(names.items()):
        where = "; ".join(f"{key}={', '.join(sorted(found))}" for key, found in values.items())
        classes.setdefault(f" ({where})" if where else "", []).append(name)
    whole = "; ".join(f"{', '.join(members)}{where}" for where, members in classes.items())
    return whole if len(whole) <= _LONGEST_LIST else _cut(sorted(names))


def _cut(names: Sequence[str]) -> str:
    """Return as many names as fit, and how many more there are."""
    kept: list[str] = []
    for name in names:
        if sum(len(other) + 2 for other in kept) + len(name) > _LONGEST_LIST:
            break
        kept.append(name)
    return ", ".join(kept) + (f" and {len(names) - len(kept)} more" if len(kept) < len(names) else "")
