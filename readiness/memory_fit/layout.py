"""How a model is spread over chips, and in how many bytes its values are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from readiness.memory_fit.architecture import Architecture

#: Bytes of a value. Four bits are half a byte; eight-bit and four-bit weights carry scales besides (see `SCALES`).
BYTES: Mapping[str, float] = {
    "float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "float8_e4m3fn": 1.0, "int8": 1.0, "int4": 0.5,
}  # fmt: skip
TRAINING_DTYPES = ("bfloat16", "float16", "float32")
#: Bytes of scales for each weight: a float32 for 128 x 128 values (DeepSeek-V3's README_WEIGHTS), a float16 for 128.
SCALES: Mapping[str, float] = {"float8_e4m3fn": 4 / 128**2, "int8": 4 / 128**2, "int4": 2 / 128}
#: What tensor parallelism crosses is one host: no wider layout is chosen, though one may be named.
_WIDEST_TENSOR = 8


class Sharding(StrEnum):
    """What data parallelism divides: nothing, the optimizer's state (ZeRO-1), gradients too (ZeRO-2), or all (FSDP)."""

    NONE = "none"
    OPTIMIZER = "optimizer"
    GRADIENTS = "gradients"
    PARAMETERS = "parameters"

    @property
    def depth(self) -> int:
        """How much is divided, 0 to 3."""
        return list(Sharding).index(self)


class Optimizer(StrEnum):
    """Optimizer, as far as memory goes."""

    ADAMW = "adamw"
    ADAMW_BFLOAT16 = "adamw-bfloat16"
    ADAMW_8BIT = "adamw-8bit"
    MUON = "muon"
    SGD_MOMENTUM = "sgd-momentum"
    SGD = "sgd"

    @property
    def moments(self) -> tuple[int, str]:
        """Bytes of its state for each parameter, and what they are."""
        return {
            Optimizer.ADAMW: (8, "two moments in float32"),
            Optimizer.ADAMW_BFLOAT16: (4, "two moments in bfloat16"),
            Optimizer.ADAMW_8BIT: (2, "two moments in 8 bits"),
            Optimizer.MUON: (4, "momentum in float32"),
            Optimizer.SGD_MOMENTUM: (4, "momentum in float32"),
            Optimizer.SGD: (0, "no state"),
        }[self]

    def master(self, dtype: str) -> int:
        """Bytes of a float32 copy of each parameter, which those with narrow moments do without."""
        narrow = self in (Optimizer.ADAMW_BFLOAT16, Optimizer.ADAMW_8BIT)
        return 0 if dtype == "float32" or narrow else 4


@dataclass(frozen=True, slots=True)
class Layout:
    """Numbers of chips: in all, that share each matrix, that layers are dealt to, and that experts are dealt to."""

    chips: int = 1
    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    sharding: Sharding = Sharding.NONE

    @property
    def data(self) -> int:
        """Replicas that work on different data."""
        return self.chips // (self.tensor * self.pipeline)

    @property
    def expert_shards(self) -> int:
        """Chips of a stage that have the same experts."""
        return self.tensor * self.data // self.expert

    def problem(self, architecture: Architecture | None) -> str | None:
        """Return why this layout cannot be; None if it can."""
        if self.chips % (self.tensor * self.pipeline):
            return f"{self.chips} chips are no multiple of tensor {self.tensor} x pipeline {self.pipeline}"
        if architecture is None:
            plain = self.pipeline == self.expert == 1
            return None if plain else "the workload's layers are unknown: only tensor and data parallelism can be reckoned"
        if self.pipeline > architecture.layers:
            return f"{architecture.layers} layers make no {self.pipeline} stages"
        if architecture.attention.heads % self.tensor:
            return f"{architecture.attention.heads} heads are no multiple of tensor {self.tensor}"
        if self.expert > 1 and not architecture.experts:
            return "the model has no experts to deal out"
        if self.expert > 1 and architecture.experts % self.expert:
            return f"{architecture.experts} experts are no multiple of expert {self.expert}"
        if (self.tensor * self.data) % self.expert:
            return f"{self.tensor * self.data} chips of a stage are no multiple of expert {self.expert}"
        return None

    def __str__(self) -> str:
        """In words, as far as anything is divided."""
        named = {"tensor": self.tensor, "pipeline": self.pipeline, "expert": self.expert, "data": self.data}
        parts = [f"{name} {count}" for name, count in named.items() if count > 1]
        if self.data > 1 and self.sharding is not Sharding.NONE:
            parts.append(f"{self.sharding} sharded")
        return ", ".join(parts) or "undivided"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The part of a layout that somebody has named; None is left to choose."""

    tensor: int | None = None
    pipeline: int | None = None
    expert: int | None = None
    sharding: Sharding = Sharding.PARAMETERS

    def layouts(self, chips: int, architecture: Architecture | None) -> Iterator[Layout]:
        """Yield every layout that can be, those first that divide single matrices and layers least."""
        tensors = _choices(self.tensor, chips, _WIDEST_TENSOR)
        for pipeline in _choices(self.pipeline, chips, architecture.layers if architecture is not None else 1):
            for tensor in tensors:
                for expert in _choices(self.expert, chips, architecture.experts if architecture is not None else 1):
                    found = Layout(chips, tensor, pipeline, expert, self.sharding)
                    if found.problem(architecture) is None:
                        yield found

    def problem(self, chips: int, architecture: Architecture | None) -> str | None:
        """Return why no layout of so many chips can be; None if one can."""
        if next(self.layouts(chips, architecture), None) is not None:
            return None
        given = Layout(chips, self.tensor or 1, self.pipeline or 1, self.expert or 1, self.sharding)
        return given.problem(architecture) or f"no layout of {chips} chips fits the numbers of heads, layers and experts"


def _choices(given: int | None, chips: int, most: int) -> list[int]:
    if given is not None:
        return [given]
    return [count for count in (2**power for power in range(chips.bit_length())) if count <= max(1, most)]
