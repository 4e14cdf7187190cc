"""Assessments for tests of reports: small ones, and one in which every situation occurs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from readiness.datamodel import (
    AcceleratorAssessment,
    AcceleratorFacts,
    Action,
    Assessment,
    Decision,
    Evidence,
    Finding,
    Level,
    Measurement,
    Outcome,
    Remedy,
    Status,
    Use,
    Verdict,
    Waiver,
)
from readiness.missing_evidence import SkipCause

BOTH = (Use.TRAINING, Use.INFERENCE)


def facts(id: str = "cuda:0", **changes: Any) -> AcceleratorFacts:
    """An accelerator with a stack of two components."""
    kind, _, index = id.partition(":")
    base = AcceleratorFacts(
        id=id,
        kind=kind,
        index=int(index or 0),
        stack=kind,
        vendor="Acme",
        model="Acme A1 Ultra",
        serial=f"SN-{index}",
        memory_bytes=96 * 2**30,
        software={"torch": "2.9.1", "driver": "570.86.15", "firmware": None},
        properties={"compute_units": 132},
        counters={"ecc": 0},
    )
    return replace(base, **changes)


def finding(requirement: str, use: Use = Use.TRAINING, **changes: Any) -> Finding:
    """A passed must on matrix products."""
    base = Finding(
        requirement=requirement,
        use=use,
        level=Level.MUST,
        outcome=Outcome.PASS,
        limit="at_most 0.01",
        weight=3.0,
        check="parity.matmul",
        measure="relative_error",
        labels={"dtype": "bfloat16"},
        value=0.004,
        unit="1",
        earned=1.0,
        why="A matrix unit that rounds wrongly trains a wrong model without any error.",
    )
    return replace(base, **changes)


def failed(requirement: str, use: Use = Use.TRAINING, **changes: Any) -> Finding:
    """A failed must with its remedy."""
    changes = {
        "outcome": Outcome.FAIL,
        "value": 0.031,
        "earned": 0.0,
        "remedy": Remedy(f"Update the compiler that {requirement} depends on.", Action.UPDATE_SOFTWARE),
    } | changes
    return finding(requirement, use, **changes)


def unknown(requirement: str, use: Use = Use.TRAINING, **changes: Any) -> Finding:
    """A must of which nothing is known."""
    changes = {
        "outcome": Outcome.UNKNOWN,
        "value": None,
        "earned": 0.0,
        "reason": "multichip.collectives: it needs two accelerators and there is one",
        "check": "multichip.collectives",
        "measure": "errors",
        "limit": "at_most 0",
        "labels": {},
        "remedy": Remedy("Run on a machine with at least two accelerators.", Action.ADD_HARDWARE),
    } | changes
    return finding(requirement, use, **changes)


def waiver(requirement: str, until: str = "2027-01-31") -> Waiver:
    """Somebody's decision."""
    return Waiver(requirement, "cuda:*", "The model does not use it.", "Ada Lovelace", until)


def evidence(check: str = "parity.matmul", **changes: Any) -> Evidence:
    """A check that measured three figures, one of them not finite."""
    base = Evidence(
        check=check,
        status=Status.MEASURED,
        seconds=12.345,
        measurements=(
            Measurement("relative_error", 0.031, {"dtype": "bfloat16"}, "1", 0.001, 5),
            Measurement("worst", float("nan"), {"dtype": "float16"}, "1"),
            Measurement("supported", True, {}, "1"),
        ),
        rows=({"size": 1024, "error": 0.031, "ok": False, "why": None},),
        settings={"sizes": [64, 1024]},
        environment={"OMP_NUM_THREADS": "1"},
        process={"exit_code": 0, "peak_memory_bytes": 123},
        log="warming up\n",
    )
    return replace(base, **changes)


def left_out(check: str, cause: SkipCause) -> Evidence:
    """A check that whoever started the run left out."""
    reason = f"left out by {cause.option}"
    return Evidence(check, Status.SKIPPED, reason=reason, attempts=0, cause=cause)


