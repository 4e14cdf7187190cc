"""Products of a workload at its own sizes: matrices, groups of experts, convolutions, and attention.

Only workers import this: it imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from readiness.accelerators.base import Accelerator
from readiness.check_registry import Skip
from readiness.datamodel import Measurement, Row, Yield
from readiness.numerics.unsupported import describe
from readiness.probes.model_operators import op_table, replay_sizes
from readiness.probes.throughput import inputs, timing
from readiness.probes.throughput.rate_baselines import Beside, beside_host, uses_tf32
from readiness.probes.throughput.timing import Timing
from readiness.tracing.workload_schema import Call, Named, Phase, Record, Spec, Workload

Tensor = torch.Tensor
ATTENTION = "scaled_dot_product_attention"
#: Kinds of products, by the operators' base names.
KINDS = {
    "mm": "matrices", "addmm": "matrices", "bmm": "matrices", "baddbmm": "matrices", "linear": "matrices",
    "_grouped_mm": "experts", "convolution": "convolution", "convolution_backward": "convolution", ATTENTION: "attention",
}  # fmt: skip
#: What the phases of a trace are part of.
STAGES: dict[Phase, str] = {
    Phase.FORWARD: "training", Phase.BACKWARD: "training", Phase.OPTIMIZER: "training",
    Phase.PREFILL: "prefill", Phase.DECODE: "decode",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Product:
    """One call of the model: its sizes in words, operations and bytes, and how often a stage makes it.

    `backward` is the gradient of attention, which a trace records as calls of the forward operator.
    """

    stage: str
    kind: str
    dtype: str
    call: Call
    calls: int
    operations: float
    bytes: float
    backward: bool = False

    @property
    def sizes(self) -> str:
        """The operator and the shapes of its tensors."""
        shapes = " ".join("x".join(map(str, spec.shape)) for spec in self.call.specs())
        return f"{base(self.call)}{' backward' if self.backward else ''} {shapes}"


@dataclass(slots=True)
class Timed:
    """A product that was timed, or why not; `beside` is the same beside the host's, for devices of the host's memory."""

    product: Product
    timing: Timing | None = None
    refusal: str | None = None
    checksum: float = math.nan
    beside: Beside | None = None


@dataclass(slots=True)
class Sum:
    """All products of a stage, kind and dtype together: what the model spends on them, were there nothing else."""

    timed: list[Timed] = field(default_factory=list)

    @property
    def done(self) -> list[Timed]:
        """Those that have a time."""
        return [item for item in self.timed if item.timing is not None]

    def seconds(self, of: Callable[[Timing], float]) -> float:
        """Return the seconds of one pass over the model."""
        return sum(item.product.calls * of(item.timing) for item in self.done if item.timing is not None)

    def amount(self, of: Callable[[Product], float]) -> float:
        """Return the operations, or bytes, of one pass over the model."""
        return sum(item.product.calls * of(item.product) for item in self.done)

    @property
    def share(self) -> float:
        """Share of the operations that could be timed."""
        total = sum(item.product.calls * item.product.operations for item in self.timed)
        return self.amount(lambda product: product.operations) / total if total else 0.0

    @property
    def samples(self) -> int:
        """The fewest samples that any of them has."""
        return min(len(item.timing.seconds) for item in self.done if item.timing is not None)

    def rates(self, of: Callable[[Product], float]) -> list[float]:
        """Return the rate of the whole pass, sample by sample: the first samples of all, the second, and so on."""
        return [
            self.amount(of) / sum(item.product.calls * item.timing.seconds[number] for item in self.done if item.timing)
            for number in range(self.samples)
        ]

    def round_rates(self, of: Callable[[Product], float]) -> list[float]:
        """Return the rate of the whole pass in each round."""
        medians = [[item.product.calls * one for one in item.timing.round_medians()] for item in self.done if item.timing]
        return [self.amount(of) / sum(seconds) for seconds in zip(*medians, strict=False)]

    @property
    def beside(self) -> Beside | None:
        """The device's time beside the host's, summed up; None where none was taken."""
        pairs = [(item.product.calls, item.beside) for item in self.timed if item.beside is not None]
        if not pairs:
            return None
        return Beside(
            sum(calls * one.device_s for calls, one in pairs), sum(calls * one.host_s for calls, one in pairs),
            max(one.waited for _, one in pairs), all(one.steady for _, one in pairs), _usual(pairs),
        )  # fmt: skip


def _usual(pairs: Sequence[tuple[int, Beside]]) -> float | None:
    """Return the usual share of all calls together; None where one of them has none."""
    shares = [(calls * one.device_s, one.usual) for calls, one in pairs]
    if any(usual is None for _, usual in shares):
        return None
    return sum(seconds * (usual or 0.0) for seconds, usual in shares) / sum(seconds for seconds, _ in shares)


def base(call: Call) -> str:
    """Return the operator's name without namespace and overload."""
    return call.op.partition("::")[2].partition(".")[0]


