"""A rank in a fresh interpreter, for stacks whose device must not be forked."""

from __future__ import annotations

import importlib
import json

from readiness import accelerators
from readiness.accelerators.base import Accelerator
from readiness.assessment import facts_from_json
from readiness.ranks.board import Board
from readiness.ranks.rank import RankPlan, detach, serve

#: The fields of a plan that are JSON as they are.
SCALARS = (
    "rank", "world_size", "settings", "backend", "store", "interface", "namespace", "timeout_s", "threads", "parent",
    "orders", "reports", "log",
)  # fmt: skip


def main(text: str) -> None:
    """Run the rank that this JSON text describes. Never returns."""
    told = json.loads(text)
    detach(told["parent"], told["log"])
    board = Board(told["board"], told["world_size"])
    stack = accelerators.stack(told["stack"])
    if stack.plugin is not None:
        importlib.import_module(stack.plugin)
    peers = [facts_from_json(facts) for facts in told["peers"]]
    plan = RankPlan(
        function=getattr(importlib.import_module(told["module"]), told["function"]),
        accelerator=Accelerator(facts_from_json(told["facts"]), stack, seed=told["seed"], peers=peers),
        **{name: told[name] for name in SCALARS},
    )
    serve(plan, board)
