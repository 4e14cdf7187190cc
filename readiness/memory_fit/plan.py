"""The plan of a fit: workload, chips, layouts and sizes, from a profile's settings and from options over them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from readiness.datamodel import Use
from readiness.errors import UsageError, did_you_mean
from readiness.memory_fit import architecture, search, traced_activations
from readiness.memory_fit.estimate import Estimate, Model, Serving, Training
from readiness.memory_fit.layout import BYTES, TRAINING_DTYPES, Chosen, Optimizer, Sharding
from readiness.tracing import workload_schema

#: Share of a chip's memory that a job gets: torch_npu sees 62,420 of 65,536 MiB; contexts and fragments take the rest.
USABLE_SHARE = 0.95
_UNITS = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_AMOUNT = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]+)\s*")
_MOST_CHIPS = 2**17


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of `model.fit`, which options of the command line override. 0 and "" are left to choose.

    A chip count of 0 means as many as are asked about.
    """

    training_chips: int = 0
    training_tensor: int = 0
    training_pipeline: int = 0
    training_expert: int = 0
    training_sharding: str = Sharding.PARAMETERS.value
    training_dtype: str = "bfloat16"
    optimizer: str = Optimizer.ADAMW.value
    training_batch: int = 1
    training_length: int = 0
    recompute: bool = True
    serving_chips: int = 0
    serving_tensor: int = 0
    serving_pipeline: int = 0
    serving_expert: int = 0
    serving_dtype: str = "bfloat16"
    cache_dtype: str = "bfloat16"
    serving_batch: int = 1
    serving_length: int = 0
    usable_share: float = USABLE_SHARE

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """Return the settings among these; others, as `workload`, are passed over."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in known})


def refuse_unknown_words(settings: Settings, place: str) -> None:
    """Raise UsageError for a dtype, an optimizer or a sharding that does not exist."""
    for name, word, known in (
        ("training_dtype", settings.training_dtype, TRAINING_DTYPES),
        ("serving_dtype", settings.serving_dtype, tuple(BYTES)),
        ("cache_dtype", settings.cache_dtype, tuple(BYTES)),
        ("optimizer", settings.optimizer, tuple(Optimizer)),
        ("training_sharding", settings.training_sharding, tuple(Sharding)),
    ):
        if word not in known:
            hint = did_you_mean(str(word), known, cutoff=0.4)
            remedy = f"{hint}choose one of {', '.join(known)}"
            raise UsageError(f"{name}: there is no {str(word)[:60]!r}", place=place, remedy=remedy)


def memory_bytes(text: str, place: str) -> int:
    """Parse an amount of memory like 64GiB or 80GB. Raises UsageError."""
    found = _AMOUNT.fullmatch(text)
    size = int(float(found[1]) * _UNITS.get(found[2].upper(), 0)) if found else 0
    if found is None or not 2**20 <= size <= 2**50:
        hint = f"did you mean {text.strip()}GiB? " if re.fullmatch(r"\s*[0-9.]+\s*", text) else ""
        remedy = f"{hint}write it like 64GiB (2^30 bytes) or 80GB (10^9 bytes)"
        raise UsageError(f"{text[:60]!r} is no amount of memory", place=place, remedy=remedy)
    return size


def model_of(workload: workload_schema.Workload) -> Model:
    """Return what is known of the model of a workload. Raises UsageError where its parameters are not."""
    parameters = workload.model.get("parameters")
    if not isinstance(parameters, int) or isinstance(parameters, bool) or parameters <= 0:
        raise UsageError(
            f"the workload {workload.name} does not say how many parameters its model has", place="workload",
            remedy="trace the model again: `readiness trace`",
        )  # fmt: skip
    found = architecture.read(workload.model)
    kept = traced_activations.kept_bytes(workload) if found is None else 0.0
    return Model(workload.name, parameters, found, kept, workload.batch, workload.length)


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model fits one use. `other` is the estimate with recomputation switched the other way (training only).

    `chips` and `batch` are those asked about; numbers that are None make no sense for this model.
    """

    use: Use
    chips: int
    how: Training | Serving
    estimate: Estimate
    other: Estimate | None
    usable_bytes: float
    fewest: search.Fewest | None
    largest_batch: int | None
    longest: int | None
    positions: int | None

    @property
    def fits(self) -> bool:
        """True if the chip that needs most has enough."""
        return self.estimate.bytes <= self.usable_bytes

    @property
    def share(self) -> float:
        """What is needed over what can be used."""
        return self.estimate.bytes / self.usable_bytes


