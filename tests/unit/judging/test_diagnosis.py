"""The diagnosis: every single planted defect comes out as one group that names it.

`tests/resources/planted_defects.json.gz` holds what the checks that claim each shipped seeded fault measured on the simulated
chip that has it (findings that failed, and the rows behind them), under `general` with a short list of operators for
operators.sweep; `python -m tests.process.rehearsal.recordings` writes it. Left out is what the CPU of that host failed itself.
Faults that nothing failed for are not in it.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from readiness.datamodel import (
    AcceleratorAssessment,
    AcceleratorFacts,
    Assessment,
    Basis,
    Evidence,
    Finding,
    Level,
    Measurement,
    Outcome,
    Status,
    Use,
    Verdict,
    Waiver,
)
from readiness.documents import schema
from readiness.documents.assessment import evidence_from_json, from_json, to_json
from readiness.documents.findings_json import diagnosis_to_json, finding_from_json
from readiness.judging import diagnosis_rules as rules
from readiness.judging.diagnosis import diagnose, unexplained
from readiness.judging.verdict import decide
from readiness.simulator.machine_file import names
from tests.support import saved

RESOURCES = Path(__file__).parent.parent.parent / "resources"

#: Of each planted chip: the rule that must find it, and what the sentence must name.
EXPECTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "after-30-s": ("drifts-under-load", ("gelu", "after 26.")),
    "bit-flip": ("drifts-under-load", ("matmul",)),
    "checkpoint-corrupt": ("checkpoint", ("parameter embedding.weight",)),
    "checkpoint-loses-state": ("checkpoint", ("exp_avg_sq of head.weight on rank 1 (sim:1)",)),
    "collective-corrupt": ("collective-wrong", ("all_reduce",)),
    "collective-corrupt-rare": ("collective-wrong", ("all_reduce",)),
    "collective-mismatch": ("collective-wrong", ("all_reduce",)),
    "counter": ("fault-counters", ("uncorrected",)),
    "cpu-fallback": ("operator-on-host", ("sort", "index_put")),
    "crash": ("operator-crashes", ("linalg.svd",)),
    "device-lost": ("operator-crashes", ("softmax", "bfloat16")),
    "dtype-unsupported": ("operator-missing", ("sum", "bfloat16")),
    "flush-denormals": ("special-values", ("subnormal", "as a factor")),
    "hang": ("rank-lost", ("all_reduce number 20", "rank 1")),
    "hang-kernel": ("check-hangs", ("operators.sweep", "no end within")),
    "ignore-argument": ("operator-wrong", ("std", "var")),
    "ignore-offset": ("operator-wrong", ("softmax", "where inputs begin at an offset")),
    "ignore-strides": ("operator-wrong", ("matmul", "bmm")),
    "late-error": ("operator-missing", ("topk",)),
    "late-error-lost": ("operator-wrong", ("cumsum",)),
    "leak": ("memory-leak", ("device memory",)),
    "leak-saving": ("memory-leak", ("each save of 8 MiB keeps 8 MiB of the host's memory",)),
    "link-corrupt": ("collective-wrong", ("send_recv", "rank 1 (sim:1), rank 2 (sim:2)")),
    "link-errors": ("fault-counters", ("link_errors of sim:1 rose by 3",)),
    "link-flap": ("link-interrupted", ("rank 0 (sim:0), rank 1 (sim:1) took 2 s",)),
    "low-precision": ("operator-wrong", ("matmul", "float32")),
    "missing": ("operator-missing", ("where", "var", "std", "cumprod")),
    "nan": ("operator-nan", ("attention", "in gradients")),
    "narrow-sums": ("operator-wrong", ("matmul", "bfloat16")),
    "one-dtype-one-layout": ("operator-wrong", ("softmax", "in bfloat16 where inputs are strided")),
    "one-element": ("operator-wrong", ("matmul",)),
    "one-of-four": ("whole-model", ("float32",)),
    "oom-sticky": ("out-of-memory", ("after it ran out of memory",)),
    "other-random": ("random", ("dropout of block 0",)),
    "raise": ("operator-missing", ("bmm", "baddbmm", "bfloat16")),
    "rank-exit": ("rank-lost", ("rank 1 (sim:1) to blame",)),
    "rounded-result": ("operator-wrong", ("matmul", "float32")),
    "saturate": ("special-values", ("overflow",)),
    "send-corrupt": ("collective-wrong", ("what rank 2 (sim:2) sends arrives wrong",)),
    "slow": ("operator-slow", ("matmul",)),
    "slow-copies": ("copies-slow", ("pinned memory to device",)),
    "small-groups-slow": ("link-slow", ("GB/s",)),
    "stale-read": ("order", ("a stream waits for another's event",)),
    "straggler": ("straggler", ("rank 2 (sim:2)",)),
    "sum-for-mean": ("collective-wrong", ("all_reduce_avg",)),
    "throttle": ("throttles", ("from 11 to 16 s",)),
    "timeout-ignored": ("drill", ("did not notify rank 0",)),
    "unwritten": ("operator-wrong", ("15 operators",)),
    "version": ("versions", ("driver is 0.9.0, driver_library is 1.0.0",)),
    "wrong-dtype": ("operator-wrong", ("add", "bfloat16")),
    "wrong-gradient": ("operator-wrong", ("layer_norm gives wrong gradients",)),
    "wrong-operator": ("operator-wrong", ("fmod",)),
    "wrong-random": ("random", ("distribution",)),
    "wrong-result": ("operator-wrong", ("fmod",)),
    "wrong-shape": ("operator-wrong", ("sum",)),
    "wrong-tail": ("operator-wrong", ("matmul",)),
    "zero-result": ("operator-wrong", ("pad.reflect", "gradients")),
    # planted later
    "channels-last": ("operator-wrong", ("conv2d", "gradients", "channels_last")),
    "counter-under-load": ("faults-under-load", ("load (corrected)",)),
    "dlpack-offset": ("exchange", ("DLPack", "from the middle")),
    "expanded-gradient": ("operator-wrong", ("layer_norm and silu", "where the incoming gradient is expanded")),
    "health": ("device-health", ("8C03A000",)),
    "kernel-log": ("kernel-log", ("fallen off the bus",)),
    "leak-by-shape": ("memory-leak", ("new lengths",)),
    "less-memory": ("memory-short", ("0.4375 of 0.5 GiB",)),
    "link-slow": ("link-slow", ("rank 1 (sim:1), rank 2 (sim:2)",)),
    "memory-kept": ("processes", ("memory of a killed process",)),
    "nan-skipped": ("operator-wrong", ("amax", "where inputs hold NaN")),
    "narrow-integers": ("operator-wrong", ("cumsum, gather, index_select and sort", "int64", "extreme whole numbers")),
    "position-dependent": ("operator-wrong", ("tanh",)),
    "several-bits": ("drifts-under-load", ("matmul",)),
    "shared-device": ("processes", ("31 of 31 results were wrong",)),
    "silent-failure": ("errors-lost", ("gather", "embedding")),
    "slow-while-exchanging": ("straggler", ("rank 2 (sim:2)", "a product of width 256")),
    "wedged-after-kill": ("processes", ("still waits for a process that has ended",)),
    "wrong-autocast": ("autocast", ("matmul", "linear")),
    "wrong-figure": ("figures-wrong", ("memory", "driver")),
    "wrong-layout": ("operator-wrong", ("clone, to and zeros_like", "where inputs are strided")),
    "wrong-order": ("collective-wrong", ("all_gather",)),
    "wrong-ties": ("operator-wrong", ("sort",)),
    "wrong-timer": ("figures-wrong", ("count 0.5 of the time",)),
    # planted last
    "alpha-beyond-tile": ("operator-wrong", ("addmm", "baddbmm", "float32")),
    "beta-zero": ("operator-nan", ("addmm", "baddbmm")),
    "conjugate": ("operator-wrong", ("bmm", "complex64")),
    "converting-copy": ("copies-wrong", ("bfloat16 to float32", "to host")),
    "copy-between-views": ("copies-wrong", ("on device",)),
    "deterministic-mode": ("operator-wrong", ("index_add, scatter_add and cumsum", "in deterministic mode")),
    "float16": ("operator-wrong", ("6 operators", "in float16")),
    "infinite": ("operator-nan", ("softmax", "log_softmax")),
    "large-sort": ("operator-wrong", ("sort gives wrong results in float32",)),
    "leak-by-number": ("memory-leak", ("new numbers",)),
    "list-of-tensors": ("operator-wrong", ("_foreach_norm",)),
    "management-library": ("device-health", ("power", "6553.5")),
    "many-tensors": ("operator-wrong", ("cat and 1 operator made of it",)),
    "one-rank": ("collective-wrong", ("broadcast", "rank 1 (sim:1)")),
    "overwritten-input": ("operator-wrong", ("tanh", "where inputs are strided")),
    "packed-weights": ("execution", ("product of 1 rows",)),
    "random-parameters": ("operator-wrong", ("normal",)),
    "running-statistics": ("operator-wrong", ("batch_norm",)),
    "second-dtype": ("operator-wrong", ("add, mul and sub", "beside a number of another dtype")),
    "stale-replay": ("execution", ("replay 1",)),
    "value-range": ("operator-wrong", ("hardswish",)),
    "wide-indices": ("operator-wrong", ("gather", "index_select")),
    "wrong-compiled": ("execution", ("step 3",)),
}
#: A defect once in a thousand calls, which a whole load meets (stability.load in a rehearsal) and the short one of a recording
#: does not; one that is told from the host's own slowness on a quiet host alone; one of two operators, which has a test below.
UNSEEN = {"once-in-a-thousand", "slower-by-15-percent", "nondeterministic"}


@cache
def planted() -> dict[str, Any]:
    return dict(json.loads(gzip.decompress((RESOURCES / "planted_defects.json.gz").read_bytes())))


def chip(*faults: str) -> Assessment:
    """The chip, or a chip with the defects of several, whose requirements must differ."""
    documents = [planted()[fault] for fault in faults]
    items = []
    for number, id in enumerate(one["id"] for one in documents[0]["accelerators"]):
        parts = [document["accelerators"][number] for document in documents]
        findings = tuple(finding_from_json(finding) for part in parts for finding in part["findings"])
        evidence = tuple(evidence_from_json(piece) for part in parts for piece in part["evidence"])
        items.append(accelerator(id, findings, evidence))
    demands = {"uses": list(Use), "settings": {}, "require": [entry for one in documents for entry in one["require"]]}
    return assessment(*items, basis=Basis(demands, {}))


def accelerator(id: str, findings: tuple[Finding, ...], evidence: tuple[Evidence, ...]) -> AcceleratorAssessment:
    facts = AcceleratorFacts(id, "sim", int(id.partition(":")[2]), "sim", "Acme", "A1")
    verdicts: dict[Use, Verdict] = {use: decide([finding for finding in findings if finding.use is use]) for use in Use}
    return AcceleratorAssessment(facts, evidence, findings, verdicts)


def assessment(*items: AcceleratorAssessment, basis: Basis | None = None) -> Assessment:
    return Assessment("1", 7, "2026-11-30T10:00:00Z", 1.0, {}, "p", "p", "", tuple(Use), items, basis=basis)


def failed(requirement: str, check: str = "family.topic", measure: str = "error", **changes: Any) -> Finding:
    made = Finding(requirement, Use.TRAINING, Level.MUST, Outcome.FAIL, "at_most 1", 1.0, check, measure, value=2.0, unit="1")
    return replace(made, **changes)


def test_every_shipped_fault_is_expected_or_known_to_be_unseen() -> None:
    shipped = {name for name, file in names().items() if file.parent.name == "seeded_faults"}
    assert shipped - UNSEEN == set(EXPECTED) & shipped
    assert set(EXPECTED) <= set(planted())


@pytest.mark.parametrize("fault", EXPECTED)
def test_a_single_planted_defect_is_one_group_that_names_it(fault: str) -> None:
    rule, words = EXPECTED[fault]
    made = chip(fault)
    found = diagnose(made)
    assert [one.rule for one in found] == [rule], [one.sentence for one in found]
    for word in words:
        assert word in found[0].sentence
    assert unexplained(made, found) == ()
    findings = [finding for item in made.accelerators for finding in item.findings if finding.level is not Level.INFO]
    assert set(found[0].requirements) == {finding.requirement for finding in findings}
    blocked = {finding.use for item in made.accelerators for finding in item.findings if finding.level is Level.MUST}
    assert set(found[0].stops) == blocked


def test_a_defect_of_two_operators_that_nothing_connects_is_a_group_for_each() -> None:
    found = diagnose(chip("nondeterministic"))  # of mm, and of the backward of native_layer_norm
    assert [(one.rule, one.sentence.split(" ")[0]) for one in found] == [
        ("operator-nondeterministic", "matmul"), ("operator-wrong", "layer_norm"),
    ]  # fmt: skip


def test_faults_reported_by_the_vendor_are_one_group() -> None:
    rows = ({"phase": "work", "counter": "corrected", "rise": 17700}, {"phase": "idle", "counter": "corrected", "rise": 0})
    evidence = (Evidence("driver.health", Status.MEASURED), Evidence("driver.under_load", Status.MEASURED, rows=rows))
    findings = (
        failed("fatal", "driver.health", "fatal_faults", reason="8C03A000: reset the device"),
        failed("reset", "driver.health", "faults", reason="8C03A000: reset the device", labels={"action": "reset-device"}),
        failed("load", "driver.under_load", "errors_per_s", labels={"kind": "corrected", "phase": "work"}),
    )  # fmt: skip
    found = diagnose(assessment(accelerator("sim:0", findings, evidence)))
    assert [(one.rule, len(one.requirements)) for one in found] == [("device-health", 2), ("faults-under-load", 1)]
    assert found[0].sentence.endswith("faulty: 8C03A000: reset the device.")
    assert found[1].sentence.endswith("works: work (corrected).")


def test_a_slow_link_is_one_group_that_names_it() -> None:
    about = "the link between rank 1 (sim:1), rank 2 (sim:2): 0.4 GB/s at best, where 0.9 GB/s is usual"
    findings = tuple(
        failed(measure, "multichip.links", measure, reason=about) for measure in ("slowest_link_share", "link_gbps")
    )
    found = diagnose(assessment(accelerator("sim:0", findings, (Evidence("multichip.links", Status.MEASURED),))))
    assert [(one.rule, len(one.requirements)) for one in found] == [("link-slow", 2)]
    assert about in found[0].sentence


def test_a_defect_of_one_chip_of_four_is_attributed_to_that_chip() -> None:
    assert diagnose(chip("one-of-four"))[0].accelerators == ("sim:2",)


@pytest.mark.parametrize(
    "faults", [("nan", "missing", "version"), ("one-dtype-one-layout", "checkpoint-corrupt", "counter"), ("leak", "oom-sticky", "wrong-random")]
)
def test_a_chip_with_three_defects_has_three_groups_the_one_that_explains_most_first(faults: tuple[str, ...]) -> None:
    made = chip(*faults)
    merged: dict[tuple[str, Use], Finding] = {}
    for item in made.accelerators:  # two defects may fail one requirement: the judge knows the worst of both
        for finding in item.findings:
            merged.setdefault((finding.requirement, finding.use), finding)
    by_check: dict[str, Evidence] = {}
    for piece in made.accelerators[0].evidence:
        before = by_check.get(piece.check, replace(piece, rows=(), measurements=()))
        by_check[piece.check] = replace(piece, rows=before.rows + piece.rows, measurements=before.measurements + piece.measurements)
    both = accelerator("sim:0", tuple(merged.values()), tuple(by_check.values()))
    found = diagnose(assessment(both, basis=made.basis))
    assert {one.rule for one in found} == {EXPECTED[fault][0] for fault in faults}
    assert len(found) == 3
    sizes = [(len(one.blockers), len(one.requirements)) for one in found]
    assert sizes == sorted(sizes, reverse=True)


def test_what_no_rule_explains_stays_listed() -> None:
    item = accelerator("sim:0", (failed("own"), failed("soft", level=Level.SHOULD)), (Evidence("family.topic", Status.MEASURED),))
    made = assessment(item)
    assert diagnose(made) == ()
    assert unexplained(made, ()) == ("own", "soft")


def test_what_is_waived_passed_unknown_or_for_information_is_no_defect() -> None:
    waiver = Waiver("a", "*", "Known.", "Ada", "2027-01-31")
    findings = (
        failed("a", "driver.stack", "inconsistencies", waived=waiver), failed("b", "driver.stack", "inconsistencies", level=Level.INFO),
        failed("c", "driver.stack", "inconsistencies", outcome=Outcome.UNKNOWN, value=None),
        failed("d", "driver.stack", "inconsistencies", outcome=Outcome.PASS),
    )  # fmt: skip
    assert diagnose(assessment(accelerator("sim:0", findings, ()))) == ()


def test_a_crashed_check_is_reported_and_no_operator_is_guessed() -> None:
    crashed = Evidence("parity.matmul", Status.CRASHED, reason="its process died by SIGSEGV")
    finding = failed("a", "parity.matmul", "bound_ratio", value=None, reason=f"parity.matmul did not finish: {crashed.reason}")
    found = diagnose(assessment(accelerator("sim:0", (finding,), (crashed,))))
    assert [one.rule for one in found] == ["check-crashed"]
    assert found[0].sentence == "The process dies in parity.matmul: its process died by SIGSEGV."


def test_accelerators_of_another_model_have_a_diagnosis_of_their_own() -> None:
    finding = failed("a", "driver.stack", "inconsistencies", reason="old driver")
    items = [accelerator(f"sim:{number}", (finding,), ()) for number in range(3)]
    items[2] = replace(items[2], facts=replace(items[2].facts, model="Another"))
    found = diagnose(assessment(*items))
    assert sorted(one.accelerators for one in found) == [("sim:0", "sim:1"), ("sim:2",)]


def test_rows_that_are_not_what_a_check_writes_do_no_harm() -> None:
    rows: tuple[dict[str, Any], ...] = (
        {"operator": 7, "outcome": ["wrong"]}, {"operator": "mm", "outcome": "wrong", "dtype": None, "detail": {"a": 1}}, {},
        {"on the host": 3}, {"bound_ratio": "Infinity", "op": ["x"], "case": None}, {"correct": False},
    )  # fmt: skip
    findings = tuple(
        failed(f"{check}-{measure}", check, measure, labels={"dtype": "float32"})
        for check in ("operators.sweep", "stability.pace", "parity.special_values", "parity.matmul")
        for measure in ("forward_coverage", "fallbacks", "violations", "bound_ratio")
    )
    evidence = tuple(Evidence(check, Status.MEASURED, rows=rows) for check in {finding.check for finding in findings})
    diagnose(assessment(accelerator("sim:0", findings, evidence)))


def test_it_stands_in_the_document_and_an_old_document_without_it_still_reads(tmp_path: Path) -> None:
    document = to_json(saved.small(tmp_path))
    assert document["diagnosis"] == [diagnosis_to_json(one) for one in diagnose(saved.small(tmp_path))]
    found = [diagnosis_to_json(one) for fault in EXPECTED for one in diagnose(chip(fault))]
    assert schema.first_problem("assessment", document | {"diagnosis": found}) is None
    assert schema.first_problem("assessment", document | {"diagnosis": [{"rule": "x"}]}) is not None
    del document["diagnosis"]
    assert to_json(from_json(document, "here")) == to_json(saved.small(tmp_path))


def test_rules_have_unique_ids_and_remedies() -> None:
    ids = [rule.id for rule in (*rules.OPERATOR_RULES, *rules.RULES)]
    assert len(set(ids)) == len(ids)
    for rule in (*rules.OPERATOR_RULES, *rules.RULES):
        assert rule.remedy.endswith(".")
        assert not rule.sentence.endswith(".")




def operator_findings(*entries: tuple[str, str, str, str, dict[str, str], float]) -> AcceleratorAssessment:
    """A chip whose checks failed: requirement, check, measure, use, labels and value of each."""
    found: list[Finding] = []
    pieces: dict[str, Evidence] = {}
    for requirement, check, measure, use, labels, value in entries:
        found.append(failed(requirement, check, measure, labels=labels, value=value, use=Use(use)))
        piece = pieces.get(check, Evidence(check, Status.MEASURED))
        pieces[check] = replace(piece, measurements=(*piece.measurements, Measurement(measure, value, labels)))
    return accelerator("sim:0", tuple(found), tuple(pieces.values()))


def test_what_fails_in_gradients_alone_explains_no_failure_of_serving() -> None:
    lacking = {"op": "layer_norm", "dtype": "float32", "phase": "parameters"}
    item = operator_findings(
        ("norms", "parity.normalisation", "supported", "training", lacking, 0.0),
        ("curve", "parity.training", "loss_difference", "training", {"dtype": "float32"}, 1.0),
        ("logits", "parity.inference", "logit_error", "inference", {"dtype": "float32"}, 1.0),
    )
    found = {one.rule: one for one in diagnose(assessment(item))}
    assert found["operator-missing"].requirements == ("curve", "norms")
    assert found["operator-missing"].stops == (Use.TRAINING,)
    assert [one.requirements for rule, one in found.items() if rule != "operator-missing"] == [("logits",)]


def test_an_operator_that_varies_and_is_wrong_is_called_both_and_explains_what_a_wrong_one_does() -> None:
    labels = {"op": "matmul", "dtype": "float32"}
    item = operator_findings(
        ("repeats", "parity.determinism", "distinct_results", "training", labels, 10.0),
        ("right", "parity.matmul", "bound_ratio", "training", {**labels, "phase": "forward"}, 1e5),
        ("logits", "parity.inference", "logit_error", "training", {"dtype": "float32"}, 1.0),
    )
    (only,) = diagnose(assessment(item))
    assert only.sentence == "matmul gives wrong results, and other ones for equal inputs in float32."
    assert only.requirements == ("logits", "repeats", "right")
    alone = operator_findings(("repeats", "parity.determinism", "distinct_results", "training", labels, 10.0))
    assert diagnose(assessment(alone))[0].sentence == "matmul gives other bits for equal inputs in float32."
