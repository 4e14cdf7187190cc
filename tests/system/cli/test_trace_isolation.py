"""`readiness trace` and models that do what a model must not: end the process, never end, ask the network."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from readiness.cli.trace import trace as hear
from readiness.engine import isolated_call
from readiness.errors import Exit, UsageError
from readiness.isolation.worker_pool import WorkerPool
from tests.support.command_line import readiness
from tests.support.engine import children
from tests.support.paths import ROOT

pytest.importorskip("transformers")

#: A model that names its backbone by a repository, as many published ones do.
BACKBONE = {"model_type": "detr", "backbone": "microsoft/resnet-50", "use_timm_backbone": False}
TINY = {
    "model_type": "gemma", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 100,
}  # fmt: skip
MODELS = """
import ctypes, os, socket, sys, time, urllib.request
import torch
class Odd(BaseException):
    pass
def well(length):
    return torch.nn.Linear(8, 8), torch.zeros(length, 8)
def leaves():
    os._exit(0)
def exits():
    sys.exit(0)
def raises():
    raise Odd("no exception that one expects")
def interrupts():
    raise KeyboardInterrupt
def crashes():
    ctypes.string_at(0)
def never_ends(length):
    return torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(10**9)]), torch.zeros(length, 8)
def hangs():
    ctypes.PyDLL(None).sleep(600)
def nested(length):
    model = torch.nn.Identity()
    for _ in range(5000):
        model = torch.nn.Sequential(model)
    return model, torch.zeros(length, 8)
def forges(length):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b'{"answer": {"answer": {"workload": "AAAA", "config": null}}}\\n')
        except OSError:
            continue
    os._exit(0)
def asks(length):
    urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/asked?token=" + str(os.environ.get("HF_TOKEN"))).read()
    return well(length)
def connects(length):
    address = os.environ["HF_ENDPOINT"].removeprefix("http://").split(":")
    socket.create_connection((address[0], int(address[1]))).sendall(b"GET /connected HTTP/1.0\\r\\n\\r\\n")
    return well(length)
def looks_up(length):
    socket.getaddrinfo("example.invalid", 80)
    return well(length)
"""


def trace(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a user calls it, in a folder with these models in it; what hears a model has torch, and no more."""
    (folder / "models.py").write_text(MODELS)
    with contextlib.chdir(folder):
        return readiness("trace", *arguments, "--length", "8", state=folder, HOME=str(folder), **environment)


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".gz", ".toml"))


