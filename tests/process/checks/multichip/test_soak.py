"""The soak's loop with a clock and worlds of the test's: what is counted, what is lost, when it ends. And real ranks, briefly."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from readiness.accelerators.base import Accelerator
from readiness.datamodel import Evidence, Measurement, Row, Status
from readiness.distributed import Failure, FailureKind, Placement, RanksOutcome
from readiness.documents.files import open_own
from readiness.errors import UsageError
from readiness.probes.soak import parent as soaks
from readiness.probes.soak import rank as soak_rank
from readiness.probes.soak.measurements import measurements
from readiness.probes.soak.parent import Soak
from readiness.probes.soak.reports import RoundReport, SoakFault
from readiness.probes.soak.soak_log import SoakTotals, read
from tests.support import cpu, run_check, value, values
from tests.support import ranks as support


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with support.nothing_left():
        yield


def chips(number: int, kept: Path | None = None) -> Accelerator:
    facts = [dataclasses.replace(cpu().facts, id=f"cpu:{index}", index=index) for index in range(number)]
    return Accelerator(facts[0], cpu().stack, seed=7, peers=facts, kept=kept)


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def round_of(number: int, ranks: int, seconds: float = 1.0, faults: dict[int, list[Any]] | None = None, **changes: Any) -> list[Any]:
    """What all ranks report of one round."""
    return [
        (rank, RoundReport(**{
            "round": number, "seconds": seconds, "loss": 1.0, "step": 2, "replica": "same",
            "faults": tuple((faults or {}).get(rank, ())), "operations": 3, "operations_s": 0.5,
            "sensors": {"temperature_c": 60.0 + rank}, "uncompared": (0, 80), **changes,
        }))
        for rank in range(ranks)
    ]  # fmt: skip


World = Callable[[float], tuple[list[list[Any]], Failure | None]]


def soaked(seconds: float, worlds: list[World], ranks: int = 4, kept: Path | None = None, clock: Clock | None = None) -> Soak:
    """A soak whose worlds are these, the last one again and again; every round takes a second of the clock."""
    clock = clock or Clock()
    accelerator = chips(ranks, kept)
    placement = Placement(accelerator.peers, ranks)
    calls = iter(range(10_000))

    def run_ranks(function: Any, accelerator: Any, placement: Any, settings: Any, **options: Any) -> RanksOutcome:
        rounds, failure = worlds[min(next(calls), len(worlds) - 1)](settings.seconds)
        for reports in rounds:
            clock.now += 1.0
            for rank, report in reports:
                options["on_report"](rank, report)
        if failure is not None:
            clock.now += 10.0
        return RanksOutcome(((),) * ranks, failure, 1.0)

    begun = {"chips": list(placement.ids), "ranks": ranks, "labels": dict(placement.labels), "scope": "tried", "job_chips": 8,
             "job_days": 1.0, "checkpoint_s": 30.0, "recovery_s": 0.0}  # fmt: skip
    found = Soak(accelerator, placement, seconds, ["float32"], 5.0, begun, clock=clock, run_ranks=run_ranks)
    list(found.run())
    return found


def healthy(seconds: float) -> tuple[list[list[Any]], None]:
    return [round_of(number, 4) for number in range(math.ceil(seconds))], None


def broken(trouble: FailureKind, culprits: tuple[int, ...], rounds: int = 3) -> World:
    def world(seconds: float) -> tuple[list[list[Any]], Failure]:
        done = [round_of(number, 4) for number in range(min(rounds, math.ceil(seconds)))]
        return done, Failure(trouble, culprits, "it went", "all_reduce")

    return world


def test_a_healthy_soak_counts_every_round_of_all_ranks() -> None:
    account = soaked(100, [healthy]).log.totals
    assert (account.rounds, account.exposure_s, account.spent_s, account.count) == (100, 100, 100, 0)
    assert account.ended == ""
    assert account.samples[0]["temperature_c"] == 63.0


def test_a_round_in_which_all_stood_still_counts_as_a_few() -> None:
    def paused(seconds: float) -> tuple[list[list[Any]], None]:
        return [round_of(number, 4, 3600.0 if number == 50 else 1.0) for number in range(math.ceil(seconds))], None

    account = soaked(100, [paused]).log.totals
    assert (account.rounds, account.exposure_s, account.count) == (100, 99 + soaks.LONG_ROUNDS, 0)


def test_a_rank_group_lasts_no_longer_than_a_session() -> None:
    lengths: list[float] = []

    def world(seconds: float) -> tuple[list[list[Any]], None]:
        lengths.append(seconds)
        return healthy(seconds)

    soaked(2000, [world])
    assert lengths == [900, 900, 200]


def test_a_dead_rank_is_counted_and_a_new_group_starts() -> None:
    account = soaked(100, [broken(FailureKind.DIED, (2,)), healthy]).log.totals
    assert dict(account.causes) == {"died": 1}
    assert account.faults[0]["chips"] == ["cpu:2"]
    assert (account.restarts, account.recoveries_s) == (1, [11.0])  # ten seconds without work, and the first round after them
    assert account.exposure_s == 90  # what stood still was no load
    assert account.ended == ""


def test_the_chip_that_fails_with_changing_partners_is_distinguished_from_them() -> None:
    account = soaked(60, [broken(FailureKind.BEHIND, (1, partner)) for partner in (0, 2, 3)] + [healthy]).log.totals
    about = next(item.about for item in measurements(account) if isinstance(item, Measurement) and item.name == "faults")
    assert "cpu:1 took part in 3 of 3" in (about or "")


def test_a_soak_ends_after_groups_without_progress() -> None:
    account = soaked(10_000, [broken(FailureKind.HUNG, (), rounds=0)]).log.totals
    assert account.count == soaks.MOST_FRUITLESS_GROUPS
    assert "completed no round" in (account.ended or "")
    assert {item.name: item.value for item in measurements(account) if isinstance(item, Measurement)}["completed"] == 0


def test_it_ends_where_every_round_is_wrong() -> None:
    wrong = SoakFault("wrong sum", "all_reduce number 3 of ranks 0, 1: one", (0, 1))

    def world(seconds: float) -> tuple[list[list[Any]], None]:
        return [round_of(number, 4, faults={1: [wrong]}) for number in range(math.ceil(seconds))], None

    account = soaked(10_000, [world]).log.totals
    assert account.count == soaks.MOST_FAULTY_ROUNDS
    assert account.suspects == {"cpu:1": soaks.MOST_FAULTY_ROUNDS}
    assert "in a row had faults" in (account.ended or "")


@pytest.mark.parametrize(
    ("faults", "changes", "causes", "suspects"),
    [
        ({1: "sum", 2: "sum"}, {}, {"wrong sum": 1}, {"cpu:1": 1, "cpu:2": 1}),
        ({2: "sum"}, {}, {"wrong sum": 1}, {"cpu:2": 1}),
        ({0: "again", 1: "again", 2: "again", 3: "again"}, {}, {"recomputation": 1}, {}),
        ({3: "again"}, {"odd": 3}, {"replicas differ": 1}, {"cpu:3": 1}),
        ({0: "checkpoint", 1: "again"}, {}, {"checkpoint": 1, "recomputation": 1}, {"cpu:0": 1, "cpu:1": 1}),
    ],
)
def test_what_several_ranks_see_of_one_fault_is_one(faults: Any, changes: Any, causes: Any, suspects: Any) -> None:
    known = {
        "sum": SoakFault("wrong sum", "all_reduce number 9 of ranks 1, 2: one wrong element", (1, 2)),
        "again": SoakFault("recomputation", "steps done twice"),
        "checkpoint": SoakFault("checkpoint", "other bytes"),
    }

    def world(seconds: float) -> tuple[list[list[Any]], None]:
        first = round_of(0, 4, faults={rank: [known[name]] for rank, name in faults.items()})
        if "odd" in changes:
            first[changes["odd"]] = (changes["odd"], dataclasses.replace(first[changes["odd"]][1], replica="other"))
        return [first, *(round_of(number, 4) for number in range(1, math.ceil(seconds)))], None

    account = soaked(5, [world]).log.totals
    assert dict(account.causes) == causes
    assert dict(account.suspects) == suspects


def test_a_soak_that_was_cut_off_goes_on_counting(tmp_path: Path) -> None:
    kept = tmp_path / "soak.jsonl"

    class KilledError(Exception):
        pass

    def world(seconds: float) -> tuple[list[list[Any]], None]:
        raise KilledError

    with pytest.raises(KilledError):
        soaked(100, [broken(FailureKind.DIED, (0,), rounds=40), world], kept=kept)
    before = read(kept)
    assert (before.exposure_s, before.count, before.ended) == (40, 1, None)
    account = soaked(100, [healthy], kept=kept).log.totals
    assert (account.sessions, account.exposure_s, account.count) == (2, 90, 1)
    assert read(kept) == account
    assert soaked(100, [world], kept=kept).log.totals.exposure_s == 90  # done is done


def test_the_soak_of_other_chips_is_refused(tmp_path: Path) -> None:
    soaked(5, [healthy], kept=tmp_path / "soak.jsonl")
    with pytest.raises(UsageError, match="other chips"):
        soaked(5, [healthy], ranks=2, kept=tmp_path / "soak.jsonl")


class Idle:
    """In place of the operations of a language model, which take seconds to begin."""

    def __init__(self, context: Any) -> None:
        """Nothing to prepare."""

    uncompared = (0, 0)

    def round(self) -> tuple[int, float, list[Any]]:
        return 0, 0.0, []


class Thirds:
    """A clock that goes on by a third of a second whenever it is looked at: three times in a round."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic(self) -> float:
        self.now += 1
        return self.now / 3