def verdict(findings: tuple[Finding, ...], score: float = 61.2, ceiling: float = 97.5) -> Verdict:
    """A verdict that fits the findings of one use."""

    def ids(level: Level | None, outcome: Outcome) -> tuple[str, ...]:
        return tuple(
            sorted(
                entry.requirement
                for entry in findings
                if level in (None, entry.level) and entry.outcome is outcome and entry.waived is None
            )
        )

    blockers, open_musts = ids(Level.MUST, Outcome.FAIL), ids(Level.MUST, Outcome.UNKNOWN)
    decision = Decision.NOT_READY if blockers else Decision.UNDETERMINED if open_musts else Decision.READY
    return Verdict(decision, score, ceiling, blockers, ids(Level.SHOULD, Outcome.FAIL), ids(None, Outcome.UNKNOWN))


def accelerator(
    findings: tuple[Finding, ...],
    evidence_: tuple[Evidence, ...] | None = None,
    uses: tuple[Use, ...] = BOTH,
    facts_: AcceleratorFacts | None = None,
    **scores: float,
) -> AcceleratorAssessment:
    """Findings with the verdicts that follow from them."""
    return AcceleratorAssessment(
        facts=facts_ or facts(),
        evidence=(evidence(),) if evidence_ is None else evidence_,
        findings=findings,
        verdicts={use: verdict(tuple(entry for entry in findings if entry.use is use), **scores) for use in uses},
    )


def assessment(*accelerators: AcceleratorAssessment, **changes: Any) -> Assessment:
    """A run under the profile `general`."""
    base = Assessment(
        version="0.1.0",
        seed=7,
        started="2026-11-23T10:00:00Z",
        seconds=41.8,
        host={"name": "node-17", "platform": "Linux", "memory_bytes": 2**40},
        profile_name="general",
        profile_title="What any training and any inference needs",
        profile_sha256="0" * 64,
        uses=BOTH,
        accelerators=accelerators,
    )
    return replace(base, **changes)


def on(uses: tuple[Use, ...], make: Any, requirement: str, **changes: Any) -> tuple[Finding, ...]:
    """The same finding for several uses."""
    return tuple(make(requirement, use, **changes) for use in uses)


def everything() -> Assessment:
    """Two accelerators; on the first one every kind of finding and every status of a check occurs."""
    lost = "parity.attention did not finish: it had not ended after 60 s, nor after 180 s at the second try"
    findings = (
        *on(BOTH, finding, "matmul-float32", labels={"dtype": "float32"}),
        *on(BOTH, failed, "matmul-bfloat16", weight=5.0),
        failed(
            "backward-coverage", check="operators.workload", measure="backward_coverage", value=0.99999,
            limit="at_least 1", weight=9.0,
        ),
        *on(BOTH, failed, "attention", value=None, reason=lost, check="parity.attention", labels={"dtype": "bfloat16"}),
        failed("copy-bandwidth", Use.INFERENCE, level=Level.SHOULD, check="throughput.copy", measure="bandwidth_gbps",
               value=11.5, unit="GB/s", limit="at_least 20", labels={"direction": "host to device"}, earned=0.4),
        failed("old-waiver", level=Level.SHOULD, expired_waiver=waiver("old-waiver", "2026-01-31")),
        *on(BOTH, failed, "float64", waived=waiver("float64"), labels={"dtype": "float64"}),
        *on(BOTH, failed, "curiosity", level=Level.INFO, value=float("nan")),
        unknown("all-reduce"), unknown("all-gather"), unknown("reduce-scatter"),
        *on(BOTH, unknown, "fault-counters", level=Level.SHOULD, reason="driver.counters: the vendor offers none",
            check="driver.counters", remedy=None),
        *on(BOTH, finding, "streams", outcome=Outcome.NOT_APPLICABLE, value=None, earned=0.0, labels={},
            reason="it does not apply to the cuda stack"),
    )  # fmt: skip
    checks = (
        evidence("parity.matmul"),
        evidence("operators.workload", seconds=65.4, attempts=2),
        evidence("parity.attention", status=Status.TIMEOUT, seconds=180.0, attempts=2, measurements=(),
                 reason="it had not ended after 60 s, nor after 180 s at the second try"),
        evidence("throughput.copy", seconds=2.5),
        evidence("driver.counters", status=Status.SKIPPED, seconds=0.0, measurements=(),
                 reason="the vendor offers none"),
        evidence("multichip.collectives", status=Status.SKIPPED, seconds=0.2, measurements=(),
                 reason="it needs two accelerators and there is one"),
        evidence("driver.memory", status=Status.CRASHED, seconds=3.2, measurements=(), reason="signal SIGSEGV",
                 process={"signal": "SIGSEGV"}, accelerators=("cuda:0", "cuda:1")),
        evidence("parity.softmax", status=Status.ERROR, seconds=0.8, measurements=(), reason="RuntimeError: no kernel"),
        *(evidence(f"driver.quick_{number}", seconds=number / 10) for number in range(10)),
    )  # fmt: skip
    healthy = accelerator(
        (*on(BOTH, finding, "matmul-float32"), *on(BOTH, finding, "matmul-bfloat16")),
        facts_=facts("cuda:1"),
        score=100.0,
        ceiling=100.0,
    )
    return assessment(accelerator(findings, checks), healthy)


