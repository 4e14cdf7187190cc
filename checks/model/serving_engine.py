"""The profile's model in a serving engine: vLLM, or the vendor's fork of it, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Row, Skip, Yield, check, workload_schema

_REMEDY = "Update the engine or the vendor's fork of it; compare with model.serving, which uses plain torch."


@check(
    "model.serving_engine",
    title="The model in a serving engine (vLLM): it starts, writes the right tokens, and how fast",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where the engine starts and serves the model.",
            title="A serving engine serves the model ({phase})",
            why="Models are served by engines: one that does not start serves nobody.",
            remedy="The row names the error: install the engine that belongs to this stack, or report it to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "start_s": Measure(
            "s", better=Better.LOWER,
            meaning="Time from the engine's start until it serves, without the import of its package.",
            why="A service that is started anew is away for so long.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "wrong_tokens": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Tokens that the engine decoded greedily with a narrow model in bfloat16 and that float64 on the host, with "
                "the same weights and the same text, would clearly not have chosen."
            ),
            title="The serving engine writes the reference's tokens",
            why="A service that is fast and writes other words is no service.",
            remedy="Switch off the engine's options one by one; report it to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "first_token_ms": Measure(
            "ms", better=Better.LOWER,
            meaning="Time to the first token of a batch of prompts: median and 99th percentile of the rounds.",
            why="It is how long somebody waits before an answer begins.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "between_tokens_ms": Measure(
            "ms", better=Better.LOWER,
            meaning="Time for each further token of a batch, the mean of a round: median and 99th percentile of rounds.",
            why="It is how fast an answer is written.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "tokens_per_s": Measure(
            "1/s", better=Better.HIGHER,
            meaning="Tokens of all conversations over the median time: of prompts (prefill) and of answers (decode).",
            why="It says how many chips a service needs.",
            remedy=_REMEDY,
            action=Action.ADD_HARDWARE,
        ),
    },
    cost=Cost.MINUTES,
    typical_s=180.0,
    limit_s=1200.0,
    alone=True,
    vet=workload_schema.vet,
    least={"prompt": 1, "tokens": 2, "rounds": 1, "batches": 1, "deadline_s": 1},
)  # fmt: skip
def serving_engine(
    accelerator: Accelerator,
    *,
    workload: str = "",
    batches: Sequence[int] = (1, 8, 32),
    prompt: int = 1024,
    tokens: int = 32,
    rounds: int = 5,
    deadline_s: float = 400.0,
) -> Iterator[Yield]:
    """Starts vLLM with a narrow model, compares its tokens with float64, and times it with as many true layers as fit.

    The extra `serve`, or the vendor's own build: where no package `vllm` is installed nothing is measured, and nothing is
    fetched. The engine runs in a process of its own, which is ended with all that it started after `deadline_s`. The narrow
    model has the workload's kinds of layers (Llama, Qwen3, their experts), random weights, and is written as its maker
    publishes such models; for pace the engine makes up the weights itself. Prompts are random tokens, each used once.

    Labels: `phase` (tokens, pace; prefill, decode), `batch`, `quantile` (p50, p99).
    """
    from readiness import temp_dir
    from readiness.probes.model import published_layout
    from readiness.probes.model import serving_engine as probe
    from readiness.probes.model import serving_engine_runs as runs

    if not workload:
        raise Skip("the profile names no workload")
    if accelerator.stack.host_backed and accelerator.device.type != "cpu":
        raise Skip("a serving engine knows no simulated chip")
    if not probe.is_installed():
        raise Skip("vLLM is not installed: pip install 'readiness[serve]', or the vendor's fork of it")
    config = workload_schema.load(workload_schema.find(workload)).model.get("config", {})
    narrow = published_layout.plan(config)
    if narrow is None:
        raise Skip(f"how models such as {workload} are published is not known here")
    with temp_dir() as folder:
        yield from runs.tokens(accelerator, config, narrow, folder, tokens, deadline_s)
        if accelerator.device.type == "cpu":
            yield Row({"pace": "not measured: the host's processors are not what an engine is bought for"})
            return
        how = {"batches": list(batches), "length": prompt, "count": tokens, "rounds": rounds}
        yield from runs.pace(accelerator, config, folder, how, deadline_s)
