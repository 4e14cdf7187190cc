"""JSON codec of dataclasses by their annotations, for messages between a parent and its ranks. Pure.

An annotation may be a scalar, an enum, a path, another dataclass, a union, a list, a tuple, a sequence, or a mapping from
strings, whole numbers or enums. Decoding is strict: what does not fit an annotation is an error, never a guess.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SCALARS = (bool, int, float, str)


def to_json(value: object) -> Any:
    """Encode a value. Raises TypeError for one that has no JSON."""
    if value is None or type(value) in _SCALARS:
        return value
    if isinstance(value, enum.Enum):
        return to_json(value.value)
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(to_json(key)): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def from_json(kind: Any, value: Any) -> Any:
    """Decode a value of this annotation. Raises ValueError for one that does not match."""
    if kind is Any:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _of_union(arguments, value)
    if origin is None:
        return _plain(kind, value)
    if origin in (list, tuple, Sequence):
        return _sequence(origin, arguments, value)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {_key(arguments[0], key): from_json(arguments[1], item) for key, item in value.items()}
    raise _misfit(kind, value)


def _plain(kind: Any, value: Any) -> Any:
    if kind is type(None) and value is None:
        return None
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind in _SCALARS and type(value) is kind:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _dataclass(kind, value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise _misfit(kind, value)


def _dataclass(kind: Any, content: dict[str, Any]) -> Any:
    hints = _hints(kind)
    if unknown := content.keys() - hints.keys():
        raise ValueError(f"{kind.__name__} has no field {min(unknown)!r}")
    values = {}
    for name, value in content.items():
        try:
            values[name] = from_json(hints[name], value)
        except ValueError as problem:
            raise ValueError(f"{kind.__name__}.{name}: {problem}") from None
    try:
        return kind(**values)
    except TypeError as problem:
        raise ValueError(f"{kind.__name__}: {problem}") from None


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def _of_union(kinds: Sequence[Any], value: Any) -> Any:
    for kind in kinds:
        try:
            return from_json(kind, value)
        except ValueError:
            continue
    raise _misfit(" | ".join(map(_name, kinds)), value)


def _sequence(origin: Any, arguments: Sequence[Any], value: Any) -> Any:
    if not isinstance(value, list):
        raise _misfit(_name(origin), value)
    if origin is not tuple or arguments[1:] == (...,):
        return (list if origin is list else tuple)(from_json(arguments[0], item) for item in value)
    if len(value) != len(arguments):
        raise ValueError(f"{len(value)} values in place of {len(arguments)}")
    return tuple(from_json(kind, item) for kind, item in zip(arguments, value, strict=True))


def _key(kind: Any, key: str) -> Any:
    return int(key) if kind is int else from_json(kind, key)


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _misfit(kind: Any, value: Any) -> ValueError:
    return ValueError(f"{str(value)[:80]!r} is not of type {_name(kind)}")
