"""Loading of the traced model on the meta device, from a transformers `config.json` or a user's function."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from readiness.errors import BadFileError, UsageError
from readiness.optional_imports import optional
from readiness.tracing import model_config, shrink_config
from readiness.tracing.call_recorder import META
from readiness.tracing.offline import is_network_error
from readiness.tracing.shrink_config import Config
from readiness.tracing.traced_model import Model, Sources, first

#: What is computed in is said by whoever traces.
_NOT_BUILT = ("torch_dtype", "dtype", "transformers_version")
#: Of the reduced model: both sides of a tile of 64, and a remainder of 32.
_REDUCED_LENGTH = 96
_WRITE_OUT = (
    "the network is not used: include what it refers to, e.g. `backbone_config` instead of `backbone`"
)


def of_config(config: Config, *, batch: int, length: int, dtype: torch.dtype, place: str, thin: bool = False) -> Model:
    """Build a model of transformers from its configuration. `thin` omits equal layers."""
    transformers = _transformers()
    settings = _settings(transformers, shrink_config.thinned(config) if thin else config, place)
    maker = _maker(transformers, settings, config.get("architectures"), place)
    # Whole where the model has it so: each device takes attention apart in its own way.
    settings._attn_implementation = "sdpa" if getattr(maker, "_supports_sdpa", False) else "eager"

    def build() -> nn.Module:
        try:
            with META, _default(dtype):
                made: nn.Module = maker(settings)
        except Exception as problem:
            remedy = _WRITE_OUT if is_network_error(problem) else "fix it"
            raise BadFileError(f"the model cannot be built: {first(problem)}", place=place, remedy=remedy) from problem
        return made.to(dtype)

    vision = getattr(maker, "main_input_name", "input_ids") == "pixel_values"
    labelled = "labels" in inspect.signature(maker.forward).parameters

    def inputs(size: int) -> dict[str, torch.Tensor]:
        if vision:
            side = settings.image_size
            height, width = (side, side) if isinstance(side, int) else side
            given = {"pixel_values": torch.zeros(size, settings.num_channels, height, width, dtype=dtype)}
            return given | ({"labels": torch.zeros(size, dtype=torch.long)} if labelled else {})
        ids = torch.zeros(batch, size, dtype=torch.long)
        return {"input_ids": ids} | ({"labels": ids.clone()} if labelled else {})

    largest = batch if vision else length
    return Model(
        kind=maker.__name__, length="images" if vision else "positions", lengths=_lengths(largest), build=build,
        inputs=inputs, serves=not vision, dtype=dtype, prepare=_without_data_dependence,
        facts={"transformers": transformers.__version__, "config": dict(config)},
    )  # fmt: skip


def _settings(transformers: Any, config: Config, place: str) -> Any:
    options = {name: value for name, value in config.items() if name not in (*_NOT_BUILT, "architectures", "model_type")}
    options = model_config.without_code(options)
    try:
        settings = transformers.AutoConfig.for_model(config["model_type"], **options)
    except Exception as problem:
        remedy = "give the config.json of a model that this transformers supports; see `model_type`"
        raise BadFileError(
            f"transformers {transformers.__version__} cannot create a configuration from it: {first(problem)}",
            place=place,
            remedy=_WRITE_OUT if is_network_error(problem) else remedy,
        ) from problem
    return settings


def sources(
    config: Config, *, batch: int, length: int, dtype: torch.dtype, place: str, reduced: bool
) -> tuple[Sources, dict[str, Any]]:
    """Return the models to trace for a configuration, and the configuration; `reduced` traces only the small model."""
    whole = _completed(config, place)
    small = shrink_config.reduced(whole)
    chosen = small if reduced else whole
    make = partial(of_config, batch=batch, dtype=dtype, place=place)
    short = min(_REDUCED_LENGTH, length)
    thin = make(chosen, length=length, thin=True)
    return Sources(make(chosen, length=length), thin, make(small, length=short, thin=True)), chosen


def _completed(config: Config, place: str) -> dict[str, Any]:
    """Return a configuration with its defaults filled in: these can be reduced too."""
    settings = _settings(_transformers(), config, place)
    known = {
        name: value for name, value in settings.to_dict().items() if shrink_config.fills(name) and isinstance(value, int)
    }
    return {**known, **config}


def of_function(name: str, *, length: int, dtype: torch.dtype) -> Sources:
    """Call `module:function`; it returns a module and its inputs: a dictionary, a tuple or one tensor.

    Called on the meta device. Where the function takes an argument it is the length, and it is asked for several; where it
    takes two, the second says whether the model is to be a small one of the same build.
    """
    module, _, attribute = name.partition(":")
    sys.path.insert(0, "")  # as `python -m` has it: a model beside the user
    try:
        function = getattr(importlib.import_module(module), attribute)
        takes = len(inspect.signature(function).parameters)
    except (Exception, SystemExit) as problem:
        raise UsageError(
            f"it cannot be imported: {first(problem)}", place=name, remedy="give module:function as Python finds it"
        ) from problem
    finally:
        sys.path.remove("")

    def make(size: int, small: bool) -> tuple[nn.Module, Any]:
        try:
            with META, _default(dtype):
                made = function(*(size, small)[:takes])
        except SystemExit as problem:
            what = f"it exits the process: {first(problem)}"
            raise UsageError(what, place=name, remedy="it must return a module and its inputs") from problem
        if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
            raise UsageError(
                f"it returned {type(made).__name__}", place=name, remedy="return a torch.nn.Module and its inputs"
            )
        return made

    def model(small: bool) -> Model:
        largest = (length if not small else min(length, _REDUCED_LENGTH)) if takes else 1
        return Model(
            kind=name, length="length", lengths=_lengths(largest), build=lambda: make(largest, small)[0].to(META),
            inputs=lambda size: _to_meta(make(size, small)[1]), serves=False, dtype=dtype, facts={"config": {}},
        )  # fmt: skip

    return Sources(model(small=False), reduced=model(small=True) if takes > 1 else None)


def _lengths(largest: int) -> tuple[int, ...]:
    """Return three lengths: they tell a linear size from any other."""
    return tuple(dict.fromkeys((largest, max(largest - largest // 4, 1), max(largest // 2, 1))))


def _maker(transformers: Any, settings: Any, architectures: Any, place: str) -> Any:
    if isinstance(architectures, list) and architectures and isinstance(architectures[0], str):
        found = getattr(transformers, architectures[0], None)
        if isinstance(found, type) and issubclass(found, nn.Module):
            return found
    for auto in ("AutoModelForCausalLM", "AutoModelForImageClassification", "AutoModel"):
        with contextlib.suppress(KeyError):
            return getattr(transformers, auto)._model_mapping[type(settings)]
    raise BadFileError(
        "transformers has no model class for it", place=place, remedy="name one of its classes under `architectures`"
    )


def _transformers() -> Any:
    with optional("trace", "a model of transformers", place="trace"):
        return importlib.import_module("transformers")


@contextlib.contextmanager
def _without_data_dependence() -> Iterator[None]:
    """Disable the detection of packed batches: it reads values, which the meta device does not have."""
    try:
        masks = importlib.import_module("transformers.masking_utils")
    except ImportError:
        yield
        return
    before = getattr(masks, "find_packed_sequence_indices", None)
    if before is not None:
        masks.find_packed_sequence_indices = lambda *_, **__: None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if before is not None:
            masks.find_packed_sequence_indices = before  # type: ignore[attr-defined]


@contextlib.contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _to_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(META)
    if isinstance(value, dict):
        return {name: _to_meta(item) for name, item in value.items()}
    return tuple(map(_to_meta, value)) if isinstance(value, tuple | list) else value
