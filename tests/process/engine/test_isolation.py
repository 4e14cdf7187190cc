"""The tool survives what it tests: whatever a check does ends as evidence, in time, and leaves no process behind."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import psutil
import pytest

from readiness.datamodel import Assessment, Decision, Outcome, Status, Use
from readiness.documents.assessment import dumps, from_json, to_json
from readiness.engine import worker_evidence
from readiness.host import cpu_times, memory, runqueue_wait
from readiness.isolation import forkserver, worker_pool
from readiness.isolation.worker_process import Worker
from readiness.missing_evidence import SkipCause
from readiness.rendering import formats
from tests.support.engine import MISBEHAVING, alive, children, evidence_of, run, use_checks, write_profile


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> Assessment:
    """One run of all that misbehaves, except the one that eats memory."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_checks(monkeypatch, MISBEHAVING)
        folder = tmp_path_factory.mktemp("trouble")
        ids = [
            f"trouble.{way}"
            for way in (
                "well", "hangs", "holds_the_lock", "slow_at_first", "segfaults", "prints_rubbish", "exits", "exits_politely",
                "leaves_grandchildren", "raises", "skips", "measures_nothing", "undeclared", "not_a_number", "floods",
                "ignores_signals", "extravagant", "floods_rows",
            )
        ]  # fmt: skip
        settings = {id: {"marker": str(folder / id)} for id in ("trouble.slow_at_first", "trouble.leaves_grandchildren")}
        assessment = run(folder / "run", write_profile(folder / "test.toml", ids, settings=settings))
        pids = " ".join((folder / f"trouble.leaves_grandchildren{end}").read_text() for end in ("", ".daemon"))
        assert alive([int(pid) for pid in pids.split()]) == []
        assert children() == []
        return assessment


@pytest.mark.parametrize(
    ("way", "status", "word"),
    [
        ("well", Status.MEASURED, None),
        ("hangs", Status.TIMEOUT, "not finished within 3 s (a first try had 1 s)"),
        ("holds_the_lock", Status.TIMEOUT, "not finished within 3 s"),
        ("ignores_signals", Status.TIMEOUT, "not finished within 3 s"),
        ("slow_at_first", Status.MEASURED, None),
        ("segfaults", Status.CRASHED, "SIGSEGV"),
        ("prints_rubbish", Status.MEASURED, None),
        ("exits", Status.CRASHED, "code 0 before delivering its evidence"),
        ("exits_politely", Status.ERROR, "SystemExit"),
        ("leaves_grandchildren", Status.MEASURED, None),
        ("raises", Status.ERROR, "RuntimeError: CUDA error: device-side assert triggered"),
        ("skips", Status.SKIPPED, "there is no such thing here"),
        ("measures_nothing", Status.ERROR, "without measuring anything"),
        ("undeclared", Status.ERROR, "'another', which it does not declare"),
        ("not_a_number", Status.MEASURED, None),
        ("floods", Status.ERROR, "more than 10000 measurements"),
        ("floods_rows", Status.ERROR, "more than 32 MiB"),
        ("extravagant", Status.MEASURED, None),
    ],
)
def test_each_way_of_misbehaving_is_evidence(trouble: Assessment, way: str, status: Status, word: str | None) -> None:
    evidence = evidence_of(trouble, f"trouble.{way}")
    assert evidence.status is status, evidence
    assert (evidence.reason is None) if word is None else (word in (evidence.reason or "")), evidence.reason


def test_a_hang_on_a_host_without_a_free_processor_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (runqueue_wait.of_process(os.getpid()) is not None) == runqueue_wait.is_reported()
    monkeypatch.setattr(runqueue_wait, "of_process", lambda _: 2.9)
    use_checks(monkeypatch, MISBEHAVING)
    assessment = run(tmp_path / "run", write_profile(tmp_path / "test.toml", ["trouble.hangs"]))
    evidence = evidence_of(assessment, "trouble.hangs")
    assert (evidence.status, evidence.cause, evidence.attempts) == (Status.SKIPPED, SkipCause.BUSY_HOST, 2)
    assert assessment.accelerators[0].verdicts[Use.TRAINING].decision is Decision.UNDETERMINED


