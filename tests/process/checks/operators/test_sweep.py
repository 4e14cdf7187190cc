"""operators.sweep: the healthy CPU, one defect of every kind, and unable to tell."""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from readiness.datamodel import Status
from readiness.host import disk
from readiness.probes.operators import op_semantics, opinfo
from readiness.probes.operators.opinfo_trial import TrialOptions
from tests.support import checks, cpu, run_check, value, values
from tests.support.operators import ONLY, about, gelu, gelu_gradient, only_float32, outcomes, sweep
from tests.support.simulator import chip, inside


@pytest.mark.parametrize("seed", [7, 8])
def test_healthy(seed: int) -> None:
    """Every kind of operator: exact, integer, random, unspecified, decomposed, with several outputs."""
    only = (*ONLY, "cat", "topk", "empty_like", "nn.functional.dropout", "linalg.svd", "sort", "var_mean", "item", "where")
    evidence = run_check(
        "operators.sweep", cpu(seed), only=only, dtypes=("float32", "bfloat16", "float16", "int64", "bool"), samples=3
    )
    assert evidence.status is Status.MEASURED, evidence.reason
    assert set(values(evidence, "forward_coverage")) == {1.0}
    assert set(values(evidence, "backward_coverage")) == {1.0}
    for bad in ("missing", "wrong", "crashed", "errors", "nondeterministic", "fallbacks", "unjudged"):
        assert set(values(evidence, bad)) == {0}, evidence.rows[0]["detail"]
    assert value(evidence, "judged", dtype="float32", catalogue="chosen") == len(only) + 1  # var_mean has two variants
    assert {measurement.about for measurement in evidence.measurements if measurement.name != "known_defects"} == {None}
    assert not values(evidence, "backward_coverage", dtype="int64")


@pytest.mark.slow
def test_whole_database_is_healthy() -> None:
    """On other values it is swept in test_another_arithmetic.py, on devices that are harder to judge."""
    evidence = run_check("operators.sweep", cpu(1), dtypes=("float32", "bfloat16", "float16"))
    for bad in ("missing", "wrong", "crashed", "errors", "nondeterministic", "fallbacks"):
        assert set(values(evidence, bad)) == {0}, evidence.rows[0]["detail"]
    for dtype in ("float32", "bfloat16", "float16"):
        claimed = sum(entry.claims(opinfo.dtype_of(dtype)) for entry in opinfo.load())
        judged, unjudged = (value(evidence, name, dtype=dtype, catalogue="all") for name in ("judged", "unjudged"))
        assert judged + unjudged == claimed
        assert 100 < value(evidence, "judged", dtype=dtype, catalogue="core") < judged


@pytest.mark.parametrize(
    ("seed", "operator"),
    [
        (1721543664, "nn.functional.group_norm"),  # of -7.7451 and -7.6336: the mean has lost digits of their difference
        (9041, "nn.functional.tanhshrink"),        # of 0.08: what is left is two thousandths of it
        (9536, "nn.functional.cross_entropy"),     # of one certain class: its logit less nearly itself
        (20072, "nn.functional.linear_cross_entropy.chunked_none"),
        (9052, "cov"),                             # the gradient of its weights, in bfloat16
        (9093, "nn.functional.triplet_margin_with_distance_loss"),  # one row falls to the other side of the hinge
        (9101, "corrcoef"),                        # of -1.664 and -1.656, one rounding apart in bfloat16
        (50053, "nn.functional.scaled_dot_product_attention"),  # one probability nearly 1: its gradient cancels
        (70040, "round.decimals_3"),  # of a thousandfold that lies between two whole numbers
        (70120, "native_group_norm"),  # of two values that are nearly equal
        (70146, "native_group_norm"),
        (978423894, "nn.functional.layer_norm"),  # the gradient of two values, of which nothing is left, in float16
        (370834772, "nn.functional.layer_norm"),  # and in bfloat16
        (1755671057, "nn.functional.scaled_dot_product_attention"),  # one gradient asked for alone, in bfloat16
        (793171418, "erfinv"),  # of what is nearly -1, in bfloat16
        (254524180, "nn.functional.binary_cross_entropy_with_logits"),  # of logits below 0 that are right: they cancel
        (1109034108, "div.floor_rounding"),  # of large quotients, whose steps are small beside them
    ],
)
def test_what_loses_digits_by_the_luck_of_its_sample_is_right(seed: int, operator: str) -> None:
    dtypes = ("float32", "bfloat16", "float16") if operator in op_semantics.CORE else ("float32", "bfloat16")
    evidence = run_check("operators.sweep", cpu(seed), only=(operator,), dtypes=dtypes)
    assert outcomes(evidence) == {}
    assert set(values(evidence, "wrong")) == {0}
    assert set(values(evidence, "backward_coverage")) == {1.0}


