"""Thermal load: background GEMMs that keep the device hot and reveal throttling."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from readiness.accelerators.base import Accelerator
from readiness.host.runqueue_wait import in_line_s, is_reported
from readiness.probes.stability.load_steadiness import PaceSample
from readiness.probes.throughput.timing import once

Tensor = torch.Tensor

_SMALLEST, _LARGEST = 64, 4096
_SAMPLE_S = 3e-4     # long against starting and waiting for it, short against a busy host's time slices
_SHARE = 0.25        # of the time
_MOST_SAMPLES = 12   # at a time
_LEAST_SAMPLES = 40  # in a span: fewer say nothing on a busy host
_MOST_WAITED = 0.1   # of a span: beyond that even the best of many samples may have been disturbed
_MOMENTS = 60        # readings of the sensors over the load, at most
_READING_SHARE = 0.05  # of the time, at most, goes into them


@dataclass(slots=True)
class Span:
    """Shortest seconds of one product on device and host CPU in one span of the load."""

    began_s: float
    ended_s: float = 0.0
    samples: int = 0
    device_s: float = float("inf")
    host_s: float = float("inf")
    sensors: Mapping[str, float] = field(default_factory=dict)  # at its beginning
    waited_s: float = math.nan  # for a CPU, meanwhile; nan where the system does not report it
    paces: list[PaceSample] = field(default_factory=list)

    @property
    def is_quiet(self) -> bool:
        """Whether the host's own interruptions are known, and so few that the best sample says what the device can do."""
        return self.waited_s <= _MOST_WAITED * (self.ended_s - self.began_s)


@dataclass(slots=True)
class SensorSample:
    """Reading of the sensors, with the best seconds of a product since the one before. `throttled` None: unknown."""

    ended_s: float
    device_s: float = float("inf")
    host_s: float = float("inf")
    sensors: Mapping[str, float] = field(default_factory=dict)
    throttled: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Largest drop of the speed: the share that was kept, and the best seconds of a product in that span and before."""

    kept: float
    seconds: float
    seconds_before: float
    span: Span


@dataclass(slots=True)
class Product:
    """Square matrices, and the number of their products in a sample."""

    left: Tensor
    right: Tensor
    seconds: float
    count: int

    def run(self) -> Tensor:
        """Run one sample's products; return the last result."""
        out = self.left @ self.right
        for _ in range(self.count - 1):
            out = self.left @ self.right
        return out


