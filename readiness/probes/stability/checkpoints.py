"""Checkpoints: saved and resumed training, and awkward tensors, must be restored exactly."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from readiness import numerics
from readiness.accelerators.base import Accelerator
from readiness.host import disk
from readiness.probes.driver.memcpy import wrong_bytes
from readiness.probes.parity import transformer
from readiness.probes.parity.determinism import deterministic, obeys

Tensor = torch.Tensor

#: How much further than two uninterrupted runs from each other a resumed one may be where they are not alike.
_SLACK = 10.0


@dataclass(slots=True)
class Run:
    """Model and optimizer in training on one device, and the losses so far."""

    accelerator: Accelerator
    model: transformer.Transformer
    optimizer: torch.optim.AdamW
    losses: list[Tensor]

    def steps(self, batches: Sequence[Tensor]) -> None:
        """Make one step on each batch of token ids."""
        for tokens in batches:
            self.optimizer.zero_grad()
            loss = self.model.loss(tokens.to(self.accelerator.device))
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.losses.append(loss.detach())

    def state(self) -> dict[str, Tensor]:
        """Return copies of all tensors of the run on the host, by name."""
        named = {f"parameter {name}": value for name, value in self.model.state_dict().items()}
        names = [name for name, _ in self.model.named_parameters()]
        for index, held in self.optimizer.state_dict()["state"].items():
            named |= {f"{what} of {names[index]}": value for what, value in held.items()}
        return {name: value.detach().cpu().clone() for name, value in named.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the state and each loss."""
        return self.state() | {f"loss of step {step}": loss.cpu() for step, loss in enumerate(self.losses, 1)}


def begin(accelerator: Accelerator, weights: Mapping[str, Tensor]) -> Run:
    """Return a new model with these weights and a new optimizer."""
    model = transformer.copy(weights, torch.float32).to(accelerator.device)
    return Run(accelerator, model, torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1), [])


@dataclass(frozen=True, slots=True)
class Resumed:
    """Differences after resuming: tensors just after loading, tensors and losses at the end.

    `repeats`: two uninterrupted runs agree. `doubt` is why the end tells nothing: they differ by as much as training moves
    the parameters, in words; or None.
    """

    after_loading: dict[str, str]
    at_the_end: dict[str, str]
    repeats: bool
    doubt: str | None
    compared: int


def resume(accelerator: Accelerator, before: int, after: int) -> Resumed:
    """Train `before` steps, save, train `after` more; load into a new model and optimizer, and train these again.

    The states of the generators of random numbers, the host's and the device's, are part of what is saved. Raises what
    torch raises.
    """
    draw = accelerator.generator("checkpoint")
    weights = transformer.build(draw).state_dict()
    batches = [transformer.text(draw, transformer.Size().vocabulary, 4, 33) for _ in range(before + after)]

    def probe() -> list[Tensor]:
        run = begin(accelerator, weights)
        run.steps(batches[:1])
        return run.losses

    # Where torch is only warned it leaves attention as it is, and two runs of a sound device differ.
    with deterministic(True, strict=obeys(probe)):
        return _resumed(accelerator, weights, batches, before)


def _resumed(accelerator: Accelerator, weights: Mapping[str, Tensor], batches: Sequence[Tensor], before: int) -> Resumed:
    first = begin(accelerator, weights)
    first.steps(batches[:before])
    saved = first.state()
    sources = _sources(accelerator)
    before_all = torch.get_rng_state()
    with tempfile.TemporaryFile(prefix="readiness-") as file:  # without a name: it is gone however this ends
        random = {name: read() for name, (read, _) in sources.items()}
        torch.save({"model": first.model.state_dict(), "optimizer": first.optimizer.state_dict(), "random": random}, file)
        saved |= _numbers(accelerator, sources)
        first.steps(batches[before:])
        second = begin(accelerator, {name: torch.zeros_like(value) for name, value in weights.items()})
        file.seek(0)
        loaded = torch.load(file, map_location=accelerator.device, weights_only=True)
    second.model.load_state_dict(loaded["model"])
    second.optimizer.load_state_dict(loaded["optimizer"])
    second.losses += first.losses[:before]
    for name, (_, write) in sources.items():
        write(loaded["random"][name].cpu())
    after_loading = _differences(second.state() | _numbers(accelerator, sources), saved, 0.0)
    torch.set_rng_state(before_all)
    second.steps(batches[before:])
    again = begin(accelerator, weights)
    again.steps(batches)
    uninterrupted, other = first.tensors(), again.tensors()
    noise = max(_distance(other[name], value) for name, value in uninterrupted.items())
    at_the_end = _differences(second.tensors(), uninterrupted, noise)
    moved = {name: _distance(saved[name], value) for name, value in uninterrupted.items() if name.startswith("parameter ")}
    lost = [name for name, distance in moved.items() if distance <= _SLACK * noise]
    doubt = f"two uninterrupted runs differ by {noise:.2g} of a tensor's size" if 2 * len(lost) > len(moved) else None
    return Resumed(after_loading, at_the_end, noise == 0, doubt, len(uninterrupted) + len(saved))


Source = tuple[Callable[[], Tensor], Callable[[Tensor], object]]


def _sources(accelerator: Accelerator) -> dict[str, Source]:
    """Return getter and setter of each global generator's state: the host's, and the device's if it has one."""
    found: dict[str, Source] = {"cpu": (torch.get_rng_state, torch.set_rng_state)}
    if accelerator.device.type != "cpu":
        module = accelerator.stack.module()
        read, write = getattr(module, "get_rng_state", None), getattr(module, "set_rng_state", None)
        if read is not None and write is not None:
            found[accelerator.device.type] = (read, write)
    return found


