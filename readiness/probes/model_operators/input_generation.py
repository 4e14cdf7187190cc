"""Inputs for recorded calls: drawn on the host from a seed, with values that the operator accepts.

Of tensors with millions of elements a prime number is drawn and repeated: so no two rows are alike, and the host is not
kept busy drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from readiness.probes.model_operators import op_table
from readiness.probes.model_operators.op_table import Values
from readiness.probes.operators.samples import Sample
from readiness.tracing.workload_schema import Call, Named, Spec

#: So many elements are drawn one by one. A prime.
_DRAWN = 1_048_583


class _Plain:
    """Sample description in place of the database's own; it has no special properties."""

    @staticmethod
    def output_process_fn_grad(result: Any) -> Any:
        """Return the output: all of it can be compared."""
        return result


@dataclass(frozen=True, slots=True)
class InputGenerator:
    """Draws the arguments of calls from one random generator."""

    generator: torch.Generator

    def sample(
        self, call: Call, *, label: str = "", gradients: bool = True, share: dict[int, torch.Tensor] | None = None
    ) -> Sample:
        """Return the call's arguments with values, on the host; `label` says what is special about it.

        `share` gives tensors that are there already, by position.
        """
        arguments = tuple(
            share[position] if share and position in share else self._value(call, position, argument, gradients)
            for position, argument in enumerate(call.arguments)
        )
        keywords = {name: self._plain(value, gradients) for name, value in call.keywords if name != "device" or value}
        return Sample(arguments, keywords, _Plain(), label=label)

    def _value(self, call: Call, position: int, argument: Any, gradients: bool) -> Any:
        if isinstance(argument, Spec):
            return self.tensor(argument, op_table.values(call, position), gradients=gradients)
        if isinstance(argument, tuple) and any(isinstance(item, Spec) for item in argument):
            return self._list(argument, op_table.values(call, position), gradients)
        return self._plain(argument, gradients)

    def _list(self, items: Sequence[Any], values: Values, gradients: bool) -> list[Any]:
        found = []
        for dimension, item in enumerate(items):
            if not isinstance(item, Spec):
                found.append(item)
                continue
            one = values
            if "indices" in values.kind:
                one = Values("unique" if values.kind.startswith("unique") else "index", values.extra["sizes"][dimension])
            found.append(self.tensor(item, one, gradients=gradients))
        return found

    def _plain(self, value: Any, gradients: bool) -> Any:
        match value:
            case Spec():
                return self.tensor(value, Values(), gradients=gradients)
            case Named(kind="float"):
                return float(value.value)
            case Named(kind="device"):
                return torch.device("cpu")  # the sample is converted for the device that it is called on
            case Named():
                return getattr(torch, value.value)
            case tuple():
                return [self._plain(item, gradients) for item in value]
            case _:
                return value

    def tensor(self, spec: Spec, values: Values, *, gradients: bool) -> torch.Tensor:
        """Return a tensor with these strides and this kind of values."""
        dtype = getattr(torch, spec.dtype)
        dense = self._dense(spec.shape, dtype, values)
        if spec.stride is not None and math.prod(spec.shape):
            extent = 1 + sum((size - 1) * step for size, step in zip(spec.shape, spec.stride, strict=True))
            base = self._dense((extent,), dtype, values if values.kind in ("normal", "positive", "share") else Values())
            view = base.as_strided(spec.shape, spec.stride)
            if values.kind not in ("normal", "positive", "share") and 0 not in spec.stride:
                view.copy_(dense)
            dense = view
        return dense.requires_grad_(gradients and spec.grad and (dtype.is_floating_point or dtype.is_complex))

    def _dense(self, shape: Sequence[int], dtype: torch.dtype, values: Values) -> torch.Tensor:
        count = math.prod(shape)
        if not (dtype.is_floating_point or dtype.is_complex):
            return self._whole(shape, dtype, values)
        drawn = torch.randn(min(count, _DRAWN), generator=self.generator)
        match values.kind:
            case "positive":
                drawn = drawn.abs() + 0.1
            case "away from zero":
                drawn = torch.where(drawn < 0, -1.0, 1.0) * (drawn.abs() + 0.5)
            case "share":
                drawn = drawn.sigmoid()
            case "count":
                drawn = torch.randint(0, max(values.bound, 1), drawn.shape, generator=self.generator).float()
            case _:
                pass
        found = _repeated(drawn.to(dtype), count).view(tuple(shape))
        if values.kind in ("softmax", "log softmax") and shape:
            wide = found.float().log_softmax(-1)
            found = (wide.exp() if values.kind == "softmax" else wide).to(dtype)
        return found

    def _whole(self, shape: Sequence[int], dtype: torch.dtype, values: Values) -> torch.Tensor:
        if dtype == torch.bool:
            return torch.randint(0, 2, tuple(shape), generator=self.generator).bool()
        match values.kind:
            case "unique":
                return self._unique(shape, values).to(dtype)
            case "offsets":
                return self._offsets(shape, values, dtype)
            case _:
                choices = max(values.bound, 1) if values.kind == "index" else 16
                return torch.randint(0, choices, tuple(shape), generator=self.generator).to(dtype)

    def _unique(self, shape: Sequence[int], values: Values) -> torch.Tensor:
        """Return indices that differ along a dimension, as far as there are enough choices."""
        if not shape:
            return torch.randint(0, max(values.bound, 1), (), generator=self.generator)
        length = shape[values.along]
        if math.prod(shape) == length:
            order = torch.randperm(max(values.bound, length), generator=self.generator)[:length] % max(values.bound, 1)
            return order.view(tuple(shape))
        others = [size for dimension, size in enumerate(shape) if dimension != values.along % len(shape)]
        keys = torch.rand((*others, max(values.bound, length)), generator=self.generator)
        return keys.argsort(-1)[..., :length].remainder(max(values.bound, 1)).movedim(-1, values.along)

    def _offsets(self, shape: Sequence[int], values: Values, dtype: torch.dtype) -> torch.Tensor:
        """Return where the rows of each expert end: uneven shares of all rows. The caller sets the number of rows."""
        rows = int(values.extra.get("rows", 0))
        cuts = torch.randint(0, rows + 1, tuple(shape), generator=self.generator).sort().values
        if cuts.numel():
            cuts[-1] = rows
        return cuts.to(dtype)


def _repeated(drawn: torch.Tensor, count: int) -> torch.Tensor:
    if drawn.numel() >= count:
        return drawn
    return drawn.repeat(-(-count // drawn.numel()))[:count]