@dataclass(slots=True)
class ThermalLoad:
    """Repeated GEMM on the device, and one of similar length on the host CPU that reveals other load."""

    accelerator: Accelerator
    device_product: Product
    host_product: Product | None
    span_s: float
    spans: list[Span] = field(default_factory=lambda: [Span(0.0)])
    moments: list[SensorSample] = field(default_factory=list)
    _waited_before_s: float = 0.0
    _next_moment_s: float = 0.0
    _since: SensorSample = field(default_factory=lambda: SensorSample(0.0))

    @property
    def size(self) -> int:
        """Number of rows of the matrices."""
        return self.device_product.left.shape[0]

    def step(self, elapsed_s: float, round_s: float) -> Tensor:
        """Run as many samples as fit into their share of the time; return the last result."""
        span = self._span(elapsed_s)
        out: list[Tensor] = [self.device_product.left]

        def work() -> None:
            out[0] = self.device_product.run()

        wanted = _SHARE * round_s / (self.device_product.seconds * self.device_product.count)
        for _ in range(int(min(max(wanted, 1), _MOST_SAMPLES))):
            device_s = once(work, self.accelerator.synchronize) / self.device_product.count
            pace = PaceSample(elapsed_s, device_s, self._host_s())
            span.device_s, span.host_s = min(span.device_s, pace.device_s), min(span.host_s, pace.host_s)
            self._since.device_s = min(self._since.device_s, pace.device_s)
            self._since.host_s = min(self._since.host_s, pace.host_s)
            span.paces.append(pace)
            span.samples += 1
        if elapsed_s >= self._next_moment_s:
            self._read(elapsed_s)
        return out[0]

    def _host_s(self) -> float:
        if self.host_product is None:
            return math.inf
        return once(self.host_product.run, _nothing) / self.host_product.count

    def _read(self, elapsed_s: float) -> None:
        """Read sensors and reasons of throttling while the device is warm, not so often that it cools."""
        began = time.perf_counter()
        moment = self._since
        moment.ended_s, moment.sensors = elapsed_s, self.accelerator.sensors()
        moment.throttled = self.accelerator.throttle_reasons()
        self.moments.append(moment)
        self._since = SensorSample(elapsed_s)
        pause_s = (time.perf_counter() - began) / _READING_SHARE
        self._next_moment_s = elapsed_s + max(self.span_s * 8 / _MOMENTS, pause_s)

    def quiet_paces(self) -> list[PaceSample]:
        """Return the samples of all spans in which the host left this process alone."""
        return [pace for span in self.spans if span.is_quiet for pace in span.paces]

    def _span(self, elapsed_s: float) -> Span:
        span = self.spans[-1]
        if elapsed_s >= span.began_s + self.span_s and span.samples >= _LEAST_SAMPLES:
            self.spans.append(Span(elapsed_s))
        current = self.spans[-1]
        waited_s = in_line_s() if is_reported() else math.nan
        if not current.samples:
            current.sensors = self.accelerator.sensors()
            self._waited_before_s = waited_s
        current.waited_s = max(waited_s - self._waited_before_s, 0.0)
        current.ended_s = elapsed_s
        return current

    def drop(self) -> Drop | None:
        """Return the largest drop of the speed below that of earlier spans; None with fewer than two valid spans.

        A span in which this process waited for a CPU a good part of the time says nothing, nor does one of which that is
        unknown: on a crowded host not even the best sample is what the device can do. Other work on the host makes calls
        slow, never fast: the least time of a span counts, and where the host's own product became slower too, only what the
        device lost beyond that. A device that gets faster has lost nothing.
        """
        return min(self._drops(), key=lambda drop: drop.kept, default=None)

    def _drops(self) -> Iterator[Drop]:
        measured = [span for span in self.spans if span.samples >= _LEAST_SAMPLES and span.is_quiet]
        for index, span in enumerate(measured[1:], 1):
            before = min(other.device_s for other in measured[:index])
            kept = before / span.device_s
            if self.host_product is not None:
                usual = statistics.median(other.device_s / other.host_s for other in measured[:index])
                kept = max(kept, usual / (span.device_s / span.host_s))
            yield Drop(min(kept, 1.0), span.device_s, before, span)


def start(accelerator: Accelerator, dtype: torch.dtype, span_s: float) -> ThermalLoad:
    """Double the matrices until a product takes a good part of a millisecond. Raises torch's errors."""
    device_product = _build_product(accelerator, dtype, accelerator.device)
    host = torch.device("cpu")
    return ThermalLoad(
        accelerator,
        device_product,
        None if accelerator.device == host else _build_product(accelerator, torch.float32, host),
        span_s,
    )


def _build_product(accelerator: Accelerator, dtype: torch.dtype, device: torch.device) -> Product:
    size = _SMALLEST
    drawn = torch.randn(2, _SMALLEST, _SMALLEST, generator=accelerator.generator("heat", dtype))
    synchronize = _nothing if device.type == "cpu" else accelerator.synchronize
    while True:
        left, right = (part.repeat(size // _SMALLEST, size // _SMALLEST).to(dtype).to(device) for part in drawn)
        product = Product(left, right, 0.0, 1)
        product.seconds = max(min(once(product.run, synchronize) for _ in range(4)), 1e-7)
        if product.seconds >= _SAMPLE_S / 2 or 2 * size > _LARGEST:
            product.count = max(1, round(_SAMPLE_S / product.seconds))
            return product
        size *= 2


def _nothing() -> None:
    """Do nothing: the host needs no synchronisation."""
