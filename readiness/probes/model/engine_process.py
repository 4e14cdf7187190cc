"""Process that runs a serving engine: started by `serving_engine`, it imports vLLM, answers line by line, and ends.

What it has learnt is on disk before it goes on: an engine may hang or take its process along.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Say = Callable[[dict[str, Any]], None]


def main(request_file: str, answer_file: str) -> int:
    """Serve as the request says; each answer is a line of JSON. Return 0, or 1 after an error, which is an answer too."""
    request = json.loads(Path(request_file).read_text())
    answers = os.open(answer_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(answer: dict[str, Any]) -> None:
        os.write(answers, (json.dumps(answer) + "\n").encode())
        os.fsync(answers)

    step = "import"
    try:
        began = time.perf_counter()
        import vllm  # type: ignore[import-not-found,import-untyped,unused-ignore]

        say({"step": step, "version": str(getattr(vllm, "__version__", "unknown")), "seconds": time.perf_counter() - began})
        step, began = "start", time.perf_counter()
        engine = vllm.LLM(
            model=request["model"], skip_tokenizer_init=True, dtype=request["dtype"], seed=0,
            load_format=request["load_format"], max_model_len=request["longest"],
            gpu_memory_utilization=request["memory_share"], enforce_eager=request["eager"],
        )  # fmt: skip
        say({"step": step, "seconds": time.perf_counter() - began})
        if "prompts" in request:
            step = "tokens"
            say({"step": step, "tokens": _tokens(_generate(vllm, engine, request["prompts"], request["count"]))})
        for batch in request.get("batches", ()):
            step = f"batch {batch}"
            _time(vllm, engine, request, batch, say)
    except BaseException as problem:  # noqa: BLE001 - engines raise whatever they like, and exit
        say({"step": step, "error": f"{type(problem).__name__}: {' '.join(str(problem).split())[:400]}"})
        return 1
    return 0


def _generate(vllm: Any, engine: Any, prompts: list[list[int]], count: int) -> Any:
    """Decode greedily, exactly `count` tokens for each prompt."""
    how = vllm.SamplingParams(temperature=0.0, max_tokens=count, min_tokens=count, ignore_eos=True, detokenize=False)
    return engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], how, use_tqdm=False)


def _tokens(outputs: Any) -> list[list[int]]:
    return [[int(token) for token in output.outputs[0].token_ids] for output in outputs]


def _time(vllm: Any, engine: Any, request: dict[str, Any], batch: int, say: Say) -> None:
    """Time prompts alone, and with tokens after them; each round has prompts of its own, so that no cache knows them."""
    length, count, words, state = request["length"], request["count"], request["vocabulary"], request["seed"] + batch
    for number in range(request["rounds"] + 1):
        seconds = []
        for wanted in (1, count):
            prompts = []
            for _ in range(batch):
                prompt = []
                for _ in range(length):
                    state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                    prompt.append((state >> 33) % words)
                prompts.append(prompt)
            began = time.perf_counter()
            found = _tokens(_generate(vllm, engine, prompts, wanted))
            seconds.append(time.perf_counter() - began)
            if [len(tokens) for tokens in found] != [wanted] * batch:
                raise RuntimeError(f"{batch} prompts, {wanted} tokens each: other numbers of tokens came back")
        if number:  # the first round warms up
            say({"step": "round", "batch": batch, "first_s": seconds[0], "all_s": seconds[1]})
