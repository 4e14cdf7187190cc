"""JSON document of a rehearsal, and its part in an assessment. The schema is `readiness/schemas/rehearsal.json`."""

from __future__ import annotations

from typing import Any

from readiness import __version__
from readiness.documents import schema
from readiness.documents.strict_json import plain
from readiness.rehearsal.detection_matrix import Catch, DefectResult, Detection, FalseAlarm
from readiness.rehearsal.run import Rehearsal
from readiness.rendering import names

SCHEMA = "readiness.rehearsal/1"
NOTICE = "rehearsals of reported trouble on simulated chips, not measurements of a product"
#: Neither caught nor missed.
_NEITHER = (
    Detection.UNFINISHED, Detection.NOT_TRIED, Detection.DID_NOT_ACT, Detection.UNTOLD, Detection.NOT_REQUIRED,
)  # fmt: skip
Json = dict[str, Any]


def to_json(rehearsal: Rehearsal) -> Json:
    """Return the validated document. Raises InternalError, since an invalid one is a fault of readiness."""
    request, result = rehearsal.request, rehearsal.result
    document: Json = {
        "schema": SCHEMA,
        "notice": NOTICE,
        "tool": {"name": "readiness", "version": __version__, "seed": request.seed},
        "started": rehearsal.started,
        "seconds": round(rehearsal.seconds, 3),
        "interrupted": rehearsal.interrupted,
        "host": plain(rehearsal.host),
        "profile": {"name": request.profile.name, "title": request.profile.title, "sha256": request.profile.sha256},
        "expression": request.expression,
        "full": request.full,
        "seeds": list(request.seeds),
        "healthy_runs": result.healthy_runs,
        "defects": [_defect(line) for line in result.defects],
        "left_out": rehearsal.left_out,
        "false_alarms": [_alarm(alarm) for alarm in result.alarms],
        "unknown": dict(result.unknown),
        "host_fails": list(result.host_fails),
        "rehearsed": result.rehearsed,
    }
    schema.must_fit("rehearsal", document, "the rehearsal")
    return document


def for_assessment(rehearsal: Rehearsal) -> Json:
    """Return the part that `run --rehearse` puts into the assessment, without what the assessment contains anyway.

    What a stop left unfinished is not in it, nor what was not tried, never acted, was not asked or could not be told: it was
    neither caught nor missed.
    """
    document = to_json(rehearsal)
    finished = [item for item in document["defects"] if item["result"] not in _NEITHER]
    return {
        "profile": document["profile"]["name"],
        **_only(document, "notice", "seconds", "seeds", "healthy_runs", "interrupted"),
        "defects": [
            _only(item, "defect", "kind", "title", "source", "severity", "unit", "caught", "claimed", "missed_by")
            | {
                "by": [
                    _only(catch, "check", "seconds", "requirement", "about")
                    | {"where": names(catch["accelerators"]) if item["chips"] > 1 else None}
                    for catch in item["by"]
                ]
            }
            for item in finished
        ],
        "false_alarms": [_only(alarm, "seed", "check", "requirement", "about") for alarm in document["false_alarms"]],
    }


def _only(document: Json, *keys: str) -> Json:
    return {key: document[key] for key in keys}


def _defect(line: DefectResult) -> Json:
    fault = line.fault
    return {
        "defect": fault.name,
        "kind": fault.kind.name,
        "title": fault.title,
        "source": fault.source,
        "severity": fault.severity,
        "unit": fault.kind.unit,
        "chips": fault.chip.chips,
        "result": line.detection.value,
        "caught": line.detection is Detection.CAUGHT,
        "claimed": bool(line.claimed_by),
        "claimed_by": list(line.claimed_by),
        "by": [_catch(catch) for catch in line.catches],
        "missed_by": list(line.missed_by),
        "unable": [{"check": check, "reason": reason} for check, reason in line.unable.items()],
        "not_run": list(line.not_run),
        "not_met": list(line.not_met),
        "left_out": list(line.left_out),
        "not_required": list(line.not_required),
        "unmeasured": list(line.unmeasured),
        "acted": dict(line.acted),
        "expected": list(line.expected),
    }


def _catch(catch: Catch) -> Json:
    return {
        "check": catch.check,
        "seconds": round(catch.seconds, 3),
        "requirement": catch.requirement,
        "about": plain(catch.about),
        "level": catch.level.value,
        "accelerators": list(catch.accelerators),
        "requirements": list(catch.requirements),
        "claimed": catch.claimed,
        "status": catch.status.value,
    }


def _alarm(alarm: FalseAlarm) -> Json:
    return {
        "chip": alarm.machine,
        "seed": alarm.seed,
        "check": alarm.check,
        "requirement": alarm.requirement,
        "about": plain(alarm.about),
        "accelerator": alarm.accelerator,
    }
