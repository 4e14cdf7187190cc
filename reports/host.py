"""The assessment in short for `readiness fleet merge`: verdicts, what is open, every figure, versions."""

import json

from readiness.datamodel import Assessment
from readiness.documents import host_summary
from readiness.documents.json_escapes import escaped

SUFFIX = ".json"


def render(assessment: Assessment, *, colour: bool = False) -> str:  # noqa: ARG001
    """Strict JSON in one line, valid under `readiness schema host`."""
    document = host_summary.to_json(assessment)
    return escaped(json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))) + "\n"
