"""`readiness trace`: record a model's operator calls, and write a workload and a profile."""

from __future__ import annotations

import contextlib
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from readiness.cli import options
from readiness.cli.check_folders import refuse_unless_folder
from readiness.errors import UsageError
from readiness.rendering import clean

#: The largest models that are shipped take half a minute, and less than one GiB.
_LIMIT_S, _MEMORY_BYTES = 600.0, 16 * 2**30
_LONGEST_NAME = 4096


class Dtype(StrEnum):
    """Dtype of the model."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


def trace(
    model: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG", help="A config.json of transformers, or module:function that returns model and inputs."
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", help="Name of the workload. [default: after CONFIG]")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", parser=options.path, help="Folder to write to.")
    ] = Path(),
    batch: Annotated[int, typer.Option("--batch", min=1, max=65536, help="Batch size: texts or images.")] = 1,
    length: Annotated[int, typer.Option("--length", min=1, max=2**24, help="Tokens of each text.")] = 4096,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Dtype of the model.")] = Dtype.BFLOAT16,
    reduced: Annotated[
        bool, typer.Option("--reduced", help="Reduce the model's configuration to a small model; write that too.")
    ] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Time limit. [default: 10m]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Record every operator that a model calls. At full size and without weights; a workload and a profile are written."""
    from readiness.documents.files import write_atomically, write_bytes_atomically
    from readiness.tracing import profile_writer, workload_schema

    _refuse_at_once(model, reduced=reduced)
    called = _name(name or _default_name(model))
    refuse_unless_folder(output, f"--output {output}", "create it, or name another")
    file, profile = output / f"{called}{workload_schema.SUFFIX}", output / f"{called}.toml"
    config = output / f"{called}.config.json"
    for target in (file, profile, *([config] if reduced else [])):
        if target.exists() and not force:
            raise UsageError("it exists already", place=str(target), remedy="use another --name, or --force")
    limit_s = _LIMIT_S if timeout is None else options.seconds(timeout, "--timeout")
    packed, text = _record(model, called, batch=batch, length=length, dtype=dtype, reduced=reduced, limit_s=limit_s)
    workload = workload_schema.loads(packed, model)
    try:
        write_bytes_atomically(file, packed)
        write_atomically(profile, profile_writer.profile(workload, file=file.name))
        if text is not None:
            write_atomically(config, text)
    except OSError as problem:
        raise UsageError(f"it cannot be written: {problem}", place=str(output), remedy="name another folder") from problem
    options.put(
        f"{file}: {len(workload.operators)} operators in {len(workload.records)} distinct calls, "
        f"{sum(sum(record.calls.values()) for record in workload.records)} calls a step\n"
        f"{profile}: run it with `readiness run --profile {profile}`"
    )
    for missed in workload.not_covered:
        print(f"readiness: not covered, because it is not one of PyTorch's operators: {missed}", file=sys.stderr)


def _record(
    model: str, name: str, *, batch: int, length: int, dtype: Dtype, reduced: bool, limit_s: float
) -> tuple[bytes, str | None]:
    """Return the packed workload, and the reduced configuration if there is one."""
    import base64

    from readiness.engine.isolated_call import FailedCallError, call

    request = {"model": model, "name": name, "batch": batch, "length": length, "dtype": dtype.value, "reduced": reduced}
    try:
        answer = call(
            "readiness.tracing.trace_task:trace", request, limit_s=limit_s, memory_bytes=_MEMORY_BYTES,
            note=lambda text: print(f"readiness: {clean(text)}", file=sys.stderr),
        )  # fmt: skip
    except FailedCallError as problem:
        longer = f"; --timeout TIME for more than {limit_s:g} s" if problem.timed_out else ""
        remedy = f"it should build a model and its inputs, and nothing else{longer}"
        raise UsageError(f"it cannot be traced: {problem}", place=model, remedy=remedy) from None
    match answer:
        case {"workload": str(packed), "config": str() | None as text}:
            with contextlib.suppress(ValueError):
                return base64.b64decode(packed, validate=True), text
    raise UsageError("it cannot be traced: its process sent an unknown answer", place=model, remedy="fix it")


def _refuse_at_once(model: str, *, reduced: bool) -> None:
    """Raise UsageError for mistakes that can be seen without loading the model."""
    from readiness.tracing import model_config
    from readiness.tracing.trace_task import is_function

    if len(model) > _LONGEST_NAME:
        what = f"it is longer than {_LONGEST_NAME} characters"
        raise UsageError(what, place="CONFIG", remedy="name a file, or module:function")
    if is_function(model) and reduced:
        raise UsageError("a function cannot be reduced", place="--reduced", remedy="return a smaller model from it")
    if not is_function(model):
        model_config.read(Path(model))


def _default_name(model: str) -> str:
    from readiness.tracing.trace_task import is_function

    if is_function(model):
        return model.rpartition(":")[2]
    file = Path(model)
    return file.resolve().parent.name if file.stem == "config" else file.stem


def _name(text: str) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:64]
    if not name:
        raise UsageError(f"{text[:40]!r} is not a usable name", place="--name", remedy="use letters and digits")
    return name
