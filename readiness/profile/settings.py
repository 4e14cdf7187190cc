"""Settings that a profile gives to checks: known ones, of the right kind, and within what makes sense."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from readiness.check_registry import Check, is_plain
from readiness.errors import BadFileError, did_you_mean

#: What torch calls its dtypes, without importing it: of all releases from 2.6 on (a test compares).
DTYPES = frozenset({
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "float8_e8m0fnu", "float4_e2m1fn_x2", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
    "complex128", "complex64", "complex32",
})  # fmt: skip
_OF_DTYPES = ("dtypes", "core_dtypes")
#: The size of a worker's request is limited.
_MOST_ITEMS, _MOST_BYTES = 1000, 2**16


def refuse_impossible(
    given: Mapping[str, Mapping[str, Any]], places: Mapping[str, str], checklist: Mapping[str, Check]
) -> None:
    """Raise BadFileError for the first setting that cannot be. `given` by check and name; `places` where they were said."""
    for id, settings in given.items():
        place = places[id]
        check = checklist.get(id)
        if check is None:
            hint = did_you_mean(id, checklist)
            raise BadFileError(
                f"settings for {id!r}, which is not a check",
                place=place,
                remedy=f"{hint}name the folder of your own checks with --checks DIR; `readiness list` shows all checks",
            )
        for name, value in settings.items():
            if name not in check.settings:
                remedy = f"{did_you_mean(name, check.settings)}its settings are: {', '.join(check.settings) or 'none'}"
                raise BadFileError(f"{id} has no setting {name!r}", place=place, remedy=remedy)
            if not _same_kind(value, check.settings[name]):
                raise BadFileError(
                    f"{id}: the setting {name!r} is {value!r}; its default is {check.settings[name]!r}",
                    place=place,
                    remedy="give a value of the same kind as the default",
                )
            _refuse_senseless(check, name, value, place)
        if (size := len(json.dumps(settings))) > _MOST_BYTES:
            what = f"{id}: its settings take {size // 2**10} KiB; the maximum is {_MOST_BYTES // 2**10}"
            raise BadFileError(what, place=place, remedy="name fewer; a glob matches many names")
        if check.vet is not None:
            check.vet(settings)


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, int | float):
        whole = isinstance(value, int)
        return whole or (isinstance(default, float) and isinstance(value, float) and math.isfinite(value))
    if isinstance(default, list | tuple):
        return isinstance(value, list) and all(not default or _same_kind(item, default[0]) for item in value)
    return is_plain(value) if default is None else isinstance(value, type(default))


def _refuse_senseless(check: Check, name: str, value: Any, place: str) -> None:
    """Raise BadFileError for settings with which a check would measure nothing, always pass, or never end."""
    least, most = check.least.get(name, 0), check.most.get(name, math.inf)
    for item in value if isinstance(value, list) else [value]:
        number = isinstance(item, int | float) and not isinstance(item, bool)
        if number and not least <= item <= most:
            remedy = f"give {least:g} or more" if most == math.inf else f"give a number from {least:g} to {most:g}"
            raise BadFileError(f"{check.id}: the setting {name!r} is {value!r}", place=place, remedy=remedy)
        if name in _OF_DTYPES and item not in DTYPES:
            remedy = f"{did_you_mean(str(item), sorted(DTYPES), cutoff=0.4)}name it as torch does, like bfloat16"
            raise BadFileError(f"{check.id}: {str(item)[:60]!r} is not a dtype of torch", place=place, remedy=remedy)
    if isinstance(value, list) and len(value) > _MOST_ITEMS:
        what = f"{check.id}: the setting {name!r} has {len(value)} items; the maximum is {_MOST_ITEMS}"
        raise BadFileError(what, place=place, remedy="name fewer; a glob matches many names")
    if value == [] and check.settings[name]:
        raise BadFileError(f"{check.id}: the setting {name!r} names nothing", place=place, remedy="name at least one")
