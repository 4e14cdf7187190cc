"""`readiness trace`: hear what a model calls, and write a workload and a profile that asks for it."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from readiness.cli import common
from readiness.errors import UsageError

if TYPE_CHECKING:
    from readiness.workload.document import Workload


class Dtype(StrEnum):
    """What the weights are computed in."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


def trace(
    model: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="A config.json of transformers, or module:function giving model and inputs."),
    ],
    name: Annotated[str | None, typer.Option("--name", help="What to call it. [default: after CONFIG]")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where to write.")] = Path(),
    batch: Annotated[int, typer.Option("--batch", min=1, max=65536, help="Texts, or images, at once.")] = 1,
    length: Annotated[int, typer.Option("--length", min=1, max=2**24, help="Positions of each text.")] = 4096,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="What is computed in.")] = Dtype.BFLOAT16,
    reduced: Annotated[
        bool, typer.Option("--reduced", help="The model made small in its configuration, which is written too.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Hear every operator that a model calls, at full size and without its weights; write a workload and a ready profile."""
    from readiness.files import write_atomically, write_bytes_atomically
    from readiness.workload import document, writing

    called = _name(name or _default_name(model))
    if not output.is_dir():
        raise UsageError("there is no such folder", place=f"--output {output}", remedy="make it, or name another")
    packed, profile = output / f"{called}{document.SUFFIX}", output / f"{called}.toml"
    config = output / f"{called}.config.json"
    for file in (packed, profile, *([config] if reduced else [])):
        if file.exists() and not force:
            raise UsageError("it is there already", place=str(file), remedy="give another --name, or --force")
    heard, text = _hear(model, called, batch=batch, length=length, dtype=dtype, reduced=reduced)
    try:
        write_bytes_atomically(packed, document.dumps(heard))
        write_atomically(profile, writing.profile(heard, file=packed.name))
        if text is not None:
            write_atomically(config, text)
    except OSError as problem:
        raise UsageError(f"it cannot be written: {problem}", place=str(output), remedy="name another folder") from problem
    common.put(
        f"{packed}: {len(heard.operators)} operators in {len(heard.records)} distinct calls, "
        f"{sum(sum(record.calls.values()) for record in heard.records)} calls a step\n"
        f"{profile}: run it with `readiness run --profile {profile}`"
    )
    for missed in heard.not_covered:
        print(f"readiness: not covered, since it is none of PyTorch's operators: {missed}", file=sys.stderr)


def _hear(
    model: str, name: str, *, batch: int, length: int, dtype: Dtype, reduced: bool
) -> tuple[Workload, str | None]:
    """The workload, and the configuration that was made for it where it is a reduced one."""
    import json

    import torch

    from readiness.workload import building, recording

    def note(text: str) -> None:
        print(f"readiness: {text}", file=sys.stderr)

    kind = getattr(torch, dtype.value)
    if ":" in model and not model.endswith(".json"):
        if reduced:
            raise UsageError("a function is not reduced", place="--reduced", remedy="have it return a smaller model")
        found = building.of_function(model, length=length, dtype=kind)
        return recording.record(found, name=name, title=f"{name}: {model}", batch=batch, note=note), None
    config = building.read_config(Path(model))
    sources, config = building.sources(config, batch=batch, length=length, dtype=kind, place=model, reduced=reduced)
    size = ", reduced" if reduced else ""
    title = f"{name}: {sources.whole.kind}{size}, {dtype.value}, {sources.whole.lengths[0]} {sources.whole.length}"
    heard = recording.record(sources, name=name, title=title, batch=batch, note=note)
    return heard, json.dumps(config, indent=1) + "\n" if reduced else None


def _default_name(model: str) -> str:
    if ":" in model and not model.endswith(".json"):
        return model.rpartition(":")[2]
    file = Path(model)
    return file.resolve().parent.name if file.stem == "config" else file.stem


def _name(text: str) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:64]
    if not name:
        raise UsageError(f"{text[:40]!r} makes no name", place="--name", remedy="give one of letters and digits")
    return name
