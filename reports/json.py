"""The whole assessment as JSON, valid under the published schema; `judge` and `report` read it back."""

from readiness.datamodel import Assessment
from readiness.documents import assessment as documents

SUFFIX = ".json"


def render(assessment: Assessment, *, colour: bool = False) -> str:  # noqa: ARG001
    """Strict JSON. Raises InternalError for what does not fit the schema."""
    return documents.dumps(documents.to_json(assessment)) + "\n"
