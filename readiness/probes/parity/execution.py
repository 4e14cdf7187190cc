"""Ways of running a model other than call by call: traced, compiled, captured, with weights in 8 and 4 bits.

In each a decoder layer's results are compared with float64 on the host, and some tokens decoded. Only workers import this.
"""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from readiness.accelerators.base import Accelerator
from readiness.numerics.unsupported import describe, is_of_compiler, is_unsupported
from readiness.probes.parity import train_and_decode, transformer

Tensor = torch.Tensor

#: Rows at once: of one word of one conversation, of a few, of a prompt. Kernels of packed weights differ between them.
ROWS = (1, 2, 5, 33)
TOKENS = 4
#: Values that share a scale in four bits; widths are multiples of what kernels of packed weights ask for.
GROUP, WIDTH, HIDDEN, VOCABULARY = 32, 128, 256, 192


@dataclass(frozen=True, slots=True)
class ModeResult:
    """What came of a way of running: relative errors by name, tokens chosen wrongly; or why the stack does not have it."""

    errors: Mapping[str, float]
    wrong_tokens: int = 0
    tokens: int = 0
    refusal: str | None = None


class _NotOfferedError(Exception):
    """The stack has no such way of running."""


def run_mode(mode: str, accelerator: Accelerator) -> ModeResult:
    """Run one way; raises what is no refusal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing, about what it leaves out
            return _MODES[mode](accelerator)
    except _NotOfferedError as problem:
        return ModeResult({}, refusal=str(problem))
    except Exception as problem:  # compilers raise their own kinds
        if is_unsupported(problem) or is_of_compiler(problem):
            return ModeResult({}, refusal=describe(problem))
        raise


def _error(found: Tensor, wanted: Tensor) -> float:
    value = found.detach().cpu().double()
    if value.shape != wanted.shape or not bool(value.isfinite().all()):
        return math.inf
    return float((value - wanted).norm() / wanted.norm())


# ------------------------------------------------------------------------------------------- traced, compiled, captured


def _traced(accelerator: Accelerator, backend: str, tokens: int) -> ModeResult:
    """A layer forward and backward through torch.compile, and so many tokens from a cache that grows.

    Each shape of decoding is traced anew, which takes most of the time.
    """
    size = transformer.Size(layers=1)
    draw = accelerator.generator("execution", backend)
    weights = transformer.build(draw, size).state_dict()
    text = transformer.text(draw, size.vocabulary, 2, 17)
    model, reference = (transformer.copy(weights, dtype, size) for dtype in (torch.float32, torch.float64))
    model.to(accelerator.device)
    torch._dynamo.reset()
    try:
        loss = torch.compile(model.loss, backend=backend)(text.to(accelerator.device))
        loss.backward()  # type: ignore[no-untyped-call]
        wanted = reference.loss(text)
        wanted.backward()  # type: ignore[no-untyped-call]
        errors = {"loss": _error(loss, wanted.detach())}
        of_reference = dict(reference.named_parameters())
        for name, parameter in model.named_parameters():
            grad = of_reference[name].grad
            assert grad is not None
            errors[f"gradient of {name}"] = _error(train_and_decode.gradient(parameter), grad)
        if not tokens:
            return ModeResult(errors)
        decoded = train_and_decode.decode(
            torch.compile(model, backend=backend), text.to(accelerator.device), tokens,
        )  # fmt: skip
        logits = train_and_decode.forward(reference, text, decoded.tokens)
        errors["logits of decoding"] = _error(decoded.logits, logits.double())
        wrong, _ = train_and_decode.disagreements(decoded.tokens, logits, torch.float32)
    finally:
        torch._dynamo.reset()
    return ModeResult(errors, wrong, decoded.tokens.numel())


#: What a graph of a stack is called in its module of torch: CUDAGraph, NPUGraph.
_GRAPH = re.compile(r"[A-Z]+Graph")


def _graph(accelerator: Accelerator) -> ModeResult:
    """A layer captured once and replayed with other inputs, as servers decode."""
    module: Any = _module(accelerator.device)
    kind = next((getattr(module, name) for name in dir(module) if _GRAPH.fullmatch(name)), None)
    if kind is None or not hasattr(module, "graph"):
        raise _NotOfferedError(f"torch has no graphs to capture for {accelerator.device.type}")
    size = transformer.Size(layers=1)
    draw = accelerator.generator("execution", "graph")
    weights = transformer.build(draw, size).state_dict()
    model, reference = (transformer.copy(weights, dtype, size) for dtype in (torch.float32, torch.float64))
    model.to(accelerator.device)
    texts = [transformer.text(draw, size.vocabulary, 2, 17) for _ in range(TOKENS)]
    errors: dict[str, float] = {}
    wrong = 0
    with torch.no_grad():
        given = texts[0].to(accelerator.device)
        turn = transformer.angles(0, 17, size.width // size.heads, model.embedding.weight)
        side = module.Stream()
        side.wait_stream(module.current_stream())
        with module.stream(side):  # captured work must have run before
            model.of(given, turn)
        module.current_stream().wait_stream(side)
        graph = kind()
        with module.graph(graph):
            out = model.of(given, turn)
        for number, text in enumerate(texts):
            given.copy_(text)
            graph.replay()
            accelerator.synchronize()
            logits = reference(text)[0]
            errors[f"replay {number}"] = _error(out, logits)
            chosen = out.detach().cpu()[:, -1:].argmax(-1)
            wrong += train_and_decode.disagreements(chosen, logits[:, -1:], torch.float32)[0]
    return ModeResult(errors, wrong, 2 * TOKENS)


def _module(device: torch.device) -> Any:
    with contextlib.suppress(RuntimeError):
        return torch.get_device_module(device)
    return None


# ------------------------------------------------------------------------------------------------ weights in few bits

Product = Callable[[Tensor], Tensor]
#: Of a weight (outputs, inputs): its product on the device, and the weight as it is meant, in float64.
Packed = tuple[Product, Tensor]


def _int8(weight: Tensor, device: torch.device) -> Packed:
    """A scale for each output; both as a product takes them."""
    scale = (weight.abs().amax(1) / 127).bfloat16()
    codes = torch.round(weight / scale[:, None].float()).clamp(-128, 127).to(torch.int8)
    held, scales = codes.to(device), scale.to(device)
    return (
        lambda x: torch._weight_int8pack_mm(x, held, scales),
        codes.double() * scale.double()[:, None],
    )


def _int4(weight: Tensor, device: torch.device) -> Packed:
    """A scale and an offset for each group of inputs, two codes in a byte, in the order that the device's kernel wants."""
    rows = weight.view(weight.shape[0], -1, GROUP)
    low, high = rows.amin(2), rows.amax(2)
    scale = ((high - low) / 15).clamp(min=1e-6).bfloat16()
    zero = (low + 8 * scale.float()).bfloat16()
    codes = torch.round((rows - zero.float()[..., None]) / scale.float()[..., None] + 8).clamp(0, 15)
    meant = ((codes.double() - 8) * scale.double()[..., None] + zero.double()[..., None]).view(weight.shape)
    flat = codes.view(weight.shape).int()
    scales = torch.stack([scale, zero], 2).transpose(0, 1).contiguous().to(device)  # (groups, outputs, 2)
    try:
        halves = (flat[:, ::2] << 4 | flat[:, 1::2]).to(torch.uint8).to(device)
        packed, product = torch._convert_weight_to_int4pack(halves, 8), torch._weight_int4pack_mm
    except (RuntimeError, NotImplementedError) as problem:
        if not is_unsupported(problem):
            raise
        packed = torch._convert_weight_to_int4pack_for_cpu(flat.to(device), 1)
        product = torch._weight_int4pack_mm_for_cpu
    return lambda x: product(x, packed, GROUP, scales), meant


