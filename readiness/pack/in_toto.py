"""Signed content of a pack: in-toto statements about its files, one with our own predicate, one with in-toto's test-result.

in-toto's test-result knows PASSED, WARNED and FAILED alone. The mapping is conservative: `ready` with nothing open is
PASSED, `ready` with failed shoulds, waivers or unknown requirements is WARNED, all else, `undetermined` too, is FAILED.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from readiness.datamodel import Decision, Use, Verdict
from readiness.documents.strict_json import Json
from readiness.pack.contents import MANIFEST, Core, Subject, dumped, sha256

TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "urn:x-readiness:predicate:pack:1"
TEST_RESULT_TYPE = "https://in-toto.io/attestation/test-result/v0.1"


class Result(StrEnum):
    """The words of in-toto's test-result, the worst first."""

    FAILED = "FAILED"
    WARNED = "WARNED"
    PASSED = "PASSED"


def result(verdict: Verdict) -> Result:
    """One verdict in in-toto's words."""
    if verdict.decision is not Decision.READY:
        return Result.FAILED
    return Result.WARNED if verdict.limits or verdict.unknown or verdict.waived else Result.PASSED


def results(core: Core) -> Iterator[tuple[Subject, str, Use, Verdict | None, Result]]:
    """Return every requested verdict; a missing one has failed, and so has an assessment of nothing."""
    for subject in core.subjects:
        for item in subject.assessment.accelerators:
            for use in subject.assessment.uses:
                verdict = item.verdicts.get(use)
                yield subject, item.facts.id, use, verdict, Result.FAILED if verdict is None else result(verdict)


def overall(core: Core) -> Result:
    """The worst of all; FAILED where an assessment has no verdict, or its run was interrupted."""
    found = [entry[-1] for entry in results(core)]
    judged = {entry[0].path for entry in results(core)}
    if any(subject.path not in judged or subject.assessment.interrupted for subject in core.subjects):
        return Result.FAILED
    return min(found, key=list(Result).index)


def statement(core: Core, manifest: Json) -> Json:
    """About every file of the pack: verdicts, digests of the profiles, versions of the tool."""
    files = [(entry["path"], entry["sha256"]) for entry in manifest["files"]]
    return {
        "_type": TYPE,
        "subject": [_subject(path, digest) for path, digest in [(MANIFEST, sha256(dumped(manifest))), *files]],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "tool": core.pack["tool"],
            "result": overall(core).value,
            "assessments": [_assessment(core, subject) for subject in core.subjects],
            "redactions": core.pack["redactions"],
        },
    }


def test_result(core: Core, manifest: Json) -> Json:
    """Return the results as in-toto's test-result: a test is one accelerator of one assessment for one use."""
    named: dict[Result, list[str]] = {word: [] for word in Result}
    for subject, id, use, _, word in results(core):
        named[word].append(f"{subject.name} {id} {use}")
    return {
        "_type": TYPE,
        "subject": [_subject(MANIFEST, sha256(dumped(manifest)))]
        + [_subject(subject.path, sha256(subject.content)) for subject in core.subjects],
        "predicateType": TEST_RESULT_TYPE,
        "predicate": {
            "result": overall(core).value,
            "configuration": [
                {"name": path, "digest": {"sha256": entry["sha256"]}}
                for entry in manifest["files"]
                if (path := entry["path"]) in core.profiles
            ],
            "passedTests": named[Result.PASSED],
            "warnedTests": named[Result.WARNED],
            "failedTests": named[Result.FAILED],
        },
    }


def _subject(path: str, digest: str) -> Json:
    return {"name": path, "digest": {"sha256": digest}}


def _assessment(core: Core, subject: Subject) -> Json:
    assessment = subject.assessment
    entry = next(entry for entry in core.pack["assessments"] if entry["path"] == subject.path)
    return {
        "path": subject.path,
        "sha256": sha256(subject.content),
        "sha256_before_redaction": entry["sha256_before_redaction"],
        "version": assessment.version,
        "seed": assessment.seed,
        "started": assessment.started,
        "interrupted": assessment.interrupted,
        "profile": {"name": assessment.profile_name, "sha256": assessment.profile_sha256},
        "verdicts": [
            {
                "accelerator": item.facts.id,
                "simulated": bool(item.facts.properties.get("simulated")),
                "use": use.value,
                "verdict": verdict.decision.value,
                "result": result(verdict).value,
                "score": verdict.score,
                "ceiling": verdict.ceiling,
                "blockers": list(verdict.blockers),
                "limits": list(verdict.limits),
                "unknown": list(verdict.unknown),
                "waived": list(verdict.waived),
            }
            for item in assessment.accelerators
            for use, verdict in item.verdicts.items()
        ],
    }
