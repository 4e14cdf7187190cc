"""Plans: words, amounts of memory, the fewest chips, the largest batch, and reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from readiness.datamodel import Use
from readiness.documents import schema
from readiness.errors import UsageError
from readiness.memory_fit import plan, rendering, search
from readiness.memory_fit.layout import Chosen
from readiness.tracing import workload_schema

GIB = 2**30
QWEN = workload_schema.load(workload_schema.find("qwen3-8b"))


def report(memory: float = 64, workload: workload_schema.Workload = QWEN, **settings: Any) -> plan.Report:
    return plan.report("it", workload, plan.Settings.of(settings), int(memory * GIB), tuple(Use), "here")


@pytest.mark.parametrize(("text", "size"), [("64GiB", 64 * GIB), ("80GB", 80 * 10**9), ("0.5 TiB", 2**39), ("65536 mib", 64 * GIB)])
def test_amounts_of_memory(text: str, size: int) -> None:
    assert plan.memory_bytes(text, "--memory") == size


@pytest.mark.parametrize("text", ["64", "", "GiB", "64Gib6", "-1GiB", "1e3GiB", "nan GB", "0GiB", "99999999TiB", "64 potatoes"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="no amount of memory") as caught:
        plan.memory_bytes(text, "--memory")
    assert caught.value.place == "--memory"


def test_a_bare_number_is_taken_for_gib_by_the_remedy_alone() -> None:
    with pytest.raises(UsageError, match="did you mean 64GiB"):
        plan.memory_bytes("64", "--memory")


@pytest.mark.parametrize(
    ("settings", "meant"),
    [({"training_dtype": "bfloat"}, "bfloat16"), ({"optimizer": "adamW"}, "adamw"), ({"training_sharding": "params"}, "parameters"),
     ({"serving_dtype": "fp8"}, "float8_e4m3fn"), ({"cache_dtype": "int"}, "int8")],
)  # fmt: skip
def test_words_that_do_not_exist(settings: dict[str, Any], meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        report(**settings)
    assert meant in str(caught.value)


def test_layouts_that_cannot_be_are_refused_with_their_place() -> None:
    with pytest.raises(UsageError, match="training: 6 chips are no multiple of tensor 4") as caught:
        report(training_chips=6, training_tensor=4)
    assert caught.value.place == "here"
    with pytest.raises(UsageError, match="serving"):
        report(serving_chips=3, serving_tensor=2)
    with pytest.raises(UsageError, match="chips"):
        report(training_chips=10**7)


def test_what_is_reported_fits_and_one_more_does_not() -> None:
    found = report(training_chips=8)
    for use in Use:
        fit = found.fits[use]
        assert fit.fits
        assert fit.largest_batch is not None
        assert fit.longest is not None
        for how, fits in (
            (replace(fit.how, batch=fit.largest_batch), True), (replace(fit.how, batch=fit.largest_batch + 1), False),
            (replace(fit.how, batch=1, length=fit.longest), True), (replace(fit.how, batch=1, length=fit.longest + 1), False),
        ):  # fmt: skip
            bytes_ = search.estimate_of(found.model, how, fit.estimate.layout).bytes
            assert (bytes_ <= fit.usable_bytes) is fits


@pytest.mark.parametrize("name", ["qwen3-8b", "qwen3-235b-a22b", "llama-3.1-8b", "deepseek-v3", "vit-large"])
def test_fewest_chips_fit_and_fewer_do_not(name: str) -> None:
    workload = workload_schema.load(workload_schema.find(name))
    for fit in report(workload=workload).fits.values():
        assert fit.fewest is not None
        fewer = fit.fewest.chips - (1 if fit.fewest.chips <= 8 else 8)
        assert fit.fewest.estimate.bytes <= fit.usable_bytes
        if fewer:
            model, chosen = plan.model_of(workload), Chosen()
            if chosen.problem(fewer, model.architecture) is None:
                assert search.best(model, fit.how, fewer, chosen, fit.usable_bytes).bytes > fit.usable_bytes


def test_no_number_of_chips_helps_where_one_part_is_not_divided() -> None:
    fit = report(0.25, training_length=2**20).fits[Use.TRAINING]
    assert not fit.fits
    assert (fit.fewest, fit.largest_batch, fit.longest) == (None, 0, 0) or fit.largest_batch == 0
    assert "does not fit" in rendering.text(report(0.25, training_length=2**20))


def test_less_memory_never_fits_more() -> None:
    needed = [report(memory).fits[Use.INFERENCE] for memory in (16, 24, 32, 64, 128)]
    assert [fit.fits for fit in needed] == sorted(fit.fits for fit in needed)
    assert [fit.largest_batch for fit in needed] == sorted(fit.largest_batch or 0 for fit in needed)


@pytest.mark.parametrize("name", workload_schema.names())
def test_documents_are_valid_and_texts_show_every_formula(name: str) -> None:
    found = report(workload=workload_schema.load(workload_schema.find(name)), training_chips=8)
    assert schema.first_problem("fit", rendering.to_json(found)) is None
    text = rendering.text(found)
    for fit in found.fits.values():
        assert all(term.formula in text for term in fit.estimate.terms)


def test_a_workload_without_parameters_says_so() -> None:
    with pytest.raises(UsageError, match="how many parameters"):
        plan.model_of(replace(QWEN, model={"kind": "x"}))
