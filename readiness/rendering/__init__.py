"""What all reports say alike: text made harmless, figures, and findings sorted by what they mean to the reader."""

from readiness.rendering.accelerators import device, earlier, failed_stacks, joined, names, rehearsals, simulated, software
from readiness.rendering.colours import Paint, paint_decisions, painter
from readiness.rendering.device_groups import (
    Alike,
    Group,
    LeftOut,
    Shared,
    Statement,
    Time,
    alike,
    grouped,
    left_out,
    together,
)
from readiness.rendering.findings import Kind, Told, kind, labels, limit, measured, reading, reason, strays, title, told
from readiness.rendering.rehearsal import TITLE as REHEARSAL_TITLE
from readiness.rendering.rehearsal import rehearsal
from readiness.rendering.soak_claims import TITLE as PROOFS_TITLE
from readiness.rendering.soak_claims import proofs
from readiness.rendering.text import (
    clean,
    cut,
    duration,
    escape_markdown,
    figure,
    memory,
    message,
    roughly,
    visible,
    width,
    wrap,
)
from readiness.rendering.text_budget import Section, comment, fit
from readiness.rendering.verdicts import badness, span, tally, worst

__all__ = [
    "PROOFS_TITLE",
    "REHEARSAL_TITLE",
    "Alike",
    "Group",
    "Kind",
    "LeftOut",
    "Paint",
    "Section",
    "Shared",
    "Statement",
    "Time",
    "Told",
    "alike",
    "badness",
    "clean",
    "comment",
    "cut",
    "device",
    "duration",
    "earlier",
    "escape_markdown",
    "failed_stacks",
    "figure",
    "fit",
    "grouped",
    "joined",
    "kind",
    "labels",
    "left_out",
    "limit",
    "measured",
    "memory",
    "message",
    "names",
    "paint_decisions",
    "painter",
    "proofs",
    "reading",
    "reason",
    "rehearsal",
    "rehearsals",
    "roughly",
    "simulated",
    "software",
    "span",
    "strays",
    "tally",
    "title",
    "together",
    "told",
    "visible",
    "width",
    "worst",
    "wrap",
]  # fmt: skip
