"""Traced model, from a transformers `config.json` or from a user's function.

Weights are never loaded: the model stands on the meta device, where a tensor is a shape and a dtype.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from readiness.errors import UsageError
from readiness.tracing.call_recorder import META, CallRecorder
from readiness.tracing.offline import is_network_error
from readiness.tracing.workload_schema import Phase

_NO_VALUES = "what depends on the values of tensors cannot run there: remove it, or give it as module:function"
_NO_NETWORK = "the network is not used while a model is traced: put what it needs on this machine"


@dataclass(frozen=True, slots=True)
class Model:
    """Model that can be built at any length. `length` is the name of its unit, `kind` describes it."""

    kind: str
    length: str
    lengths: tuple[int, ...]
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Any]
    serves: bool
    dtype: torch.dtype
    prepare: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    facts: Mapping[str, Any] = field(default_factory=dict)

    def trace(self, length: int) -> CallRecorder:
        """Record everything called in one training step, a prefill and one more token, at this length.

        Raises UsageError where the model does not run on the meta device.
        """
        recorder = CallRecorder()
        try:
            with self.prepare(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = self.build()
                with META:
                    given = self.inputs(length)
                _train(model, given, recorder)
                _serve(model, given, recorder, with_cache=self.serves)
        except UsageError:
            raise
        except Exception as problem:
            raise UsageError(
                f"it does not run on the meta device: {first(problem)}",
                place=self.kind,
                remedy=_NO_NETWORK if is_network_error(problem) else _NO_VALUES,
            ) from problem
        return recorder


@dataclass(frozen=True, slots=True)
class Sources:
    """Models to trace: the whole one for counts; with few layers, and reduced, for sizes. The last two may be None."""

    whole: Model
    thin: Model | None = None
    reduced: Model | None = None


def _train(model: nn.Module, given: Any, recorder: CallRecorder) -> None:
    """Run one step: forward, backward, and the optimizer on a master copy of the weights in float32."""
    model.train()
    with recorder.recording():
        recorder.phase = Phase.FORWARD
        loss = _loss(_call(model, given, use_cache=False), recorder)
        recorder.phase = Phase.BACKWARD
        torch.autograd.backward(loss)
    recorder.phase = Phase.OPTIMIZER
    weights = [weight for weight in model.parameters() if weight.grad is not None]
    masters = [nn.Parameter(weight.detach().float()) for weight in weights]
    optimizer = torch.optim.AdamW(masters, lr=1e-4, foreach=True)
    with recorder.recording(), torch.no_grad():
        gradients = [weight.grad.float() for weight in weights if weight.grad is not None]
    for master, gradient in zip(masters, gradients, strict=True):
        master.grad = gradient
    with recorder.recording():
        _clip(gradients)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_([weight.detach() for weight in weights], [master.detach() for master in masters])
        optimizer.zero_grad()
    model.zero_grad()


def _clip(gradients: list[torch.Tensor], most: float = 1.0) -> None:
    """Scale gradients to a norm of at most one as on an accelerator: torch's function differs on the meta device."""
    norms = torch._foreach_norm(gradients, 2.0)
    total = torch.linalg.vector_norm(torch.stack(norms), 2.0)
    torch._foreach_mul_(gradients, torch.clamp(most / (total + 1e-6), max=1.0))


def _serve(model: nn.Module, given: Any, recorder: CallRecorder, *, with_cache: bool) -> None:
    """Run a prefill of the whole length and, if the model has a cache, one more token."""
    model.eval()
    plain = {name: value for name, value in given.items() if name != "labels"} if isinstance(given, dict) else given
    with recorder.recording(), torch.no_grad():
        recorder.phase = Phase.PREFILL
        answer = _call(model, plain, use_cache=True) if with_cache else _call(model, plain)
        if with_cache:
            recorder.phase = Phase.DECODE
            with recorder.paused():
                token = given["input_ids"][:, :1].clone()
            _call(model, {"input_ids": token}, past_key_values=answer.past_key_values, use_cache=True)


def _call(model: nn.Module, given: Any, **more: Any) -> Any:
    if isinstance(given, dict):
        known = inspect.signature(model.forward).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        return model(**given, **{name: value for name, value in more.items() if name in known or takes_all})
    return model(*given) if isinstance(given, tuple | list) else model(given)


def _loss(answer: Any, recorder: CallRecorder) -> torch.Tensor:
    """Return the model's loss; else the sum of all its outputs, which is not recorded."""
    loss = getattr(answer, "loss", None)
    if isinstance(loss, torch.Tensor):
        return loss
    if isinstance(answer, torch.Tensor) and answer.ndim == 0:
        return answer
    values = answer.values() if isinstance(answer, Mapping) else answer if isinstance(answer, tuple | list) else [answer]
    floats = [value for value in values if isinstance(value, torch.Tensor) and value.requires_grad]
    if not floats:
        raise UsageError(
            "no output of the model has a gradient",
            place="trace",
            remedy="it must return a tensor that depends on its weights, best the loss",
        )
    with recorder.paused():
        return torch.stack([value.float().sum() for value in floats]).sum()


def first(problem: BaseException) -> str:
    """Return an exception in one line."""
    lines = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {lines[0] if lines else ''}"[:300]