def test_wrong_forward(override: Callable[..., None]) -> None:
    override("gelu", only_float32(lambda result: result * 1.01))
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("wrong", "forward")}
    assert value(evidence, "wrong") == 1
    assert value(evidence, "forward_coverage") == 0.75
    assert value(evidence, "backward_coverage") == 0.75  # the gradient due with it is not proven
    for name in ("wrong", "forward_coverage", "backward_coverage"):
        assert about(evidence, name) == "cpu:0: nn.functional.gelu in float32: wrong"
    assert about(evidence, "missing") is None


@pytest.mark.parametrize(
    "defect",
    [
        lambda result: torch.where(torch.arange(result.numel()).reshape(result.shape) == 3, torch.nan, result),
        lambda result: torch.where(torch.arange(result.numel()).reshape(result.shape) == 3, torch.inf, result),
        lambda result: result + (torch.arange(result.numel()).reshape(result.shape) == 3) * 0.01 * result.abs().max(),
        lambda result: result.bfloat16().float(),
        lambda result: result[..., :1].contiguous(),
        lambda result: result.double(),
    ],
    ids=["nan", "infinity", "one-element", "low-precision", "shape", "dtype"],
)
def test_wrong_values(override: Callable[..., None], defect: Callable[[torch.Tensor], torch.Tensor]) -> None:
    override("gelu", only_float32(defect))
    outcome, phase = outcomes(sweep("nn.functional.gelu"))["nn.functional.gelu"]
    # A result of another dtype fits neither the gradient nor memory of the dtype; the CPU, whose kernel it is too, gives the same.
    assert (outcome, phase) in {("wrong", "forward"), ("missing", "forward")}


def test_exact_operator_off_by_one_rounding(override: Callable[..., None]) -> None:
    def flip(x: torch.Tensor, dims: list[int]) -> torch.Tensor:
        result = x[tuple(slice(None) for _ in x.shape)].clone()
        for dim in dims:
            result = result.index_select(dim, torch.arange(x.shape[dim] - 1, -1, -1))
        return result * (1 + 2**-23) if x.dtype == torch.float32 else result

    override("flip", flip)
    assert outcomes(sweep("flip", "add")) == {"flip": ("wrong", "forward")}


def test_wrong_backward(override: Callable[..., None]) -> None:
    def backward(gradient: torch.Tensor, x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        return gelu_gradient(gradient * (1.01 if x.dtype == torch.float32 else 1.0), x)

    override("gelu_backward", backward)
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("wrong", "backward")}
    assert value(evidence, "forward_coverage") == 1.0
    assert value(evidence, "backward_coverage") == 0.75


