"""Core operations of language models on fixed inputs, in each dtype, layout and phase."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from readiness.accelerators.base import Accelerator
from readiness.numerics import name_of
from readiness.probes.parity.reference_cases import BACKWARD, FORWARD

Tensor = torch.Tensor
Graph = tuple[Tensor, list[Tensor], Tensor]
Shape = tuple[int, ...]

CONTIGUOUS, STRIDED = "contiguous", "strided"
LAYOUTS = (CONTIGUOUS, STRIDED)


@dataclass(frozen=True, slots=True)
class Indices:
    """Input of indices below `limit`."""

    limit: int
    shape: Shape


Input = Shape | Indices


@dataclass(frozen=True, slots=True)
class Operation:
    """Operation and the shapes of its inputs: `small` for microseconds on a CPU, `large` for a millisecond or more.

    `exact` ones are no matter of precision: their reference is the host's result in the same dtype.
    """

    name: str
    run: Callable[..., Tensor]
    small: Sequence[Input]
    large: Sequence[Input]
    differentiable: bool = True
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One operation in one dtype, layout and phase.

    `call` gives its results on the device (backward: the gradients of its inputs), `reference` the same in float64 on
    the host. The inputs are placed by the first call. `graph`, backward only, is what `call` hands to autograd: output,
    leaves and cotangent, so that several cases can be done in one go.
    """

    op: str
    dtype: str
    layout: str
    phase: str
    call: Callable[[], Sequence[Tensor]]
    reference: Callable[[], Sequence[Tensor]]
    graph: Callable[[], Graph] | None = None

    def __str__(self) -> str:
        return f"{self.op} in {self.dtype}, {self.layout} inputs, {self.phase}"


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.nll_loss(functional.log_softmax(logits, -1), targets)


def _cast(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16 if x.dtype == torch.float32 else torch.float32)


def _update(weight: Tensor, gradient: Tensor) -> Tensor:
    """Update a weight in place like an optimizer."""
    return weight.clone().mul_(0.99).add_(gradient, alpha=-0.1)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True)


_WIDE = (256, 4096)
OPERATIONS = (
    Operation("matmul", torch.matmul, ((16, 24), (24, 16)), ((128, 1024), (1024, 512))),
    Operation("batched matmul", torch.bmm, ((3, 8, 12), (3, 12, 8)), ((16, 128, 128), (16, 128, 128))),
    Operation("linear", functional.linear, ((2, 6, 24), (16, 24), (16,)), ((2, 64, 1024), (512, 1024), (512,))),
    Operation("softmax", lambda x: functional.softmax(x, -1), ((6, 33),), (_WIDE,)),
    Operation("cross entropy", _cross_entropy, ((8, 33), Indices(33, (8,))), (_WIDE, Indices(4096, (256,)))),
    Operation(
        "layer norm", lambda x, w, b: functional.layer_norm(x, w.shape, w, b), ((6, 32), (32,), (32,)),
        (_WIDE, (4096,), (4096,)),
    ),
    Operation("rms norm", lambda x, w: functional.rms_norm(x, w.shape, w, 1e-5), ((6, 32), (32,)), (_WIDE, (4096,))),
    Operation("gelu", functional.gelu, ((8, 24),), (_WIDE,)),
    Operation("silu", functional.silu, ((8, 24),), (_WIDE,)),
    Operation("attention", _attention, ((1, 2, 8, 16),) * 3, ((2, 4, 256, 64),) * 3),
    Operation("embedding", functional.embedding, (Indices(50, (2, 8)), (50, 16)), (Indices(1000, (8192,)), (1000, 256))),
    Operation("add", torch.add, ((8, 24), (8, 24)), ((512, 4096),) * 2),
    Operation("multiply", torch.mul, ((8, 24), (8, 24)), ((512, 4096),) * 2),
    Operation("sum", lambda x: x.sum(-1), ((8, 33),), ((1024, 4096),)),
    Operation("cat", lambda *parts: torch.cat(parts, -1), ((6, 16), (6, 8)), ((1024, 2048),) * 2),
    Operation(
        "index select", lambda x, indices: x.index_select(0, indices), ((20, 16), Indices(20, (8,))),
        ((1000, 256), Indices(1000, (8192,))),
    ),
    Operation("cast", _cast, ((8, 24),), ((1024, 4096),), exact=True),
    Operation("update", _update, ((8, 24), (8, 24)), ((1024, 2048),) * 2, differentiable=False),
)  # fmt: skip


