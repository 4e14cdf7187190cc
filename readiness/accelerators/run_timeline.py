"""Timeline of a run: which check worked on a device when, for what is found in logs afterwards. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Log lines carry seconds, and a driver may log a little after the act.
_SLACK_S = 1.0


@dataclass(frozen=True, slots=True)
class CheckSpan:
    """A check at work: since when and until when (epoch). `provokes` if it makes errors on purpose that drivers log."""

    check: str
    began: float
    ended: float
    provokes: bool = False


@dataclass(frozen=True, slots=True)
class RunTimeline:
    """The checks that worked on one device in this run, and when the run began (epoch)."""

    began: float
    spans: Sequence[CheckSpan] = ()

    def at(self, moment: float) -> list[CheckSpan]:
        """Return the checks that worked at this moment; those just before or after it if none did."""
        exact = [span for span in self.spans if span.began <= moment <= span.ended]
        return exact or [span for span in self.spans if span.began - _SLACK_S <= moment <= span.ended + _SLACK_S]

    def describe(self, moment: float) -> str:
        """Return in words what ran at this moment."""
        names = list(dict.fromkeys(span.check for span in self.at(moment)))
        if names:
            return f"while {' and '.join(names)} ran"
        return "before the run" if moment < self.began - _SLACK_S else "between two checks"

    def is_provoked(self, moment: float) -> bool:
        """True if a check ran at this moment that makes errors on purpose, so that the line may be its own."""
        return any(span.provokes for span in self.at(moment))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for a worker's request."""
        return {
            "began": self.began,
            "spans": [[span.check, round(span.began, 3), round(span.ended, 3), span.provokes] for span in self.spans],
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> RunTimeline:
        """The inverse of `to_json`."""
        spans: Iterable[Sequence[Any]] = document["spans"]
        return RunTimeline(
            float(document["began"]),
            [CheckSpan(str(check), float(began), float(ended), bool(provokes)) for check, began, ended, provokes in spans],
        )