WRONG = {
    "leaves": "exit code 0 before", "exits": "it exits the process", "raises": "Odd: no exception that one expects",
    "interrupts": "KeyboardInterrupt", "crashes": "died by SIGSEGV", "nested": "RecursionError",
    "forges": "it cannot be traced",
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with these models in it, which are heard by processes forked from one that has imported torch."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "models.py").write_text(MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        with WorkerPool(preload="torch,readiness.tracing.record_workload,readiness.engine.worker") as pool:
            patch.setattr(isolated_call, "WorkerPool", lambda **_: contextlib.nullcontext(pool))
            yield folder


@pytest.mark.parametrize("model", WRONG)
def test_whatever_a_function_does_is_one_error_and_nothing_is_written(
    models: Path, capfd: pytest.CaptureFixture[str], model: str
) -> None:
    with pytest.raises(UsageError) as caught:
        hear(f"models:{model}", output=models, length=8)
    assert WRONG[model] in str(caught.value)
    assert caught.value.exit_code is Exit.USAGE
    assert caught.value.remedy
    assert (capfd.readouterr().out, written(models)) == ("", [])


@pytest.mark.parametrize("model", ["exits", "forges"])
def test_the_command_reports_it_and_nothing_else(tmp_path: Path, model: str) -> None:
    result = trace(tmp_path, f"models:{model}")
    assert result.returncode == Exit.USAGE, result
    assert (result.stdout, written(tmp_path)) == ("", [])
    assert WRONG[model] in result.stderr
    assert "remedy:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("model", ["never_ends", "hangs"])
def test_what_never_ends_is_ended(models: Path, model: str) -> None:
    """In time, whatever it was at by then."""
    before = children()
    with pytest.raises(UsageError, match="not finished within 3 s") as caught:
        hear(f"models:{model}", output=models, length=8, timeout="3s")
    assert "--timeout" in (caught.value.remedy or "")
    assert (written(models), children()) == ([], before)


class Hub(http.server.ThreadingHTTPServer):
    """Listens on loopback, and remembers who asked for what with which token."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None]] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.requests.append((self.path, self.headers.get("authorization")))
                self.send_error(404)

            do_HEAD = do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def environment(self) -> dict[str, str]:
        """What leads a user's libraries here, with a token in a variable."""
        return {"HF_ENDPOINT": f"http://127.0.0.1:{self.server_port}", "HF_TOKEN": "hf_of_a_variable", "NO_PROXY": "*"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a token in a file."""
    token = tmp_path / ".cache" / "huggingface" / "token"
    token.parent.mkdir(parents=True)
    token.write_text("hf_of_a_file")
    return tmp_path


@pytest.mark.timeout(600)
def test_the_listener_receives_the_librarys_request_and_token(home: Path, hub: Hub) -> None:
    """Without which the next test would prove nothing."""
    code = (
        "import contextlib, os\n"
        "from transformers import AutoConfig\n"
        "for _ in range(2):\n"
        "    with contextlib.suppress(Exception):\n"
        f"        AutoConfig.for_model(**{BACKBONE!r})\n"
        "    os.environ.pop('HF_TOKEN', None)\n"  # then the one of the file is sent
    )
    environment = os.environ | hub.environment | {"HOME": str(home)}
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False, timeout=200)
    for token in ("variable", "file"):
        assert any(f"hf_of_a_{token}" in str(authorization) for _, authorization in hub.requests), hub.requests


def test_a_configuration_with_a_backbone_opens_no_connection(home: Path, hub: Hub) -> None:
    (home / "detr.json").write_text(json.dumps(BACKBONE))
    result = trace(home, "detr.json", **hub.environment)
    assert result.returncode == Exit.USAGE, result
    assert hub.requests == []
    assert "the network is not used: include what it refers to" in result.stderr
    assert written(home) == []


def test_a_configuration_without_names_opens_no_connection(home: Path, hub: Hub) -> None:
    (home / "tiny.json").write_text(json.dumps(TINY))
    result = trace(home, "tiny.json", **hub.environment)
    assert result.returncode == Exit.READY, result
    assert (hub.requests, written(home)) == ([], ["tiny.json.gz", "tiny.toml"])


@pytest.mark.parametrize("model", ["asks", "connects", "looks_up"])
def test_a_function_opens_no_connection(home: Path, hub: Hub, model: str) -> None:
    result = trace(home, f"models:{model}", **hub.environment)
    assert result.returncode == Exit.USAGE, result
    assert hub.requests == []
    assert "the network is not used while a model is traced" in result.stderr


@pytest.mark.timeout(600)
def test_it_works_without_any_network(home: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network can be taken away here")
    for name, config in (("tiny", TINY), ("detr", BACKBONE)):
        (home / f"{name}.json").write_text(json.dumps(config))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(home), "HOME": str(home)}
    for name, code in (("tiny", Exit.READY), ("detr", Exit.USAGE)):
        result = subprocess.run(
            ["unshare", "-rn", sys.executable, "-m", "readiness", "trace", f"{name}.json", "--length", "8"], cwd=home,
            env=environment, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
        assert result.returncode == code, result


def test_tokens_are_taken_from_the_process_before_anything_is_imported() -> None:
    code = (
        "import os, sys; from readiness.tracing.offline import go_offline; go_offline(); "
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules); "
        "import huggingface_hub as hub; from huggingface_hub import constants; "
        "print(hub.get_token(), constants.HF_HUB_OFFLINE, constants.HF_TOKEN_PATH, "
        "[name for name in os.environ if 'TOKEN' in name and not name.endswith('PATH') and 'DISABLE' not in name and 'HF' in name])"
    )
    variables = dict.fromkeys(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN", "HF_API_TOKEN"), "hf_secret")
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == ["None", "True", os.devnull, "[]"], result


def test_sockets_of_this_machine_are_let_be() -> None:
    code = (
        "import socket, tempfile; from readiness.tracing.offline import go_offline; go_offline(); "
        "one, other = socket.socketpair(); one.sendall(b'x'); assert other.recv(1) == b'x'; "
        "name = tempfile.mktemp(); server = socket.socket(socket.AF_UNIX); server.bind(name); server.listen(); "
        "socket.socket(socket.AF_UNIX).connect(name); print('well')"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert result.stdout == "well\n", result


def test_a_name_that_is_too_long_is_refused_before_anything_starts(tmp_path: Path) -> None:
    result = readiness("trace", "m" * 120_000 + ":f", state=tmp_path)
    assert result.returncode == Exit.USAGE
    assert "longer than 4096 characters" in result.stderr
