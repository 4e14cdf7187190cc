"""From a soak's account to measurements, rows, and two lines in words: what it proves, and what it does not. Pure.

The same code tells a soak that came to its end and one that was cut off: of the latter, `completed` is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from readiness.endurance.bound import CONFIDENCE
from readiness.endurance.claim import DAY_H, Claim, Job
from readiness.endurance.ledger import Account
from readiness.model import Labels, Measurement, Row, Yield

LONGEST_ABOUT = 290
_FAULT_ROWS = 50


def tell(account: Account) -> Iterator[Yield]:
    """Everything that is known so far."""
    begun = account.begun
    if not begun:
        return
    labels: Labels = begun["labels"]
    chips = len(begun["chips"])
    job = _job(account)
    claim = Claim(chips * account.exposure_s / 3600, account.count, job)
    yield Row({"proves": proves(account, claim), "does_not_prove": does_not_prove(account, claim)})
    yield Row({
        "scope": begun["scope"], "spent_s": account.spent_s, "exposure_s": account.exposure_s, "rounds": account.rounds,
        "sessions": account.sessions, "restarts": account.restarts, "recovery_s_set": begun["recovery_s"],
        "recoveries_s": account.recoveries_s[-20:], "ended": account.ended, "unrepeatable": account.unrepeatable,
        "checkpoints_in_memory": account.unkept, "uncompared": account.uncompared, "operations": account.operations,
    })  # fmt: skip
    for fault in account.faults[:_FAULT_ROWS]:
        yield Row({"fault": fault["cause"], "what": fault["what"], "chips": ", ".join(fault["chips"]) or None,
                   "round": fault["round"], "after_s": fault["spent_s"]})  # fmt: skip
    for sample in account.samples:
        yield Row({"sample_at_s": sample["spent_s"], **{key: value for key, value in sample.items() if key != "spent_s"}})
    yield from _faults(account, labels)
    yield from _bounds(account, claim, labels)
    if account.ended is not None and (account.rounds or account.ended):
        yield Measurement("completed", int(not account.ended), labels, about=account.ended or None)


def _job(account: Account) -> Job:
    """The job that the profile names; coming back takes as long as was set, or else as the slowest that was seen."""
    begun = account.begun
    recovery_s = float(begun["recovery_s"])
    if account.recoveries_s and not recovery_s:
        recovery_s = max(account.recoveries_s)
    return Job(int(begun["job_chips"]), float(begun["job_days"]), float(begun["checkpoint_s"]), recovery_s)


def _faults(account: Account, labels: Labels) -> Iterator[Yield]:
    if not account.count and account.silent:
        return
    about = _about(account)
    yield Measurement("faults", account.count, {**labels, "cause": "all"}, samples=account.rounds, about=about)
    for cause, count in sorted(account.causes.items()):
        first = next((fault["what"] for fault in account.faults if fault["cause"] == cause), None)
        yield Measurement("faults", count, {**labels, "cause": cause}, samples=account.rounds, about=first)
    yield Measurement("fault_events", account.events, labels, about=about)


def _about(account: Account) -> str | None:
    if not account.count:
        return None
    causes = ", ".join(f"{count} {cause}" for cause, count in account.causes.most_common(4))
    suspects = account.suspects.most_common(2)
    named = ""
    if suspects and (len(suspects) == 1 or suspects[0][1] > suspects[1][1]):
        named = f"; {suspects[0][0]} had part in {suspects[0][1]} of {account.count}"
    return f"{causes}{named}; first: {account.faults[0]['what']}"[:LONGEST_ABOUT]


def _bounds(account: Account, claim: Claim, labels: Labels) -> Iterator[Yield]:
    chips, job = len(account.begun["chips"]), claim.job
    size = f"{job.chips} chips"
    yield Measurement("exposure_chip_hours", claim.chip_hours, labels, samples=account.rounds)
    if account.rounds:
        yield Measurement("compared_share", _compared_share(account), labels, about=account.silent or None)
    if not account.exposure_s or (account.silent and not account.count):
        return  # nothing follows
    told = f"{_faults_in_words(account.count)} in {_figure(claim.chip_hours)} chip-hours"
    yield Measurement("chip_mtbf_h", claim.chip_mtbf_h, labels, about=told)
    events = Claim(account.exposure_s / 3600, account.events, job)
    bursts = f"{_figure(account.exposure_s / 3600)} h of this host with {chips} chip{'s' if chips > 1 else ''}"
    bursts = f"{account.events} bursts of faults in {bursts}"
    yield Measurement("host_mtbf_h", events.chip_mtbf_h, labels, about=bursts)
    yield Measurement("job_mtbf_h", claim.job_mtbf_h, labels, about=f"{size}; {told}")
    yield Measurement("uninterrupted_day", claim.uninterrupted(DAY_H), labels, about=f"{size}; {told}")
    if job.recovery_s:
        back = "set" if account.begun["recovery_s"] else "measured"
        told = f"{size}, checkpoints of {job.checkpoint_s:g} s, {job.recovery_s:.3g} s to come back ({back}); {told}"
        yield Measurement("training_time_share", claim.training_time_share, labels, about=told[:LONGEST_ABOUT])
    share = claim.chip_hours / claim.needed_chip_hours
    wanted = f"{_figure(claim.needed_chip_hours)} chip-hours are needed for {size} and {job.days:g} days"
    yield Measurement("exposure_share", share, labels, about=wanted)
    if account.recoveries_s:
        slowest = max(account.recoveries_s)
        yield Measurement("recovery_s", slowest, labels, samples=len(account.recoveries_s))
    if pace := _pace_kept(account):
        yield Measurement("pace_kept", pace, labels, samples=len(account.samples))


def _compared_share(account: Account) -> float:
    """Of training and each of the operations, how many repeat here, so that a wrong result would be seen."""
    return (account.operations - account.uncompared + (not account.unrepeatable)) / (account.operations + 1)


def _pace_kept(account: Account) -> float | None:
    """The best pace of the last quarter of the samples over the best of the first; None with too few of them.

    Of the work that is the same in every round, and of the operations, of which as many are done as there is time for: the
    one that lost more.
    """
    samples = [sample for sample in account.samples[2:] if sample.get("operations_s")]
    quarter = len(samples) // 4
    if quarter < 3:
        return None
    early, late = (
        (
            max(1 / (sample["round_s"] - sample["operations_s"]) for sample in part),
            max(sample["operations"] / sample["operations_s"] for sample in part),
        )
        for part in (samples[:quarter], samples[-quarter:])
    )
    return float(min(late[0] / early[0], late[1] / early[1]))


def proves(account: Account, claim: Claim) -> str:
    """In one sentence what the soak shows."""
    chips = len(account.begun["chips"])
    who = "one chip" if chips == 1 else f"{chips} chips"
    told = f"{who} worked for {_time(account.exposure_s / 3600)} ({_figure(claim.chip_hours)} chip-hours)"
    told += f" with {_faults_in_words(account.count)}" if account.count else " without a fault"
    if not account.exposure_s or (account.silent and not account.count):
        return f"{told}: nothing follows from that" + (f", since {account.silent}" if account.silent else "")
    return (
        f"{told}: with {CONFIDENCE:.0%} confidence a chip of these works for at least {_time(claim.chip_mtbf_h)} between"
        f" faults, and {claim.job.chips} of them together for at least {_time(claim.job_mtbf_h)}"
    )


def does_not_prove(account: Account, claim: Claim) -> str:
    """In some sentences what it leaves open, whatever its result looks like."""
    job = claim.job
    times = claim.needed_chip_hours / claim.chip_hours if claim.chip_hours else math.inf
    if times > 1:
        many = f", {_figure(times)} times as many" if times < math.inf else ""
        told = (
            f"that {job.chips} chips run for {job.days:g} days without an interruption more often than not: that takes"
            f" {_figure(claim.needed_chip_hours)} chip-hours with {_no_more(account.count)}{many}"
        )
    else:
        told = f"more than that {job.chips} chips run for {job.days:g} days without an interruption more often than not"
    if account.uncompared:
        told += f"; {account.uncompared} of {account.operations} operations differ from call to call and were not compared"
    told += "; and nothing about other hosts, or faults that come with age, heat or load beyond these"
    if account.begun["labels"].get("chips") != "several":
        told += "; no link between chips was used"
    return told


def _no_more(faults: int) -> str:
    return "no fault" if not faults else f"no more than {_faults_in_words(faults)}"


def _faults_in_words(count: int) -> str:
    return {0: "no fault", 1: "one fault"}.get(count, f"{count} faults")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _time(hours: float) -> str:
    """`64 hours`, `14 seconds`: as people say it."""
    if hours >= 1:
        return f"{_figure(hours)} hours"
    return f"{_figure(60 * hours)} minutes" if hours >= 1 / 60 else f"{_figure(3600 * hours)} seconds"
