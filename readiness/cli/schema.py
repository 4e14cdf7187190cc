"""`readiness schema`: print a published schema."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from readiness.cli import options


class Name(StrEnum):
    """The published schemas."""

    PROFILE = "profile"
    WAIVERS = "waivers"
    ASSESSMENT = "assessment"
    BASELINE = "baseline"
    DIFFERENCE = "difference"
    COMPARISON = "comparison"
    CHIP = "chip"
    REHEARSAL = "rehearsal"
    PACK = "pack"
    ROWS = "rows"
    HOST = "host"
    FIT = "fit"


def schema(name: Annotated[Name, typer.Argument(help="The name of the schema.")]) -> None:
    """Print the JSON Schema of a file format."""
    from readiness.documents import schema as schemas

    options.put(schemas.text(name.value))
