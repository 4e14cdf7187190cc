"""Workload files: what is written is read back, and what nobody should have written is refused with one clear error."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from readiness import check_registry
from readiness.documents import schema
from readiness.errors import BadFileError, Exit, UsageError
from readiness.profile import loader
from readiness.tracing import workload_schema
from readiness.tracing.workload_schema import Call, Form, Named, Phase, Record, Size, Spec, Workload


def workload(*records: Record, **changes: Any) -> Workload:
    given: dict[str, Any] = {
        "name": "test", "title": "A test", "model": {"kind": "Test", "parameters": 3}, "traced": {"device": "meta"},
        "dtype": "bfloat16", "batch": 1, "unit": "positions", "length": 64, "reduced_length": 24, "records": records,
    }  # fmt: skip
    return Workload(**(given | changes))


TOKENS = Form(1, 0, 1, 0)
WIDTH = Form(0, 4096, 0, 128)
MM = Record(
    Call("aten::mm", (Spec("bfloat16", (TOKENS, WIDTH), grad=True), Spec("bfloat16", (WIDTH, 16), (1, WIDTH))), ()),
    {Phase.FORWARD: 36, Phase.PREFILL: 36},
)
COPY = Record(
    Call("aten::_to_copy", (Spec("bfloat16", (TOKENS, 3)),), (("device", Named("device", "model")), ("dtype", Named("dtype", "float32")))),
    {Phase.BACKWARD: 2},
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    told = workload(MM, COPY, not_covered=("triton::mine",))
    file = tmp_path / "test.json.gz"
    file.write_bytes(workload_schema.dumps(told))
    assert workload_schema.load(file) == told
    assert workload_schema.dumps(told) == file.read_bytes()


def test_a_file_is_read_once_for_all_checks_and_anew_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    loads = workload_schema.loads

    def counted(packed: bytes, place: str) -> Workload:
        read.append(place)
        return loads(packed, place)

    monkeypatch.setattr(workload_schema, "loads", counted)
    file = tmp_path / "test.json.gz"
    settings = {"workload": str(file)}
    for records in ((MM,), (MM, COPY)):
        file.write_bytes(workload_schema.dumps(workload(*records)))
        for _ in range(2):
            workload_schema.vet(settings)
    assert len(read) == 2
    file.write_bytes(file.read_bytes()[:-9])
    for _ in range(2):
        with pytest.raises(BadFileError, match="truncated"):
            workload_schema.vet(settings)


def test_a_record_at_other_sizes() -> None:
    at = MM.call.at(Size(10, reduced=False))
    assert at is not None
    assert at.specs() == [Spec("bfloat16", (10, 4096), grad=True), Spec("bfloat16", (4096, 16), (1, 4096))]
    small = MM.call.at(Size(7, reduced=True))
    assert small is not None
    assert small.specs()[0].shape == (7, 128)


def test_a_nonlinear_size_exists_at_its_own_length_only() -> None:
    call = Call("aten::arange", (Form(None, 5, None, 3),), ())
    assert call.at(Size(64, reduced=False, own=True)) == Call("aten::arange", (5,), ())
    assert call.at(Size(63, reduced=False)) is None


@pytest.mark.parametrize("name", workload_schema.names())
def test_shipped_workloads(name: str) -> None:
    file = workload_schema.find(name)
    loaded = workload_schema.load(file)
    assert loaded.name == name
    assert file.stat().st_size < 10_240
    assert workload_schema.dumps(loaded) == file.read_bytes()
    assert loaded.traced["device"] == "meta"
    assert loaded.traced["torch"]
    for record in loaded.records:
        assert record.call.at(loaded.full) is not None, record
    assert {phase for record in loaded.records for phase in record.calls} >= {Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER, Phase.PREFILL}


def test_the_issues_models_are_shipped() -> None:
    wanted = {"qwen3-8b", "qwen3-32b", "qwen3-235b-a22b", "deepseek-v3", "llama-3.1-8b", "vit-large", "dit-xl-2"}
    assert set(workload_schema.names()) == wanted
    parameters = {name: workload_schema.load(workload_schema.find(name)).model["parameters"] for name in wanted}
    assert 8.1e9 < parameters["qwen3-8b"] < 8.3e9
    assert 32e9 < parameters["qwen3-32b"] < 33.5e9
    assert 234e9 < parameters["qwen3-235b-a22b"] < 236e9
    assert 670e9 < parameters["deepseek-v3"] < 672e9
    assert 8.0e9 < parameters["llama-3.1-8b"] < 8.1e9
    assert 0.30e9 < parameters["vit-large"] < 0.31e9
    assert 0.6e9 < parameters["dit-xl-2"] < 0.7e9


def text_of(told: Workload) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(workload_schema.dumps(told)))
    return found


def changed(**changes: Any) -> bytes:
    return gzip.compress(json.dumps(text_of(workload(MM)) | changes).encode())


def record(**changes: Any) -> bytes:
    entry = text_of(workload(MM))["records"][0] | changes
    return changed(records=[entry])


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "truncated|not compressed"),
    "no_gzip": (b"PK\x03\x04 nothing", "not compressed"),
    "cut": (workload_schema.dumps(workload(MM))[:-20], "truncated"),
    "bomb": (gzip.compress(b" " * (2**24 + 10)), "unpacks to more than 16 MiB"),
    "huge": (b"\x1f\x8b" + b"x" * 2**20, "larger than 1024 KiB"),
    "no_text": (gzip.compress(b"\xff\xfe\x00"), "not JSON"),
    "no_json": (gzip.compress(b"{"), "not JSON"),
    "nan": (gzip.compress(b'{"schema": NaN}'), "NaN is not a JSON number"),
    "deep": (gzip.compress(b"[" * 100_000), "nested too deeply|not JSON"),
    "twice": (gzip.compress(b'{"name": 1, "name": 2}'), "occurs twice"),
    "another_schema": (changed(schema="readiness.workload/9"), "schema: 'readiness.workload/1' was expected"),
    "path_as_name": (changed(name="../../etc/passwd"), "name: "),
    "unknown_key": (changed(code="import os"), "'code' was unexpected"),
    "no_records": (changed(records=[]), "records: "),
    "operator_elsewhere": (record(op="os::system"), r"records\[0\].op: "),
    "operator_climbs": (record(op="aten::mm.__globals__.x"), r"records\[0\].op: "),
    "negative_count": (record(calls={"forward": -1}), "forward: -1 is less"),
    "no_phase": (record(calls={"sideways": 1}), "sideways"),
    "negative_size": (record(arguments=[{"tensor": "float32", "shape": [-1]}]), r"records\[0\]: -1 is not a size"),
    "endless_size": (record(arguments=[{"tensor": "float32", "shape": [2**60]}]), r"records\[0\]: 1152921504606846976 is not a size"),
    "size_is_text": (record(arguments=[{"tensor": "float32", "shape": ["x"]}]), r"records\[0\]: x is not a size"),
    "size_is_true": (record(arguments=[{"tensor": "float32", "shape": [True]}]), r"records\[0\]: True is not a size"),
    "strides_missing": (record(arguments=[{"tensor": "float32", "shape": [2, 2], "stride": [1]}]), "as many strides"),
    "no_such_form": (record(arguments=["$99"]), "there is no tensor form"),
    "form_is_no_number": (record(arguments=["$-1"]), "there is no tensor form"),
    "unknown_kind": (record(arguments=[{"eval": "1"}]), "is not an argument"),
    "nested_lists": (record(arguments=[[[[[[[1]]]]]]]), "nested too deeply"),
    "endless_number": (record(arguments=[2**70]), "is not an argument"),
    "slope_is_text": (changed(forms=[["1", 0, 0, 0]]), "forms"),
    "many_dimensions": (record(arguments=[{"tensor": "float32", "shape": [1] * 17}]), "short list"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    packed, message = HOSTILE[name]
    file = tmp_path / "test.json.gz"
    file.write_bytes(packed)
    with pytest.raises(BadFileError, match=f"(?s){message}") as caught:
        workload_schema.load(file)
    assert caught.value.exit_code is Exit.USAGE
    assert caught.value.place == str(file)
    assert caught.value.remedy
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["../deepseek-v3", "deepseek", "", "a/b", "/etc/passwd", "\0"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        workload_schema.find(name)
    assert "deepseek-v3" in str(caught.value.remedy)


PROFILE = (
    'schema = "readiness.profile/1"\nname = "test"\ntitle = "A test"\n[settings."operators.workload"]\nworkload = "{}"\n'
)


@pytest.mark.parametrize(
    ("setting", "message"),
    [("beside:test.json.gz", "truncated"), ("beside:../test.json.gz", "not a file name"), ("beside:other.json.gz", "no such file"),
     ("nothing", "there is no workload")],
)  # fmt: skip
def test_a_profile_is_refused_before_anything_runs(tmp_path: Path, setting: str, message: str) -> None:
    (tmp_path / "test.json.gz").write_bytes(workload_schema.dumps(workload(MM))[:-20])
    (tmp_path / "test.toml").write_text(PROFILE.format(setting))
    with pytest.raises(UsageError, match=message):
        loader.load(str(tmp_path / "test.toml"), check_registry.discover())


def test_a_file_beside_a_profile_is_found_wherever_both_lie(tmp_path: Path) -> None:
    digests = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "test.json.gz").write_bytes(workload_schema.dumps(workload(MM)))
        (folder / "test.toml").write_text(PROFILE.format("beside:test.json.gz"))
        found = loader.load(str(folder / "test.toml"), check_registry.discover())
        assert found.settings["operators.workload"]["workload"] == str(folder / "test.json.gz")
        digests.append(found.sha256)
    assert digests[0] == digests[1]


def test_the_schema_is_published() -> None:
    assert "workload" in schema.NAMES
    assert json.loads(schema.text("workload"))["$id"] == "readiness.workload/1"
