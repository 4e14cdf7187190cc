"""The process that reads one source: it may block in a driver or die of a library, and costs that source only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readiness.accelerators.readers import sources
from readiness.accelerators.readers.contract import Reading
from readiness.accelerators.readers.tool_runner import Context, NotMineError, SourceError
from readiness.isolation.task_process import TaskServer

#: No host has more devices.
_MOST_READINGS = 1024


def serve(server: TaskServer, request: Mapping[str, Any]) -> int:
    """Read the sources that tasks name. `request` gives the root of the host's files."""
    root = Path(request["root"])

    def do(task: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        context = Context(root, float(task["limit_s"]), dict(task["settings"]), task["source"])
        server.phase.enter(task["stage"], task["source"])
        return answer(task["source"], task["stage"], context), False

    return server.serve(do)


def answer(source: str, stage: str, context: Context) -> dict[str, Any]:
    """Return the answer to the parent: readings, or the problem in words."""
    try:
        readings: list[Reading] = sources.BY_NAME[source].read(stage, context)
        present = [reading for reading in readings[:_MOST_READINGS] if reading.share_present]
        if readings and not present:
            return {"problem": "it names devices, but no known field of them"}
        return {"readings": [reading.to_json() for reading in present]}
    except NotMineError:
        return {"readings": []}
    except SourceError as problem:
        return {"problem": str(problem)}
    except Exception as problem:  # noqa: BLE001 - a parser that meets what nobody foresaw
        print(f"{type(problem).__name__}: {problem}", file=sys.stderr)
        return {"problem": f"its answer could not be understood ({type(problem).__name__}: {problem})"[:400]}
