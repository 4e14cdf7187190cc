"""Waivers: who accepts which failed requirement, why and until when. All of it is required."""

from __future__ import annotations

import datetime
from pathlib import Path

from readiness.datamodel import Profile, Waiver
from readiness.documents import toml
from readiness.errors import BadFileError, did_you_mean


def load(file: Path, profile: Profile) -> tuple[Waiver, ...]:
    """Read the waivers of a file. Raises BadFileError, with the line, for a wrong date or an unknown requirement."""
    document, lines = toml.read(file, "waivers")
    known = {requirement.id for requirement in profile.requirements}
    waivers = []
    for position, entry in enumerate(document["waive"]):
        place = f"{file}:{lines.line(('waive', position, 'until'))}"
        try:
            datetime.date.fromisoformat(entry["until"])
        except ValueError:
            raise BadFileError(
                f"waive[{position}].until: {entry['until']!r} is not a date",
                place=place,
                remedy='write it like "2027-01-31"',
            ) from None
        if entry["requirement"] not in known:
            hint = did_you_mean(entry["requirement"], sorted(known))
            raise BadFileError(
                f"waive[{position}].requirement: the profile {profile.name} has no {entry['requirement']!r}",
                place=f"{file}:{lines.line(('waive', position, 'requirement'))}",
                remedy=f"{hint}`readiness explain {profile.name}` shows its requirements; --profile names another",
            )
        waivers.append(Waiver(**entry))
    return tuple(waivers)
