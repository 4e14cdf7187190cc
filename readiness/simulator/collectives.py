"""Collectives of the device, over gloo: the same call on the host's view of the memory.

PyTorch's gloo takes tensors of the host only; for the simulated device each collective is registered here, so that
`init_process_group("gloo")` serves it. A defect that changes what was received waits until it has been received.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from readiness.simulator.call import Call
from readiness.simulator.device import SimulatedDevice
from readiness.simulator.injection import Stage
from readiness.simulator.kernels import KIND, _host

NAMES = (
    "send", "recv_", "recv_any_source_", "reduce_", "broadcast_", "allreduce_", "allreduce_coalesced_", "allgather_",
    "_allgather_base_", "allgather_coalesced_", "allgather_into_tensor_coalesced_", "reduce_scatter_",
    "_reduce_scatter_base_", "reduce_scatter_tensor_coalesced_", "gather_", "scatter_", "alltoall_", "alltoall_base_",
    "barrier",
)  # fmt: skip

#: The position of the arguments that a collective writes to; the others are only read. Source: c10d's Ops.cpp.
_WRITES = {
    "recv_": (0,), "recv_any_source_": (0,), "reduce_": (0,), "broadcast_": (0,), "allreduce_": (0,),
    "allreduce_coalesced_": (0,), "allgather_": (0,), "_allgather_base_": (0,), "allgather_coalesced_": (0,),
    "allgather_into_tensor_coalesced_": (0,), "reduce_scatter_": (0,), "_reduce_scatter_base_": (0,),
    "reduce_scatter_tensor_coalesced_": (0,), "gather_": (0,), "scatter_": (0,), "alltoall_": (0,), "alltoall_base_": (0,),
}  # fmt: skip

#: Of these gloo takes tensors with gaps and treats them as if they had none (github.com/pytorch/pytorch/issues/192920).
#: The simulated device refuses them, as NCCL does, unless it has a defect that ignores strides.
_IGNORES_GAPS = frozenset({"allreduce_", "broadcast_", "reduce_", "scatter_", "alltoall_base_"})

#: Where the other side's rank stands among the arguments.
_PEER = {"send": 2, "recv_": 2}


class _HasDevice(Protocol):
    device: SimulatedDevice


def register(current: _HasDevice) -> object:
    """Register all collectives; they last as long as the returned object. Return None if torch.distributed is missing."""
    if not torch.distributed.is_available():
        return None
    library = torch.library.Library("c10d", "IMPL")
    for name in NAMES:
        library.impl(name, _collective(name, current), "PrivateUse1")
    _bring_barriers_here(current)
    return library


def _bring_barriers_here(current: _HasDevice) -> None:
    """A barrier has no tensor, and torch takes gloo's of the host: one on which a defect acts goes to the device."""
    distributed = torch.distributed.distributed_c10d
    plain = distributed.barrier

    def barrier(group: Any = None, *arguments: Any, **options: Any) -> Any:
        """Wait for all ranks of the group."""
        group = group or distributed._get_default_group()
        if group is distributed.GroupMember.NON_GROUP_MEMBER or not any(current.device.faults_of("c10d::barrier")):
            return plain(group, *arguments, **options)
        before = group.bound_device_id
        group.bound_device_id = torch.device(KIND, 0)
        try:
            return plain(group, *arguments, **options)
        finally:
            group.bound_device_id = before

    torch.distributed.barrier = distributed.barrier = barrier


def _collective(name: str, current: _HasDevice) -> Callable[..., Any]:
    operator = getattr(torch.ops.c10d, name).default
    position = _PEER.get(name)

    def kernel(*arguments: Any) -> Any:
        hosted = [_host(argument) for argument in arguments]
        device = current.device
        before, after = device.faults_of(f"c10d::{name}")
        if name in _IGNORES_GAPS and not any(fault.defect.kind == "ignore-strides" for fault in before):
            _refuse_gaps(hosted)
        if not before and not after:
            begun = operator(*hosted)
            device.follow(begun)
            return _written_results(begun, arguments)
        waiting = [*after, *(fault for fault in before if fault.kind.at is Stage.AROUND)]
        call = Call(f"c10d::{name}", hosted, {}, arguments)
        if position is not None:
            call.peer = int(arguments[position])
        groups = (found for argument in arguments if (found := _group(argument)) is not None)
        call.group, call.rank = next(groups, (None, None))
        given: list[Any] = []

        def run() -> Any:
            given.append(operator(*call.arguments))
            # Only where it must be, and never for a send, which writes nothing here: two ranks that each waited for their
            # own before they receive would wait for ever.
            written = _WRITES.get(name, ())
            if name != "send" and any(fault.concerns(call) for fault in waiting):
                given[0] = _ended(given[0], _tensors([arguments[index] for index in written]))
            return [call.arguments[index] for index in written]

        device.perform(call, run)
        device.follow(given[0])
        return _written_results(given[0], arguments)

    return kernel


def _group(argument: Any) -> tuple[int, int] | None:
    """How many ranks there are, and which this is, where an argument of a collective is its group; None where it is none."""
    if not isinstance(argument, torch.ScriptObject) or not argument._type().qualified_name().endswith(".ProcessGroup"):
        return None
    group: Any = torch._C._distributed_c10d.ProcessGroup
    unboxed = group.unbox(argument)
    return int(unboxed.size()), int(unboxed.rank())


def _refuse_gaps(arguments: Any) -> None:
    for tensor in _tensors(arguments):
        reach = 1 + sum((size - 1) * step for size, step in zip(tensor.size(), tensor.stride(), strict=True))
        if tensor.numel() and reach != tensor.numel():
            raise ValueError("Tensors must be contiguous")


def _written_results(result: Any, arguments: Any) -> Any:
    """Return the result of a collective with the tensors that were passed to it as outputs."""
    if isinstance(result, tuple):
        return (arguments[0], *result[1:])
    return result


def _tensors(values: Any) -> list[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        return [values]
    return [tensor for value in values for tensor in _tensors(value)] if isinstance(values, list | tuple) else []


def _ended(result: Any, written: list[torch.Tensor]) -> Any:
    """Wait for a collective; return its result with a finished work object whose future holds the written tensors.

    DistributedDataParallel asks, and a process whose future gives nothing dies.

    Gloo's own would copy the results of reduce_scatter out once more, over what a defect made of them, when it is waited
    for again.
    """
    distributed: Any = torch._C._distributed_c10d
    work = result[-1] if isinstance(result, tuple) else result
    distributed.Work.unbox(work).wait()
    done: torch.futures.Future[list[torch.Tensor]] = torch.futures.Future()
    done.set_result(written)
    boxed = distributed._create_work_from_future(done).boxed()
    return (*result[:-1], boxed) if isinstance(result, tuple) else boxed
