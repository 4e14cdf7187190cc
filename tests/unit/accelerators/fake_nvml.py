"""A pynvml of which every answer can be replaced. Its functions have the names of NVIDIA's library."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType, SimpleNamespace
from typing import Any

UUID = "11111111-2222-3333-4444-555555555555"


class NVMLError(Exception):
    """As the library raises it."""


def make(*, uuids: Iterable[str] = (f"GPU-{UUID}",), addresses: Iterable[str] = ("0000:17:00.0",), **replaced: Any) -> Any:
    """The module, which knows devices by these UUIDs and PCI addresses. A replaced answer may be an error to raise."""
    nvml: Any = ModuleType("pynvml")
    constants = {
        "NVML_MEMORY_ERROR_TYPE_CORRECTED": 0, "NVML_MEMORY_ERROR_TYPE_UNCORRECTED": 1, "NVML_VOLATILE_ECC": 0,
        "NVML_AGGREGATE_ECC": 1, "NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS": 0,
        "NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR": 1,
    }  # fmt: skip
    answers: dict[str, Any] = {
        "nvmlInit": None, "nvmlShutdown": None, "nvmlDeviceGetUUID": f"GPU-{UUID}", "nvmlDeviceGetName": "NVIDIA X1",
        "nvmlDeviceGetSerial": "1650000000000", "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * 2**30),
        "nvmlSystemGetDriverVersion": "590.48.01", "nvmlSystemGetNVMLVersion": "13.590.48.01",
        "nvmlDeviceGetVbiosVersion": "96.00.00.00.01", "nvmlDeviceGetMigMode": [0, 0], "nvmlDeviceGetEccMode": [1, 1],
        "nvmlDeviceGetTotalEccErrors": lambda _, error, span: 10 * error + span,
        "nvmlDeviceGetRemappedRows": (1, 2, 0, 0), "nvmlDeviceGetRetiredPages": NVMLError("Not Supported"),
        "nvmlDeviceGetRetiredPagesPendingStatus": NVMLError("Not Supported"), "nvmlDeviceGetPcieReplayCounter": 3,
        "nvmlDeviceGetNvLinkState": lambda _, link: int(link < 2) if link < 4 else _raise(NVMLError("Invalid Argument")),
        "nvmlDeviceGetNvLinkErrorCounter": lambda _, link, error: link + error,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid if uuid in set(uuids) else _raise(NVMLError("Not Found")),
        "nvmlDeviceGetHandleByPciBusId": lambda address: address
        if address in set(addresses) else _raise(NVMLError("Not Found")),
    }  # fmt: skip
    for name, answer in {**answers, **replaced}.items():
        setattr(nvml, name, _function(answer))
    for name, constant in constants.items():
        setattr(nvml, name, constant)
    nvml.NVMLError = NVMLError
    return nvml


def _function(answer: Any) -> Any:
    if isinstance(answer, Exception):
        return lambda *_: _raise(answer)
    return answer if callable(answer) else lambda *_: answer


def _raise(problem: Exception) -> Any:
    raise problem
