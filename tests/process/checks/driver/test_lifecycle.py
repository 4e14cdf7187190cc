"""driver.lifecycle: seen clean, seen failing and leaking, and unable to tell."""

from __future__ import annotations

import gc
import mmap
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from readiness.accelerators.base import Accelerator
from readiness.probes.driver import lifecycle
from tests.support import cpu, disk_full, run_check, value, values

Use = Callable[[Accelerator], str | None]


@pytest.mark.parametrize("seed", range(3))
def test_the_host_opens_and_nothing_piles_up(seed: int) -> None:
    evidence = run_check("driver.lifecycle", cpu(seed), opens=3)
    assert value(evidence, "failed_opens") == 0
    assert value(evidence, "handle_growth") == 0
    assert max(values(evidence, "memory_growth_bytes", memory="device")) < 200_000


def _in_children(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Every child does this in place of using the device; the parent stays honest."""
    honest, parent = lifecycle.use, os.getpid()

    def use(accelerator: Accelerator) -> str | None:
        if os.getpid() != parent:
            act()
        return honest(accelerator)

    monkeypatch.setattr(lifecycle, "use", use)


@pytest.mark.parametrize(
    ("act", "limit_s", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), 100.0, "SIGKILL"),
        (lambda: os._exit(0), 100.0, "without an answer"),
        (lambda: torch.zeros(2) @ torch.zeros(3), 100.0, "RuntimeError"),
        (lambda: time.sleep(600), 0.5, "did not end in time and was killed"),
    ],
)
def test_a_device_that_does_not_open(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], limit_s: float, message: str
) -> None:
    _in_children(monkeypatch, act)
    evidence = run_check("driver.lifecycle", opens=2, open_timeout_s=limit_s)
    assert value(evidence, "failed_opens") == 2
    assert all(message in str(row["failure"]) for row in evidence.rows)
    assert values(evidence, "memory_growth_bytes") == []


def test_a_process_that_finds_no_room_on_the_disk_proves_nothing_about_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    _in_children(monkeypatch, disk_full)
    with pytest.raises(OSError, match="No space left on device"):
        run_check("driver.lifecycle", opens=2)


def test_two_that_hang_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    _in_children(monkeypatch, lambda: time.sleep(600))
    evidence = run_check("driver.lifecycle", opens=9, open_timeout_s=0.2)
    assert value(evidence, "failed_opens") == 2


def test_wrong_arithmetic_is_a_failed_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "use", lambda _: "the device computed a wrong result")
    assert value(run_check("driver.lifecycle", opens=2), "failed_opens") == 2


def test_leaks_show(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = lifecycle.use
    kept: list[object] = []

    def leak(accelerator: Accelerator) -> str | None:
        taken = mmap.mmap(-1, 2**22)  # pages of its own: a heap that other tests left would not have to grow
        taken.write(bytes(range(256)) * 2**14)
        kept.extend((taken, os.open(os.devnull, os.O_RDONLY)))  # 4 MiB and a handle
        return honest(accelerator)

    monkeypatch.setattr(lifecycle, "use", leak)
    evidence = run_check("driver.lifecycle", opens=1, cycles=12)
    for descriptor in kept[1::2]:
        assert isinstance(descriptor, int)
        os.close(descriptor)
    assert value(evidence, "memory_growth_bytes", memory="host") > 900_000
    assert value(evidence, "handle_growth") == 12


def test_too_few_readings_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "handles", lambda: None)
    evidence = run_check("driver.lifecycle", opens=1, cycles=2)
    assert values(evidence, "memory_growth_bytes") == values(evidence, "handle_growth") == []
    assert value(evidence, "failed_opens") == 0


def test_a_fresh_interpreter_opens_it_where_forking_is_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = cpu()
    monkeypatch.setattr(type(accelerator.stack), "fork_safe", False)
    opening = lifecycle.open_once(accelerator, 250.0)
    assert opening.failure is None


def test_growth_is_not_moved_by_an_outlier() -> None:
    assert lifecycle.growth_per_step([5, 5, 5, 900, 5, 5, 5]) == 0
    assert lifecycle.growth_per_step([0, 10, 20, 30]) == 10
    assert lifecycle.growth_per_step([1, 2]) is None


def test_pages_of_files_are_not_ones_own(tmp_path: Path) -> None:
    """When memory is short, the kernel drops them and they come back: 0.3 MB a cycle on a sound chip were seen so."""
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmRSS:\t9000 kB\nRssAnon:\t40 kB\nRssFile:\t8000 kB\nRssShmem:\t2 kB\nVmSwap:\t1 kB\n")
    assert lifecycle.own_bytes(status) == 43 * 1024
    for text in (None, "VmRSS:\t9000 kB\n", "RssAnon:\tmuch\nRssShmem:\t0 kB\nVmSwap:\t0 kB\n"):  # another system
        status.unlink(missing_ok=True)
        if text is not None:
            status.write_text(text)
        assert lifecycle.own_bytes(status) > 10 * 2**20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells files' pages apart")
def test_a_file_that_is_read_through_memory_is_no_growth(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * 2**17)  # 32 MiB
    before = lifecycle.own_bytes()
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[::4096]) >= 0
        assert lifecycle.own_bytes() - before < 8 * 2**20


def test_what_is_free_in_the_heap_is_no_growth() -> None:
    """Blocks of megabytes that come and go: the heap keeps them or not, as it happens; two of fifty sound chips were blamed."""
    gc.collect()  # what other tests left in circles would be given back meanwhile
    readings = []
    for size in (8, 24, 8, 30, 16, 8, 24, 30):
        room = [bytearray(size * 2**17) for _ in range(8)]
        del room
        lifecycle.trim_heap()
        readings.append(lifecycle.own_bytes())
    assert max(readings) - min(readings) < 4 * 2**20
