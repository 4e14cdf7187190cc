"""Validation of a chip file beyond its schema; each error has its line.

A defect that could never act is refused: it would be counted as missed, or as caught for another reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from readiness.documents.schema import Problem
from readiness.documents.toml import Lines, Path_
from readiness.errors import BadFileError
from readiness.simulator import operator_names

#: What a kind cannot act without: a key of `set`, and an example of it.
_NEEDED = {
    "wrong-operator": ("operator", 'operator = "remainder"'),
    "ignore-argument": ("argument", 'argument = "attn_mask"'),
}
#: What a kind that is read, not called, must say it changes.
_SET_EXAMPLES = {
    "version": '{ driver = "0.9.0" }', "counter": "{ uncorrected = 1 }", "counter-under-load": "{ corrected = 1000 }",
    "health": '{ health = "Alarm" }', "management-library": '{ function = "get_device_power_info", value = 65535 }',
}  # fmt: skip
#: What a defect of health may say, and of which type that is.
_HEALTH_KEYS: Mapping[str, Any] = {"health": str, "codes": str, "throttle": str, "power_w": int | float}
#: The functions of libdcmi that a defect may be about, by what its first interface calls them; those that give a figure.
LIBRARY_FUNCTIONS = (
    "get_device_health", "get_device_errorcode_v2", "get_device_chip_info_v2", "get_device_pcie_info_v2",
    "get_card_elabel_v2", "get_device_ecc_info", "get_device_hbm_info", "get_device_temperature", "get_device_power_info",
    "get_device_frequency", "get_device_utilization_rate", "get_device_network_health", "get_device_info",
    "get_device_resource_info",
)  # fmt: skip
LIBRARY_FIGURES = (
    "get_device_health", "get_device_temperature", "get_device_power_info", "get_device_frequency",
    "get_device_utilization_rate", "get_device_network_health",
)  # fmt: skip
#: How such a function can go wrong, and of which type that is said.
_LIBRARY_WAYS: Mapping[str, type] = {"answer": int, "value": int, "hangs": bool}


@dataclass(frozen=True, slots=True)
class Place:
    """Location of a file's keys, for error messages."""

    file: Path
    lines: Lines

    def error_at(self, path: Path_, what: str, remedy: str) -> BadFileError:
        """Return an error with the location of this path of the document."""
        place = f"{self.file}:{self.lines.line(path)}"
        return BadFileError(f"{Problem(path, '').path_text}: {what}", place=place, remedy=remedy)


def as_list(value: Any) -> list[Any]:
    """Return a value or a list of values as a list."""
    return value if isinstance(value, list) else [value]


def validate(document: Mapping[str, Any], place: Place, *, counters: Collection[str], kinds: Collection[str]) -> None:
    """Raise BadFileError for the first error. `counters` are the chip's, `kinds` the known kinds of defects."""
    named: set[str] = set()
    for position, entry in enumerate(document.get("defect", [])):
        path = ("defect", position)
        _validate_kind(entry["kind"], place, (*path, "kind"), kinds)
        name = entry.get("name")
        if name in named:
            raise place.error_at((*path, "name"), f"two defects are called {name!r}", "give one of them another name")
        named |= set() if name is None else {name}
        _validate_operators(entry, place, path)
        _validate_sizes(entry.get("when", {}), place, (*path, "when"))
        _validate_contradictions(entry, place, path)
        chips = int(document.get("chips", 1))
        for number in as_list(entry.get("when", {}).get("chip", [])):
            if number >= chips:
                what = f"there is no chip {number}: the machine has {chips}, and the first is 0"
                raise place.error_at((*path, "when", "chip"), what, "correct the number, or raise `chips`")
        if entry["kind"] in _SET_EXAMPLES:
            if "set" not in entry:
                what = f"kind {entry['kind']} needs a `set` that says what it changes"
                raise place.error_at(path, what, f"add set = {_SET_EXAMPLES[entry['kind']]}")
            _validate_conditions(entry, place, path)
        if (needed := _NEEDED.get(entry["kind"])) and not isinstance(entry.get("set", {}).get(needed[0]), str):
            raise place.error_at(
                path, f"kind {entry['kind']} needs set.{needed[0]}", f"add set = {{ {needed[1]} }}"
            )
        match entry["kind"]:
            case "version":
                _validate_versions(entry["set"], place, (*path, "set"))
            case "health":
                _validate_health(entry["set"], place, (*path, "set"))
            case "management-library":
                _validate_library(entry["set"], place, (*path, "set"), document.get("management"))
            case "counter" | "counter-under-load":
                _validate_counters(entry["set"], place, (*path, "set"), counters)


