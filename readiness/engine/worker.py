"""The child process that runs one check on one accelerator and sends its evidence through a pipe (`evidence_pipe`).

What the check and its libraries print goes to the log, never into that pipe. The same function serves a process forked
from the prepared one (`readiness.isolation.forkserver`) and a fresh interpreter.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import operator
import os
import platform
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from readiness import accelerators, check_registry
from readiness.accelerators import remote_devices
from readiness.accelerators.base import Accelerator
from readiness.accelerators.run_timeline import RunTimeline
from readiness.check_registry import Check, Skip
from readiness.datamodel import Evidence, Measurement, Note, Row, Status
from readiness.documents import assessment
from readiness.documents.strict_json import plain
from readiness.errors import Exit, ReadinessError
from readiness.host import disk, runqueue_wait, temp_dirs
from readiness.host.gc_pause import without_collection
from readiness.isolation import worker_log
from readiness.isolation.evidence_pipe import MOST_MEASUREMENTS, MOST_ROWS, PipeLostError, Sender
from readiness.judging import measurement_values

#: What a measurement is about is a line, not a table: the rows are for that.
MOST_ABOUT = 500

_LONGEST_NOTE = 1000
_LONGEST_REASON = 1000

Emit = Callable[[Measurement | Row | Note], None]
Send = Callable[[str, Any], None]


#: Environment variables that change results or recovery; their values become evidence.
_REPORTED_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS",
    "MKL_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ENABLE_MPS_FALLBACK",
    "TORCH_NPU_FALLBACK_CPU_DISABLE", "INF_NAN_MODE_ENABLE", "TASK_QUEUE_ENABLE", "HCCL_DETERMINISTIC",
    "HCCL_OP_RETRY_ENABLE", "ASCEND_RT_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION", "ZE_AFFINITY_MASK", "TORCH_DISTRIBUTED_DEBUG",
)  # fmt: skip


#: The property of an accelerator under which its host's variables of collectives stand, whose they are, and which of them
#: name a host's own devices, addresses and files.
COLLECTIVE_VARIABLES = "collective_variables"
_LIBRARIES = ("NCCL_", "RCCL_", "HCCL_", "CNCL_", "MCCL_", "CCL_", "TORCH_NCCL_", "GLOO_", "UCX_")
_OF_ONE_HOST = (
    "IFNAME", "IFACE", "HCA", "NET_DEVICES", "DEBUG", "FILE", "HOSTID", "SUPERPOD", "IP", "PORT", "LOG", "DIR", "PATH",
)  # fmt: skip


def serve(request: Mapping[str, Any], pipe: int) -> int:
    """Do one job in this process and send its results; return the exit code.

    `request` is what `readiness.isolation.worker_pool` asks for: a check on an accelerator, the discovery of a stack, or a
    call. The exit code is 70 where what it yields could not be delivered: nothing is known then.
    """
    worker_log.open_streams()
    faulthandler.enable()
    with contextlib.suppress(AttributeError):  # not everywhere
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fresh interpreter inherits that the forkserver ignores it
    _be_the_first_to_go()
    try:
        send = Sender(pipe).send
        match request["job"]:
            case "check":
                _serve_check(request, send)
            case "discover":
                _serve_discovery(request, send)
            case "call":
                _serve_call(request, send)
    except BaseException:  # noqa: BLE001 - also where its last word does not fit into the pipe
        worker_log.print_traceback()
        return Exit.INTERNAL
    return 0


def _be_the_first_to_go() -> None:
    # When memory runs out, the kernel shall take the check, not the tool that watches it, nor the user's shell.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _serve_check(request: Mapping[str, Any], send: Send) -> None:
    try:
        check = check_registry.load(request["check"], request["file"])
        facts = assessment.facts_from_json(request["accelerator"])
        accelerator = Accelerator(
            facts,
            accelerators.stack(facts.stack),
            seed=request["seed"],
            peers=[remote_devices.delta_decode(peer, request["accelerator"]) for peer in request["peers"]],
            kept=Path(request["kept"]) if request.get("kept") else None,
            shared=Path(request["shared"]) if request.get("shared") else None,
            timeline=RunTimeline.from_json(request["timeline"]) if request.get("timeline") else None,
        )
        with without_collection():
            import torch  # noqa: F401 - in a fresh interpreter this is what takes time before the limit starts

        os.environ[temp_dirs.PURGED_VARIABLE] = temp_dirs.purged_prefix()
        accelerator.enter()
        settings = {name: _like(value, check.settings[name]) for name, value in request["settings"].items()}
    except BaseException as problem:  # noqa: BLE001 - it becomes evidence
        worker_log.print_traceback()
        send("end", {"status": Status.ERROR.value, "reason": f"the check could not be started: {_reason(problem)}"})
        return
    # Devices whose stack wants it are left alone for a while after a process that used them together was killed.
    time.sleep(max(request.get("not_before", 0.0) - time.monotonic(), 0.0))
    send("ready", True)
    began, waited_before = time.monotonic(), runqueue_wait.of_process(os.getpid())

    def emit(item: Measurement | Row | Note) -> None:
        match item:
            case Measurement():
                send("measurement", assessment.measurement_to_json(with_unit(item, check)))
            case Row():
                send("row", plain(item.cells))
            case Note():
                send("note", str(item.text)[:_LONGEST_NOTE])

    void = False
    try:
        status, reason = measure(check, accelerator, settings, emit)
    except PipeLostError:
        raise
    except OSError as problem:  # want of disk
        status, reason, void = Status.ERROR, f"the host's disk was too small: {problem.strerror}", True
    except BaseException as problem:  # noqa: BLE001 - a panic of a library in Rust, a cancelled task: evidence too
        worker_log.print_traceback()
        status, reason = Status.ERROR, _reason(problem)
    worker_log.flush()
    surroundings = {**environment(), **accelerator.stack.process_facts(facts)}
    waited = _waited_share(began, waited_before)
    send("end", {"status": status.value, "reason": reason, "environment": surroundings, "void": void, "waited": waited})


def _waited_share(began: float, waited_before: float | None) -> float | None:
    """Return the share of its time in which a thread of this process was ready and had no CPU; None if not reported."""
    waited, passed = runqueue_wait.of_process(os.getpid()), time.monotonic() - began
    if waited is None or waited_before is None or passed <= 0:
        return None
    return round(min(max(waited - waited_before, 0.0) / passed, 1.0), 4)


def _serve_discovery(request: Mapping[str, Any], send: Send) -> None:
    send("ready", True)
    try:
        stack = accelerators.stack(request["stack"])
        if stack.needs_torch:
            import torch  # noqa: F401

        if stack.plugin is not None:
            importlib.import_module(stack.plugin)
        extra = {COLLECTIVE_VARIABLES: collective_variables()}
        for facts in stack.discover():
            send("accelerator", assessment.facts_to_json(replace(facts, properties={**facts.properties, **extra})))
    except BaseException as problem:  # noqa: BLE001 - a stack that cannot be looked at is a finding
        worker_log.print_traceback()
        send("end", {"status": Status.ERROR.value, "reason": _reason(problem)})
        return
    send("end", {"status": Status.MEASURED.value, "reason": None})


def _serve_call(request: Mapping[str, Any], send: Send) -> None:
    """Call a function that runs foreign code, and send its result: `readiness.engine.isolated_call`."""
    send("ready", True)
    own_pid = os.getpid()
    module, _, name = request["function"].partition(":")
    with contextlib.suppress(OSError, ValueError):  # a lower limit is set already
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (request["memory_bytes"], most))
    try:
        function = getattr(importlib.import_module(module), name)
        answer = {"answer": function(**request["arguments"], note=lambda text: send("row", {"note": text}))}
    except ReadinessError as problem:
        answer = {
            "refused": type(problem).__name__, "what": problem.what, "place": problem.place, "remedy": problem.remedy,
        }  # fmt: skip
    except MemoryError:
        answer = {"failed": f"it needs more than {request['memory_bytes'] >> 20} MiB of memory"}
    except BaseException as problem:  # noqa: BLE001 - code of others raises what it likes
        worker_log.print_traceback()
        answer = {"failed": _reason(problem)}
    if os.getpid() != own_pid:  # a copy of this process, which that code has made: there is one answer
        os._exit(Exit.INTERNAL)
    send("answer", answer)
    send("end", {"status": Status.MEASURED.value, "reason": None})


def collective_variables() -> dict[str, str]:
    """The environment's variables of collective libraries, but for those that rightly differ from host to host.

    Whole words between underscores decide: a TRANSPORT is no PORT, and DIRECT no DIR.
    """
    return {
        name: value[:200]
        for name, value in sorted(os.environ.items())
        if name.startswith(_LIBRARIES) and not any(f"_{word}_" in f"{name}_" for word in _OF_ONE_HOST)
    }


def _like(value: Any, default: Any) -> Any:
    """Convert a setting to the type of its default: JSON and TOML have only lists."""
    return tuple(value) if isinstance(default, tuple) and isinstance(value, list) else value


def _reason(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {_first_line(problem)}"


def environment() -> dict[str, Any]:
    """Return the environment that can change results: versions, threads, precision flags, variables."""
    torch = sys.modules.get("torch")
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "variables": {name: os.environ[name] for name in _REPORTED_VARIABLES if name in os.environ},
    }
    if torch is not None:
        found |= {
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
        }
    return found


def main(descriptor: str, parent: str) -> NoReturn:
    """Entry point in a fresh interpreter: the request comes on standard input, evidence goes to this descriptor.

    It leaves as a forked worker does, without waiting for threads and libraries: what there was to tell has been told, and
    how programs end on a device is what `driver.lifecycle` looks at.
    """
    from readiness.host.process_control import die_with_parent

    code = int(Exit.INTERNAL)
    try:
        die_with_parent(int(parent))
        request = json.load(sys.stdin)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        code = serve(request, int(descriptor))
        worker_log.flush()
    finally:
        os._exit(code)


def measure(check: Check, accelerator: Accelerator, settings: Mapping[str, Any], emit: Emit) -> tuple[Status, str | None]:
    """Run a check in this process and send what it yields; return its status and reason.

    A measurement that the check did not declare is an error of the check: a profile could never have asked for it. Raises
    OSError where the host's disk was too small: what the check measured may have suffered from that.
    """
    counts: Counter[type] = Counter()
    try:
        for item in check.function(accelerator, **settings):
            counts[type(item)] += 1
            problem = _refusal(item, check, counts)
            if problem is not None:
                return Status.ERROR, problem
            if counts[Row] <= MOST_ROWS or not isinstance(item, Row):
                emit(item)
    except Skip as skip:
        return Status.SKIPPED, str(skip)[:_LONGEST_REASON] or "the check gave no reason"
    except MemoryError as problem:
        return Status.ERROR, f"the host's memory was too small: {_first_line(problem) or 'MemoryError'}"
    except PipeLostError:
        raise
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - whatever it raises is evidence
        worker_log.print_traceback()
        if disk.is_disk_full(problem):
            raise disk.full_error(_first_line(problem)) from None
        return Status.ERROR, _reason(problem)
    if counts[Measurement] == 0:
        return Status.ERROR, "the check ended without measuring anything"
    if counts[Row] > MOST_ROWS:
        emit(Row({"omitted_rows": counts[Row] - MOST_ROWS}))
    return Status.MEASURED, None


def _refusal(item: object, check: Check, counts: Mapping[type, int]) -> str | None:
    """Return why a yielded item cannot be evidence, or None."""
    if not isinstance(item, Measurement | Row | Note):
        return f"the check yielded {type(item).__name__}, not a Measurement, Row or Note"
    if isinstance(item, Row) and not isinstance(item.cells, Mapping):
        return f"the check yielded a row of {type(item.cells).__name__}, not a mapping"
    if isinstance(item, Measurement) and item.name not in check.measures:
        return f"the check yielded {str(item.name)[:100]!r}, which it does not declare"
    if counts[Measurement] > MOST_MEASUREMENTS:
        return f"the check yielded more than {MOST_MEASUREMENTS} measurements"
    return None


def _first_line(problem: BaseException) -> str:
    try:
        text = str(problem).strip()
    except Exception:  # noqa: BLE001 - its words are the check's own code too
        return "its message cannot be shown"
    return text.splitlines()[0][:300] if text else ""


def collect(check: Check, accelerator: Accelerator, **settings: Any) -> Evidence:
    """Run a check in this process and collect its evidence. For tests and notebooks: without isolation.

    Raises what `measure` raises, and what the check raises that is no Exception.
    """
    measurements: list[Measurement] = []
    rows: list[Mapping[str, Any]] = []

    def emit(item: Measurement | Row | Note) -> None:
        if isinstance(item, Measurement):
            measurements.append(with_unit(item, check))
        elif isinstance(item, Row):
            rows.append(item.cells)

    effective = {**check.settings, **settings}
    started = time.monotonic()
    status, reason = measure(check, accelerator, effective, emit)
    return Evidence(
        check=check.id,
        status=status,
        reason=reason,
        seconds=time.monotonic() - started,
        measurements=tuple(measurements),
        rows=tuple(rows),
        settings=effective,
    )


def with_unit(measurement: Measurement, check: Check) -> Measurement:
    """Return the measurement with its declared unit. Raises ValueError for an invalid one."""
    found = Measurement(
        name=measurement.name,
        value=_number(measurement.value),
        labels={str(key)[:200]: str(value)[:1000] for key, value in measurement.labels.items()},
        unit=check.measures[measurement.name].unit,
        spread=None if measurement.spread is None else _number(measurement.spread),
        samples=None if measurement.samples is None else operator.index(_plain(measurement.samples)),
        about=None if measurement.about is None else str(measurement.about)[:MOST_ABOUT],
    )
    if (problem := measurement_values.refusal(found)) is not None:
        raise ValueError(f"{str(measurement.name)[:100]!r} is not a valid measurement: {problem}")
    return found


def _plain(value: Any) -> Any:
    """Return a plain Python number: scalars of numpy and torch have `item`."""
    return value.item() if hasattr(value, "item") else value


def _number(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, int) and 2**63 <= abs(value) <= sys.float_info.max:  # beyond what other readers keep exact
        return float(value)
    return value
