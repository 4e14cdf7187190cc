"""Reports of ranks and settings for them: dataclasses that pass between a parent and its ranks as JSON."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from readiness.distributed.dataclass_json import from_json, to_json

#: Every class of reports that has been imported, by its full name.
_KINDS: dict[str, type[Report]] = {}


class Report:
    """Base class of what a rank function yields: a frozen dataclass whose fields have JSON (`dataclass_json`)."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        _KINDS[_full_name(cls)] = cls


def encode_report(report: Report | dict[str, Any]) -> dict[str, Any]:
    """The message that carries a report; one that is a plain JSON object stays so. Raises TypeError without JSON."""
    if isinstance(report, Report):
        return {"report": to_json(report), "kind": _full_name(type(report))}
    return {"report": report}


def decode_report(message: dict[str, Any]) -> Any:
    """The report in a message. Raises ValueError for one that this process does not know."""
    if "kind" not in message:
        return message["report"]
    kind = _KINDS.get(message["kind"])
    if kind is None:
        raise ValueError(f"reports of the kind {message['kind']!r} are unknown here")
    return from_json(kind, message["report"])


def encode_settings(settings: object) -> dict[str, Any]:
    """Settings of a rank function for another interpreter: a dataclass, or a plain JSON object."""
    if dataclasses.is_dataclass(settings):
        return {"settings": to_json(settings), "settings_kind": [type(settings).__module__, type(settings).__name__]}
    return {"settings": settings}


def decode_settings(content: dict[str, Any]) -> Any:
    """Decode what `encode_settings` encoded. Raises ImportError, AttributeError or ValueError where that cannot be done."""
    if "settings_kind" not in content:
        return content["settings"]
    module, name = content["settings_kind"]
    return from_json(getattr(importlib.import_module(module), name), content["settings"])


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
