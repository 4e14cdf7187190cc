"""Names of all calls that reach the simulated device, to refuse defects that could never act. Needs no torch to read.

The names of PyTorch's operators and of their arguments stand in operator_names.txt, a line each. `python -m
readiness.simulator.operator_table > FILE` writes it anew for the PyTorch that is installed. A line that begins with `-`
is an operator that PyTorch takes apart before it reaches a device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("operator_names.txt")
#: What is no operator of PyTorch's, with its arguments.
_OWN: Mapping[str, tuple[str, ...]] = {
    "copy::to_device": ("source", "target"), "copy::to_host": ("source", "target"), "copy::on_device": ("source", "target"),
    "copy::on_host": ("source", "target"), "stream::wait": (), "stream::synchronize": (), "memory::allocate": (),
    "memory::info": (), "memory::reported": (), "memory::allocated": (), "memory::managed": (), "event::elapsed_time": (),
    "dlpack::export": ("tensor",),
    "checkpoint::save": (), "checkpoint::load": (), "layout::strided": (),
}  # fmt: skip
#: Namespaces of which every name is known here. Others are those of libraries with operators of their own.
SPACES = frozenset({"aten", "c10d", "autocast", "copy", "stream", "memory", "checkpoint", "layout", "event", "dlpack"})
#: What the best known of the operators that are taken apart are made of.
MADE_OF: Mapping[str, str] = {
    "linear": "addmm and mm", "matmul": "mm, bmm, mv and dot", "einsum": "bmm",
    "clone": "copy::on_device and layout::strided", "contiguous": "copy::on_device", "to": "copy::*",
    "reshape": "copy::on_device", "layer_norm": "native_layer_norm",
    "group_norm": "native_group_norm", "batch_norm": "native_batch_norm", "softmax": "_softmax",
    "log_softmax": "_log_softmax",
    "scaled_dot_product_attention": "_scaled_dot_product_flash_attention_for_cpu",
    "cross_entropy_loss": "_log_softmax and nll_loss_forward",
    "dropout": "bernoulli_ and mul.Tensor", "conv1d": "convolution", "conv2d": "convolution", "conv3d": "convolution",
    "max_pool2d": "max_pool2d_with_indices", "norm": "linalg_vector_norm", "embedding_backward": "embedding_dense_backward",
    "mul.Scalar": "mul.Tensor", "add.Scalar": "add.Tensor",
}  # fmt: skip


@cache
def known_names() -> Mapping[str, tuple[str, ...]]:
    """Return the full names of all calls that reach the device, with the names of their arguments."""
    found = dict(_OWN)
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        if not line.startswith(("-", "#")):
            name, *arguments = line.split()
            found[name] = tuple(arguments)
    return found


@cache
def taken_apart() -> frozenset[str]:
    """Return the full names of operators that PyTorch decomposes before they reach a device, or that touch no memory."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return frozenset(line[1:] for line in lines if line.startswith("-"))


def matching_names(glob: str) -> Iterator[str]:
    """Return the known names that match a glob."""
    if not any(character in glob for character in "*?["):
        if glob in known_names():
            yield glob
        return
    yield from (name for name in known_names() if fnmatchcase(name, glob))