@pytest.fixture
def by_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A soak whose seconds are rounds, on both sides: how busy this machine is makes no difference."""
    monkeypatch.setattr(soak_rank, "OperationRounds", Idle)
    monkeypatch.setattr(soak_rank, "time", Thirds())
    monkeypatch.setattr(Soak, "spent_s", property(lambda self: self.log.totals.rounds + self._pending[0]))


def checked(accelerator: Accelerator, **settings: Any) -> Evidence:
    evidence = run_check("multichip.soak", accelerator, **{"seconds": 4.0, "dtypes": ["float32"], "patience_s": 20.0, **settings})
    assert evidence.status is Status.MEASURED, evidence.reason
    return evidence


def account_of(evidence: Evidence) -> dict[str, float]:
    """The faults of a soak by their cause."""
    found = [item for item in evidence.measurements if item.name == "faults" and item.labels["cause"] != "all"]
    return {item.labels["cause"]: item.value for item in found}


def test_a_healthy_chip_works_without_a_fault() -> None:
    evidence = checked(chips(1), ranks=2, dtypes=["float32", "bfloat16"], seconds=1.5)
    assert value(evidence, "faults", cause="all") == 0, evidence.rows
    assert value(evidence, "completed", chips="one") == 1


@pytest.mark.usefixtures("by_rounds")
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_healthy_ranks_work_without_a_fault(ranks: int, tmp_path: Path) -> None:
    evidence = checked(chips(ranks, tmp_path / "soak.jsonl"), ranks=ranks, dtypes=["float32", "bfloat16"])
    assert value(evidence, "faults", cause="all") == 0, evidence.rows
    assert value(evidence, "completed", ranks=str(ranks)) == 1
    assert 0 < value(evidence, "exposure_chip_hours") < 1
    assert value(evidence, "chip_mtbf_h") == pytest.approx(value(evidence, "exposure_chip_hours") / 2.9957, rel=1e-3)
    assert values(evidence, "training_time_share") == []
    account = read(tmp_path / "soak.jsonl")
    assert account.rounds == 4
    assert (tmp_path / "soak.checkpoint").exists()


@pytest.mark.usefixtures("by_rounds")
def test_one_wrong_sum_is_counted_and_attributed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [0]
    healthy_sum = dist.all_reduce

    def all_reduce(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        done = healthy_sum(tensor, *arguments, **options)
        seen[0] += 1
        if dist.get_rank() == 1 and seen[0] == 5:
            tensor[0] += 1
        return done

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    evidence = checked(chips(2))
    assert value(evidence, "faults", cause="wrong sum") == value(evidence, "faults", cause="all") == 1
    about = next(item.about for item in evidence.measurements if item.name == "faults")
    assert "cpu:1 took part in 1 of 1" in (about or "")
    assert value(evidence, "completed") == 1


@pytest.mark.usefixtures("by_rounds")
def test_a_rank_killed_once_is_counted_and_training_resumes_from_the_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    once, steps = tmp_path / "died", tmp_path / "steps"
    healthy_round = soak_rank.SoakTraining.round

    def round_(self: soak_rank.SoakTraining) -> Any:
        if self.context.rank == 0:
            with steps.open("a") as stream:
                stream.write(f"{self.steps}\n")
        if self.context.rank == 1 and self.steps == 4 and not once.exists():
            once.touch()
            support.kill_oneself()
        return healthy_round(self)

    monkeypatch.setattr(soak_rank.SoakTraining, "round", round_)
    evidence = checked(chips(2, tmp_path / "soak.jsonl"), seconds=8.0)
    assert value(evidence, "faults", cause="died") == value(evidence, "faults", cause="all") == 1
    assert value(evidence, "recovery_s") > 0
    assert len(values(evidence, "training_time_share")) == 1
    (row,) = [row for row in evidence.rows if "fault" in row]
    assert row["chips"] == "cpu:1"
    assert "SIGKILL" in row["what"]
    begun = [int(line) for line in steps.read_text().split()]
    assert begun[:3] == [0, 2, 4]
    assert begun[3] in (2, 4)  # the checkpoint of step 4 may or may not have been written when the other rank died
    assert begun[-1] > 4


@pytest.mark.usefixtures("by_rounds")
def test_weights_that_change_between_ranks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy_train = soak_rank.SoakTraining._train

    def train(self: soak_rank.SoakTraining, begin: int) -> Any:
        loss, digest = healthy_train(self, begin)
        if self.context.rank == 1 and begin == 2:
            with torch.no_grad():
                next(self.model.parameters()).view(torch.int32)[0, 0] ^= 1
            digest = self._digest()
        return loss, digest

    monkeypatch.setattr(soak_rank.SoakTraining, "_train", train)
    evidence = checked(chips(2), seconds=4.0)
    assert value(evidence, "faults", cause="replicas differ") >= 1


@pytest.mark.usefixtures("by_rounds")
def test_a_checkpoint_that_comes_back_otherwise_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy_load = torch.load

    def load(*arguments: Any, **options: Any) -> Any:
        state = healthy_load(*arguments, **options)
        if state["steps"] == 2:
            state["model"]["norm.weight"][0] += 1
        return state

    monkeypatch.setattr(torch, "load", load)
    evidence = checked(chips(2), seconds=4.0)
    assert value(evidence, "faults", cause="checkpoint") == 1


@pytest.mark.usefixtures("by_rounds")
def test_a_file_that_is_no_checkpoint_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "soak.checkpoint").write_bytes(b"torn")
    evidence = checked(chips(2, tmp_path / "soak.jsonl"), seconds=2.0)
    assert value(evidence, "faults", cause="all") == 0


@pytest.mark.usefixtures("by_rounds")
@pytest.mark.parametrize("what", [os.O_RDWR | os.O_CREAT, os.O_RDONLY])
def test_a_disk_that_fails_is_no_fault_of_a_chip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: int) -> None:
    def fail(file: Path, flags: int) -> Any:
        if flags == what:
            raise OSError(28, "No space left on device")
        return open_own(file, flags)

    monkeypatch.setattr(soak_rank, "open_own", fail)
    evidence = checked(chips(2, tmp_path / "soak.jsonl"), seconds=4.0)
    assert value(evidence, "faults", cause="all") == 0, evidence.rows
    assert value(evidence, "completed") == 1
    assert any("No space left" in str(row.get("checkpoints_in_memory")) for row in evidence.rows)


@pytest.mark.usefixtures("by_rounds")
@pytest.mark.parametrize("ranks", [(0, 1), (1,)])
@pytest.mark.parametrize("turn", [1, 2, 6])
@pytest.mark.parametrize("first", [1, 8])
def test_training_that_is_wrong_once_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, ranks: tuple[int, ...], turn: int, first: int
) -> None:
    """In the first round or a later one, the first time or the second, on all ranks or on one, which alone is blamed."""
    healthy_train = soak_rank.SoakTraining._train
    monkeypatch.setattr(soak_rank, "FIRST_COMPARISONS", first)

    def train(self: soak_rank.SoakTraining, begin: int) -> Any:
        loss, digest = healthy_train(self, begin)
        self.turn = getattr(self, "turn", 0) + 1  # type: ignore[attr-defined]
        if self.turn == turn and self.context.rank in ranks:  # type: ignore[attr-defined]
            with torch.no_grad():
                next(self.model.parameters())[0, 0] += 1e-3
            digest = self._digest()
        return loss, digest

    monkeypatch.setattr(soak_rank.SoakTraining, "_train", train)
    evidence = checked(chips(2), seconds=4.0 if turn > 2 else 2.0)  # the second round has turns 3 and 4
    assert value(evidence, "faults", cause="all") >= 1
    assert set(account_of(evidence)) <= {"recomputation", "replicas differ"}
    if len(ranks) == 1:
        blamed = {row["chips"] for row in evidence.rows if "fault" in row}
        assert blamed <= {"cpu:1", None}
    else:
        assert value(evidence, "faults", cause="recomputation") == 1


@pytest.mark.usefixtures("by_rounds")
def test_training_that_never_repeats_is_no_fault_of_a_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy_train = soak_rank.SoakTraining._train
    turn = [0.0]

    def train(self: soak_rank.SoakTraining, begin: int) -> Any:
        loss, _ = healthy_train(self, begin)
        turn[0] += 1
        with torch.no_grad():
            next(self.model.parameters())[0, 0] += turn[0] * 1e-3
        return loss, self._digest()

    monkeypatch.setattr(soak_rank.SoakTraining, "_train", train)
    evidence = checked(chips(2), seconds=2.0)
    assert values(evidence, "faults") == [], "nor a good word for one"
    assert values(evidence, "chip_mtbf_h") == []
    assert any(row.get("unrepeatable") for row in evidence.rows)
    (digest,) = [row["proves"] for row in evidence.rows if "proves" in row]
    assert "this proves nothing, because training steps are not reproducible" in digest


def measured(account: SoakTotals) -> dict[str, float]:
    return {item.name: item.value for item in measurements(account) if isinstance(item, Measurement)}


def test_no_round_is_no_good_word() -> None:
    account = soaked(30.0, [lambda _: ([], Failure(FailureKind.HUNG, (), "nothing moved", "a sum"))]).log.totals
    assert account.rounds == 0
    assert measured(account)["faults"] > 0, "what was seen is told"
    account = SoakTotals(begun=account.begun, ended="")
    assert measured(account) == {"exposure_chip_hours": 0}
    (digest,) = [item.cells["proves"] for item in measurements(account) if isinstance(item, Row) and "proves" in item.cells]
    assert digest.endswith("this proves nothing, because no round finished")


@pytest.mark.parametrize(("uncompared", "silent"), [((0, 80), False), ((40, 80), False), ((41, 80), True), ((80, 80), True)])
def test_operations_that_never_repeat_are_reported_and_prove_nothing(uncompared: tuple[int, int], silent: bool) -> None:
    rounds = [round_of(number, 4, uncompared=(0, 0) if number == 0 else uncompared) for number in range(6)]
    account = soaked(6.0, [lambda _: (rounds, None)]).log.totals
    found = measured(account)
    assert ("faults" in found, "job_mtbf_h" in found) == (not silent, not silent)
    assert found["compared_share"] == (81 - uncompared[0]) / 81
    (digest,) = [item.cells["does_not_prove"] for item in measurements(account) if isinstance(item, Row) and "proves" in item.cells]
    assert (f"{uncompared[0]} of 80 operations differ from call to call" in digest) == (uncompared[0] > 0)


def test_a_group_gets_a_round_however_little_time_is_left() -> None:
    evidence = checked(chips(1), seconds=0.01)
    assert value(evidence, "faults", cause="all") == 0
    assert value(evidence, "exposure_chip_hours") > 0


@pytest.mark.parametrize("obeys", [True, False])
def test_training_is_strictly_deterministic_where_torch_can(obeys: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def attention(function: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            strict = torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
            if strict and not obeys:
                raise RuntimeError("attention does not have a deterministic implementation, but you set ...")
            drift[0] += 0.0 if strict else 1e-3
            return function(*args, **kwargs) * (1 + drift[0])

        return called

    drift = [0.0]
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention(torch.nn.functional.scaled_dot_product_attention))
    evidence = checked(chips(1), seconds=1.0)
    assert any(row.get("unrepeatable") for row in evidence.rows) is not obeys
    assert (values(evidence, "faults", cause="all") == [0]) is obeys


def test_an_empty_account_is_one() -> None:
    assert SoakTotals().count == 0