def _validate_kind(kind: str, place: Place, path: Path_, kinds: Collection[str]) -> None:
    if kind not in kinds:
        near = get_close_matches(kind, sorted(kinds), n=3)
        remedy = f"did you mean {' or '.join(near)}?" if near else f"the kinds are {', '.join(sorted(kinds))}"
        raise place.error_at(path, f"there is no kind of defect {kind!r}", remedy)


def _validate_operators(entry: Mapping[str, Any], place: Place, path: Path_) -> None:
    """Each glob must mean something that reaches the device, and something there must have the arguments that are named."""
    if "op" not in entry:
        return
    found: set[str] = set()
    for position, glob in enumerate(as_list(entry["op"])):
        where = (*path, "op", position) if isinstance(entry["op"], list) else (*path, "op")
        full = glob if "::" in glob or glob == "*" else f"aten::{glob}"
        if glob == "*" or not any(fnmatchcase(space, full.partition("::")[0]) for space in operator_names.SPACES):
            _validate_namespace(full, place, where)
            return  # all of them, or those of a library that has operators of its own
        names = list(operator_names.matching_names(full))
        if not names:
            raise place.error_at(where, *_no_operator(full))
        found.update(names)
    when = entry.get("when", {})
    arguments = {argument for name in found for argument in operator_names.known_names()[name]}
    for key in ("of", "argument"):
        for name in as_list(when[key]) if key == "of" and key in when else when.get(key, {}):
            if name not in arguments:
                raise place.error_at((*path, "when", key), *_no_argument(name, arguments))
    name = entry.get("set", {}).get("argument")
    if entry["kind"] == "ignore-argument" and isinstance(name, str) and name not in arguments:
        raise place.error_at((*path, "set", "argument"), *_no_argument(name, arguments))


def _validate_namespace(glob: str, place: Place, path: Path_) -> None:
    space = glob.partition("::")[0]
    near = get_close_matches(space, sorted(operator_names.SPACES), n=1, cutoff=0.7)
    if glob != "*" and near:
        raise place.error_at(path, f"there are no operators {space}::", f"did you mean {near[0]}::?")


def _no_operator(glob: str) -> tuple[str, str]:
    """What is wrong with a glob that means nothing which reaches the device, and what to write instead."""
    short = glob.partition("::")[2]
    apart = [name for name in operator_names.taken_apart() if fnmatchcase(name, glob)]
    if apart:
        base = short.partition(".")[0].rstrip("*_")
        names = operator_names.known_names()
        related = sorted((name for name in names if name.startswith("aten::") and base in name), key=len)
        parts = operator_names.MADE_OF.get(short) or operator_names.MADE_OF.get(base) or " or ".join(related[:3])
        remedy = f"name what it is made of: {parts}" if parts else "name the operators that it is made of"
        return f"PyTorch takes {glob} apart before it reaches a device, so that no defect of it could act", remedy
    near = get_close_matches(glob, list(operator_names.known_names()), n=3)
    remedy = f"did you mean {' or '.join(near)}?" if near else "see torch.ops.aten for names, docs/simulator.md for others"
    return f"nothing called {glob} reaches the device, so that the defect could never act", remedy


def _no_argument(name: str, arguments: Collection[str]) -> tuple[str, str]:
    remedy = f"they have {', '.join(sorted(arguments)[:30])}" if arguments else "remove it: they have none that has a name"
    return f"none of these operators has an argument {name!r}", remedy


def _validate_contradictions(entry: Mapping[str, Any], place: Place, path: Path_) -> None:
    """Conditions that cannot hold together, or not for this kind."""
    when = entry.get("when", {})
    if when.get("value_over", -math.inf) >= when.get("value_under", math.inf):
        raise place.error_at((*path, "when", "value_under"), "no value is in this range", "widen the range")
    if when.get("memory_format") and when.get("noncontiguous") is False:
        what = "a tensor in this format is not contiguous otherwise"
        raise place.error_at((*path, "when", "memory_format"), what, "remove `noncontiguous`")
    complex_only = [dtype for dtype in as_list(entry.get("dtype", [])) if dtype.startswith("complex")]
    if when.get("conjugate") and "dtype" in entry and not complex_only:
        what = "only complex tensors have a conjugation that is pending"
        raise place.error_at((*path, "when", "conjugate"), what, "remove `dtype`, or name a complex one")
    if entry["kind"] == "wrong-gradient" and when.get("backward") is False:
        what = "a wrong-gradient acts in the backward pass only"
        raise place.error_at((*path, "when", "backward"), what, "remove it, or choose the kind wrong-result")
    for key in ("rank", "group_under"):
        groups = any(fnmatchcase("c10d", glob.partition("::")[0]) for glob in as_list(entry.get("op", "*")) if "::" in glob)
        if key in when and "op" in entry and not groups:
            what = "only collectives and transfers have ranks"
            raise place.error_at((*path, "when", key), what, "name them in `op`: c10d::allreduce_")


