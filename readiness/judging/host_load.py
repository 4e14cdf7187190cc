"""Whether the host was busy while a check measured: its speeds then tell about the host, not the accelerator. Pure."""

from __future__ import annotations

from readiness.datamodel import Evidence, HostLoad

#: From this share of the host's processors on, others slow a measurement by as much as a defect would (by caches, memory and
#: clocks, even where it waits for none of them, and also from processors that it may not use); from the lower one on, if it
#: had to wait for more than a baseline's runs differ by.
_TAKEN, _TAKEN_WITH_WAITS, _SOME_WAITS = 0.25, 0.10, 0.05
#: A burst of a second can fall together with what is timed, and is small on average: from this share in any second on.
_PEAK = 0.5
#: A process may wait for its own threads and ranks; from this share of its time on it waited for others'. Of a check that
#: took less than so many seconds, a single wait is a large share.
_WAITED, _LEAST_S = 0.25, 0.5


def measured_while_busy(evidence: Evidence) -> bool:
    """Return whether others kept the host busy while this was measured; False where it is not known."""
    load = evidence.host_load
    if load is None:
        return False
    taken = (load.others or 0.0) + (load.stolen or 0.0)
    if taken >= _TAKEN or (taken >= _TAKEN_WITH_WAITS and (load.waited is None or load.waited >= _SOME_WAITS)):
        return True
    if (load.elsewhere or 0.0) >= _TAKEN or (load.peak or 0.0) >= _PEAK:
        return True
    return evidence.seconds >= _LEAST_S and (load.waited or 0.0) >= _WAITED


def measured_while_quiet(evidence: Evidence) -> bool:
    """Return whether the host is known to have been quiet while this was measured, on all of its processors."""
    load = evidence.host_load
    if load is None or None in (load.others, load.stolen, load.elsewhere):
        return False
    return not measured_while_busy(evidence)


def in_words(load: HostLoad) -> str:
    """`other processes took 43% of the processors, the check waited for one for 21% of its time`."""
    shares = {
        "other processes took {} of the processors": load.others,
        "a hypervisor withheld {} of the processors": load.stolen,
        "the host's other processors worked for {} of the time": load.elsewhere,
        "at most {} were taken in a second": load.peak,
        "the check waited for one for {} of its time": load.waited,
    }
    return ", ".join(words.format(f"{share:.0%}") for words, share in shares.items() if share is not None and share >= 0.01)
