"""Convolutions of well-known models as calls to be timed. Only workers import this: it imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from readiness.probes.throughput import products
from readiness.probes.throughput.products import Product
from readiness.tracing.workload_schema import Call, Spec


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution over pictures: channels in and out, rows of the picture, size of the window, and its stride."""

    channels: int
    out: int
    side: int
    window: int
    stride: int = 1

    @property
    def padding(self) -> int:
        """Rows of zeros at each edge: none where windows lie side by side."""
        return self.window // 2 if self.stride < self.window else 0

    @property
    def out_side(self) -> int:
        """Rows of the result."""
        return (self.side + 2 * self.padding - self.window) // self.stride + 1


#: Of ResNet-50 (its first layer, a middle block's 3 x 3 and 1 x 1) and of a vision transformer's patches.
_SHAPES = (Convolution(3, 64, 224, 7, 2), Convolution(256, 256, 14, 3), Convolution(1024, 256, 14, 1),
           Convolution(3, 1024, 224, 14, 14))  # fmt: skip
#: The same, narrow: for devices of the host's processors.
_NARROW = (Convolution(3, 16, 32, 7, 2), Convolution(32, 32, 14, 3), Convolution(64, 16, 14, 1),
           Convolution(3, 64, 28, 14, 14))  # fmt: skip


def calls(dtypes: tuple[str, ...], batch: int, *, narrow: bool) -> Iterator[Product]:
    """Yield each convolution forward and backward (gradients of input and weights) in each dtype."""
    for dtype in dtypes:
        for shape in _NARROW if narrow else _SHAPES:
            x = Spec(dtype, (batch, shape.channels, shape.side, shape.side))
            weight = Spec(dtype, (shape.out, shape.channels, shape.window, shape.window))
            upstream = Spec(dtype, (batch, shape.out, shape.out_side, shape.out_side))
            how = ((shape.stride,) * 2, (shape.padding,) * 2, (1, 1), False, (0, 0), 1)
            forward = Call("aten::convolution", (x, weight, None, *how), ())
            backward = Call("aten::convolution_backward", (upstream, x, weight, None, *how, (True, True, False)), ())
            for stage, call in (("forward", forward), ("backward", backward)):
                yield Product(stage, "convolution", dtype, call, 1, products.operations(call), products.moved(call))
