"""A serving engine (vLLM, or a vendor's fork of it) with the profile's model. Only workers import this: it imports torch.

The engine runs in a process of its own with a deadline, since it starts others and may hang; all of them are ended.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from readiness.accelerators.base import Accelerator
from readiness.host.process_control import bootstrap, kill_tree

_POLL_S, _END_S = 0.05, 10.0
#: Variables that keep it from fetching anything and from reporting its use.
_QUIET = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK")
#: Lines of the engine's own words that are kept where it ends without an answer.
_LAST_LINES = 3


def is_installed() -> bool:
    """True if there is a package of that name; whether it can be imported is found out in its own process."""
    return importlib.util.find_spec("vllm") is not None


@dataclass(slots=True)
class Served:
    """Answers of the engine's process by step, and why it ended early, if it did."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None

    def step(self, name: str) -> dict[str, Any] | None:
        """Return the answer to a step; None if it did not come so far."""
        return next((answer for answer in self.answers if answer["step"] == name and "error" not in answer), None)

    def rounds(self, batch: int) -> list[dict[str, Any]]:
        """Return the timed rounds of a batch."""
        return [answer for answer in self.answers if answer["step"] == "round" and answer["batch"] == batch]


def serve(accelerator: Accelerator, request: Mapping[str, Any], folder: Path, deadline_s: float) -> Served:
    """Run the engine for one request, at most for so many seconds; return what it answered by then."""
    given, answered, log = folder / "request.json", folder / "answers", folder / "log"
    given.write_text(json.dumps(dict(request)))
    answered.unlink(missing_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            bootstrap("readiness.probes.model.engine_process:main", str(given), str(answered)),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=folder,
            env=_environment(accelerator),
        )  # fmt: skip
        until = time.monotonic() + deadline_s
        try:
            while process.poll() is None and time.monotonic() < until:
                time.sleep(_POLL_S)
            code = process.poll()
        finally:
            kill_tree(process, _END_S)
    found = Served()
    if answered.exists():
        for line in answered.read_text().splitlines():
            with contextlib.suppress(ValueError):  # the last one may be cut off
                found.answers.append(json.loads(line))
    error = next((answer for answer in found.answers if "error" in answer), None)
    if error is not None:
        found.problem = f"{error['step']}: {error['error']}"
    elif code is None:
        found.problem = f"it did not end within {deadline_s:.0f} s"
    elif code != 0:
        words = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        found.problem = f"its process ended with code {code}: {' / '.join(words[-_LAST_LINES:])[:400]}"
    return found


def _environment(accelerator: Accelerator) -> dict[str, str]:
    """The process sees this device alone, fetches nothing, and reports to nobody."""
    found = dict(os.environ) | dict.fromkeys(_QUIET, "1")
    hiding: Sequence[str] = accelerator.stack.hiding
    if hiding:
        seen = [part for part in os.environ.get(hiding[0], "").split(",") if part.strip()]
        index = accelerator.facts.index
        found[hiding[0]] = seen[index] if index < len(seen) else str(index)
    return found