def of_workload(accelerator: Accelerator, workload: Workload, kinds: Iterable[str]) -> list[Product]:
    """Return the products of a workload: at its own sizes, on devices of the host's processors at the smallest ones.

    Where a trace names one call in several phases of a stage, its numbers add up; equal calls count once.
    """
    wanted = set(kinds)
    found: dict[tuple[str, Call, bool], Product] = {}
    for record in workload.records:
        kind = KINDS.get(base(record.call))
        if kind not in wanted:
            continue
        call = _sized(accelerator, workload, record)
        for phase, count in record.calls.items():
            backward = kind == "attention" and phase is Phase.BACKWARD
            key = (phase.value if kind == "attention" else STAGES[phase]), call, backward
            before = found[key].calls if key in found else 0
            found[key] = Product(
                key[0], str(kind), op_table.dtype_of(call), call, before + count, operations(call, backward=backward),
                moved(call), backward,
            )  # fmt: skip
    return list(found.values())


def _sized(accelerator: Accelerator, workload: Workload, record: Record) -> Call:
    if timing.on_host(accelerator):
        return replay_sizes.smallest(workload, record)[1]
    return record.call.at(workload.full) or record.call


def operations(call: Call, *, backward: bool = False) -> float:
    """Return the operations that a product needs, additions and multiplications.

    Of causal attention half of the scores; its gradient counts two and a half times the forward pass, as is usual: five
    products for two, of which one computes the scores again.
    """
    shapes: list[tuple[int, ...]] = [spec.shape for spec in call.specs()]
    match base(call):
        case "scaled_dot_product_attention":
            causal = dict(call.keywords).get("is_causal") is True or True in call.arguments[5:6]
            scores = math.prod(shapes[0][:-1]) * shapes[1][-2] * (0.5 if causal else 1.0)
            return 2.0 * scores * (shapes[0][-1] + shapes[2][-1]) * (2.5 if backward else 1.0)
        case "convolution":
            given, named = _meta(call)
            out = _first(op_table.find(call.op).overload, given, named)
            return 2.0 * out.numel() * math.prod(shapes[1][1:])
        case "convolution_backward":
            wanted = next((item for item in reversed(call.arguments) if isinstance(item, tuple)), (True, True))
            return 2.0 * math.prod(shapes[0]) * math.prod(shapes[2][1:]) * sum(map(bool, wanted[:2]))
        case _:
            return 2.0 * op_table.work(call)


def _meta(call: Call) -> tuple[list[Any], dict[str, Any]]:
    """Arguments without values, to learn the shape of a result."""

    def plain(value: Any) -> Any:
        if isinstance(value, Spec):
            return torch.empty(value.shape, dtype=getattr(torch, value.dtype), device="meta")
        return [plain(item) for item in value] if isinstance(value, tuple) else None if isinstance(value, Named) else value

    return [plain(item) for item in call.arguments], {name: plain(item) for name, item in call.keywords}


def moved(call: Call) -> float:
    """Bytes that a call reads and writes at least: experts that no row reaches are not read."""
    size = float(replay_sizes.size_bytes(call))
    specs = call.specs()
    if base(call) == "_grouped_mm" and len(specs) > 1 and len(specs[1].shape) == 3:
        rows, experts = specs[0].shape[0], specs[1].shape[0]
        per = math.prod(specs[1].shape[1:]) * 2.0
        size -= per * max(0, experts - rows)
    return size


