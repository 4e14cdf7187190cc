"""What a soak keeps on disk: valid at every moment, gone on with, and refused where it is another's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from readiness.errors import BadFileError
from readiness.probes.soak import soak_log
from readiness.probes.soak.soak_log import MOST_SAMPLES, SoakLog, SoakTotals, read, same_soak


def fill(path: Path | None) -> SoakLog:
    kept = SoakLog(path)
    kept.add("begun", chips=["cpu:0"], ranks=2)
    kept.add("session", spent_s=0.0)
    kept.add("rounds", rounds=3, exposure_s=2.5, spent_s=3.0)
    kept.add("fault", cause="died", what="rank 1 went", chips=["cpu:0"], round=3, spent_s=3.5)
    kept.add("recovered", seconds=1.5, spent_s=5.0)
    return kept


def test_what_is_read_back_is_what_was_kept(tmp_path: Path) -> None:
    kept = fill(tmp_path / "soak.jsonl")
    kept.close()
    again = read(tmp_path / "soak.jsonl")
    assert again == kept.totals
    assert (again.rounds, again.exposure_s, again.spent_s, again.count, again.restarts) == (3, 2.5, 5.0, 1, 1)


def test_half_a_line_is_dropped_and_the_next_record_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "soak.jsonl"
    fill(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "rounds", "rounds": 99')
    assert read(path).rounds == 3
    second = SoakLog(path)
    second.add("session", spent_s=5.0)
    second.add("rounds", rounds=2, exposure_s=1.0, spent_s=7.0)
    second.close()
    totals = read(path)
    assert (totals.rounds, totals.exposure_s, totals.sessions) == (5, 3.5, 2)
    assert len(path.read_text().splitlines()) == len(whole.splitlines()) + 2


def test_every_prefix_of_the_file_is_a_valid_account(tmp_path: Path) -> None:
    path = tmp_path / "soak.jsonl"
    fill(path).close()
    whole, exposures = path.read_bytes(), []
    for length in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:length])
        exposures.append(read(path).exposure_s)
    assert exposures == sorted(exposures)


@pytest.mark.parametrize("line", ["nonsense", '{"kind": "rounds"}', "[1]", '{"kind": "fault", "cause": "died"}'])
def test_a_file_of_something_else_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "soak.jsonl"
    fill(path).close()
    with path.open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(BadFileError) as refused:
        read(path)
    assert str(path) in str(refused.value.place)
    assert str(refused.value.place).endswith(":6")


def test_without_a_file_the_account_is_kept_in_memory() -> None:
    assert fill(None).totals.exposure_s == 2.5


def test_a_soak_of_days_has_few_samples_and_few_faults_in_full_and_counts_all() -> None:
    totals = SoakTotals()
    for number in range(20_000):
        totals.add({"kind": "sample", "spent_s": float(number), "round_s": 1.0})
        totals.add({"kind": "fault", "cause": "died", "what": "it", "chips": [], "round": number, "spent_s": number * 100.0})
    assert MOST_SAMPLES / 2 <= len(totals.samples) <= MOST_SAMPLES
    assert totals.samples[0]["spent_s"] == 0
    assert len(totals.faults) == soak_log.MOST_FAULTS
    assert totals.count == totals.events == 20_000


def test_faults_without_end_are_no_single_event() -> None:
    totals = SoakTotals()
    for number in range(121):  # one every half minute for an hour
        totals.add({"kind": "fault", "cause": "died", "what": "it", "chips": [], "round": 0, "spent_s": number * 30.0})
    assert (totals.count, totals.events) == (121, 41)


def test_a_soak_of_other_chips_is_not_gone_on_with() -> None:
    totals = fill(None).totals
    assert same_soak(totals, ["cpu:0"], 2)
    assert not same_soak(totals, ["cpu:1"], 2)
    assert not same_soak(totals, ["cpu:0"], 4)
    assert same_soak(SoakTotals(), ["cpu:7"], 1)


def test_lines_are_json(tmp_path: Path) -> None:
    fill(tmp_path / "soak.jsonl").close()
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "soak.jsonl").read_text().splitlines()]
    assert kinds == ["begun", "session", "rounds", "fault", "recovered"]
