"""The reason of a failure: what the worst measurement is about, and all else that failed, in classes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from readiness.datamodel import Evidence, Measurement, Requirement

#: Labels whose values are names that need no key beside them, the most telling first.
_NAMING = ("op", "mode", "drill")
#: A list of what else failed is cut after so many characters.
_LONGEST_LIST = 280
_ALSO = "also failed: "
_INSTEAD = "; what there is: "
_MOST_LABELS = 8


def failure_reason(worst: Measurement, failed: Sequence[Measurement]) -> str | None:
    """Return what the worst measurement is about, and what failed beside it: the worst must hide no other failure."""
    others = _others(worst, failed)
    if not others:
        return worst.about
    return f"{worst.about}; {_ALSO}{others}" if worst.about else f"{_ALSO}{others}"


def labels_there(requirement: Requirement, evidence: Evidence) -> str:
    """Return what labels the measure has instead of the one that a requirement asks for; empty where it has no measurement.

    A label that the measure never has is a slip of the profile's author more often than something that is missing here.
    """
    found = [item.labels for item in evidence.measurements if item.name == requirement.measure]
    keys = sorted({key for labels in found for key in labels})
    for key, wanted in requirement.where.items() if found else ():
        if key not in keys:
            labels = f"the labels {_listed(keys)}, and none called {key}" if keys else "no labels"
            return f"{_INSTEAD}{requirement.measure} has {labels}{_meant(key, keys)}"
        values = sorted({labels[key] for labels in found if key in labels})
        if wanted not in values:
            meant = "" if key == "dtype" else _meant(wanted, values)  # nobody who asks for float16 means bfloat16
            return f"{_INSTEAD}{requirement.measure} for {key}={_listed(values)}{meant}"
    return ""


def _meant(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word[:100], known, n=1, cutoff=0.75)
    return f" (did you mean {near[0]}?)" if near else ""


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(words[:_MOST_LABELS])
    return f"{shown} and {len(words) - _MOST_LABELS} more" if len(words) > _MOST_LABELS else shown


def is_reason(saved: str | None, derived: str | None) -> bool:
    """Return whether a saved reason is the derived one.

    Early versions said what the worst is about, and nothing of what else failed or of the labels that there are.
    """
    if saved == derived or (derived is not None and _INSTEAD in derived and saved == derived.rpartition(_INSTEAD)[0]):
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
