"""`readiness fit`: does the model fit into the memory of so many chips, how many does it need, and why?"""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readiness.cli import completion, options
from readiness.enums import Use
from readiness.errors import Exit, UsageError, did_you_mean

if TYPE_CHECKING:
    from readiness.memory_fit.plan import Settings


class Format(StrEnum):
    """Output format."""

    TABLE = "table"
    JSON = "json"


class Sharding(StrEnum):
    """What data parallelism divides."""

    NONE = "none"
    OPTIMIZER = "optimizer"
    GRADIENTS = "gradients"
    PARAMETERS = "parameters"


def fit(
    name: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE|WORKLOAD", help="A profile, or a workload of `readiness trace`: its name or file.",
            autocompletion=completion.fitted,
        ),
    ],
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Memory of a chip, like 64GiB or 80GB.")
    ] = None,
    chips: Annotated[
        int | None, typer.Option("--chips", min=1, max=2**17, help="Chips. [default: as the profile plans, or 1]")
    ] = None,
    uses: options.Uses = None,
    tensor: Annotated[int | None, typer.Option("--tensor", min=1, help="Chips that share each matrix.")] = None,
    pipeline: Annotated[int | None, typer.Option("--pipeline", min=1, help="Stages that layers are dealt to.")] = None,
    expert: Annotated[int | None, typer.Option("--expert", min=1, help="Chips that experts are dealt to.")] = None,
    sharding: Annotated[
        Sharding | None,
        typer.Option("--sharding", help="What replicas divide in training: the optimizer's state, gradients too, or all."),
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="Dtype of parameters and activations in training.")] = None,
    optimizer: Annotated[str | None, typer.Option("--optimizer", help="Optimizer. [default: adamw]")] = None,
    length: Annotated[
        int | None, typer.Option("--length", min=1, max=2**30, help="Tokens of a sequence, or of a conversation.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, max=2**20, help="Sequences or conversations of a replica at once.")
    ] = None,
    recompute: Annotated[
        bool | None, typer.Option("--recompute/--no-recompute", help="Recompute activations. [default: recompute]")
    ] = None,
    serving_dtype: Annotated[
        str | None, typer.Option("--serving-dtype", help="Dtype of parameters in serving.")
    ] = None,
    cache_dtype: Annotated[str | None, typer.Option("--cache-dtype", help="Dtype of the KV cache.")] = None,
    usable: Annotated[
        float | None, typer.Option("--usable", min=0.01, max=1.0, help="Share of the memory that a job gets.")
    ] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.TABLE,
) -> None:
    """Reckon whether a model fits into the chips' memory.

    For training and for serving it says what fits, and how many chips it needs.

    Exit code 0 if it fits for every use, 1 if not. Each figure shows its arithmetic; nothing is measured.
    """
    from readiness.memory_fit import plan, rendering
    from readiness.tracing import workload_schema

    if memory is None:
        raise UsageError("it is not said how much memory a chip has", place="--memory", remedy="give it, like 64GiB")
    size = plan.memory_bytes(memory, "--memory")
    workload, given, of_profile = _subject(name)
    requested = tuple(use for use in (of_profile or tuple(Use)) if not uses or use in uses)
    if not requested:
        raise UsageError(f"{name} does not cover {', '.join(uses or ())}", place="--use", remedy="leave it out")
    planned = plan.Settings.of(given)
    if chips is not None:
        planned = _for_chips(planned, chips)
    settings = replace(planned, **_options(
        chips=chips, tensor=tensor, pipeline=pipeline, expert=expert, length=length, batch=batch,
        training_sharding=None if sharding is None else sharding.value, training_dtype=dtype, optimizer=optimizer,
        recompute=recompute, serving_dtype=serving_dtype, cache_dtype=cache_dtype, usable_share=usable,
    ))  # fmt: skip
    loaded = workload_schema.load(workload_schema.find(workload))
    report = plan.report(name, loaded, settings, size, requested, "readiness fit")
    if format is Format.JSON:
        from readiness.documents.assessment import dumps

        options.put(dumps(rendering.to_json(report)))
    else:
        options.put(_fitted(rendering.text(report)))
    raise typer.Exit(Exit.READY if all(found.fits for found in report.fits.values()) else Exit.NOT_READY)


def _for_chips(planned: Settings, chips: int) -> Settings:
    """Return the plan of a profile for another number of chips: how it divides its own number need not divide this one."""
    others = [kind for kind in ("training", "serving") if getattr(planned, f"{kind}_chips") != chips]
    chosen: dict[str, Any] = {f"{kind}_{name}": 0 for kind in others for name in ("tensor", "pipeline", "expert")}
    return replace(planned, **chosen)


def _options(**given: Any) -> dict[str, Any]:
    """Return the settings that options override: those about chips, layout and sizes hold for both uses."""
    both = ("chips", "tensor", "pipeline", "expert", "length", "batch")
    found = {name: value for name, value in given.items() if value is not None}
    return {name: value for name, value in found.items() if name not in both} | {
        f"{use}_{name}": value for name, value in found.items() if name in both for use in ("training", "serving")
    }


def _subject(name: str) -> tuple[str, dict[str, Any], tuple[Use, ...]]:
    """Return the workload, the settings of its fit, and the uses that the profile covers. Raises UsageError."""
    from readiness.profile import loader, shipped
    from readiness.tracing import workload_schema

    if name.endswith(workload_schema.SUFFIX) or (name in workload_schema.names() and name not in shipped.names()):
        return name, {}, ()
    if not name.endswith(".toml") and name not in shipped.names():
        known = [*shipped.names(), *workload_schema.names()]
        raise UsageError(
            f"there is no profile or workload {name[:100]!r}", place="PROFILE|WORKLOAD",
            remedy=f"{did_you_mean(name, known)}choose one of {', '.join(sorted(set(known)))}, or give a file that ends in "
            f".toml or {workload_schema.SUFFIX}",
        )  # fmt: skip
    settings, uses = loader.settings_of(name)
    workload = settings.get("model.fit", {}).get("workload") or settings.get("operators.workload", {}).get("workload")
    if not workload:
        raise UsageError(
            f"the profile {name} names no workload", place=name,
            remedy=f"choose a workload: {', '.join(workload_schema.names())}; or a profile of a model",
        )  # fmt: skip
    return workload, settings.get("model.fit", {}), uses


def _fitted(text: str) -> str:
    """The text with lines that are wider than the terminal wrapped; a term's name and bytes stay in their columns."""
    from readiness.rendering import wrap
    from readiness.rendering.formats import columns

    if (most := columns(sys.stdout, widest=sys.maxsize)) is None:
        return text
    lines: list[str] = []
    for line in text.splitlines():
        if len(line) <= most:
            lines.append(line)
            continue
        blanks = line[: len(line) - len(line.lstrip())]
        head, equals, formula = line.partition(" GiB = ")
        lines += (
            wrap(formula, most, first=head + equals, rest=f"{blanks}    ")
            if equals and len(head) < most // 2
            else wrap(line, most, first=blanks, rest=f"{blanks}  ")
        )
    return "\n".join(lines)