#: Which experts tokens go to: under load as well, but small. Values alone: of equal ones the gradient may go to any.
LARGEST = Operation("largest values", lambda x: x.topk(8, -1).values, ((4, 33),), ((256, 4096),), differentiable=False)
#: Sampling and routing: too slow on a CPU to be repeated under load, and the first to lack a kernel.
RARER = (
    Operation("sort", lambda x: x.sort(-1).values, ((4, 33),), ((64, 4096),)),
    Operation("top-k", lambda x: x.topk(8, -1).values, ((4, 33),), ((256, 4096),)),
    Operation(
        "index put", lambda x, indices, values: x.index_put((indices,), values), ((20, 16), Indices(20, (8,)), (8, 16)),
        ((1000, 256), Indices(1000, (4096,)), (4096, 256)),
    ),
    Operation(
        "index add", lambda x, indices, values: x.index_add(0, indices, values), ((20, 16), Indices(20, (8,)), (8, 16)),
        ((1000, 256), Indices(1000, (4096,)), (4096, 256)),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs of an operation in one dtype, drawn on the host, the cotangent last."""

    tensors: tuple[Tensor, ...]
    cotangent: Tensor


def draw(accelerator: Accelerator, operation: Operation, dtype: torch.dtype, *, large: bool = False) -> Inputs:
    """Draw inputs on the host, the same for every layout and device."""
    generator = accelerator.generator("stability", operation.name, dtype, large)
    tensors = tuple(
        torch.randint(item.limit, item.shape, generator=generator)
        if isinstance(item, Indices)
        else torch.randn(item, generator=generator).to(dtype)
        for item in (operation.large if large else operation.small)
    )
    with torch.no_grad():  # on meta: only its shape is asked for
        out = operation.run(*(tensor.to("meta") for tensor in tensors))
    return Inputs(tensors, torch.randn(out.shape, generator=generator).to(dtype))


def cases(
    accelerator: Accelerator, dtype: torch.dtype, layout: str, device: torch.device, *, large: bool = False
) -> Iterator[Case]:
    """Return every operation in this dtype and layout, forward and, if it has a gradient, backward. Nothing runs yet."""
    for operation in (*OPERATIONS, LARGEST):
        yield from both_phases(operation, draw(accelerator, operation, dtype, large=large), dtype, layout, device)


def both_phases(
    operation: Operation, inputs: Inputs, dtype: torch.dtype, layout: str, device: torch.device
) -> Iterator[Case]:
    """Return the forward case of an operation, and its backward case if it has a gradient."""
    placed: list[Tensor] = []
    graphs: list[Graph] = []

    def inputs_there() -> list[Tensor]:
        if not placed:
            placed.extend(place(tensor, layout, device) for tensor in inputs.tensors)
        return placed

    def forward() -> Sequence[Tensor]:
        return (operation.run(*inputs_there()),)

    def graph() -> Graph:
        if not graphs:  # the forward pass is done once: what is repeated is the gradient
            tracked = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in inputs_there()]
            with torch.enable_grad():
                out = operation.run(*tracked)
            leaves = [tensor for tensor in tracked if tensor.requires_grad]
            graphs.append((out, leaves, place(inputs.cotangent.to(out.dtype), layout, device)))
        return graphs[0]

    def backward() -> Sequence[Tensor]:
        return torch.autograd.grad(*graph(), retain_graph=True)

    named = operation.name, name_of(dtype), layout
    yield Case(*named, FORWARD, forward, lambda: reference(operation, inputs, FORWARD))
    if operation.differentiable:
        yield Case(*named, BACKWARD, backward, lambda: reference(operation, inputs, BACKWARD), graph)


def place(tensor: Tensor, layout: str, device: torch.device) -> Tensor:
    """Move values to the device, dense, or transposed in memory behind an offset (every other element of a vector)."""
    if layout == CONTIGUOUS or tensor.ndim == 0:
        return tensor.to(device, copy=True)
    turned = tensor.mT if tensor.ndim > 1 else tensor.repeat_interleave(2)
    offset = 16  # elements: a kernel that ignores it reads other values, one that needs alignment has it
    flat = torch.cat([tensor.reshape(-1)[:1].expand(offset), turned.reshape(-1)]).to(device, copy=True)
    view = flat[offset:].view(turned.shape)
    return view.mT if tensor.ndim > 1 else view[::2]


def reference(operation: Operation, inputs: Inputs, phase: str) -> Sequence[Tensor]:
    """Return the expected result, computed on the host from the same inputs, in float64 unless it is exact."""
    wide = [tensor.double() if tensor.is_floating_point() and not operation.exact else tensor for tensor in inputs.tensors]
    given = [tensor.detach() for tensor in wide]
    leaves = [tensor.requires_grad_(phase == BACKWARD) for tensor in given if tensor.is_floating_point()]
    with torch.set_grad_enabled(phase == BACKWARD):
        out = operation.run(*given)
    return (out,) if phase == FORWARD else torch.autograd.grad(out, leaves, inputs.cotangent.to(out.dtype))