#: What a device or a file may say to reach the terminal, the web page or the parser.
HOSTILE = (
    "\x1b[31mRED\x1b]0;title\x07\x9b2J | <script>alert('x')</script> & \u202e"
    "`*_[a](http://evil.example)_*` \x00\ud800 @root 昇腾"
)


def hostile() -> Assessment:
    """Texts from a device and a file that try to reach the terminal, the web page and the parser."""
    bad = failed(
        "strange", reason=HOSTILE, why=HOSTILE, labels={HOSTILE: HOSTILE}, unit=HOSTILE,
        remedy=Remedy(f"Replace it. {HOSTILE}", Action.REPLACE),
    )  # fmt: skip
    checks = (evidence(status=Status.ERROR, reason=HOSTILE, log=HOSTILE, rows=({HOSTILE: HOSTILE},)),)
    device = facts(vendor=HOSTILE, model=HOSTILE * 20, serial=HOSTILE, software={HOSTILE: HOSTILE})
    waived = failed("forgiven", waived=Waiver("forgiven", HOSTILE, HOSTILE, HOSTILE, "2027-01-31"))
    item = accelerator((bad, waived, unknown("open", reason=HOSTILE)), checks, (Use.TRAINING,), device)
    return assessment(item, profile_title=HOSTILE, host={"name": HOSTILE}, uses=(Use.TRAINING,))


def one_use() -> Assessment:
    """A profile that speaks of inference only, on a CPU that is ready with one limit."""
    slow = failed(
        "copy-bandwidth", Use.INFERENCE, level=Level.SHOULD, check="throughput.copy", value=11.5, unit="GB/s",
        measure="bandwidth_gbps", limit="at_least 20", labels={},
    )  # fmt: skip
    device = facts("cpu:0", vendor="GenuineIntel", model="Xeon 6", memory_bytes=None, software={"torch": "2.9.1"})
    item = accelerator((finding("matmul", Use.INFERENCE), slow), None, (Use.INFERENCE,), device, score=91.0, ceiling=91.0)
    return assessment(item, uses=(Use.INFERENCE,))


def interrupted() -> Assessment:
    """Stopped before anything was measured."""
    item = accelerator(on(BOTH, unknown, "matmul", reason="parity.matmul was not run"), (), score=0.0, ceiling=100.0)
    return assessment(item, interrupted=True)


