"""Objects that ranks send each other: those of the group arrive, and what a stranger sends as one is not loaded."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch.distributed import distributed_c10d

from readiness.distributed import RankContext, place, run_ranks, signed_objects
from readiness.distributed.types import Json
from tests.support import cpu


class Command:
    """What makes a file when it is loaded."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.file),)


def exchanging(context: RankContext) -> Iterator[Json]:
    """Objects of all ranks, then one from rank 0 as whoever connects to a port of the group would send it."""
    gathered: list[Any] = [None] * context.world_size
    dist.all_gather_object(gathered, {"rank": context.rank})
    if context.rank == 0:
        distributed_c10d._pickler = pickle.Pickler
    refused = ""
    try:
        dist.broadcast_object_list([Command(context.settings["file"])], src=0)
    except pickle.UnpicklingError as problem:
        refused = str(problem)
    yield {"gathered": gathered, "refused": refused}


def test_ranks_exchange_objects_and_load_none_of_a_stranger(tmp_path: Path) -> None:
    accelerator = cpu()
    settings = {"file": str(tmp_path / "made")}
    outcome = run_ranks(exchanging, accelerator, place(accelerator, 2), settings, patience_s=20.0)
    assert outcome.failure is None, outcome.failure
    reports = [reports[0] for reports in outcome.reports]
    assert [report["gathered"] for report in reports] == [[{"rank": 0}, {"rank": 1}]] * 2
    assert "no rank of this group sent" in reports[1]["refused"]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("other", [b"another secret", b""])
def test_an_object_is_known_by_the_secret_of_its_group(other: bytes) -> None:
    file = io.BytesIO()
    pickler, unpickler = signed_objects._classes(b"secret")
    pickler(file).dump([1, "two"])
    sent = file.getvalue()
    assert unpickler(io.BytesIO(sent)).load() == [1, "two"]
    changed = [sent[:at] + bytes([sent[at] ^ 1]) + sent[at + 1 :] for at in range(len(sent))]
    for received in (*changed, sent[:-1], sent[:10], b"", pickle.dumps([1, "two"])):
        with pytest.raises(pickle.UnpicklingError):
            unpickler(io.BytesIO(received)).load()
    with pytest.raises(pickle.UnpicklingError):
        signed_objects._classes(other)[1](io.BytesIO(sent)).load()
