"""The adapter to PyTorch's database, the tables about it, and the samples."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
import torch

from readiness.probes.operators import op_semantics, opinfo, samples
from readiness.probes.operators.op_call import CPU
from readiness.probes.operators.op_entry import Entry

ENTRIES = opinfo.load()
NAMES = {entry.name for entry in ENTRIES} | {entry.base for entry in ENTRIES}


def entry(name: str) -> Entry:
    return next(entry for entry in ENTRIES if entry.name == name)


def test_names_are_unique() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES) > 600


@pytest.mark.parametrize("table", ["UNJUDGEABLE", "UNSPECIFIED", "RANDOM", "UNORDERED", "EXACT", "ILL_CONDITIONED", "CORE"])
def test_tables_speak_of_operators_that_exist(table: str) -> None:
    """A slip in a name would silently judge otherwise. Older torch may lack a few."""
    unknown = [name for name in getattr(op_semantics, table) if name not in NAMES]
    assert len(unknown) <= (0 if torch.__version__ >= "2.13" else 5), unknown


def test_an_operator_has_one_class() -> None:
    tables = [op_semantics.UNSPECIFIED, op_semantics.RANDOM, op_semantics.UNORDERED, op_semantics.EXACT, frozenset(op_semantics.UNJUDGEABLE)]
    assert sum(map(len, tables)) == len(frozenset().union(*tables))


def test_selection() -> None:
    everything = opinfo.select(ENTRIES, "all")
    core = opinfo.select(ENTRIES, "core")
    assert len(everything) == len(ENTRIES)
    assert set(core) < set(everything)
    assert {ENTRIES[index].name for index in opinfo.select(ENTRIES, "all", ["fft.*", "add"])} == {
        name for name in NAMES if fnmatchcase(name, "fft.*")
    } | {"add"}
    with pytest.raises(ValueError, match="no operator"):
        opinfo.select(ENTRIES, "core", ["fft.fft"])


def test_integers_have_no_gradient() -> None:
    assert not any(entry.claims_backward(torch.int64) for entry in ENTRIES)


def draw(name: str, seed: int = 1) -> list[samples.Sample]:
    return samples.draw(entry(name), torch.float32, seed=seed, gradients=True)


def test_seed_decides_the_values() -> None:
    """The database left to itself would draw the same values whatever the seed."""
    one, again, other = (draw("mul", seed)[0].tensors()[0] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert one.shape != other.shape or not torch.equal(one, other)


def test_conversion_keeps_identity_gradients_and_structure() -> None:
    tensor = torch.ones(3, requires_grad=True)
    sample = samples.Sample(
        (tensor, [tensor, 2], torch.Size([3])), {"dtype": torch.bfloat16, "device": "cpu", "like": torch.zeros(1)}, None
    )
    wide = sample.converted(samples.widened, CPU, widen=True)
    first, (second, two), size = wide.arguments
    assert first is second
    assert first.requires_grad
    assert first.is_leaf
    assert first.dtype == torch.float64
    assert two == 2
    assert isinstance(size, torch.Size)
    assert wide.keywords["dtype"] == torch.float64
    moved = sample.converted(lambda given: given.to("meta"), torch.device("meta"))
    assert moved.keywords["device"] == "meta"
    assert moved.keywords["dtype"] == torch.bfloat16
    assert len(moved.tensors()) == 2


def test_attention_that_drops_at_random_is_left_out() -> None:
    for sample in draw("nn.functional.scaled_dot_product_attention"):
        assert not sample.keywords.get("dropout_p")


@pytest.mark.filterwarnings("ignore:Sparse")
def test_no_dense_sample() -> None:
    with pytest.raises(samples.NoSampleError):
        draw("sparse.mm.reduce")
