"""All threads of the host: operators at sizes at which kernels split their work among threads.

The sweep's processes have one thread, as many of them share the host; what threads do to each other cannot appear there.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from functools import cache

import torch

from readiness.host.runqueue_wait import usable_cores
from readiness.probes.operators.edge_inputs import Calls, EdgeSample, InputFactory
from readiness.probes.operators.known_defects import ON_ALL_THREADS
from readiness.probes.operators.samples import Sample

#: Rows and columns of a tensor that kernels split: more than 32,768 elements for each thread, and nothing that divides them.
ROWS, COLUMNS = 517, 1_031
#: So often each call is repeated: a race is seen now and then.
REPETITIONS = 2
#: So long a process may take to add up a tensor on all threads. A pool of threads that was lost in a fork never does.
_PATIENCE_S = 10.0


def of(name: str, dtype: torch.dtype, *, gradients: bool) -> Iterator[Sample]:
    """Yield the call of this operator that all threads share. Draws from PyTorch's own generator."""
    maker = _BY_NAME.get(name)
    if maker is None or dtype is not torch.float32:
        return
    for _, given in maker(InputFactory(dtype, gradients)):
        *arguments, last = given
        named = isinstance(last, dict)
        yield Sample(
            tuple(arguments if named else given), last if named else {}, EdgeSample(), label=ON_ALL_THREADS,
            threads=max(2, usable_cores()), leniency=4.0,
        )  # fmt: skip


def available() -> bool:
    """True if this process can use more than one thread: one that was forked from a process with threads cannot."""
    return _available_in(os.getpid())  # what is known of the process that this one was forked from does not hold here


@cache
def _available_in(_process: int) -> bool:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(2)
            torch.ones(ROWS, COLUMNS).exp().sum()
            os.write(writing, b".")
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], _PATIENCE_S)
        return bool(ready) and os.read(reading, 1) == b"."
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _one(factory: InputFactory) -> Calls:
    yield "", (factory.positive(ROWS, COLUMNS),)


def _two(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, COLUMNS), factory.positive(ROWS, COLUMNS))


def _along(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, COLUMNS), 1)


def _best(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, COLUMNS), 5)


def _chosen(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, COLUMNS), torch.rand(ROWS, COLUMNS) > 0.5, factory.numbers(ROWS, COLUMNS))


def _normed(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, COLUMNS), (COLUMNS,), factory.positive(COLUMNS), {"eps": 1e-5})


def _product(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, 129), factory.numbers(129, COLUMNS))


def _linear(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, 129), factory.numbers(COLUMNS, 129), factory.numbers(COLUMNS))


def _batches(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(37, 65, 33), factory.numbers(37, 33, 129))


def _convolved(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(5, 8, 65, 67), factory.numbers(16, 8, 3, 3), factory.numbers(16), {"padding": 1})


def _pooled(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(5, 8, 130, 134), 2)


def _looked_up(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(97, 65), factory.indices(97, 4_099))


def _selected(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, COLUMNS), 0, factory.indices(ROWS, ROWS))


def _gathered(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, COLUMNS), 1, factory.indices(COLUMNS, ROWS, COLUMNS))


def _scattered(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, 97), 1, factory.indices(97, ROWS, COLUMNS), factory.numbers(ROWS, COLUMNS))


def _added(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(97, COLUMNS), 0, factory.indices(97, ROWS), factory.numbers(ROWS, COLUMNS))


def _put(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, COLUMNS), (torch.randperm(ROWS),), factory.numbers(ROWS, COLUMNS))


def _joined(factory: InputFactory) -> Calls:
    yield "", ([factory.numbers(ROWS, COLUMNS), factory.numbers(ROWS, 17)], 1)


def _masked(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, COLUMNS), torch.rand(ROWS, COLUMNS) > 0.5, 3.0)


def _loss(factory: InputFactory) -> Calls:
    yield "", (factory.numbers(ROWS, COLUMNS), factory.indices(COLUMNS, ROWS))


def _attention(factory: InputFactory) -> Calls:
    yield "", (*(factory.numbers(3, 4, 129, 16) for _ in range(3)), {"is_causal": True})


_MAKERS: dict[Callable[[InputFactory], Calls], tuple[str, ...]] = {
    _one: (
        "exp", "nn.functional.gelu", "nn.functional.silu", "clone", "sum", "mean", "amax", "argmax", "var", "prod",
        "linalg.vector_norm",
    ),
    _two: ("add", "mul"),
    _along: ("softmax", "log_softmax", "cumsum", "sort"),
    _best: ("topk",),
    _chosen: ("where",),
    _normed: ("nn.functional.layer_norm", "nn.functional.rms_norm"),
    _product: ("mm",),
    _linear: ("nn.functional.linear",),
    _batches: ("bmm",),
    _convolved: ("nn.functional.conv2d",),
    _pooled: ("nn.functional.max_pool2d",),
    _looked_up: ("nn.functional.embedding",),
    _selected: ("index_select",),
    _gathered: ("gather",),
    _scattered: ("scatter_add",),
    _added: ("index_add",),
    _put: ("index_put",),
    _joined: ("cat",),
    _masked: ("masked_fill",),
    _loss: ("nn.functional.cross_entropy",),
    _attention: ("nn.functional.scaled_dot_product_attention",),
}  # fmt: skip
_BY_NAME = {name: maker for maker, names in _MAKERS.items() for name in names}
#: Every operator that can be tried on all threads.
NAMES = tuple(_BY_NAME)
