"""Terminal report of a rehearsal: the detection matrix, then false alarms."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from readiness import rendering
from readiness.rehearsal import text as rehearsal_text
from readiness.rehearsal.detection_matrix import Detection
from readiness.rehearsal.run import Rehearsal

_STYLES = {
    Detection.CAUGHT: "1;32",
    Detection.MISSED: "1;31",
    Detection.UNFINISHED: "1;33",
    Detection.NOT_TRIED: "1;33",
    Detection.DID_NOT_ACT: "1;33",
    Detection.UNTOLD: "1;33",
    Detection.NOT_REQUIRED: "2",
    Detection.NOT_CLAIMED: "2",
}
_HEAD = ("", "defect", "severity", "caught by, seconds in")
Paint = Callable[[str, str], str]


def render(rehearsal: Rehearsal, *, colour: bool = False, width: int = 100) -> str:
    """Return the report in at most `width` columns, as far as names allow; with ANSI colours if `colour`."""

    def paint(text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if colour and text else text

    lines = rendering.wrap(rehearsal_text.WARNING, width)
    lines += ["", *rendering.wrap(rehearsal_text.head(rehearsal), width, first="rehearsed  ")]
    if rehearsal.result.defects:
        lines += ["", *_matrix(rehearsal, paint, width)]
    lines.append("")
    for text in (*rehearsal_text.summary(rehearsal), *rehearsal_text.healthy(rehearsal)):
        lines += rendering.wrap(text, width, rest="  ")
    for alarm in rehearsal_text.false_alarms(rehearsal):
        first, *rest = rendering.wrap(alarm.text, width, first="  ", rest="    ")
        lines += [paint(first, _STYLES[Detection.MISSED]), *rest]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _matrix(rehearsal: Rehearsal, paint: Paint, width: int) -> Iterator[str]:
    rows = []
    for line in rehearsal.result.defects:
        kind = rehearsal_text.kind(line.fault)
        defect = rendering.clean(line.fault.name, 40) + (f" ({kind})" if kind else "")
        label = line.detection.value if line.detection is not Detection.MISSED else "MISSED"
        rows.append(((label, defect, rehearsal_text.severity(line.fault, short=True)), line))
    widths = [max(rendering.width(row[place]) for row in [_HEAD, *(cells for cells, _ in rows)]) for place in range(3)]
    # On a narrow terminal the severity goes first, since the JSON has it.
    if sum(widths) + 6 + 24 > width:
        widths[2] = 0
    yield paint(_left(_HEAD[:3], widths) + _HEAD[3], "2")
    for cells, line in rows:
        texts = [text for text in (rehearsal_text.detections(line), rehearsal_text.undetected(line)) if text] or [""]
        first, *rest = texts
        blank = " " * rendering.width(_left(cells, widths))
        lines = rendering.wrap(first, width, first=_left(cells, widths), rest=blank) if first else [_left(cells, widths)]
        for text in rest:
            lines += rendering.wrap(text, width, first=blank, rest=blank)
        lines[0] = paint(cells[0], _STYLES[line.detection]) + lines[0][len(cells[0]) :]
        yield from lines


def _left(cells: tuple[str, ...], widths: list[int]) -> str:
    """Return the first columns, padded; a column of width 0 is omitted."""
    return "".join(
        cell + " " * (columns - rendering.width(cell) + 2) for cell, columns in zip(cells, widths, strict=True) if columns
    )


def line(rehearsal: Rehearsal) -> str:
    """Return one line of at most 80 characters."""
    result = rehearsal.result
    counts = [
        f"{len(result.of(label))} {label.value}" for label in Detection if label is Detection.CAUGHT or result.of(label)
    ]
    text = f"{', '.join(counts)}, {len(result.alarms)} false alarms in {result.healthy_runs} healthy runs"
    name = rendering.clean(rehearsal.request.profile.name, max(79 - len(text) - 13, 4))
    return rendering.clean(f"rehearsal {name}: {text}", 80) + "\n"
