"""Logs of an Ascend's own processors, which its driver brings to the host: the fault codes of the last hour."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from readiness.accelerators.readers import kernel_log
from readiness.accelerators.readers.contract import Reading
from readiness.accelerators.readers.tool_runner import Context, SourceError

SOURCE = "Ascend logs"
_FOLDERS = ("usr/slog", "var/log/npu/slog")
RECENT_S = 3600.0
_MOST_FILES, _TAIL_BYTES = 64, 2**20


def glance(context: Context) -> list[Reading]:
    """The faults that files written within the last hour name, by device. Raises SourceError where none can be read."""
    oldest = time.time() - RECENT_S
    return kernel_log.readings((event for event in events(context.root) if event.at is None or event.at >= oldest), SOURCE)


def events(root: Path) -> list[kernel_log.Event]:
    """Return the faults that files written within the last hour name. Raises SourceError where none can be read."""
    found: list[kernel_log.Event] = []
    problems: list[str] = []
    for file in _recent(root):
        try:
            lines = _tail(file).splitlines()
        except OSError as problem:
            problems.append(f"{file}: {problem.strerror}")
            continue
        index = _device(file)
        found += [kernel_log.with_index(event, index) for event in kernel_log.events((line, None) for line in lines)]
    if problems and not found:
        raise SourceError("; ".join(problems)[:300])
    return found


def _recent(root: Path) -> Iterator[Path]:
    """Log files, newest first."""
    found: list[tuple[float, Path]] = []
    oldest = time.time() - RECENT_S
    for folder in _FOLDERS:
        for file in (root / folder).rglob("*.log"):
            try:
                changed = file.stat().st_mtime
            except OSError:
                continue
            if changed >= oldest:
                found.append((changed, file))
    yield from (file for _, file in sorted(found, reverse=True)[:_MOST_FILES])


def _tail(file: Path) -> str:
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(size - _TAIL_BYTES, 0))
        return opened.read().decode("utf-8", "replace")


def _device(file: Path) -> int | None:
    """The device that a path names: `slog/dev-os-3/...` is of the processor that serves device 3, `device-0` is closer."""
    own = re.findall(r"/device-(\d+)(?=[_/])", str(file)) or re.findall(r"/dev-os-(\d+)/", str(file))
    return int(own[-1]) if own else None
