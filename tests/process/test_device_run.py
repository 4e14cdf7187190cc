"""The prepared run for a lent device: parts in their order, each result on disk, what takes too long ended, the rest named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import device
from benchmarks.device import Part


def python(name: str, code: str, most_s: float = 60.0) -> Part:
    return Part(name, f"part {name}", most_s, lambda _: (sys.executable, "-c", code))


def summary(out: Path) -> dict[str, dict[str, Any]]:
    return {part["name"]: part for part in json.loads((out / "summary.json").read_text())["parts"]}


def test_every_part_is_on_disk_before_the_next_begins(tmp_path: Path) -> None:
    seen = f"import json; d = json.load(open({str(tmp_path / 'summary.json')!r})); print([(p['name'], p['code']) for p in d['parts']])"
    saved = tmp_path / "second.json"
    assessed = {"accelerators": [{"id": "cpu:0", "verdicts": {"training": {"verdict": "ready", "score": 90.0, "ceiling": 95.0}}, "evidence": [
        {"check": "throughput.matmul", "measurements": [{"name": "tflops", "value": 1.5, "unit": "TFLOP/s", "labels": {"dtype": "float32"}}]},
    ]}]}  # fmt: skip
    write = f"open({str(saved)!r}, 'w').write({json.dumps(assessed)!r}); raise SystemExit(3)"
    device._run_all([python("first", "print('hello')"), python("second", write), python("third", seen)], tmp_path, 600.0)
    found = summary(tmp_path)
    assert (found["first"]["code"], found["first"]["lines"]) == (0, ["hello"])
    assert (found["second"]["code"], found["second"]["lines"]) == (
        3, ["cpu:0 training: ready, 90..95", "cpu:0 throughput.matmul tflops dtype=float32: 1.5 TFLOP/s"],
    )  # fmt: skip
    assert found["third"]["lines"] == ["[('first', 0), ('second', 3), ('third', None)]"]
    assert "## second" in (tmp_path / "summary.md").read_text()


def test_a_part_that_takes_too_long_is_ended_and_the_next_one_begins(tmp_path: Path) -> None:
    forever = "print('begun', flush=True); import time; time.sleep(600)"
    device._run_all([python("slow", forever, most_s=3.0), python("next", "pass")], tmp_path, 600.0)
    found = summary(tmp_path)
    assert found["slow"]["code"] is None
    assert found["next"]["code"] == 0


def test_what_there_is_no_time_for_is_named(tmp_path: Path) -> None:
    device._run_all([python("never", "pass")], tmp_path, 0.0)
    (line,) = summary(tmp_path)["never"]["lines"]
    assert line.startswith("not begun")


def test_the_parts_are_commands_of_this_tool() -> None:
    names = [part.name for part in device.parts(("--device", "cpu"), Path("out"))]
    assert names[:4] == ["devices", "timing", "throughput", "model"], "what tells most comes first"
    for part in device.parts(("--device", "cpu"), Path("out")):
        assert part.command(60.0)[0] == sys.executable
