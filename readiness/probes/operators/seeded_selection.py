"""Rotation: what the seed of a run chooses of all that would take too long in every run, the same for all operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from readiness.accelerators.base import Accelerator

#: Values of which some stand in every place of a tensor.
VALUES = (0.0, 1.0, -1.0, -3.0, 6.0, 0.5, -0.5, -88.8, 20.5, 1e-6, 1e-30, 11.5, -11.5, 709.0, 2.0**24 + 2)
_CHOSEN_VALUES, _CHOSEN_KNEES = 3, 4
#: Hidden and intermediate sizes of published language models.
MODEL_WIDTHS = (512, 576, 896, 1024, 1152, 1408, 1536, 1792, 2048, 2304, 2560, 2880, 3072, 3584, 4096, 5120)
#: Elements of a long sum, past the sizes at which kernels split their work.
SUM_LENGTHS = (4_099, 32_771, 65_539, 131_101)
#: Elements past a power of two at which a reduction may split its work.
MIDDLE_LENGTHS = (8_193, 16_411, 32_771, 65_539, 131_101, 262_147, 524_309, 1_048_583)
#: Sorts of more than 2^22 elements in all: one row, or along either dimension.
SORTS = (((2**22 + 1,), 0), ((2, 2**21 + 1), 1), ((2**21 + 1, 2), 0), ((2**11, 2**11 + 1), 1), ((2**11 + 1, 2**11), 0),
         ((3, 2**21), 0))  # fmt: skip
#: Operators that are tried on all threads of the host, by what kind of kernel they are.
THREADED = (
    "add", "mul", "exp", "nn.functional.gelu", "nn.functional.silu", "where", "softmax", "log_softmax",
    "nn.functional.layer_norm", "nn.functional.rms_norm", "sum", "mean", "amax", "argmax", "var", "prod", "cumsum", "sort",
    "topk", "mm", "nn.functional.linear", "bmm", "nn.functional.conv2d", "nn.functional.embedding", "index_select", "gather",
    "scatter_add", "index_add", "index_put", "cat", "clone", "masked_fill", "nn.functional.cross_entropy",
    "nn.functional.scaled_dot_product_attention", "linalg.vector_norm", "nn.functional.max_pool2d",
)  # fmt: skip
_CHOSEN_THREADED = 9


@dataclass(frozen=True, slots=True)
class Rotation:
    """What one run tries of each list.

    `values` stand in every place of a tensor, `knees` are further arguments of elementwise operators, `width` is that of a
    model's rows, `sum_length` the elements of a sum that is held against its parts, `middle_length` of other reductions,
    `sort` the shape and dimension of a large sort, `threaded` the operators that are tried on all threads of the host.
    """

    values: tuple[float, ...] = VALUES[:_CHOSEN_VALUES]
    knees: tuple[float, ...] = ()
    width: int = MODEL_WIDTHS[0]
    sum_length: int = SUM_LENGTHS[0]
    middle_length: int = MIDDLE_LENGTHS[0]
    sort: tuple[tuple[int, ...], int] = SORTS[0]
    threaded: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return what was chosen, in words."""
        numbers = " and ".join(", ".join(f"{value:.6g}" for value in chosen) for chosen in (self.values, self.knees))
        shape, dimension = self.sort
        threaded = f"; on all threads of the host {', '.join(self.threaded)}" if self.threaded else ""
        return (
            f"the seed chose the values {numbers}, rows of {self.width}, sums of {self.sum_length:,} and reductions of "
            f"{self.middle_length:,} elements, a sort of {'x'.join(map(str, shape))} along {dimension}{threaded}"
        )


#: What is tried where no run chooses.
USUAL = Rotation()


def of(accelerator: Accelerator) -> Rotation:
    """Return what the seed of this run chooses; the same in each of its processes."""
    generator = accelerator.generator("rotation")

    def some(choices: Sequence[float], count: int) -> tuple[float, ...]:
        return tuple(choices[place] for place in torch.randperm(len(choices), generator=generator)[:count].tolist())

    def one(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    drawn = torch.randn(_CHOSEN_KNEES + 1, generator=generator, dtype=torch.float64)
    sizes = torch.tensor([1.0, 3.0, 10.0, 30.0], dtype=torch.float64)
    threaded = torch.randperm(len(THREADED), generator=generator)[:_CHOSEN_THREADED].tolist()
    return Rotation(
        values=(*some(VALUES, _CHOSEN_VALUES), float(drawn[-1].float())),
        knees=tuple((drawn[:-1] * sizes).tolist()),
        width=MODEL_WIDTHS[one(len(MODEL_WIDTHS))],
        sum_length=SUM_LENGTHS[one(len(SUM_LENGTHS))],
        middle_length=MIDDLE_LENGTHS[one(len(MIDDLE_LENGTHS))],
        sort=SORTS[one(len(SORTS))],
        threaded=tuple(sorted(THREADED[place] for place in threaded)) if accelerator.device.type == "cpu" else (),
    )