def _few_bits(accelerator: Accelerator, pack: Callable[[Tensor, torch.device], Packed]) -> ModeResult:
    """A gated feed-forward layer with packed weights for one row and for many; greedy decoding one row at a time."""
    draw = accelerator.generator("execution", pack.__name__)
    shapes = {"gate": (HIDDEN, WIDTH), "up": (HIDDEN, WIDTH), "down": (WIDTH, HIDDEN), "head": (VOCABULARY, WIDTH)}
    drawn = {name: torch.randn(shape, generator=draw) * shape[1] ** -0.5 for name, shape in shapes.items()}
    packed = {name: pack(weight, accelerator.device) for name, weight in drawn.items()}
    words = torch.randn(VOCABULARY, WIDTH, generator=draw).bfloat16()

    def layer(x: Tensor, linear: Callable[[str, Tensor], Tensor]) -> Tensor:
        return x + linear("down", functional.silu(linear("gate", x)) * linear("up", x))

    def device(name: str, x: Tensor) -> Tensor:
        return packed[name][0](x)

    def host(name: str, x: Tensor) -> Tensor:
        return x @ packed[name][1].T

    errors: dict[str, float] = {}
    for rows in ROWS:
        x = torch.randn(rows, WIDTH, generator=draw).bfloat16()
        there, wide = x.to(accelerator.device), x.double()
        for name in ("gate", "head"):
            errors[f"product of {rows} rows with {name}"] = _error(device(name, there), host(name, wide))
        errors[f"layer of {rows} rows"] = _error(layer(there, device), layer(wide, host))
    wrong = 0
    token = torch.randint(VOCABULARY, (1,), generator=draw)
    for _ in range(TOKENS):
        state = words[token]
        logits = host("head", layer(state.double(), host))
        token = device("head", layer(state.to(accelerator.device), device)).cpu().argmax(-1)
        wrong += train_and_decode.disagreements(token[None], logits[None], torch.bfloat16)[0]
    return ModeResult(errors, wrong, TOKENS)


def _whole_products(accelerator: Accelerator) -> ModeResult:
    """Products of whole numbers of 8 bits, summed in 32: exact, whatever the order."""
    draw = accelerator.generator("execution", "int8-products")
    errors = {}
    for rows in (17, 33, 64):
        x, weight = (
            torch.randint(-128, 128, shape, generator=draw, dtype=torch.int8) for shape in ((rows, WIDTH), (WIDTH, HIDDEN))
        )
        found = torch._int_mm(x.to(accelerator.device), weight.to(accelerator.device))
        errors[f"product of {rows} rows"] = _error(found, x.double() @ weight.double())
    return ModeResult(errors)


_MODES: Mapping[str, Callable[[Accelerator], ModeResult]] = {
    "traced": lambda accelerator: _traced(accelerator, "aot_eager", 0),
    "compiled": lambda accelerator: _traced(accelerator, "inductor", TOKENS),
    "graph": _graph,
    "int8-weights": lambda accelerator: _few_bits(accelerator, _int8),
    "int4-weights": lambda accelerator: _few_bits(accelerator, _int4),
    "int8-products": _whole_products,
}
MODES = tuple(_MODES)


def run_modes(modes: tuple[str, ...], accelerator: Accelerator) -> Iterator[tuple[str, ModeResult]]:
    """Each of these ways in turn."""
    for mode in modes:
        yield mode, run_mode(mode, accelerator)