def arguments(accelerator: Accelerator, call: Call, label: object, device: torch.device) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call with random values on a device; rows are dealt to experts in equal parts."""
    given = []
    for position, value in enumerate(call.arguments):
        if base(call) == "_grouped_mm" and position == 2:
            values = op_table.values(call, position)
            rows, groups = int(values.extra["rows"]), value.shape[0]
            ends = [rows * (number + 1) // groups for number in range(groups)]
            given.append(torch.tensor(ends, dtype=torch.int32).to(device))
        else:
            given.append(_plain(accelerator, value, (label, position), device))
    named = {name: _plain(accelerator, value, (label, name), device) for name, value in call.keywords}
    return given, named


def _plain(accelerator: Accelerator, value: Any, label: tuple[object, ...], device: torch.device) -> Any:
    match value:
        case Spec():
            dtype = getattr(torch, value.dtype)
            return inputs.drawn(accelerator, value.shape, dtype, *label, stride=value.stride, device=device)
        case Named(kind="dtype"):
            return getattr(torch, value.value.removeprefix("torch."))
        case Named():
            return None
        case tuple():
            return [_plain(accelerator, item, (*label, number), device) for number, item in enumerate(value)]
        case _:
            return value


def work_of(accelerator: Accelerator, product: Product, label: object, device: torch.device) -> Callable[[], Tensor]:
    """Return one call with its inputs on a device."""
    overload = op_table.find(product.call.op).overload
    given, named = arguments(accelerator, product.call, label, device)
    if not product.backward:
        return partial(_first, overload, given, named)
    leaves = [item.detach().requires_grad_() if isinstance(item, Tensor) else item for item in given]
    result = _first(overload, leaves, named)
    upstream = torch.ones_like(result)
    roots = [item for item in leaves if isinstance(item, Tensor)]
    return lambda: torch.autograd.grad(result, roots, upstream, retain_graph=True)[0]


def _first(overload: Any, given: Sequence[Any], named: dict[str, Any]) -> Tensor:
    found = overload(*given, **named)
    while isinstance(found, tuple | list):
        found = next(item for item in found if isinstance(item, Tensor | tuple | list))
    result: Tensor = found
    return result


def measure(
    accelerator: Accelerator, chosen: Sequence[Product], *, budget_s: float, least: int = 3
) -> Iterator[Timed]:
    """Time products one after the other, each for its part of the budget; on devices of the host's memory beside the host.

    Whatever the device raises is the reason for which a product could not be timed, as is one that does not fit.
    """
    each_s = budget_s / max(len(chosen), 1)
    host = torch.device("cpu")
    for product in chosen:
        if not inputs.fits(accelerator, product.bytes * (3 if product.backward else 1.5)):
            yield Timed(product, refusal="it does not fit into a quarter of the free memory")
            continue
        found = Timed(product)
        try:
            number = inputs.copies(accelerator, product.bytes)
            calls = [work_of(accelerator, product, copy, accelerator.device) for copy in range(number)]
            rotated = inputs.Rotated(calls)
            found.timing = timing.measured(accelerator, rotated, budget_s=each_s, least=least)
            found.checksum = rotated.checksum()
            if accelerator.stack.host_backed and accelerator.device.type != "cpu":
                same = work_of(accelerator, product, 0, host)
                found.beside = beside_host(calls[0], same, accelerator.synchronize, turns=8)
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as problem:
            found.refusal = describe(problem)
        yield found


def sums(timed: Iterable[Timed]) -> dict[tuple[str, str, str], Sum]:
    """Group by stage, kind and dtype."""
    found: dict[tuple[str, str, str], Sum] = {}
    for item in timed:
        key = item.product.stage, item.product.kind, item.product.dtype
        found.setdefault(key, Sum()).timed.append(item)
    return found


def of_model(accelerator: Accelerator, workload: Workload, kinds: tuple[str, ...], *, budget_s: float) -> Iterator[Yield]:
    """Time the products of these kinds that a workload makes. Raises Skip where it makes none."""
    chosen = of_workload(accelerator, workload, kinds)
    if not chosen:
        raise Skip(f"{workload.name} calls no {' or '.join(kinds)}")
    settled = timing.settle(accelerator)
    yield from measurements(accelerator, list(measure(accelerator, chosen, budget_s=budget_s)), settled)


def measurements(accelerator: Accelerator, timed: Sequence[Timed], settled: timing.Settled) -> Iterator[Yield]:
    """Yield a row for each product, and rates of each phase, kind and dtype together."""
    for item in timed:
        yield Row(_cells(item))
    yield Row({"precision": torch.get_float32_matmul_precision(), **settled.cells()})
    for (stage, kind, dtype), found in sums(timed).items():
        here = {"phase": stage, "kind": kind, "dtype": dtype}
        missing = [f"{item.product.sizes}: {item.refusal}" for item in found.timed if item.refusal is not None]
        yield Measurement("timed_share", found.share, here, samples=len(found.timed), about="; ".join(missing[:3]) or None)
        if not found.done:
            continue
        waited = max(item.timing.waited for item in found.done if item.timing is not None)
        if timing.on_host(accelerator) and not waited <= timing.MOST_WAITED:
            yield Row({**here, "tflops": "not known: other work keeps the host busy, or nobody knows", "waited": waited})
        else:
            yield from _rates(accelerator, found, here)
        if (beside := found.beside) is not None:
            if beside.busy:
                yield Row({**here, "share_of_host": "not known: other work keeps the host busy", "waited": beside.waited})
            else:
                about = f"{stage}, {kind}: {1e3 * beside.device_s:.3g} ms, {1e3 * beside.host_s:.3g} ms on the host"
                yield Measurement("share_of_host", beside.share, here, about=about)


def _operations(product: Product) -> float:
    return product.operations


def _rates(accelerator: Accelerator, found: Sum, here: dict[str, str]) -> Iterator[Yield]:
    """Yield median and best of operations and bytes a second, and both over what the device is rated as."""
    work, size = found.amount(_operations), found.amount(lambda product: product.bytes)
    median, best = found.seconds(lambda one: one.median), found.seconds(lambda one: one.best)
    interrupted = max(item.timing.interrupted for item in found.done if item.timing is not None)
    spread = timing.spread_of(found.rates(_operations), interrupted, found.round_rates(_operations))
    yield Measurement("tflops", work / median / 1e12, here, spread=spread / 1e12, samples=found.samples)
    yield Measurement("best_tflops", work / best / 1e12, here, samples=found.samples)
    yield Measurement("gbps", size / median / 1e9, here, samples=found.samples)
    rated = accelerator.rated()
    if rated is None:
        return
    peak = rated.rate(here["dtype"], tf32=uses_tf32())
    if peak is not None and here["phase"] != "decode":
        about = f"{work / median / 1e12:.4g} of {peak:.4g} TFLOP/s in {here['phase']}, {here['kind']}; rated: {rated.source}"
        share = work / median / 1e12 / peak
        yield Measurement("share_of_rated", share, here, spread=spread / 1e12 / peak, samples=found.samples, about=about)
    if rated.memory_gbps is not None and here["phase"] == "decode":
        about = f"{size / median / 1e9:.4g} of {rated.memory_gbps:.4g} GB/s, {here['kind']}; rated: {rated.source}"
        yield Measurement("share_of_bandwidth", size / median / 1e9 / rated.memory_gbps, here, about=about)


def _cells(item: Timed) -> dict[str, Any]:
    product, timing_of = item.product, item.timing
    cells: dict[str, Any] = {"phase": product.stage, "call": product.sizes, "dtype": product.dtype, "calls": product.calls}
    if timing_of is None:
        return cells | {"refused": item.refusal}
    return cells | {
        "seconds": timing_of.median, "fastest": timing_of.best, "slowest": max(timing_of.seconds),
        "samples": len(timing_of.seconds), "tflops": product.operations / timing_of.median / 1e12,
        "gbps": product.bytes / timing_of.median / 1e9, "clock": timing_of.clock, "checksum": item.checksum,
    }  # fmt: skip
