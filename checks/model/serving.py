"""Serving of the profile's model: prompts, then tokens one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from readiness import Accelerator, Action, Better, Cost, Measure, Measurement, Row, Skip, Yield, check, workload_schema

_COMPILER_REMEDY = "Serve call by call; report it to the maker of the stack's backend of torch.compile."
_REMEDY = "Look at which operators take the time, with the vendor's profiler; use a serving engine with fused kernels."


@check(
    "model.serving",
    title="Serving of the model: time to the first token, time between tokens, and the right tokens",
    measures={
        "supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where prompts of the model are read and tokens decoded at all.",
            title="The model reads prompts and decodes",
            why="Decoding runs other kernels than training.",
            remedy="The row names the error: update the stack, or report it to the vendor.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "first_token_ms": Measure(
            "ms", better=Better.LOWER,
            meaning="Time to the first token of a batch of prompts: median and 99th percentile.",
            why="It is how long somebody waits before an answer begins.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "between_tokens_ms": Measure(
            "ms", better=Better.LOWER,
            meaning="Time between two tokens of a batch: median and 99th percentile.",
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
        "largest_batch": Measure(
            "1", better=Better.HIGHER,
            meaning="Most conversations at once that fit into the device's memory, a power of two; plain caches, no paging.",
            why="Single tokens read all weights once for all conversations: the more there are, the cheaper each is.",
            remedy="Use an engine with paged caches, more memory, or shorter texts.",
            action=Action.ADD_HARDWARE,
        ),
        "wrong_tokens": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Tokens decoded greedily by a narrow model in float32 that float64 on the host, given the same text, would "
                "clearly not have chosen."
            ),
            title="The model's tokens are the reference's",
            why="A service that is fast and writes other words is no service.",
            remedy="Compare layer by layer (parity.layer); update the stack; report it to the vendor.",
            action=Action.CONTACT_VENDOR,
        ),
        "share_of_host": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Time on the host over that on a device of the host's memory, in turns, of prompts and of single tokens; "
                "nothing on a busy host, nor on devices of their own silicon."
            ),
            title="Serving is as fast as the host's own in {phase}",
            why="It is the only rating of a device that computes with the host's cores.",
            remedy="Look for what the device does besides.",
            action=Action.CONTACT_VENDOR,
        ),
        "compiled_supported": Measure(
            "1", better=Better.HIGHER,
            meaning="1 where torch.compile compiles the layers for prompts and tokens; nothing where it was not tried.",
            title="Serving of the model can be compiled",
            why="A compiler fuses what single calls read and write again, and starts fewer kernels for each token.",
            remedy="Update the stack or its backend of torch.compile; serve call by call until then.",
            action=Action.UPDATE_SOFTWARE,
        ),
        "compiled_wrong_tokens": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Tokens that the compiled model chooses and the same model call by call, after the same text, clearly does "
                "not: a tie between two tokens is none, logits that are no numbers are."
            ),
            title="Compiled, it chooses the tokens of plain calls ({phase})",
            why="A service that is fast and writes other words is no service.",
            remedy=_COMPILER_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "compiled_logit_error": Measure(
            "1", better=Better.LOWER,
            meaning=(
                "Largest deviation of a compiled logit from the same one call by call, after the same text, over the root "
                "mean square of that step's logits."
            ),
            why="Where tokens differ it says by how much, and how near the others are to it.",
            remedy=_COMPILER_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "compiled_first_token_ms": Measure(
            "ms", better=Better.LOWER,
            meaning="Time to the first token of a batch of prompts, compiled: median and 99th percentile.",
            why="It is how long somebody waits before an answer begins.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "compiled_between_tokens_ms": Measure(
            "ms", better=Better.LOWER,
            meaning="Time between two tokens of a batch, compiled: median and 99th percentile.",
            why="It is how fast an answer is written where serving is compiled.",
            remedy=_REMEDY,
            action=Action.CONTACT_VENDOR,
        ),
        "compiled_tokens_per_s": Measure(
            "1/s", better=Better.HIGHER,
            meaning="Tokens of all answers of a batch over the median time, compiled.",
            why="It says how many chips a service needs.",
            remedy=_REMEDY,
            action=Action.ADD_HARDWARE,
        ),
        "compiled_largest_batch": Measure(
            "1", better=Better.HIGHER,
            meaning=(
                "Most conversations at once that fit compiled, of those that fit call by call: a power of two; nothing "
                "where no time was left to compile."
            ),
            why="Graphs keep results for longer or shorter than single calls do: what fits may be more or fewer.",
            remedy="Serve large batches call by call, or with an engine whose caches have pages.",
            action=Action.CHECK_CONFIG,
        ),
        "compiled_speedup": Measure(
            "1", better=Better.HIGHER,
            meaning="Median time between two tokens call by call over that of the compiled model, in the same batch.",
            title="Compiling makes decoding no slower",
            why="A compiler that makes tokens slower is no use.",
            remedy="Report it to the maker of the stack's backend of torch.compile.",
            action=Action.CONTACT_VENDOR,
        ),
    },
    cost=Cost.SECONDS,
    typical_s=5.0,
    limit_s=180.0,
    alone=True,
    vet=workload_schema.vet,
    least={"prompt": 1, "narrow_prompt": 1, "tokens": 2, "rounds": 1, "batches": 1, "compile_within_s": 0.01},
)
def serving(
    accelerator: Accelerator,
    *,
    workload: str = "",
    dtype: str = "bfloat16",
    batches: Sequence[int] = (1, 8),
    prompt: int = 1024,
    narrow_prompt: int = 32,
    tokens: int = 16,
    rounds: int = 4,
    largest: bool = True,
    compiled: bool = True,
    compile_narrow: bool = False,
    compile_within_s: float = 60.0,
    backend: str = "inductor",
) -> Iterator[Yield]:
    """Reads prompts and decodes tokens with the profile's model, and checks a narrow one's tokens.

    Prompts are bound by products, single tokens by memory and by the start of kernels: a device can be quick at one and
    slow at the other. The model is that of `model.training` without gradients, in `dtype`, with a plain cache of keys and
    values (latents where the model has them); each of `batches` conversations at once, `prompt` random tokens, `tokens` more
    in each of `rounds`; with `largest` once more with as many conversations as fit (label `largest`). Tokens are compared on
    narrow layers of every kind, in float32 against float64 on the host.

    With `compiled` the same through torch.compile, where the stack has `backend`: layers are compiled, a graph for all of a
    kind; of the largest batch half as many while memory runs out. Each token of the narrow model, and of the true one's
    first conversation, is compared with that chosen call by call after the same text. Compiling cannot be interrupted: what
    it took before says whether the next part fits into `compile_within_s`. Narrow layers are timed so only with
    `compile_narrow`.

    Labels: `batch`, `quantile` (p50, p99), `phase` (prefill, decode).
    """
    import torch

    from readiness import strict_precision, unsupported_as_reason
    from readiness.probes.model import compiled_serving, decoder, steps
    from readiness.probes.parity import train_and_decode

    if not workload:
        raise Skip("the profile names no workload")
    config = workload_schema.load(workload_schema.find(workload)).model.get("config", {})
    plan, narrow = steps.chosen_model(accelerator, config), decoder.plan(config, reduced=True, usable_bytes=None)
    if plan is None or narrow is None:
        raise Skip(f"{workload} is no decoder whose configuration can be read")
    own = accelerator.device.type != "cpu" and not accelerator.stack.host_backed
    draw = accelerator.generator("model", "serving")
    length = prompt if own else narrow_prompt
    with unsupported_as_reason() as refusal:
        small = decoder.build(narrow, draw, accelerator.device, torch.float32)
        text = torch.randint(narrow.architecture.vocabulary, (4, 21), generator=draw)
        with strict_precision():
            decoded = train_and_decode.decode(small, text.to(accelerator.device), tokens)
        reference = decoder.Decoder(narrow).double()
        reference.load_state_dict({name: weight.cpu().double() for name, weight in small.state_dict().items()})
        wrong, clear = train_and_decode.disagreements(
            decoded.tokens, train_and_decode.forward(reference, text, decoded.tokens), torch.float32
        )
    decodes = refusal.reason is None
    yield Measurement("supported", int(decodes), {"phase": "tokens"}, about=refusal.reason)
    if decodes:
        about = f"{workload}, {narrow.described}: {wrong} of {decoded.tokens.numel()} tokens"
        yield Measurement("wrong_tokens", wrong, samples=decoded.tokens.numel(), about=about)
        yield Row({"model": f"{workload}: {narrow.described}", "tokens": decoded.tokens.numel(), "clearly_chosen": clear})
    with unsupported_as_reason() as refusal:
        model = decoder.build(plan, draw, accelerator.device, getattr(torch, dtype)).eval()
        prompts = torch.randint(plan.architecture.vocabulary, (max(batches), length), generator=draw)
        served = [
            steps.serve(accelerator, model, prompts[:batch].to(accelerator.device), tokens, rounds=rounds)
            for batch in batches
        ]
    yield Measurement("supported", int(refusal.reason is None), {"phase": "pace"}, about=refusal.reason)
    if refusal.reason is not None:
        yield Row({"model": plan.described, "refused": refusal.reason})
        return
    most = (yield from steps.largest_measurements(accelerator, model, plan, prompts, tokens)) if largest else None
    for one in served:
        yield Row({"model": f"{workload}: {plan.described}", "dtype": dtype, "batch": one.batch, "prompt": one.prompt,
                   "tokens": tokens, "rounds": rounds, "waited": one.decode.waited, **one.settled.cells()})  # fmt: skip
        yield from steps.served_measurements(one, known=own or not one.decode.busy)
    if accelerator.stack.host_backed and accelerator.device.type != "cpu":
        beside_model = decoder.Decoder(plan).to(getattr(torch, dtype))
        beside_model.load_state_dict({name: weight.cpu() for name, weight in model.state_dict().items()})
        for phase, beside in steps.served_beside_host(accelerator, model, beside_model.eval(), prompts[:1]):
            if beside.busy:
                yield Row({"phase": phase, "share_of_host": "not known: other work keeps the host busy"})
            else:
                yield Measurement("share_of_host", beside.share, {"phase": phase})
    if compiled and decodes and (own or compile_narrow):
        there = compiled_serving.Case("tokens", small, text.to(accelerator.device), tokens, decoded)
        timed = compiled_serving.Case("pace", model, prompts.to(accelerator.device), tokens)
        yield from compiled_serving.measurements(accelerator, there, timed, served, most, rounds=rounds, backend=backend,
                                                 within_s=compile_within_s, known=own)  # fmt: skip
    elif compiled:
        why = "compiling narrow layers takes longer than they tell" if decodes else "call by call it does not decode"
        yield Row({"compiled": f"not measured: {why}"})
