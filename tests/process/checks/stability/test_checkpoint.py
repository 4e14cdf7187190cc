"""stability.checkpoint: seen whole, seen naming what came back changed, and unable to tell."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
import torch

from readiness.datamodel import Evidence, Status
from tests.support import cpu, disk_full, run_check, value, values

TENSORS = 16
#: Where no number of steps or saves is looked at.
SHORT: dict[str, Any] = {"before": 1, "after": 2, "saves": 3}


def about(evidence: Evidence, name: str) -> str:
    return str(next(item.about for item in evidence.measurements if item.name == name and item.value))


def loading(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any]) -> None:
    """What is loaded goes through `change` first."""
    honest = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: change(honest(*args, **kwargs)))


@pytest.mark.parametrize("seed", range(4))
def test_training_goes_on_and_every_tensor_returns(seed: int) -> None:
    evidence = run_check("stability.checkpoint", cpu(seed))
    assert evidence.status is Status.MEASURED, evidence.reason
    assert value(evidence, "resume_mismatches") == 0
    assert values(evidence, "wrong_tensors") == [0, 0]
    assert values(evidence, "supported") == [1, 1, 1]
    assert any(row.get("repeats") is True for row in evidence.rows)
    assert all(item.samples == TENSORS for item in evidence.measurements if item.name == "wrong_tensors")


@pytest.mark.parametrize("what", ["model", "whole", None])
def test_what_a_full_disk_does_not_take_is_no_refusal_of_the_device(what: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever is the first that finds no room: the training's state, two views of one memory, or a tensor."""
    honest = torch.save

    def save(value: Any, *rest: Any) -> None:
        if (isinstance(value, torch.Tensor) and what is None) or (isinstance(value, dict) and what in value):
            disk_full()
        honest(value, *rest)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="No space left on device"):
        run_check("stability.checkpoint", **SHORT)


def _lose(what: str) -> Callable[[Any], Any]:
    def change(loaded: Any) -> Any:
        if isinstance(loaded, dict) and "optimizer" in loaded:
            loaded["optimizer"]["state"][3][what].zero_()
        return loaded

    return change


@pytest.mark.parametrize("what", ["exp_avg", "exp_avg_sq", "step"])
def test_a_lost_part_of_the_optimizers_state_is_named(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loading(monkeypatch, _lose(what))
    evidence = run_check("stability.checkpoint", **SHORT)
    assert value(evidence, "resume_mismatches") > 1
    reason = about(evidence, "resume_mismatches")
    assert reason.startswith(f"{what} of blocks.0.attention.query.weight after loading differs in ")
    assert len(reason) < 300


def test_random_numbers_that_do_not_go_on_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(loaded: Any) -> Any:
        if isinstance(loaded, dict) and "random" in loaded:
            loaded["random"] = {name: torch.Generator().manual_seed(1).get_state() for name in loaded["random"]}
        return loaded

    state = torch.get_rng_state()
    loading(monkeypatch, change)
    evidence = run_check("stability.checkpoint", **SHORT)
    assert about(evidence, "resume_mismatches").startswith("random numbers of cpu after loading differs in ")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_single_byte_of_a_weight_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(loaded: Any) -> Any:
        if isinstance(loaded, dict) and "model" in loaded:
            loaded["model"]["head.weight"].view(torch.uint8)[5, 5] ^= 1
        return loaded

    loading(monkeypatch, change)
    evidence = run_check("stability.checkpoint", **SHORT)
    assert "parameter head.weight after loading differs in 1 of " in about(evidence, "resume_mismatches")


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda x: x.contiguous().reshape(-1).flip(0).reshape(x.shape) if x.ndim == 2 else x, 5),
        (lambda x: x.float() if x.dtype == torch.bfloat16 else x, 3),
        (lambda x: x.unsqueeze(0) if x.ndim == 0 else x, 1),
    ],
)
def test_a_tensor_that_comes_back_otherwise_is_named(
    change: Callable[[torch.Tensor], torch.Tensor], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading(monkeypatch, lambda loaded: change(loaded) if isinstance(loaded, torch.Tensor) else loaded)
    evidence = run_check("stability.checkpoint", **SHORT)
    assert min(values(evidence, "wrong_tensors")) >= least
    assert ": " in about(evidence, "wrong_tensors")
    assert value(evidence, "resume_mismatches") == 0


def test_shared_memory_that_falls_apart_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(loaded: Any) -> Any:
        return {**loaded, "part": loaded["part"].clone()} if isinstance(loaded, dict) and "part" in loaded else loaded

    loading(monkeypatch, change)
    evidence = run_check("stability.checkpoint", **SHORT)
    assert values(evidence, "wrong_tensors") == [1, 1]
    assert about(evidence, "wrong_tensors") == "shared memory: two views of one memory came back as two tensors"


def test_a_device_that_does_not_repeat_itself_is_judged_by_its_own_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch.nn.functional.silu
    monkeypatch.setattr(torch.nn.functional, "silu", lambda x: honest(x) * (1 + 1e-6 * torch.rand(())))
    evidence = run_check("stability.checkpoint")
    assert any(row.get("repeats") is False for row in evidence.rows)
    assert value(evidence, "resume_mismatches") == 0
    loading(monkeypatch, _lose("exp_avg"))
    assert value(run_check("stability.checkpoint"), "resume_mismatches") > 1


def test_what_cannot_be_saved_is_a_measurement_and_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("saving is not implemented for this device")

    monkeypatch.setattr(torch, "save", refuse)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    evidence = run_check("stability.checkpoint", **SHORT)
    assert evidence.status is Status.MEASURED
    assert values(evidence, "supported") == [0, 0, 0]
    assert values(evidence, "resume_mismatches") == values(evidence, "wrong_tensors") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(3))
def test_saving_keeps_nothing(seed: int) -> None:
    assert value(run_check("stability.checkpoint", cpu(seed), before=1, after=1), "memory_growth_bytes", memory="host") < 262144


def test_what_each_save_keeps_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, kept = torch.save, []

    def keeping(what: Any, file: Any) -> None:
        honest(what, file)
        if set(what) == {str(index) for index in range(8)}:
            pages = mmap.mmap(-1, 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # no memory that the heap has left over
            pages.write(b"x" * 2**20)
            kept.append(pages)

    monkeypatch.setattr(torch, "save", keeping)
    growth = value(run_check("stability.checkpoint", before=1, after=1), "memory_growth_bytes", memory="host")
    assert growth == pytest.approx(2**20, rel=0.25)


def test_too_few_saves_prove_nothing_about_memory() -> None:
    assert values(run_check("stability.checkpoint", saves=2, before=1, after=1), "memory_growth_bytes") == []


@pytest.mark.parametrize(("noise", "is_reported"), [(0.0, True), (1e-9, True), (0.3, False)])
def test_runs_that_differ_as_much_as_training_moves_prove_nothing(noise: float, is_reported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume that forgets the learning rate would pass beside them."""
    silu, draw = torch.nn.functional.silu, torch.Generator().manual_seed(1)

    def noisy(x: torch.Tensor) -> torch.Tensor:
        return silu(x) * (1 + noise * torch.randn((), generator=draw))

    monkeypatch.setattr(torch.nn.functional, "silu", noisy)
    evidence = run_check("stability.checkpoint", saves=3)
    (row,) = [row for row in evidence.rows if "repeats" in row]
    assert (row["doubt"] is None) is is_reported
    assert (values(evidence, "resume_mismatches") == [0]) is is_reported