def test_one_odd_check_costs_no_document(trouble: Assessment) -> None:
    document = dumps(to_json(trouble))
    assert len(document) < 20_000_000
    assert from_json(json.loads(document), "here").accelerators[0].findings
    for name in formats.formats():
        assert formats.render(name, trouble)


def test_only_the_first_time_limit_has_a_second_try(trouble: Assessment) -> None:
    assert evidence_of(trouble, "trouble.hangs").attempts == 2
    assert evidence_of(trouble, "trouble.slow_at_first").attempts == 2
    assert evidence_of(trouble, "trouble.segfaults").attempts == 1


def test_evidence_says_what_the_host_did_beside_the_check(trouble: Assessment) -> None:
    evidence = evidence_of(trouble, "trouble.leaves_grandchildren")
    read = from_json(json.loads(dumps(to_json(trouble))), "here")
    assert evidence_of(read, "trouble.leaves_grandchildren").host_load == evidence.host_load
    load = evidence.host_load
    if cpu_times.read() is not None:
        assert load is not None
        assert load.others is not None
        assert load.stolen is not None
        assert 0 <= load.others + load.stolen <= 2
    if runqueue_wait.is_reported():
        assert load is not None
        assert load.waited is not None
    assert evidence_of(trouble, "trouble.hangs").earlier_tries_s > 0
    assert evidence.earlier_tries_s == 0


def test_a_hang_shows_where_it_hung(trouble: Assessment) -> None:
    assert "in hangs" in evidence_of(trouble, "trouble.hangs").log


def test_a_crash_keeps_its_last_words_and_its_signal(trouble: Assessment) -> None:
    evidence = evidence_of(trouble, "trouble.segfaults")
    assert "the last words" in evidence.log
    assert evidence.process["signal"] == "SIGSEGV"


def test_what_was_left_behind_is_counted(trouble: Assessment) -> None:
    assert evidence_of(trouble, "trouble.leaves_grandchildren").process["left_behind"] >= 2
    assert evidence_of(trouble, "trouble.well").process["left_behind"] == 0


def test_printed_rubbish_is_log_not_evidence(trouble: Assessment) -> None:
    evidence = evidence_of(trouble, "trouble.prints_rubbish")
    assert [measurement.value for measurement in evidence.measurements] == [1.0]
    assert "rubbish" in evidence.log or "more" in evidence.log


def test_outcomes_of_what_did_not_measure(trouble: Assessment) -> None:
    """A device that crashes or hangs the check has failed; a check that could not tell leaves it unknown. Nothing passes."""
    findings = {item.check: item for item in trouble.accelerators[0].findings if item.use is Use.TRAINING}
    failed = {"hangs", "holds_the_lock", "ignores_signals", "segfaults", "exits", "not_a_number"}
    passed = {"well", "extravagant", "slow_at_first", "prints_rubbish", "leaves_grandchildren"}
    for id, finding in findings.items():
        way = id.removeprefix("trouble.")
        expected = Outcome.FAIL if way in failed else Outcome.PASS if way in passed else Outcome.UNKNOWN
        assert finding.outcome is expected, finding
    assert math.isnan(float(findings["trouble.not_a_number"].value or 0))
    assert trouble.accelerators[0].verdicts[Use.TRAINING].decision is Decision.NOT_READY


def test_a_check_that_eats_memory_is_ended_and_distinguished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_checks(monkeypatch, MISBEHAVING)
    # As if nobody else took or freed any of this host's meanwhile, as tests beside this one do.
    own = memory.of_group(os.getpid())
    monkeypatch.setattr(memory, "available", lambda: 2**40 + own - memory.of_group(os.getpid()))
    monkeypatch.setattr(memory, "floor", lambda: 2**40 - 2**29)
    profile = write_profile(tmp_path / "test.toml", ["trouble.eats_memory", "trouble.well"])
    assessment = run(tmp_path / "run", profile)
    evidence = evidence_of(assessment, "trouble.eats_memory")
    assert evidence.status is Status.ERROR
    assert "out of memory" in (evidence.reason or "")
    assert evidence_of(assessment, "trouble.well").status is Status.MEASURED
    assert children() == []


