"""Decide whether an exception says "not supported" or reports an error: one table of wordings for all families of checks.

A refusal (the device, or the library that drives it, lacks an operator, a dtype or a feature) is a measurement. Any other
exception is an error, of which nothing follows but that something went wrong. Most stacks raise RuntimeError for both and
tell them apart by words alone, so words are what is looked at. `tests/resources/refusals.toml` is the corpus of messages
that the table is tested against: add the message there first, then the wording here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

#: A description of an exception is cut after so many characters of its message.
_LONGEST_MESSAGE = 300

#: How stacks word a refusal (any case), and where each wording comes from.
REFUSALS: tuple[tuple[str, str], ...] = (
    (
        r"(?:not|n't)[ _]?(?:(?:yet|currently|currenlty|been|have) )*(?:support|implement)",
        "aten/src/ATen/Dispatch.h (`not implemented for 'Half'`); MPSFallback.mm and its kin for XPU (`not currently "
        "implemented for`); VariableFallbackKernel.cpp of torch_npu (`not currently supported on the NPU backend`); "
        "ProcessGroupNCCL.cpp (`not currenlty supported`, sic); OperationUtils.mm (`does not have support for that "
        "dtype`); Backend.hpp of c10d (`does not support`); EZ1001 of CANN (`not implemented for DT_BFLOAT16`); names "
        "of status codes, as CUBLAS_STATUS_NOT_SUPPORTED",
    ),
    (
        r"unsupported|unimplemented|unconvertible",
        "HCCLUtils.cpp of torch_npu (`Unsupported data type for HCCL`); EZ3002 of CANN (`of Ops kernel ... is "
        "unsupported`); CUDABlas.cpp (`hipBLASLt on a unsupported architecture`); torch/csrc/cuda/nccl.cpp "
        "(`Unconvertible NCCL type`)",
    ),
    (
        r"\bonly (?:currently )?(?:support|implement|available)|\b(?:supported|implemented) only (?:on|for)\b",
        "ScaledBlas.cpp (`only supported on CUDA devices with compute capability`); mha_fwd.h of torch-xpu-ops (`only "
        "support fp16 and bf16`); Convolution.mm (`only supported on MPS for`); dispatcher (`only available for these "
        "backends`); SparseSemiStructuredLinear.cu (`Supported only on GPUs with`)",
    ),
    (r"\b(?:not |un)available (?:for|on) ", "plug-ins (`not available for 'musa' backend`)"),
    (
        r"\bno (?:kernel|(?:available|viable) (?:kernel|backend)|supported ops kernel)",
        "cudaErrorNoKernelImageForDevice; sdp_utils.cpp (`No available kernel`, `No viable backend`); sycl (`No "
        "kernel named`); EZ3003 of CANN (`No supported Ops kernel and engine are found`)",
    ),
    (r"cannot find bin of op", "EZ9999 of CANN, where its kernel package lacks an operator in these dtypes"),
    (r"could not run '", "c10/core/dispatch: `Could not run 'aten::...' with arguments from the '...' backend`"),
    (
        r"could not create a primitive descriptor",
        "oneDNN, where no implementation takes the dtypes (dnnl_unimplemented)",
    ),
    (r"\brequires? [^.]{0,40}compute capability", "sm-specific kernels of PyTorch and of its extensions"),
    (
        r"not (?:been )?compiled with [^.]{0,40}support|not enabled for build",
        "flash_api.cpp of torch-xpu-ops (`not compiled with SYCLTLA support`); attention.cu (`USE_FLASH_ATTENTION was "
        "not enabled for build`)",
    ),
    (r"no backend type associated", "torch/csrc/distributed/c10d/ProcessGroup.hpp"),
    (r"invalid scalar type", "ProcessGroupGloo.cpp, for dtypes in which it reduces nothing"),
    (r"cannot use reduceop", "ProcessGroupNCCL.cpp, ProcessGroupGloo.cpp, ProcessGroupHCCL.cpp, xccl.h"),
    (r"reduction support begins with", "enqueue.cc of NCCL, for float8 on devices before sm90"),
    (r"\bEI0003\b", "HCCL, for a dtype or a reduction that a collective does not take"),
)

#: What is an error all the same, although it is worded like a refusal, and why.
ERRORS: tuple[tuple[str, str], ...] = (
    (
        r"out[ _]of[ _](?:(?:host|device)[ _])?memory|n.t allocate|not enough memory|insufficient memory|allocation failed"
        r"|failed to allocate|alloc_failed",
        "there was no room: another size, or another moment, may do",
    ),
    (
        r"global/shared address space|illegal memory access|device-side assert triggered|unspecified launch failure"
        r"|device[_ ]lost|uncorrectable|core execution is abnormal",
        "the device faulted, or was lost; cudaErrorInvalidAddressSpace even says `operation not supported`",
    ),
    (
        r"unsupported (?:operand|format (?:string|character)|pickle protocol)|object (?:does not|doesn't) support",
        "Python's own words for a mistake in the code that called",
    ),
    (
        r"unsupported operation: (?:more than one|some) element",
        "aten/src/ATen/MemoryOverlap.cpp: the caller gave memory that overlaps",
    ),
)

_MEMORY = re.compile(ERRORS[0][0], re.IGNORECASE)
_ERROR = re.compile("|".join(words for words, _ in ERRORS), re.IGNORECASE)
_REFUSAL = re.compile("|".join(words for words, _ in REFUSALS), re.IGNORECASE)


def is_out_of_memory(problem: BaseException | None) -> bool:
    """True if the device or the host ran out of memory."""
    by_type = any(kind.__name__ in ("OutOfMemoryError", "MemoryError") for kind in type(problem).__mro__)
    return by_type or (problem is not None and _MEMORY.search(str(problem)) is not None)


def is_unsupported(problem: BaseException) -> bool:
    """True if the exception says "not supported", False if it reports an error."""
    if isinstance(problem, NotImplementedError):
        return True
    if is_out_of_memory(problem) or _ERROR.search(str(problem)):
        return False
    return _REFUSAL.search(str(problem)) is not None


def is_of_compiler(problem: BaseException) -> bool:
    """True if tracing or compiling refused (torch.compile raises kinds of its own), rather than the device failing."""
    return type(problem).__module__.startswith(("torch._dynamo", "torch._inductor"))


def describe(problem: BaseException) -> str:
    """Return the type and message of an exception in one line, cut to a few hundred characters."""
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:_LONGEST_MESSAGE]}"


@dataclass(slots=True)
class Refusal:
    """Refusal of an operation: `reason` stays None while it is supported."""

    reason: str | None = None


@contextlib.contextmanager
def unsupported_as_reason() -> Iterator[Refusal]:
    """Turn an exception that says "not supported" into a reason. Every other exception passes through unchanged."""
    refusal = Refusal()
    try:
        yield refusal
    except (NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError) as problem:
        if not is_unsupported(problem):
            raise
        refusal.reason = describe(problem)
