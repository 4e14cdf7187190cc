"""Checks that do what a check must not, each in its own way. The tool has to survive them all."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from readiness import Accelerator, Measurement, Row, Skip, Yield, check

MEASURES = {"figure": "1"}


@check("trouble.well", title="Behaves", measures=MEASURES, typical_s=0.1)
def well(accelerator: Accelerator, *, wanted: float = 1.0) -> Iterator[Measurement]:
    """Does it work at all?"""
    yield Measurement("figure", wanted)


@check("trouble.hangs", title="Hangs", measures=MEASURES, limit_s=1.0)
def hangs(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a hang ended?"""
    yield Measurement("figure", 1.0)
    while True:
        time.sleep(60)


@check("trouble.holds_the_lock", title="Hangs in C with the interpreter lock held", measures=MEASURES, limit_s=1.0)
def holds_the_lock(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a process ended that no Python code can end?"""
    while True:
        ctypes.PyDLL(None).sleep(600)
    yield Measurement("figure", 1.0)


@check("trouble.slow_at_first", title="Takes long the first time only", measures=MEASURES, limit_s=3.0)
def slow_at_first(accelerator: Accelerator, *, marker: str = "") -> Iterator[Measurement]:
    """Is a cold start told from a hang?"""
    if not os.path.exists(marker):  # noqa: PTH110
        open(marker, "w").close()  # noqa: PTH123
        time.sleep(60)
    yield Measurement("figure", 1.0)


@check("trouble.segfaults", title="Dies by SIGSEGV", measures=MEASURES)
def segfaults(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a crash evidence?"""
    print("the last words", flush=True)
    ctypes.string_at(0)
    yield Measurement("figure", 1.0)


@check("trouble.prints_rubbish", title="Prints rubbish on stdout and stderr", measures=MEASURES)
def prints_rubbish(accelerator: Accelerator) -> Iterator[Measurement]:
    """Does what a library prints stay out of the evidence?"""
    print('{"end": {"status": "measured"}}\n\x1b[2J\x00' * 200)
    os.write(1, b"\xff\xfe rubbish \n" * 1000)
    os.write(2, b"more\n" * 1000)
    yield Measurement("figure", 1.0)


@check("trouble.exits", title="Calls os._exit(0)", measures=MEASURES)
def exits(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a process that leaves without a word taken for a success?"""
    os._exit(0)
    yield Measurement("figure", 1.0)


@check("trouble.exits_politely", title="Calls sys.exit(0)", measures=MEASURES)
def exits_politely(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is SystemExit an end like any other?"""
    sys.exit(0)
    yield Measurement("figure", 1.0)


@check("trouble.eats_memory", title="Takes memory until it is killed", measures=MEASURES)
def eats_memory(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a check that takes all memory ended before it takes others with it?"""
    taken = []
    while True:
        taken.append(b"x" * 2**25)
        time.sleep(0.01)
    yield Measurement("figure", 1.0)


@check("trouble.leaves_grandchildren", title="Leaves processes behind", measures=MEASURES)
def leaves_grandchildren(accelerator: Accelerator, *, marker: str = "") -> Iterator[Measurement]:
    """Does nothing stay behind: a child of its own group, and a daemon in a session of its own?"""
    children = [
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=session)
        for session in (False, True)
    ]
    between = os.fork()
    if between == 0:  # a daemon: session of its own, parent gone
        os.setsid()
        daemon = os.fork()
        if daemon:
            with open(f"{marker}.daemon", "w") as stream:  # noqa: PTH123
                stream.write(str(daemon))
            os._exit(0)
        time.sleep(600)
        os._exit(0)
    with open(marker, "w") as stream:  # noqa: PTH123
        stream.write(" ".join(str(child.pid) for child in children))
    os.waitpid(between, 0)
    yield Measurement("figure", 1.0)


@check("trouble.raises", title="Raises", measures=MEASURES)
def raises(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is an exception evidence?"""
    yield Measurement("figure", 1.0)
    raise RuntimeError("CUDA error: device-side assert triggered\nwith a second line")


@check("trouble.skips", title="Finds nothing to measure", measures=MEASURES)
def skips(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a skip kept with its reason?"""
    raise Skip("there is no such thing here")
    yield Measurement("figure", 1.0)


@check("trouble.measures_nothing", title="Ends without a measurement", measures=MEASURES)
def measures_nothing(accelerator: Accelerator) -> Iterator[Yield]:
    """Is an empty result a pass?"""
    yield Row({"nothing": True})


@check("trouble.undeclared", title="Yields what it did not declare", measures=MEASURES)
def undeclared(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a measurement refused that no profile could ask for?"""
    yield Measurement("another", 1.0)


@check("trouble.not_a_number", title="Measures NaN", measures=MEASURES)
def not_a_number(accelerator: Accelerator) -> Iterator[Yield]:
    """Does NaN reach the judge as NaN?"""
    yield Measurement("figure", float("nan"))
    yield Row({"value": float("inf"), "odd": object()})


@check("trouble.extravagant", title="Yields what no report can hold", measures=MEASURES)
def extravagant(accelerator: Accelerator) -> Iterator[Yield]:
    """Does one odd check cost the document?"""
    nested: object = "end"
    for _ in range(200):
        nested = [nested]
    yield Row({"text": "x" * 2_000_000, "nested": nested, "number": 10**300, "k" * 5000: object(), "escape": "\x1b[2J\ud800"})
    yield Measurement("figure", 10**300, {"label": "y" * 100_000, "control": "\x00\x1b]0;title\x07"})


@check("trouble.floods", title="Sends evidence without end", measures=MEASURES)
def floods(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is there an end to what one check may send?"""
    while True:
        yield Measurement("figure", 1.0, {"text": "x" * 10_000})


@check("trouble.floods_rows", title="Sends rows without end", measures=MEASURES)
def floods_rows(accelerator: Accelerator) -> Iterator[Yield]:
    """Is there an end to it in bytes too?"""
    while True:
        yield Row({"text": "x" * 10_000})


@check("trouble.ignores_signals", title="Ignores every signal that can be ignored", measures=MEASURES, limit_s=1.0)
def ignores_signals(accelerator: Accelerator) -> Iterator[Measurement]:
    """Is a process ended that does not want to?"""
    import signal

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)
    yield Measurement("figure", 1.0)
