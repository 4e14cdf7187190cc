"""`readiness trace`: a workload and a profile from a model that is not shipped, and one clear error for each mistake."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from readiness import check_registry
from readiness.cli.trace import trace
from readiness.datamodel import Outcome
from readiness.engine import isolated_call
from readiness.errors import Exit, UsageError
from readiness.isolation.worker_pool import WorkerPool
from readiness.profile import loader
from readiness.tracing import workload_schema
from readiness.tracing.workload_schema import Phase, Size
from tests.support.command_line import readiness
from tests.support.engine import evidence_of, run, use_checks
from tests.support.paths import ROOT

transformers = pytest.importorskip("transformers")

#: A model of transformers that is not shipped: Gemma's build, small.
CONFIG: dict[str, Any] = {
    "model_type": "gemma", "architectures": ["GemmaForCausalLM"], "hidden_size": 64, "intermediate_size": 160,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 500,
}  # fmt: skip


def write(folder: Path, **changes: Any) -> Path:
    file = folder / "mine.json"
    file.write_text(json.dumps(CONFIG | changes))
    return file


#: What a model of transformers is heard with: seconds of each process that imports it.
PREPARED = (
    "torch,torch._dynamo,transformers.models.auto.modeling_auto,transformers.models.gemma.modeling_gemma,"
    "readiness.tracing.record_workload,readiness.engine.worker"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose models are heard by processes forked from one that has imported what they need."""
    made = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.syspath_prepend(str(made))
        with WorkerPool(preload=PREPARED) as pool:
            patch.setattr(isolated_call, "WorkerPool", lambda **_: contextlib.nullcontext(pool))
            yield made


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the model was traced."""
    folder = tmp_path_factory.mktemp("traced")
    result = readiness("trace", str(write(folder)), "--output", str(folder), "--length", "80", state=folder)
    assert result.returncode == Exit.READY, result.stderr
    assert str(folder / "mine.toml") in result.stdout
    return folder


def test_what_is_written(traced: Path) -> None:
    found = workload_schema.load(traced / "mine.json.gz")
    assert (found.name, found.dtype, found.batch, found.length, found.unit) == ("mine", "bfloat16", 1, 80, "positions")
    assert found.model["kind"] == "GemmaForCausalLM"
    assert found.traced["transformers"] == transformers.__version__
    operators = set(found.operators)
    assert {"aten::scaled_dot_product_attention", "aten::linear", "aten::mm", "aten::embedding", "aten::_foreach_sqrt"} <= operators
    assert not {"aten::bmm", "aten::_safe_softmax"} & operators  # attention stays whole
    attention = [record for record in found.records if record.call.op == "aten::scaled_dot_product_attention"]
    assert sum(record.calls.get(Phase.FORWARD, 0) for record in attention) == 3
    assert sum(record.calls.get(Phase.BACKWARD, 0) for record in attention) == 3
    assert sum(record.calls.get(Phase.DECODE, 0) for record in attention) == 3


@pytest.mark.usefixtures("folder")
def test_other_lengths_are_what_the_model_calls_there(traced: Path, tmp_path: Path) -> None:
    trace(str(write(tmp_path)), output=tmp_path, length=40)
    long, short = workload_schema.load(traced / "mine.json.gz"), workload_schema.load(tmp_path / "mine.json.gz")
    at_40 = {record.call.at(Size(40, reduced=False)) for record in long.records}
    assert {record.call.at(short.full) for record in short.records} == at_40


def test_the_profile_runs_on_the_cpu(traced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = loader.load(str(traced / "mine.toml"), check_registry.discover())
    own = [item for item in found.requirements if item.check == "operators.workload"]
    assert {item.id for item in own} >= {"workload-train", "workload-serve", "workload-gradients-bfloat16", "workload-native-train"}
    assert all(item.why and item.source and item.remedy for item in own)
    assert {item.id for item in own} < {item.id for item in found.requirements}  # general is below
    use_checks(monkeypatch, tmp_path)
    assessment = run(tmp_path / "run", traced / "mine.toml", expression="workload")
    outcomes = {item.requirement: item.outcome for item in assessment.accelerators[0].findings if item.check == "operators.workload"}
    assert set(outcomes.values()) == {Outcome.PASS}, evidence_of(assessment, "operators.workload").reason


@pytest.mark.usefixtures("folder")
def test_the_reduced_model_is_a_model_of_its_own(tmp_path: Path) -> None:
    file = write(tmp_path, hidden_size=2048, intermediate_size=8192, vocab_size=60_000, head_dim=256)
    trace(str(file), output=tmp_path, reduced=True, length=64, name="Small One")
    found = workload_schema.load(tmp_path / "small-one.json.gz")
    assert found.model["parameters"] < 1e6
    config = json.loads((tmp_path / "small-one.config.json").read_text())
    assert (config["hidden_size"], config["vocab_size"], config["num_hidden_layers"]) == (128, 1024, 3)
    trace(str(tmp_path / "small-one.config.json"), output=tmp_path, name="again", length=64)


def test_a_function_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(
        "import torch\n"
        "def model(length, small):\n"
        "    width = 32 if small else 256\n"
        "    layers = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.Linear(width, 3))\n"
        "    return layers, torch.zeros(length, width)\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "readiness", "trace", "ours:model", "--length", "128", "--dtype", "float32"], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == Exit.READY, result.stderr
    found = workload_schema.load(tmp_path / "model.json.gz")
    assert {"aten::linear", "aten::gelu", "aten::gelu_backward"} <= set(found.operators)
    assert (found.length, found.reduced_length) == (128, 96)


def mistakes(folder: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    (folder / "broken.py").write_text("raise ValueError('no model here')\n")
    (folder / "other.py").write_text("def three():\n    return 3\n")
    files = {
        "no_json": "{", "list": "[]", "no_type": "{}", "type": '{"model_type": 3}', "unknown": '{"model_type": "gpt-9"}',
        "nan": '{"model_type": "gemma", "hidden_size": NaN}', "text": '{"model_type": "gemma", "hidden_size": "wide"}',
        "zero": '{"model_type": "gemma", "hidden_size": 0, "num_attention_heads": 0}',
        "nested": f'{{"model_type": "gemma", "rope_scaling": {"[" * 300}{"]" * 300}}}',
        "nested_further": f'{{"model_type": "gemma", "rope_scaling": {"[" * 300_000}{"]" * 300_000}}}',
        "layers": '{"model_type": "gemma", "num_hidden_layers": 1000000000}',
        "inner_layers": '{"model_type": "blip-2", "vision_config": {"num_hidden_layers": 1000000000}}',
    }  # fmt: skip
    for name, text in files.items():
        (folder / f"{name}.json").write_text(text)
    (folder / "there.json").write_text(json.dumps(CONFIG))
    (folder / "there.toml").write_text("kept")
    os.mkfifo(folder / "pipe.json")
    found = {name: ((str(folder / f"{name}.json"),), name) for name in files}
    return found | {
        "absent": ((str(folder / "absent.json"),), "no such file"),
        "overwrite": ((str(folder / "there.json"),), "it exists already"),
        "folder": ((str(folder / "there.json"), "-o", str(folder / "nowhere")), "no such folder"),
        "module": (("no_such_module:model",), "cannot be imported"),
        "broken": (("broken:model",), "no model here"),
        "attribute": (("other:four",), "cannot be imported"),
        "no_model": (("other:three",), "it returned int"),
        "name": ((str(folder / "there.json"), "--name", "../.."), "is not a usable name"),
        "long": (("x" * 100_000 + ":model",), "longer than 4096"),
        "long_file": ((str(folder / ("x" * 3000)),), "cannot be read"),
        "pipe": ((str(folder / "pipe.json"),), "not a file"),
    }


@pytest.fixture(scope="module")
def known(folder: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """All of them, in one folder: none writes anything."""
    return mistakes(folder)


@pytest.mark.parametrize("name", [
    "absent", "attribute", "broken", "folder", "inner_layers", "layers", "list", "long", "long_file", "module", "name", "nan",
    "nested", "nested_further", "no_json", "no_model", "no_type", "overwrite", "pipe", "text", "type", "unknown", "zero",
])  # fmt: skip
def test_mistakes_are_one_clear_error_each(folder: Path, known: dict[str, tuple[tuple[str, ...], str]], name: str) -> None:
    (model, *options), message = known[name]
    chosen = dict(zip(options[::2], options[1::2], strict=True))
    with pytest.raises(UsageError) as caught:
        trace(model, name=chosen.get("--name"), output=Path(chosen.get("-o", folder)))
    assert message in str(caught.value)
    assert caught.value.exit_code is Exit.USAGE
    assert caught.value.remedy
    assert not list(folder.glob("*.gz"))
    assert (folder / "there.toml").read_text() == "kept"


def test_a_mistake_is_code_2_and_no_traceback(tmp_path: Path) -> None:
    result = readiness("trace", str(tmp_path / "absent.json"), "--length", "64", state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "no such file" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_transformers_the_error_has_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "transformers.py").write_text("raise ImportError('there is none')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'path')!r})\nfrom readiness.__main__ import main; main()"
    result = readiness("trace", str(write(tmp_path)), "-o", str(tmp_path), state=tmp_path, code=code)
    assert result.returncode == Exit.USAGE
    assert "pip install 'readiness[trace]'" in result.stderr


def test_the_help_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules, 'transformers' in sys.modules, file=sys.stderr))\n"
        "from readiness.__main__ import main; main()"
    )
    result = readiness("trace", "--help", state=tmp_path, code=code)
    assert result.stderr.split() == ["False", "False"]
    for option in ("--name", "--output", "-o", "--batch", "--length", "--dtype", "--reduced", "--force", "--timeout"):
        assert option in result.stdout