def test_the_kernels_kill_is_distinguished_from_another_sigkill(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(1, -1, -1, 1.0, kernel_kills_before=4)
    worker.exit_code = -9
    monkeypatch.setattr(memory, "kernel_kills", lambda: 4)
    assert worker_evidence.describe_end(worker) == "its process was killed from outside by SIGKILL"
    monkeypatch.setattr(memory, "kernel_kills", lambda: 5)
    assert worker_evidence.describe_end(worker).startswith("out of memory: the kernel killed it")


def test_the_death_of_the_prepared_process_costs_one_check(tmp_path: Path) -> None:
    with worker_pool.WorkerPool(preload="readiness.engine.worker") as pool:
        worker = pool.start({"job": "discover", "stack": "cpu"}, fork=True, limit_s=30)
        while not worker.ended:
            pool.poll(0.05)
        assert worker.end is not None
        for child in children():
            child.kill()
        lost = pool.start({"job": "discover", "stack": "cpu"}, fork=True, limit_s=30)
        while not lost.ended:
            pool.poll(0.05)
        again = pool.start({"job": "discover", "stack": "cpu"}, fork=True, limit_s=30)
        while not again.ended:
            pool.poll(0.05)
        assert again.end is not None
    assert children() == []


def test_what_is_preloaded_is_imported_once_and_again_after_a_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "costly_module.py").write_text(f"import os\nopen({str(trace)!r}, 'a').write(f'{{os.getpid()}} ')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    with worker_pool.WorkerPool(preload="readiness.engine.worker") as pool:
        pool.preload(["no_such_module_anywhere"])  # costs nothing but itself
        pool.preload(["costly_module"])

        def work() -> None:
            worker = pool.start({"job": "discover", "stack": "cpu"}, fork=True, limit_s=30)
            while not worker.ended:
                pool.poll(0.05)

        for _ in range(2):
            work()
        (prepared,) = {process.pid for process in children()}
        assert trace.read_text().split() == [str(prepared)]
        for child in children():
            child.kill()
        for _ in range(2):  # the first is lost with it
            work()
        assert len(trace.read_text().split()) == 2
    assert children() == []


def test_importing_ahead_leaves_no_folder_and_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    (tmp_path / "looks_around.py").write_text("import os\nseen = os.environ['TORCHINDUCTOR_CACHE_DIR']\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert forkserver.preload(["looks_around"]) is None
    assert Path(sys.modules.pop("looks_around").seen).is_dir()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/chosen")
    assert forkserver.preload(["looks_around"]) is None
    assert sys.modules.pop("looks_around").seen == os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/chosen"
    assert forkserver.preload(["no_such_module_anywhere", "looks_around"]) == (
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'"
    )
    assert "looks_around" in sys.modules  # one that fails keeps no other from being there


def test_a_device_held_by_an_unkillable_process_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in a driver's hands is given up after a deadline; the device's other checks are skipped, and it is said."""
    use_checks(monkeypatch, MISBEHAVING)
    monkeypatch.setattr(worker_pool, "VANISH_LIMIT_S", 0.5)
    monkeypatch.setattr(worker_pool, "_DUMP_LIMIT_S", 0.0)
    monkeypatch.setattr(worker_pool.WorkerPool, "_send", lambda self, message: None)  # the kill never arrives
    monkeypatch.setattr(worker_pool.WorkerPool, "_kill_directly", lambda self, worker: None)
    profile = write_profile(tmp_path / "test.toml", ["trouble.hangs", "trouble.well"])
    assessment = run(tmp_path / "run", profile, expression="hangs or well")
    hung, well = (evidence_of(assessment, f"trouble.{way}") for way in ("hangs", "well"))
    assert hung.status is Status.TIMEOUT
    assert "cannot be killed" in (hung.reason or "")
    assert well.status is Status.MEASURED or "holds the device" in (well.reason or "")
    _, left = psutil.wait_procs(children(), timeout=60)
    assert left == []