def test_a_wrong_gradient_hides_no_wrong_result(override: Callable[..., None]) -> None:
    def backward(gradient: torch.Tensor, x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        return gelu_gradient(gradient * (1.01 if x.dtype == torch.float32 else 1.0), x)

    def forward(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        right = 0.5 * x * (1 + torch.erf(x / 2**0.5))
        return right * 1.01 if x.dtype == torch.float32 and not x.is_contiguous() else right

    override("gelu_backward", backward)
    override("gelu", forward)
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("wrong", "forward")}
    assert value(evidence, "forward_coverage") == 0.75


def test_a_profile_may_set_stricter_and_wider_limits(override: Callable[..., None]) -> None:
    """An error of some 30 roundings: usual limits let it pass on the CPU, which has no other CPU to be held against."""

    def forward(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        right = gelu(x)
        return right * (1 + 30 * 2**-24) if x.dtype == torch.float32 else right

    override("gelu", forward)
    assert outcomes(sweep()) == {}
    assert outcomes(sweep(roundoffs=0.1)) == {"nn.functional.gelu": ("wrong", "forward")}
    override("gelu", lambda x, approximate="none": gelu(x) * (1.01 if x.dtype == torch.float32 else 1.0))
    assert outcomes(sweep()) == {"nn.functional.gelu": ("wrong", "forward")}
    assert outcomes(sweep(roundoffs=1e6)) == {}


@pytest.mark.parametrize("name", ["rms_ratio", "max_ratio", "roundoffs", "sums"])
@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_limit_is_an_error(name: str, limit: float) -> None:
    settings: dict[str, Any] = {name: limit}
    evidence = sweep(**settings)
    assert evidence.status is Status.ERROR
    assert name in (evidence.reason or "")


def test_missing_forward(override: Callable[..., None]) -> None:
    def absent(*arguments: Any, **keywords: Any) -> torch.Tensor:
        raise NotImplementedError("Could not run 'aten::gelu' with arguments from this backend")

    override("gelu", absent)
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("missing", "forward")}
    assert value(evidence, "missing") == 1
    assert value(evidence, "wrong") == 0


def test_missing_dtype_and_gradient(override: Callable[..., None]) -> None:
    def absent(gradient: torch.Tensor, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        raise RuntimeError("\"gelu_backward\" not implemented for 'BFloat16'")

    override("gelu_backward", absent)
    evidence = sweep(dtypes=("bfloat16",))
    assert outcomes(evidence) == {"nn.functional.gelu": ("missing", "backward")}
    assert value(evidence, "forward_coverage") == 1.0


def test_raises_something_else(override: Callable[..., None]) -> None:
    def fails(*arguments: Any, **keywords: Any) -> torch.Tensor:
        raise RuntimeError("the matrix unit is on fire")

    override("gelu", fails)
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("missing", "forward")}
    assert value(evidence, "errors") == 1


def test_an_operator_whose_compiler_finds_no_room_on_the_disk_proves_nothing(override: Callable[..., None]) -> None:
    def fails(*arguments: Any, **keywords: Any) -> torch.Tensor:
        raise RuntimeError("Failed to compile Op [gelu]: kernel_meta: No space left on device")

    override("gelu", fails)
    with pytest.raises(OSError, match="No space left on device"):
        sweep()


def test_a_crash_while_a_disk_is_full_proves_nothing(
    override: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    override("gelu", lambda *_, **__: os.kill(os.getpid(), signal.SIGBUS))
    monkeypatch.setattr(disk, "full", lambda folders: "/dev/shm")
    with pytest.raises(OSError, match="/dev/shm is full: the process died by SIGBUS"):
        sweep()


@pytest.mark.parametrize("end", [lambda: os.kill(os.getpid(), signal.SIGSEGV), lambda: os._exit(0)], ids=["signal", "exit"])
def test_crash_costs_one_operator(override: Callable[..., None], end: Callable[[], None], capfd: Any) -> None:
    override("gelu", lambda *_, **__: end())
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("crash", "forward")}
    assert value(evidence, "crashed") == 1
    assert value(evidence, "judged") == 4
    assert value(evidence, "forward_coverage") == 0.75


def test_crash_in_backward(override: Callable[..., None], capfd: Any) -> None:
    override("gelu_backward", lambda *_, **__: os.kill(os.getpid(), signal.SIGABRT))
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("crash", "backward")}
    assert value(evidence, "forward_coverage") == 1.0
    assert value(evidence, "backward_coverage") == 0.75