def _numbers(accelerator: Accelerator, sources: Mapping[str, Source]) -> dict[str, Tensor]:
    """Return the next random numbers of each generator, by name."""
    devices = {"cpu": torch.device("cpu"), accelerator.device.type: accelerator.device}
    return {f"random numbers of {name}": torch.rand(64, device=devices[name]).cpu() for name in sources}


def _differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], noise: float) -> dict[str, str]:
    """Return by name what differs, bit for bit or beyond the differences of the device's own runs."""
    differing = dict.fromkeys(expected.keys() - found.keys(), "is missing")
    for name in [name for name in expected if name in found]:
        if numerics.fingerprint(found[name]) == numerics.fingerprint(expected[name]):
            continue
        if _distance(found[name], expected[name]) > _SLACK * noise:
            count = numerics.mismatches(found[name], expected[name])
            differing[name] = f"differs in {count:g} of {expected[name].numel()} elements"
    return differing


def _distance(one: Tensor, other: Tensor) -> float:
    """Return the largest deviation over the size; 0 only for equal bits, infinite if they cannot be compared."""
    if numerics.fingerprint(one) == numerics.fingerprint(other):
        return 0.0
    return max(numerics.worst_error(one, other), math.ulp(0.0))


View = Callable[[Tensor], Tensor]

#: Tensors that are hard to save: a base on the device, and the view of it that is saved.
_VIEWS: dict[str, tuple[torch.dtype, tuple[int, ...], View]] = {
    "transposed": (torch.float32, (13, 21), lambda x: x.mT),
    "transposed bfloat16": (torch.bfloat16, (13, 21), lambda x: x.mT),
    "every other column": (torch.float32, (13, 22), lambda x: x[:, ::2]),
    "rows behind an offset": (torch.float32, (40, 7), lambda x: x[11:17]),
    "column behind an offset": (torch.bfloat16, (40, 7), lambda x: x[5:, 3]),
    "expanded": (torch.float32, (1, 9), lambda x: x.expand(5, 9)),
    "bfloat16": (torch.bfloat16, (33, 5), lambda x: x),
    "float16": (torch.float16, (33, 5), lambda x: x),
    "bool": (torch.bool, (77,), lambda x: x),
    "int64": (torch.int64, (29,), lambda x: x),
    "uint8": (torch.uint8, (101,), lambda x: x),
    "without dimensions": (torch.float32, (), lambda x: x),
    "empty": (torch.float32, (0, 4), lambda x: x),
    "NaN and infinities": (torch.float32, (4,), lambda x: x),
    "large": (torch.float32, (257, 1025), lambda x: x),
}
#: Made on the host and moved: of a NaN that a device works out, nobody says which of the many it is.
_VALUES = {"NaN and infinities": (math.nan, math.inf, -math.inf, -0.0)}


@dataclass(frozen=True, slots=True)
class Returned:
    """Result of a round trip: errors of restored tensors by name, tensors that could not be saved, and their number."""

    wrong: dict[str, str]
    refused: dict[str, str]
    count: int


def round_trip(accelerator: Accelerator, target: torch.device, refusals: tuple[type[Exception], ...]) -> Returned:
    """Save every awkward tensor of the device in a file, load it to `target`, and compare every byte."""
    wrong: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name, (dtype, shape, view) in _VIEWS.items():
        try:
            host = _drawn(accelerator, name, dtype, shape)
            problem = _one(view(host.to(accelerator.device)), view(host), target)
        except refusals as error:
            refused[name] = _refusal(error)
            continue
        if problem is not None:
            wrong[name] = problem
    try:
        problem = _shared(accelerator, target)
    except refusals as error:
        refused["shared memory"] = _refusal(error)
    else:
        wrong |= {} if problem is None else {"shared memory": problem}
    return Returned(wrong, refused, len(_VIEWS) + 1)


def _refusal(error: Exception) -> str:
    """Return why a tensor cannot be saved, in one line. Raises OSError for a full disk."""
    if disk.is_disk_full(error):
        raise disk.full_error(str(error)) from None
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:200]


def _drawn(accelerator: Accelerator, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    if name in _VALUES:
        return torch.tensor(_VALUES[name], dtype=dtype)
    generator = accelerator.generator("checkpoint", name)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 100, shape, generator=generator).to(dtype)


def _passed(value: Any, target: torch.device) -> Any:
    with tempfile.TemporaryFile(prefix="readiness-") as file:
        torch.save(value, file)
        file.seek(0)
        return torch.load(file, map_location=target, weights_only=True)


def _one(saved: Tensor, expected: Tensor, target: torch.device) -> str | None:
    """Return what is wrong with one tensor after a round trip, or None."""
    loaded = _passed(saved, target)
    if loaded.device.type != target.type:
        return f"came back on {loaded.device}"
    if loaded.shape != expected.shape or loaded.dtype != expected.dtype:
        return f"came back as {numerics.name_of(loaded.dtype)} of shape {tuple(loaded.shape)}"
    count = wrong_bytes(loaded.detach().cpu(), expected)
    return f"{count:g} of {expected.nbytes} bytes differ" if count else None


def _shared(accelerator: Accelerator, target: torch.device) -> str | None:
    """Check that two views of one memory, like tied weights, still share it after loading."""
    whole = _drawn(accelerator, "shared", torch.float32, (12, 5)).to(accelerator.device)
    loaded = _passed({"whole": whole, "part": whole[4:8]}, target)
    if wrong_bytes(loaded["part"].cpu(), whole[4:8].cpu()):
        return "the part differs from the whole it was saved with"
    loaded["whole"].zero_()
    return "two views of one memory came back as two tensors" if bool(loaded["part"].cpu().any()) else None
