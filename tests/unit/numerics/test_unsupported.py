"""Is an exception a refusal ("not supported") or an error? The corpus of messages, and the rules beyond words."""

from __future__ import annotations

import builtins
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from readiness.numerics import unsupported
from readiness.numerics.unsupported import describe, is_out_of_memory, is_unsupported, unsupported_as_reason
from readiness.probes.operators.outcomes import Phase, failed
from tests.support.paths import RESOURCES

CORPUS = tomllib.loads((RESOURCES / "refusals.toml").read_text(encoding="utf-8"))["message"]
#: Without their type, so that words alone decide: these are refusals by type on today's stacks.
BY_WORDS = [message for message in CORPUS if message.get("raised") == "NotImplementedError"]


def problem(message: dict[str, Any]) -> Exception:
    name = message.get("raised", "RuntimeError")
    kind: Callable[[str], Exception] = torch.OutOfMemoryError if name == "OutOfMemoryError" else getattr(builtins, name)
    return kind(message["text"])


def named(message: dict[str, Any]) -> str:
    return f"{message['stack']}: {message['text'][:60]}"


@pytest.mark.parametrize("message", CORPUS, ids=named)
def test_the_corpus(message: dict[str, Any]) -> None:
    assert is_unsupported(problem(message)) is (message["verdict"] == "unsupported"), message["source"]


@pytest.mark.parametrize("message", BY_WORDS, ids=named)
def test_the_words_alone_do_where_a_stack_raises_another_type(message: dict[str, Any]) -> None:
    assert is_unsupported(RuntimeError(message["text"]))


def test_the_corpus_is_complete_and_plain() -> None:
    stacks = {message["stack"] for message in CORPUS}
    assert {"PyTorch", "CUDA", "ROCm", "MPS", "XPU", "torch_npu", "CANN", "HCCL", "NCCL", "gloo", "XCCL"} <= stacks
    assert {message["verdict"] for message in CORPUS} == {"unsupported", "error"}
    assert len({message["text"] for message in CORPUS}) == len(CORPUS)
    assert all(message["source"] for message in CORPUS)
    assert len([message for message in CORPUS if message["verdict"] == "error"]) > 30


@pytest.mark.parametrize("table", [unsupported.REFUSALS, unsupported.ERRORS], ids=["refusals", "errors"])
def test_no_wording_is_in_the_table_without_a_message_that_needs_it(
    table: tuple[tuple[str, str], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    name, verdict = ("_REFUSAL", True) if table is unsupported.REFUSALS else ("_ERROR", False)
    texts = [message["text"] for message in CORPUS if (message["verdict"] == "unsupported") is verdict]
    for words, source in table:
        assert source
        assert any(re.search(words, text, re.IGNORECASE) for text in texts), words
    if table is unsupported.REFUSALS:
        for dropped, _ in table:
            monkeypatch.setattr(unsupported, name, re.compile("|".join(w for w, _ in table if w != dropped), re.IGNORECASE))
            assert any(not is_unsupported(RuntimeError(text)) for text in texts), f"{dropped} decides over no message"


@pytest.mark.parametrize("message", [message for message in CORPUS if message.get("raised") != "NotImplementedError"], ids=named)
def test_every_family_gives_the_same_verdict(message: dict[str, Any]) -> None:
    """Operators call it missing or raising, parity and collectives turn it into a reason or let it through."""
    refused = message["verdict"] == "unsupported"
    assert failed(problem(message), Phase.FORWARD, "").raised is not refused
    if refused:
        with unsupported_as_reason() as refusal:
            raise problem(message)
        assert refusal.reason == describe(problem(message))
    else:
        with pytest.raises(type(problem(message))), unsupported_as_reason():
            raise problem(message)


def test_the_exception_type_outweighs_its_message() -> None:
    assert is_unsupported(NotImplementedError(""))
    assert not is_unsupported(torch.OutOfMemoryError("this allocator does not support so much"))
    assert not is_unsupported(MemoryError("not supported"))
    assert not is_unsupported(RuntimeError("CUDA out of memory: expandable segments are not supported here"))


def test_out_of_memory_in_every_makers_words() -> None:
    for message in CORPUS:
        said = any(words in message["text"].lower() for words in ("memory. ", "allocate", "memory (", "alloc_failed", "device_memory"))
        assert is_out_of_memory(problem(message)) is said, message["text"]
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(None)


def test_other_exception_types_pass_whatever_their_message() -> None:
    with pytest.raises(KeyError), unsupported_as_reason():
        raise KeyError("not supported")


def test_a_description_is_one_line_of_bounded_length() -> None:
    text = describe(RuntimeError("first\n  second" + " x" * 1000))
    assert text.startswith("RuntimeError: first second x")
    assert "\n" not in text
    assert len(text) <= len("RuntimeError: ") + 300