@pytest.mark.parametrize("end", [lambda: os.kill(os.getpid(), signal.SIGSEGV), lambda: time.sleep(600)], ids=["crash", "hang"])
def test_a_fatal_gradient_hides_no_wrong_result(override: Callable[..., None], end: Callable[[], None], capfd: Any) -> None:
    """What comes after the gradient that ended the process is tried without it: inference is judged by that."""

    def forward(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        right = 0.5 * x * (1 + torch.erf(x / 2**0.5))
        return right * 1.01 if x.dtype == torch.float32 and not x.is_contiguous() else right

    override("gelu_backward", lambda *_, **__: end())
    override("gelu", forward)
    evidence = sweep(operator_limit_s=1.0)
    assert outcomes(evidence) == {"nn.functional.gelu": ("wrong", "forward")}
    assert value(evidence, "forward_coverage") == value(evidence, "backward_coverage") == 0.75


def test_hang_costs_one_operator(override: Callable[..., None]) -> None:
    override("gelu", lambda *_, **__: time.sleep(600))
    evidence = sweep(operator_limit_s=1.0)
    assert outcomes(evidence) == {"nn.functional.gelu": ("hang", "forward")}
    assert value(evidence, "crashed") == 1
    assert value(evidence, "judged") == 4


def test_slow_once_is_no_hang(override: Callable[..., None], tmp_path: Path) -> None:
    def slow(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
        if not (mark := tmp_path / "compiled").exists():
            mark.touch()
            time.sleep(600)
        return gelu(x)

    override("gelu", slow)
    assert outcomes(sweep(operator_limit_s=3.0)) == {}


def test_nondeterministic(override: Callable[..., None]) -> None:
    calls = itertools.count()
    override("gelu", only_float32(lambda result: result * (1 + 2**-23 * (next(calls) % 2))))
    evidence = sweep()
    assert outcomes(evidence) == {"nn.functional.gelu": ("nondeterministic", "forward")}
    assert value(evidence, "nondeterministic") == 1
    assert value(evidence, "forward_coverage") == 1.0


def test_unwritten_memory_is_wrong(override: Callable[..., None]) -> None:
    """Each call finds something else there: that it also differs from itself is not the point."""
    calls = itertools.count()
    override("gelu", only_float32(lambda result: torch.full_like(result, next(calls))))
    assert outcomes(sweep()) == {"nn.functional.gelu": ("wrong", "forward")}


def test_wrong_the_second_time(override: Callable[..., None]) -> None:
    calls = itertools.count()
    override("gelu", only_float32(lambda result: result * (1.5 if next(calls) % 2 else 1.0)))
    assert outcomes(sweep()) == {"nn.functional.gelu": ("wrong", "forward")}


def test_random_that_ignores_the_seed(override: Callable[..., None]) -> None:
    def native_dropout(x: torch.Tensor, p: float, train: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
        mask = torch.tensor(list(os.urandom(x.numel()))).reshape(x.shape) > 128
        return x * mask * 2, mask  # whoever drops this way

    override("native_dropout", native_dropout)
    override("bernoulli_.float", lambda x, p=0.5, *, generator=None: x.copy_(
        torch.tensor([byte % 2 for byte in os.urandom(x.numel())]).reshape(x.shape)
    ))  # fmt: skip
    assert outcomes(sweep("nn.functional.dropout", "add", samples=8)) == {"nn.functional.dropout": ("wrong", "forward")}


def test_children_are_gone_when_the_check_is_left() -> None:
    others = set(psutil.Process().children())
    generator = checks()["operators.sweep"].function(cpu(), only=ONLY, dtypes=("float32",), processes=2)
    next(generator)
    started = set(psutil.Process().children()) - others
    assert started
    generator.close()  # type: ignore[attr-defined]
    assert not any(child.is_running() for child in started)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_children_die_with_a_killed_check() -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            generator = checks()["operators.sweep"].function(cpu(), only=("add", "mul"), processes=2)
            next(generator)
            os.write(writer, b"started")
            time.sleep(600)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        assert said.read(7) == b"started"
    started = psutil.Process(parent).children()
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert started
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


def test_not_measured_without_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    true_import = importlib.import_module

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("torch.testing"):
            raise ImportError(f"No module named {name!r}")
        return true_import(name, *rest)

    monkeypatch.setattr(importlib, "import_module", refuse)
    evidence = sweep()
    assert evidence.status is Status.SKIPPED
    assert "cannot be imported" in (evidence.reason or "")
    assert evidence.measurements == ()


def test_not_measured_when_no_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    from readiness.isolation import task_process

    monkeypatch.setattr(task_process, "prepare_child", lambda parent: os._exit(3))
    evidence = sweep()
    assert evidence.status is Status.ERROR
    assert "exited with code 3" in (evidence.reason or "")
    assert evidence.measurements == ()


def test_what_cannot_be_judged_is_listed() -> None:
    evidence = sweep("sparse.mm.reduce", "add")
    assert outcomes(evidence) == {"sparse.mm.reduce": ("cannot be judged", "forward")}
    assert value(evidence, "unjudged") == 1
    assert value(evidence, "judged") == 1
    assert value(evidence, "forward_coverage") == 1.0


def test_nothing_judged_gives_no_coverage() -> None:
    evidence = sweep("sparse.mm.reduce")
    assert values(evidence, "forward_coverage") == []


@pytest.mark.parametrize(
    "settings", [{"only": ("no_such_operator",)}, {"catalogue": "everything"}, {"dtypes": ("float33",)}]
)
def test_slips_in_settings_are_errors(settings: dict[str, Any]) -> None:
    evidence = run_check("operators.sweep", **settings)
    assert evidence.status is Status.ERROR
    assert evidence.measurements == ()


def test_fresh_interpreters_give_the_same_outcomes() -> None:
    from readiness.probes.operators import sweep as sweeping

    entries = opinfo.load()
    chosen = opinfo.select(entries, "all", ("add", "nn.functional.gelu"))
    found = list(sweeping.sweep(
        cpu(), entries, chosen, ["float32"], options=TrialOptions(), operator_limit_s=60.0, processes=1, fork_safe=False
    ))  # fmt: skip
    assert {(swept.entry.name, swept.result.outcome.value) for swept in found} == {
        ("add", "native"), ("nn.functional.gelu", "native"),
    }  # fmt: skip


def test_importing_the_check_needs_no_torch() -> None:
    code = "import sys; import readiness.checks.operators.sweep; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_flags_stay_free() -> None:
    """Importing the database leaves a process able to set precision flags: seen in the one that did so before all else."""

    def left_behind() -> list[bool]:
        from tests.support import prepared_operators

        return [prepared_operators.FLAGS_FROZEN, prepared_operators.CACHE_FOLDER_SET]

    assert inside(chip(), left_behind) == [False, False]
