"""model.fit: fits, does not fit, and not measured where memory or workload is unknown; and `readiness fit` about profiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from readiness import check_registry
from readiness.accelerators.base import Accelerator
from readiness.cli import app
from readiness.datamodel import Evidence, Outcome, Status, Use
from readiness.documents.strict_json import plain
from readiness.errors import UsageError
from readiness.judging.judge import judge
from readiness.profile import loader
from tests.support import cpu, run_check, value

GIB = 2**30


def fitted(monkeypatch: pytest.MonkeyPatch, memory: tuple[int, int] | None, **settings: Any) -> Evidence:
    monkeypatch.setattr(Accelerator, "memory", lambda self: memory)
    device = cpu(0)
    device.facts = replace(device.facts, memory_bytes=None)
    return run_check("model.fit", device, **{"workload": "qwen3-8b", "training_chips": 8, **settings})


def test_a_model_fits_where_there_is_memory_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = fitted(monkeypatch, (GIB, 64 * GIB))
    for use in ("training", "inference"):
        assert 0 < value(evidence, "needed_share", use=use) < 1
        assert value(evidence, "needed_gib", use=use) == pytest.approx(value(evidence, "needed_share", use=use) * 60.8)
    assert value(evidence, "fewest_chips", use="inference") == 1
    parts = {(row["use"], row["part"]) for row in evidence.rows if "part" in row}
    assert {("training", "optimizer state"), ("inference", "KV cache")} <= parts
    assert all("x" in row["arithmetic"] for row in evidence.rows if "arithmetic" in row)


def test_a_model_that_does_not_fit_says_what_is_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = fitted(monkeypatch, (GIB, 12 * GIB))
    assert value(evidence, "needed_share", use="inference") > 1
    about = next(item.about for item in evidence.measurements if item.name == "needed_share" and item.labels["use"] == "inference")
    assert about is not None
    assert "parameters 15.26 GiB" in about


def test_unknown_memory_or_workload_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted(monkeypatch, None).status is Status.SKIPPED
    assert fitted(monkeypatch, (GIB, 64 * GIB), workload="").status is Status.SKIPPED


def test_memory_that_only_the_facts_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "memory", lambda self: None)
    known = cpu(0)
    known.facts = replace(known.facts, memory_bytes=64 * GIB)
    evidence = run_check("model.fit", known, workload="qwen3-8b")
    assert value(evidence, "needed_gib", use="inference") > 0


@pytest.mark.parametrize("settings", [{"workload": "no-such"}, {"workload": "qwen3-8b", "training_tensor": 3}, {"workload": "qwen3-8b", "optimizer": "x"}])
def test_settings_that_cannot_be_are_refused_before_the_run(settings: dict[str, Any]) -> None:
    check = check_registry.shipped()["model.fit"]
    assert check.vet is not None
    with pytest.raises(UsageError):
        check.vet(settings)


def test_every_profile_of_a_model_judges_its_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = check_registry.shipped()
    for name in ("qwen3-dense", "qwen3-moe", "llama-dense", "deepseek-v3"):
        profile = loader.load(name, checks)
        settings = dict(profile.settings["model.fit"])
        assert settings["workload"] == profile.settings["operators.workload"]["workload"]
        for memory, outcome in ((80, Outcome.PASS), (16, Outcome.FAIL)):
            monkeypatch.setattr(Accelerator, "memory", lambda self, memory=memory: (GIB, memory * GIB))
            device = cpu(0)
            judged = judge(profile, device.facts, [run_check("model.fit", device, **plain(settings))])
            found = {(item.requirement, item.use): item.outcome for item in judged.findings if item.check == "model.fit"}
            assert found == {("fits-to-train", Use.TRAINING): outcome, ("fits-to-serve", Use.INFERENCE): outcome}, (name, memory)


def run(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["fit", *arguments])
    if isinstance(found.exception, UsageError):
        return int(found.exception.exit_code), str(found.exception)
    return found.exit_code, found.output


def test_the_command_answers_for_profiles_and_workloads() -> None:
    code, text = run("qwen3-dense", "--memory", "64GiB")
    assert (code, text.count("fits, ")) == (0, 2)
    assert "8,190,735,360 / 8 parameters x 2 bytes" in text
    assert run("llama-3.1-8b", "--memory", "8GiB", "--chips", "1")[0] == 1
    assert run("llama-3.1-8b", "--memory", "24GiB", "--use", "inference")[0] == 0


def test_options_override_the_profile() -> None:
    text = run("qwen3-dense", "--memory", "64GiB", "--chips", "16", "--tensor", "4", "--sharding", "optimizer", "--length", "1024", "--no-recompute")[1]
    assert "training on 16 chips (tensor 4, data 4, optimizer sharded)" in text
    assert "1,024 tokens" in text
    assert "  with recomputation" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("qwen3-dens", "--memory", "64GiB"), "did you mean qwen3-dense"), (("general", "--memory", "64GiB"), "names no workload"),
        (("qwen3-8b",), "--memory"), (("qwen3-8b", "--memory", "64"), "did you mean 64GiB"),
        (("qwen3-8b", "--memory", "64GiB", "--chips", "6", "--tensor", "4"), "no multiple"),
        (("qwen3-8b", "--memory", "64GiB", "--dtype", "bf16"), "did you mean bfloat16"),
        (("nothing.toml", "--memory", "64GiB"), "no such file"), (("nothing.json.gz", "--memory", "64GiB"), "no such file"),
    ],
)  # fmt: skip
def test_mistakes_have_a_remedy_and_the_code_of_usage(arguments: tuple[str, ...], words: str) -> None:
    code, text = run(*arguments)
    assert code == 2
    assert words in text
