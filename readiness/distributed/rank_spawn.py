"""Rank in a fresh interpreter, for stacks that do not survive a fork; JSON encoding of its plan."""

from __future__ import annotations

import importlib
import json
import os

from readiness import accelerators
from readiness.accelerators.base import Accelerator
from readiness.datamodel import AcceleratorFacts
from readiness.distributed.rank_entry import RankPlan, detach, serve
from readiness.distributed.rank_messages import decode_settings, encode_settings
from readiness.distributed.status_board import StatusBoard
from readiness.distributed.types import Json
from readiness.documents.assessment import facts_from_json, facts_to_json

#: The fields of a plan that are JSON as they are.
_SCALARS = (
    "rank", "world_size", "backend", "store", "interface", "namespace", "timeout_s", "threads", "secret",
    "short_watchdog_dumps", "addresses", "clock_s", "doubt_s", "parent", "orders", "reports", "log", "serves",
)  # fmt: skip


def main(descriptor: str) -> None:
    """Run the rank that a file describes as JSON. Never returns."""
    with os.fdopen(int(descriptor), "rb") as file:
        content = json.load(file)
    detach(content["parent"], content["log"])
    serve(plan_from_json(content), StatusBoard(content["board"], content["world_size"]))


def plan_to_json(plan: RankPlan) -> Json:
    """Encode a plan for another interpreter, here or on another host."""
    accelerator = plan.accelerator
    return {name: getattr(plan, name) for name in _SCALARS} | encode_settings(plan.settings) | {
        "stack": accelerator.stack.name,
        "seed": accelerator.seed,
        "facts": facts_to_json(accelerator.facts),
        "peers": [facts_to_json(facts) for facts in accelerator.peers],
        "module": plan.function.__module__,
        "function": plan.function.__name__,
    }


def plan_from_json(content: Json) -> RankPlan:
    """Decode a plan from `plan_to_json`. Raises ImportError and AttributeError if its function does not exist here."""
    return RankPlan(
        function=getattr(importlib.import_module(content["module"]), content["function"]),
        accelerator=accelerator_of(content, facts_from_json(content["facts"])),
        settings=decode_settings(content),
        **{name: content[name] for name in _SCALARS},
    )


def accelerator_of(content: Json, facts: AcceleratorFacts) -> Accelerator:
    """Return the accelerator of these facts in this interpreter; `content` has its stack, seed and peers."""
    stack = accelerators.stack(content["stack"])
    if stack.plugin is not None:
        importlib.import_module(stack.plugin)
    peers = [facts_from_json(peer) for peer in content["peers"]]
    return Accelerator(facts, stack, seed=content["seed"], peers=peers)
