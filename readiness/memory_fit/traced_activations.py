"""Activations of a model whose layers cannot be read from a configuration: from its trace, as an upper bound."""

from __future__ import annotations

from math import prod

from readiness.memory_fit.layout import BYTES
from readiness.tracing.workload_schema import Phase, Spec, Workload

#: Which tensors among its arguments an operator keeps for its gradient; True for the result of the first's size as well.
_KEEPS = {
    "linear": (1, False), "mm": (2, False), "addmm": (3, False), "bmm": (2, False), "matmul": (2, False),
    "convolution": (1, False), "native_layer_norm": (1, False), "layer_norm": (1, False), "rms_norm": (1, False),
    "native_group_norm": (1, False), "_softmax": (0, True), "_log_softmax": (0, True), "softmax": (0, True),
    "gelu": (1, False), "silu": (1, False), "relu": (0, True), "tanh": (0, True), "sigmoid": (0, True), "pow": (1, False),
    "mul": (2, False), "div": (2, False), "rsqrt": (0, True), "exp": (0, True), "clone": (0, True), "cat": (0, True),
    "scaled_dot_product_attention": (3, True),
}  # fmt: skip
_WIDTH = {**BYTES, "float64": 8.0, "int64": 8.0, "int32": 4.0, "bool": 1.0}


def kept_bytes(workload: Workload) -> float:
    """Return the bytes that operators of a forward pass keep for their gradients, at the traced batch and length.

    An upper bound: a tensor that several operators keep is counted for each of them.
    """
    found = 0.0
    for record in workload.records:
        times = record.calls.get(Phase.FORWARD, 0)
        call = record.call.at(workload.full) if times else None
        name = record.call.op.removeprefix("aten::").partition(".")[0]
        if call is None or name not in _KEEPS:
            continue
        arguments, result = _KEEPS[name]
        specs = call.specs()
        kept = [spec for spec in specs[: max(arguments, 1)] if spec.grad]
        found += times * (sum(map(_bytes, kept)) if arguments else 0.0)
        found += times * (_bytes(specs[0]) if result and specs and specs[0].grad else 0.0)
    return found


def _bytes(spec: Spec) -> float:
    elements: int = prod(spec.shape)
    return elements * _WIDTH.get(spec.dtype, 2.0)