@dataclass(frozen=True, slots=True)
class Report:
    """The fit of a workload's model for each use."""

    subject: str
    title: str
    model: Model
    memory_bytes: int
    settings: Settings
    fits: Mapping[Use, Fit] = field(default_factory=dict)


def refuse_impossible(workload: workload_schema.Workload, settings: Settings, place: str) -> None:
    """Raise UsageError for words that do not exist and layouts that cannot be, whatever memory the chips have."""
    refuse_unknown_words(settings, place)
    model = model_of(workload)
    for training in (True, False):
        _refuse_layout(settings, model, training, place)


def report(
    subject: str, workload: workload_schema.Workload, settings: Settings, memory: int, uses: tuple[Use, ...], place: str
) -> Report:
    """Return whether the model fits. Raises UsageError for layouts that cannot be; `place` is where they were said."""
    refuse_unknown_words(settings, place)
    model = model_of(workload)
    usable = memory * settings.usable_share
    found = {}
    for use in uses:
        training = use is Use.TRAINING
        chips = _refuse_layout(settings, model, training, place)
        chosen, how = _chosen(settings, training), _how(settings, model, training)
        found[use] = _fit(use, model, how, chips, chosen, usable)
    return Report(subject, workload.title, model, memory, settings, found)


def _refuse_layout(settings: Settings, model: Model, training: bool, place: str) -> int:
    """Raise UsageError for a layout that cannot be; return the number of chips."""
    chips = max(1, settings.training_chips if training else settings.serving_chips)
    if chips > _MOST_CHIPS:
        raise UsageError(f"{chips:,} chips", place=place, remedy=f"give {_MOST_CHIPS:,} at most")
    if (problem := _chosen(settings, training).problem(chips, model.architecture)) is not None:
        raise UsageError(
            f"{'training' if training else 'serving'}: {problem}", place=place,
            remedy="give another number of chips, or leave the layout to be chosen",
        )  # fmt: skip
    return chips


def _chosen(settings: Settings, training: bool) -> Chosen:
    numbers = (
        (settings.training_tensor, settings.training_pipeline, settings.training_expert)
        if training
        else (settings.serving_tensor, settings.serving_pipeline, settings.serving_expert)
    )
    tensor, pipeline, expert = (count or None for count in numbers)
    return Chosen(tensor, pipeline, expert, Sharding(settings.training_sharding) if training else Sharding.NONE)


def _how(settings: Settings, model: Model, training: bool) -> Training | Serving:
    usual = model.traced_length
    if training:
        return Training(
            settings.training_dtype, Optimizer(settings.optimizer), settings.training_batch,
            settings.training_length or usual, settings.recompute and model.architecture is not None,
        )  # fmt: skip
    return Serving(settings.serving_dtype, settings.cache_dtype, settings.serving_batch, settings.serving_length or usual)


def _fit(
    use: Use, model: Model, how: Training | Serving, chips: int, chosen: Chosen, usable: float
) -> Fit:
    estimate = search.best(model, how, chips, chosen, usable)
    other = None
    if isinstance(how, Training) and model.architecture is not None:
        other = search.estimate_of(model, replace(how, recompute=not how.recompute), estimate.layout)
    known = model.architecture is not None
    return Fit(
        use=use,
        chips=chips,
        how=how,
        estimate=estimate,
        other=other,
        usable_bytes=usable,
        fewest=search.fewest_chips(model, how, chosen, usable),
        largest_batch=search.largest_batch(model, how, estimate.layout, usable) if known or use is Use.TRAINING else None,
        longest=search.longest(model, how, estimate.layout, usable) if known else None,
        positions=model.architecture.positions if model.architecture is not None else None,
    )
