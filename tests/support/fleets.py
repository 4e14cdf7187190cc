"""Summaries of made-up hosts, as many as wanted: figures of shipped checks, values that spread as measured ones do."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from readiness import check_registry
from readiness.comparison.comparable_values import Kind, kind
from readiness.datamodel import Better

PROFILE_SHA256 = "ab" * 32
_LABELS: tuple[dict[str, str], ...] = tuple({"dtype": name} for name in ("float32", "bfloat16", "float16", "int64"))


@cache
def figures(count: int) -> tuple[dict[str, Any], ...]:
    """So many figures of the shipped checks, of all families among the first ones; then the same under other labels."""
    measures = [
        (id, name, measure.unit)
        for id, check in check_registry.shipped().items() for name, measure in check.measures.items()
    ]  # fmt: skip
    measures.sort(key=lambda one: hashlib.sha256(f"{one[0]} {one[1]}".encode()).digest())
    found = [
        {"check": id, "name": name, "unit": unit, "labels": dict(labels)} for labels in _LABELS for id, name, unit in measures
    ]
    assert len(found) >= count
    return tuple(found[:count])


@cache
def _shapes(count: int) -> tuple[Callable[[random.Random], float], ...]:
    checks = check_registry.shipped()
    shapes: list[Callable[[random.Random], float]] = []
    for one in figures(count):
        better = checks[one["check"]].measures[one["name"]].better
        match kind(one["name"], one["unit"], better):
            case Kind.PERFORMANCE | Kind.SHARE:
                shapes.append(lambda draw: 500.0 * (1 - abs(draw.gauss(0, 0.01))))
            case Kind.ERROR:
                shapes.append(lambda draw: 1e-6 * 10 ** draw.gauss(0, 0.2))
            case _:
                shapes.append((lambda draw: 0.0) if better is Better.LOWER else (lambda draw: 1.0))
    return tuple(shapes)


def host(name: str, seed: int, *, chips: int = 8, count: int = 200, started: str = "2026-11-30T10:00:00Z") -> dict[str, Any]:
    """The summary of a sound host."""
    draw = random.Random(f"{name} {seed}")
    shapes = _shapes(count)
    return {
        "schema": "readiness.host/1",
        "tool": {"version": "0.1.0", "seed": seed},
        "started": started,
        "seconds": 93.1,
        "interrupted": False,
        "profile": {"name": "general", "sha256": PROFILE_SHA256},
        "uses": ["training", "inference"],
        "host": {"name": name, "facts": {"system": "Linux-6.8", "python": "3.11.9", "package torch": "2.13.0"}},
        "failed_stacks": {},
        "figures": [dict(one) for one in figures(count)],
        "accelerators": [
            {
                "id": f"cuda:{number}", "stack": "cuda", "vendor": "NVIDIA", "model": "H20", "serial": f"{name}-{number}",
                "memory_bytes": 96 * 2**30, "simulated": False,
                "facts": {"driver": "580.1.0", "firmware": "96.00", "environment threads": "1"},
                "verdicts": {use: {"verdict": "ready", "score": 99.0, "ceiling": 100.0} for use in ("training", "inference")},
                "open": [],
                "values": [float(f"{shape(draw):.6g}") for shape in shapes],
            }
            for number in range(chips)
        ],
        "unfinished": [],
        "diagnosis": [],
    }  # fmt: skip


def place_of(check: str, name: str, count: int = 200) -> int:
    """The place of the first figure of this name."""
    return next(place for place, one in enumerate(figures(count)) if (one["check"], one["name"]) == (check, name))


def fail(summary: dict[str, Any], number: int, requirement: str, reason: str) -> None:
    """Have an accelerator fail a must."""
    item = summary["accelerators"][number]
    item["open"].append({
        "requirement": requirement, "uses": ["training", "inference"], "level": "must", "outcome": "fail", "waived": False,
        "title": f"{requirement} holds", "check": "driver.health", "reason": reason, "remedy": "Replace it.",
        "action": "replace",
    })  # fmt: skip
    for verdict in item["verdicts"].values():
        verdict |= {"verdict": "not ready", "score": 60.0, "ceiling": 60.0}


def write(folder: Path, summaries: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> None:
    """Write each summary into the file of its host's name."""
    folder.mkdir(parents=True, exist_ok=True)
    for summary in summaries:
        (folder / f"{summary['host']['name']}.json").write_text(json.dumps(summary, separators=(",", ":")))
