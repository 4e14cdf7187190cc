"""Starting, watching and ending groups of ranks.

A rank is a process of its own with one device. A world of them is started from a check's worker, which has imported
torch and touched no device; whatever becomes of the ranks is a value (`WorldOutcome`), and none of them outlives the
worker.
"""

from readiness.ranks.values import Failure, Network, Placement, RankContext, RankFunction, Trouble, WorldOutcome, place
from readiness.ranks.world import run_world

__all__ = [
    "Failure",
    "Network",
    "Placement",
    "RankContext",
    "RankFunction",
    "Trouble",
    "WorldOutcome",
    "place",
    "run_world",
]
