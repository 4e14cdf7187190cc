"""Text of limited size: sections share the room; less urgent parts are folded, and omitted parts are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

#: GitHub refuses a comment of more than 65,536 characters; in bytes, so that other places take it as well.
LARGEST_COMMENT_BYTES = 65_536
#: Room for the end of the text, and for the note about omitted parts.
_END_BYTES = 2_000
#: What the beginning and the end of a fold take at most.
_FOLD_BYTES = 200


@dataclass(frozen=True, slots=True)
class Section:
    """Parts of one kind, the most important first; each is rendered only if there may be room for it.

    `name` says in the plural what they are. `share` is how much of the whole text they may take, besides what the sections
    before them left over. Parts beyond the first `unfolded` open by a click; None folds nothing.
    """

    name: str
    parts: Sequence[Callable[[], str]]
    share: float
    heading: str = ""
    unfolded: int | None = None


def ready_parts(texts: Iterable[str]) -> list[Callable[[], str]]:
    """Parts of a section whose texts are there already."""
    return [partial(str, text) for text in texts]


def size(text: str) -> int:
    """Return the size in bytes as UTF-8; lone surrogates become question marks."""
    return len(text.encode("utf-8", "replace"))


def comment(sections: Sequence[Section], end: str) -> str:
    """Return Markdown that fits a comment: what fits, a list of omissions, and the end."""
    text, left_out = fit(sections, LARGEST_COMMENT_BYTES - _END_BYTES)
    if left_out:
        text += f"\n> Left out here, to stay below 64 KB: {', '.join(left_out)}. The JSON report has all of it.\n"
    return text + end


def fit(sections: Sequence[Section], longest: int) -> tuple[str, list[str]]:
    """Return what fits into so many bytes, and what is omitted: `84 of 143 blockers`."""
    text, used, granted = "", 0, 0.0
    left_out: list[str] = []
    for section in sections:
        granted = min(granted + section.share, 1.0)
        made, count = _filled(section, int(granted * longest) - used)
        text += made
        used += size(made)
        if count < len(section.parts):
            left_out.append(f"{len(section.parts) - count} of {len(section.parts)} {section.name}")
    return text, left_out


def _filled(section: Section, room: int) -> tuple[str, int]:
    """Return the text of a section in so many bytes, and the number of its parts in it."""
    unfolded = len(section.parts) if section.unfolded is None else section.unfolded
    room -= size(section.heading)
    shown: list[str] = []
    folded: list[str] = []
    for number, part in enumerate(section.parts):
        room -= _FOLD_BYTES if number == unfolded else 0
        made = part()
        room -= size(made)
        if room < 0:
            break
        (shown if number < unfolded else folded).append(made)
    if not shown and not folded:
        return "", 0
    text = section.heading + "".join(shown)
    if folded:
        further = len(section.parts) - len(shown)
        count = f"{further}" if len(folded) == further else f"{len(folded)} of {further}"
        text += f"\n<details><summary>{count} further {section.name}</summary>\n\n{''.join(folded)}\n</details>\n"
    return text, len(shown) + len(folded)
