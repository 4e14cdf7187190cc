"""A rank in a fresh interpreter, for stacks whose device must not be forked."""

from __future__ import annotations

import importlib
import json

from readiness import accelerators
from readiness.accelerators.base import Accelerator
from readiness.assessment import facts_from_json
from readiness.model import AcceleratorFacts
from readiness.ranks.board import Board
from readiness.ranks.rank import RankPlan, detach, serve
from readiness.ranks.values import Json

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
    plan = RankPlan(
        function=getattr(importlib.import_module(told["module"]), told["function"]),
        accelerator=accelerator_of(told, facts_from_json(told["facts"])),
        **{name: told[name] for name in SCALARS},
    )
    serve(plan, board)


def accelerator_of(told: Json, facts: AcceleratorFacts) -> Accelerator:
    """The accelerator of these facts in this interpreter; `told` are the names of its stack, its seed and its peers."""
    stack = accelerators.stack(told["stack"])
    if stack.plugin is not None:
        importlib.import_module(stack.plugin)
    peers = [facts_from_json(peer) for peer in told["peers"]]
    return Accelerator(facts, stack, seed=told["seed"], peers=peers)