#: What a simulated chip says of itself.
SIMULATED = {
    "simulated": True,
    "chip": {"name": "ascend-as-reported", "title": "Links that flap", "source": "https://example.org/story"},
}

#: A rehearsal in which every situation occurs: caught, missed although claimed, missed by nobody's fault, a false alarm.
REHEARSAL: dict[str, Any] = {
    "profile": "general",
    "seconds": 210.4,
    "seeds": [1, 2, 3],
    "defects": [
        {"defect": "nan", "kind": "nan", "title": "NaN in softmax", "source": "https://example.org/1", "caught": True,
         "by": [{"check": "operators.sweep", "seconds": 3.1, "requirement": "operators-forward", "about": "softmax"}],
         "missed_by": ["parity.matmul"], "claimed": True},
        {"defect": "link-flap", "kind": "link-flap", "title": "A link comes and goes", "source": None, "caught": False,
         "by": [], "missed_by": ["multichip.collectives"], "claimed": True},
        {"defect": "addmm-of-a-large-matrix", "kind": "wrong-result", "caught": False, "by": [], "missed_by": [],
         "claimed": False},
        {"defect": "wrong-result", "kind": "wrong-result", "caught": True, "by": [], "missed_by": [], "claimed": True},
    ],
    "false_alarms": [
        {"seed": 3, "check": "parity.matmul", "requirement": "matmul-float32", "about": "mm in float32, transposed"},
    ],
    "healthy_runs": 3,
}  # fmt: skip


def simulated(count: int = 4, bad: int = 2) -> Assessment:
    """Simulated chips that were measured alone and together; one of them is wrong in one type and layout."""
    ids = tuple(f"sim:{number}" for number in range(count))
    items = []
    for number, id in enumerate(ids):
        findings = (
            *on(BOTH, failed, "collectives-correct", check="multichip.collectives", measure="wrong_elements", value=24,
                limit="at_most 0", labels={"dtype": "bfloat16", "op": "all_reduce"},
                reason="all_reduce in bfloat16: rank 2 (sim:2) held 24 wrong elements"),
            failed("copy-bandwidth", Use.INFERENCE, level=Level.SHOULD, check="throughput.copy", measure="bandwidth_gbps",
                   value=11.5 + number / 10, unit="GB/s", limit="at_least 20", labels={}),
            *(
                on(BOTH, failed, "softmax-bfloat16", check="operators.sweep", value=0.31,
                   labels={"dtype": "bfloat16", "op": "softmax"},
                   reason="softmax in bfloat16, strided input: 3 of 1200 calls differed, first after 31 s")
                if number == bad else on(BOTH, finding, "softmax-bfloat16", check="operators.sweep")
            ),
        )  # fmt: skip
        checks = (
            evidence("operators.sweep", seconds=10.0 + number),
            evidence("multichip.collectives", seconds=33.0, accelerators=ids),
        )
        device = facts(id, vendor="Simulated", model="Ascend as reported", memory_bytes=2**32, properties=SIMULATED)
        items.append(accelerator(findings, checks, facts_=device, score=58.3 + number))
    return assessment(*items, rehearsal=REHEARSAL)


def nothing() -> Assessment:
    """No accelerator at all."""
    return assessment()


def half_blind() -> Assessment:
    """One stack works; the other one is there and does not answer."""
    return replace(one_use(), host={"name": "node-17", "failed_stacks": {"cuda": "RuntimeError: driver too old \x1b[2J"}})


def many(count: int = 8) -> Assessment:
    """As many accelerators as a machine has, the last of them broken."""
    items = [accelerator(on(BOTH, finding, "matmul"), facts_=facts(f"npu:{number}"), score=100.0, ceiling=100.0)
             for number in range(count - 1)]  # fmt: skip
    broken = accelerator(on(BOTH, failed, "matmul"), facts_=facts(f"npu:{count - 1}"), score=0.0, ceiling=0.0)
    return assessment(*items, broken)
