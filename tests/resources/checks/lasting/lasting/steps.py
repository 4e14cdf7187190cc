"""A check that works for as long as it is told, and keeps what it found in its file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from readiness import Accelerator, Measurement, check
from readiness.datamodel import Note, Row, Yield


def recount(path: Path) -> Iterator[Yield]:
    """How many steps the file holds."""
    steps = [json.loads(line) for line in path.read_text().splitlines()]
    yield Row({"proves": f"{len(steps)} steps", "does_not_prove": "more"})
    yield Measurement("figure", len(steps))


@check("lasting.steps", title="Steps", measures={"figure": "1"}, typical_s=0.1, limit_s=30.0, lasting="seconds", recount=recount)
def steps(accelerator: Accelerator, *, seconds: float = 0.0) -> Iterator[Yield]:
    """Does it go on where it was cut off?"""
    assert accelerator.kept is not None
    done = len(accelerator.kept.read_text().splitlines()) if accelerator.kept.exists() else 0
    while done < seconds:
        with accelerator.kept.open("a") as stream:
            stream.write(json.dumps({"step": done, "pid": os.getpid()}) + "\n")
        done += 1
        yield Note(f"step {done}")
        time.sleep(0.02)
        while done >= 5 and os.path.exists(os.environ.get("LASTING_HELD", "")):  # noqa: PTH110
            time.sleep(0.01)
        if os.environ.get("LASTING_DIES") == str(done):
            os.abort()
        if os.environ.get("LASTING_FAILS") == str(done):
            raise OSError(28, "No space left on device")
    yield from recount(accelerator.kept)
