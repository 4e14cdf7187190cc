"""Defects of collectives. They act on the results of a finished call, or on what a rank puts into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from readiness.simulator.faults import kind
from readiness.simulator.injection import Injection, Stage

if TYPE_CHECKING:
    import torch


@kind("collective-corrupt", at=Stage.AFTER, severity=1e-2, unit="relative error", domain="c10d::*")
def collective_corrupt(injection: Injection) -> bool:
    """One element of what a rank receives is wrong by the severity (of whole numbers: by one at least)."""
    found = [*injection.floats(), *injection.integers()][:1]
    for tensor in found:
        _spoil(injection, tensor)
    return bool(found)


def _spoil(injection: Injection, tensor: torch.Tensor) -> None:
    flat = tensor.view(-1) if tensor.is_contiguous() else tensor.reshape(-1)
    index = injection.random.randrange(flat.numel())
    if tensor.is_floating_point():
        value = float(flat[index])
        flat[index] = value + (abs(value) * injection.severity or injection.severity)
    elif not tensor.is_complex():
        count = int(flat[index])
        flat[index] = count + max(1, int(abs(count) * injection.severity)) if tensor.dtype.is_signed else count ^ 1


#: Where the tensors that a rank puts in stand among the arguments. Source: c10d's Ops.cpp.
_READ = {
    "send": 0, "allreduce_": 0, "reduce_": 0, "allgather_": 1, "_allgather_base_": 1, "reduce_scatter_": 1,
    "_reduce_scatter_base_": 1, "alltoall_": 1, "alltoall_base_": 1, "gather_": 1,
}  # fmt: skip


@kind("send-corrupt", at=Stage.BEFORE, severity=1e-2, unit="relative error", domain="c10d::*")
def send_corrupt(injection: Injection) -> bool:
    """One element of what a rank sends is wrong by the severity on its way out; its own memory stays right."""
    position = _READ.get(injection.call.name.partition("::")[2].partition(".")[0])
    if position is None:
        return False
    given = injection.call.arguments[position]
    if position == 0 and not injection.call.name.endswith("::send"):
        return _spoil_first(injection, given)  # what is sent lies where the result comes to lie
    injection.call.arguments[position] = sent = _copied(given)
    return _spoil_first(injection, sent)


def _copied(value: Any) -> Any:
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value.clone()


def _spoil_first(injection: Injection, value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_spoil_first(injection, item) for item in value)
    if value.numel():
        _spoil(injection, value)
    return bool(value.numel())


@kind("sum-for-mean", at=Stage.AROUND, domain="c10d::allreduce_")
def sum_for_mean(injection: Injection) -> None:
    """A mean over ranks is not divided by their number. It must be planted on all chips of the machine.

    Which reduction a call asks for no device can see. So the same is first asked for a number that tells: it is 0 on the
    first rank and 1 on the others, and only a mean of that lies between.
    """
    import torch
    from torch.distributed import ProcessGroup

    call = injection.call
    if call.ended:
        if injection.memory.pop("mean", False):
            for tensor in injection.floats():
                tensor.mul_(injection.memory["ranks"])
        return
    group = ProcessGroup.unbox(call.arguments[1])
    probe = torch.full((1,), float(group.rank() > 0))
    if group.size() > 1 and any(tensor.is_floating_point() for tensor in call.tensors):
        operator = torch.ops.c10d.allreduce_.default
        _, work = operator([probe], call.arguments[1], call.arguments[2], None, False, -1)
        torch._C._distributed_c10d.Work.unbox(work).wait()
        injection.memory["mean"], injection.memory["ranks"] = 0 < float(probe) < 1, group.size()


@kind("collective-mismatch", at=Stage.AFTER, severity=1e-6, unit="relative difference", domain="c10d::*")
def collective_mismatch(injection: Injection) -> bool:
    """The ranks end with different results: all elements of this one's differ in the last digits."""
    import torch

    if injection.device.number == 0 and not injection.settings.get("first", False):
        return False  # somebody must keep the right result for the others to differ from
    found = injection.floats()
    for tensor in found:
        tensor.mul_(1 + max(injection.severity, 2 * torch.finfo(tensor.dtype).eps))
    return bool(found)


_FROM_ALL = ("c10d::allgather_", "c10d::_allgather_base_", "c10d::gather_", "c10d::alltoall_")


@kind("wrong-order", at=Stage.AFTER, domain=_FROM_ALL)
def wrong_order(injection: Injection) -> bool:
    """What comes from several ranks comes in another order: in the place of each rank stands what the next one sent."""
    import torch

    tensors, ranks = injection.call.outputs(), injection.call.group or 1
    if len(tensors) == 1 and tensors[0].numel() % ranks == 0:
        tensors = list(tensors[0].view(-1).chunk(ranks)) if tensors[0].is_contiguous() else []
    if len(tensors) < 2 or any(tensor.shape != tensors[0].shape for tensor in tensors):
        return False
    turned = [tensor.clone() for tensor in (*tensors[1:], tensors[0])]
    differs = not all(map(torch.equal, tensors, turned))
    for tensor, other in zip(tensors, turned, strict=True):
        tensor.copy_(other)
    return differs
