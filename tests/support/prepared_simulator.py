"""Importing this takes the seconds that each process with a simulated chip would take: torch, and its database of operators.

For a process that is forked from and does nothing else. The checklist is discovered in it as well.
"""

from __future__ import annotations

import gc

import readiness.simulator.install  # noqa: F401 - what is forked from here installs a chip
from readiness.probes.operators import opinfo
from tests.support import checks

opinfo.load()
checks()
gc.collect()
gc.freeze()
