"""model.serving_engine with none installed, and with stand-ins for vLLM: one that is right, one wrong, slow, refusing, dying."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from readiness.datamodel import Evidence, Measurement, Row, Status
from readiness.probes.model import decoder, published_layout, serving_engine
from readiness.probes.model.serving_engine import Served
from readiness.probes.model.serving_engine_runs import pace
from readiness.probes.throughput import timing
from readiness.probes.throughput.timing import Settled
from readiness.tracing import workload_schema
from tests.support import cpu, run_check, value, values

#: The engine's interface, as far as it is used; `generate` gives tokens as NEXT says.
STAND_IN = '''
import json, os, time
from types import SimpleNamespace
__version__ = "0.0.stand-in"

class SamplingParams:
    def __init__(self, temperature, max_tokens, min_tokens, ignore_eos, detokenize):
        assert temperature == 0.0 and min_tokens == max_tokens and ignore_eos and not detokenize
        self.count = max_tokens

class LLM:
    def __init__(self, model, skip_tokenizer_init, dtype, seed, load_format, max_model_len, gpu_memory_utilization, enforce_eager):
        assert skip_tokenizer_init and dtype == "bfloat16" and os.environ["HF_HUB_OFFLINE"] == "1"
        self.model, self.config = model, json.load(open(os.path.join(model, "config.json")))
        assert os.path.exists(os.path.join(model, "model.safetensors")) is (load_format == "auto")
        {start}

    def generate(self, prompts, how, use_tqdm):
        return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens)]) for tokens in
                self.next([prompt["prompt_token_ids"] for prompt in prompts], how.count)]

    def next(self, prompts, count):
        {next}
'''
#: An implementation by others, of the files that were written.
RIGHT = """
        import torch, transformers
        model = transformers.AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32).eval()
        given = torch.tensor(prompts)
        with torch.no_grad():
            for _ in range(count):
                given = torch.cat([given, model(given).logits[:, -1:].argmax(-1)], 1)
        return given[:, len(prompts[0]):].tolist()
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a stand-in for vLLM."""

    def install(next_: str = "return [[1] * count for _ in prompts]", start: str = "pass", package: str | None = None) -> None:
        folder = tmp_path / "site" / "vllm"
        folder.mkdir(parents=True)
        text = STAND_IN.replace("{start}", start).replace("{next}", next_)
        (folder / "__init__.py").write_text(package if package is not None else text)
        monkeypatch.setattr(sys, "path", [str(folder.parent), *sys.path])

    return install


def served(workload: str = "qwen3-8b", **settings: Any) -> Evidence:
    return run_check("model.serving_engine", cpu(0), workload=workload, **{"tokens": 4, "deadline_s": 300.0, **settings})


def test_without_the_engine_nothing_is_measured_and_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_engine, "is_installed", lambda: False)
    evidence = served()
    assert evidence.status is Status.SKIPPED
    assert "readiness[serve]" in str(evidence.reason)
    assert evidence.measurements == ()


@pytest.mark.parametrize("workload", ["", "deepseek-v3", "vit-large"])
def test_models_of_other_kinds_are_not_measured(workload: str, engine: Any) -> None:
    engine()
    assert served(workload).status is Status.SKIPPED


@pytest.mark.parametrize("workload", ["llama-3.1-8b", "qwen3-235b-a22b"])
def test_what_is_written_is_read_by_others_and_gives_our_tokens(workload: str, engine: Any) -> None:
    engine(RIGHT.strip())
    evidence = served(workload)
    assert value(evidence, "supported", phase="tokens") == 1, evidence.rows
    assert value(evidence, "wrong_tokens") == 0
    row = next(row for row in evidence.rows if "as_our_own_decoding" in row)
    assert row["as_our_own_decoding"] == row["tokens"] == 16
    assert evidence.rows[0]["vllm"] == "0.0.stand-in"


def test_other_tokens_are_wrong(engine: Any) -> None:
    engine()
    assert value(served(), "wrong_tokens") > 0


def test_too_few_tokens_are_wrong(engine: Any) -> None:
    engine("return [[1] for _ in prompts]")
    assert value(served(), "wrong_tokens") == 4


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"start": "raise ValueError('no kernel for heads of 64')"}, "start: ValueError: no kernel for heads of 64"),
        ({"package": "raise ImportError('libcann.so: no such file')"}, "import: ImportError: libcann.so"),
        ({"start": "os._exit(7)"}, "ended with code 7"),
        ({"start": "print('engine core failed', flush=True); os.kill(os.getpid(), 9)"}, "engine core failed"),
        ({"package": "class LLM: pass"}, "start: TypeError"),
    ],
)
def test_an_engine_that_does_not_start_is_not_supported(how: dict[str, str], said: str, engine: Any) -> None:
    engine(**how)
    evidence = served()
    assert value(evidence, "supported", phase="tokens") == 0
    assert said in str(next(item.about for item in evidence.measurements if item.name == "supported"))
    assert values(evidence, "wrong_tokens") == []


def test_an_engine_that_hangs_is_ended_with_all_that_it_started(engine: Any, tmp_path: Path) -> None:
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)"
    mark = f"open({str(tmp_path / 'hangs')!r}, 'w').close(); time.sleep(600)"
    engine(start=f"{child}; {mark}")
    evidence = served(deadline_s=8.0)
    assert value(evidence, "supported", phase="tokens") == 0
    assert "did not end within 8 s" in str(evidence.measurements[0].about)


def test_pace_is_reckoned_from_the_rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rounds = [{"step": "round", "batch": 8, "first_s": 0.5, "all_s": 0.5 + 0.31 * share} for share in (1.0, 1.0, 2.0)]
    answers = [{"step": "import", "version": "1", "seconds": 2.0}, {"step": "start", "seconds": 30.0}, *rounds]
    requests: list[dict[str, Any]] = []

    def serve(_: Any, request: dict[str, Any], *__: Any) -> Served:
        requests.append(request)
        return Served(answers)

    monkeypatch.setattr(serving_engine, "serve", serve)
    monkeypatch.setattr(timing, "settle", lambda _: Settled(5.0, 90.0, 85.0, "no, it is hot"))
    config = workload_schema.load(workload_schema.find("qwen3-8b")).model["config"]
    how = {"batches": [1, 8], "length": 1000, "count": 32, "rounds": 3}
    told = list(pace(cpu(0), config, tmp_path, how, 10.0))
    assert any(isinstance(item, Row) and item.cells.get("settled") == "no, it is hot" for item in told)
    found = [item for item in told if isinstance(item, Measurement)]
    figures = {(item.name, *item.labels.values()): item.value for item in found}
    assert figures["start_s",] == 30.0
    assert figures["first_token_ms", "8", "p50"] == 500.0
    assert figures["between_tokens_ms", "8", "p50"] == pytest.approx(10.0)
    assert figures["between_tokens_ms", "8", "p99"] == pytest.approx(20.0)
    assert figures["tokens_per_s", "8", "prefill"] == 16000.0
    assert figures["tokens_per_s", "8", "decode"] == pytest.approx(800.0)
    assert not [key for key in figures if "1" in key], "no round of that batch came"
    written = json.loads((tmp_path / "paced" / "config.json").read_text())
    assert (written["hidden_size"], requests[0]["vocabulary"]) == (4096, 151936)
    assert not (tmp_path / "paced" / "model.safetensors").exists()


def test_the_engines_process_times_each_batch(engine: Any, tmp_path: Path) -> None:
    engine()
    folder = tmp_path / "model"
    published_layout.write(folder, {"vocab_size": 64}, None)
    request = {
        "model": str(folder), "load_format": "dummy", "dtype": "bfloat16", "memory_share": 0.5, "eager": False, "longest": 64,
        "vocabulary": 64, "seed": 0, "batches": [1, 2], "length": 8, "count": 4, "rounds": 2,
    }  # fmt: skip
    found = serving_engine.serve(cpu(0), request, tmp_path, 120.0)
    assert found.problem is None
    assert [len(found.rounds(batch)) for batch in (1, 2, 3)] == [2, 2, 0]
    assert all(one["first_s"] > 0 for one in found.rounds(1))


def test_the_device_alone_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    accelerator = cpu(0)
    monkeypatch.setattr(type(accelerator.stack), "hiding", ("CUDA_VISIBLE_DEVICES",))
    assert serving_engine._environment(accelerator)["CUDA_VISIBLE_DEVICES"] == "4"


def test_published_names_cover_every_weight() -> None:
    for name in ("qwen3-8b", "qwen3-235b-a22b"):
        plan = published_layout.plan(workload_schema.load(workload_schema.find(name)).model["config"])
        assert plan is not None
        model = decoder.build(plan, cpu(0).generator("x"), torch.device("cpu"), torch.bfloat16)
        assert len(dict(published_layout.weights(model))) == len(model.state_dict())