def _validate_sizes(when: Mapping[str, Any], place: Place, path: Path_) -> None:
    if when.get("numel_under", math.inf) - when.get("numel_over", -1) < 2:
        what = "no number of elements is in this range"
        raise place.error_at((*path, "numel_under"), what, "widen the range")
    if "remainder" in when and when["remainder"] >= when.get("multiple_of", 0):
        what = f"no size has the remainder {when['remainder']}" if "multiple_of" in when else "a remainder needs multiple_of"
        raise place.error_at((*path, "remainder"), what, "give multiple_of, and a remainder below it")
    if "dimension" in when and "multiple_of" not in when:
        raise place.error_at((*path, "dimension"), "it has no meaning without multiple_of", "give multiple_of, or remove it")


def _validate_versions(versions: Mapping[str, Any], place: Place, path: Path_) -> None:
    for name, value in versions.items():
        if not isinstance(value, str) and value is not False:
            remedy = "give the version in quotes, or false where it cannot be read"
            raise place.error_at((*path, name), f"{value!r} is not a version", remedy)


def _validate_conditions(entry: Mapping[str, Any], place: Place, path: Path_) -> None:
    """Refuse conditions that need calls: versions and counters are read, not called, so only the chip can be chosen."""
    conditions: list[Path_] = [("when", key) for key in entry.get("when", {}) if key != "chip"]
    conditions += [(key,) for key in ("op", "dtype", "severity") if key in entry]
    if conditions:
        what = f"it does not apply to a {entry['kind']}, which no operator triggers"
        raise place.error_at((*path, *conditions[0]), what, "remove it; only when = { chip = N } is supported")


def _validate_health(health: Mapping[str, Any], place: Place, path: Path_) -> None:
    for name, value in health.items():
        if name not in _HEALTH_KEYS:
            remedy = f"choose from {', '.join(_HEALTH_KEYS)}"
            raise place.error_at((*path, name), f"a chip's health has no {name!r}", remedy)
        if not isinstance(value, _HEALTH_KEYS[name]) or isinstance(value, bool):
            remedy = "give a number" if name == "power_w" else "give it in quotes"
            raise place.error_at((*path, name), f"{value!r} is no {name}", remedy)
        if name == "codes" and not re.fullmatch(r"[0-9A-Fa-f]{8}( [0-9A-Fa-f]{8})*", str(value)):
            remedy = 'give eight digits each, as "80E18005 8C084E00"'
            raise place.error_at((*path, name), f"{value!r} is no list of codes", remedy)


def _validate_library(given: Mapping[str, Any], place: Place, path: Path_, management: str | None) -> None:
    if management != "libdcmi":
        what = "a management-library defect acts on chips that are read through one only"
        raise place.error_at(path, what, 'add management = "libdcmi" at the top of the file')
    function = given.get("function")
    if function not in LIBRARY_FUNCTIONS:
        near = get_close_matches(str(function), LIBRARY_FUNCTIONS, n=3) or LIBRARY_FUNCTIONS
        where = (*path, "function") if "function" in given else path
        raise place.error_at(where, f"the library has no function {function!r}", f"choose from {', '.join(near)}")
    ways = [name for name in given if name != "function"]
    for name in ways:
        if name not in _LIBRARY_WAYS:
            raise place.error_at((*path, name), f"a function has no {name!r}", f"choose from {', '.join(_LIBRARY_WAYS)}")
        if type(given[name]) is not _LIBRARY_WAYS[name]:
            remedy = "give a whole number" if _LIBRARY_WAYS[name] is int else "give true"
            raise place.error_at((*path, name), f"{given[name]!r} is no {name}", remedy)
    if len(ways) != 1 or (not given[ways[0]] and ways[0] != "value"):
        what = "it does not say how the function goes wrong, or says it more than once"
        raise place.error_at(path, what, "give one of answer (a code, not 0), value, hangs = true")
    if ways == ["value"] and (function not in LIBRARY_FIGURES or not -(2**31) <= given["value"] < 2**32):
        remedy = f"give a number of 32 bits for one of {', '.join(LIBRARY_FIGURES)}"
        raise place.error_at((*path, "value"), f"{function} does not give this figure", remedy)


def _validate_counters(rises: Mapping[str, Any], place: Place, path: Path_, counters: Collection[str]) -> None:
    for name, value in rises.items():
        if name not in counters:
            remedy = f"they are {', '.join(counters) or 'none'}; [counters] adds one"
            raise place.error_at((*path, name), f"the chip has no counter {name!r}", remedy)
        if isinstance(value, bool | str) or value < 1 or not float(value).is_integer():
            what = f"a counter cannot increase by {value!r}"
            raise place.error_at((*path, name), what, "give an integer of 1 or more")
