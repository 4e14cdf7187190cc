"""Workload as data: the operators that a model calls, with dtypes, sizes and counts. Nothing here imports torch.

Sizes that depend on the model's length, or on whether it is the reduced model, are forms: lines in the length. Nothing
in a file is code: an operator is a name that is looked up, an argument is a number, a word or the shape of a tensor.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from readiness import package_data
from readiness.documents import files, schema
from readiness.errors import BadFileError, UsageError

SUFFIX = ".json.gz"
#: Compressed and not: a workload is some ten kilobytes, and a mistake or a bomb is refused before it is unpacked.
_LARGEST_BYTES, _LARGEST_TEXT_BYTES = 2**20, 2**24
#: No tensor has more elements than this along one dimension, nor as many dimensions.
_LARGEST_SIZE, _MOST_DIMENSIONS = 2**48, 16
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_KINDS = ("dtype", "device", "layout", "memory_format", "float")
_REDO = "trace the model again: `readiness trace`"


class Phase(StrEnum):
    """Phase of a model's use in which a call is made."""

    FORWARD = "forward"
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"
    PREFILL = "prefill"
    DECODE = "decode"


#: The phases of each use.
TRAINING = (Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER)
INFERENCE = (Phase.PREFILL, Phase.DECODE)


@dataclass(frozen=True, slots=True)
class Spec:
    """Tensor argument. `stride` is None if it is contiguous; `grad` is true if it requires a gradient."""

    dtype: str
    shape: tuple[Any, ...]
    stride: tuple[Any, ...] | None = None
    grad: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """Argument without a JSON type: `kind` is dtype, device, layout, memory_format or float."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Form:
    """Symbolic size at length n: `slope` * n + `base`, then those of the reduced model. No slope if it is not linear."""

    slope: int | None
    base: int
    reduced_slope: int | None
    reduced_base: int

    @property
    def constant(self) -> int | None:
        """The size, if it is the same at every length and in both models; else None."""
        plain = self.slope == 0 and self.reduced_slope == 0 and self.base == self.reduced_base
        return self.base if plain else None


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a replayed record: length and model. `own` is true for the traced size."""

    length: int
    reduced: bool
    own: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the overload as in `OpOverload.name()`, its arguments as specs and plain values."""

    op: str
    arguments: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...]

    def at(self, size: Size) -> Call | None:
        """Return the call with all sizes computed; None if it does not exist at this size."""
        try:
            return Call(self.op, _at(self.arguments, size), _at(self.keywords, size))
        except _NoSuchSizeError:
            return None

    def specs(self) -> list[Spec]:
        """Return all tensors among its arguments."""
        return list(_specs((self.arguments, self.keywords)))


@dataclass(frozen=True, slots=True)
class Record:
    """Call of the model, with its number in each phase of one step."""

    call: Call
    calls: Mapping[Phase, int]

    def count(self, phases: Sequence[Phase]) -> int:
        """Return the number of calls in these phases."""
        return sum(self.calls.get(phase, 0) for phase in phases)


@dataclass(frozen=True, slots=True)
class Workload:
    """All calls of a model. `length` is the traced length in `unit`, `reduced_length` likewise."""

    name: str
    title: str
    model: Mapping[str, Any]
    traced: Mapping[str, Any]
    dtype: str
    batch: int
    unit: str
    length: int
    reduced_length: int | None
    records: tuple[Record, ...]
    not_covered: tuple[str, ...] = ()

    @property
    def full(self) -> Size:
        """The traced size."""
        return Size(self.length, reduced=False, own=True)

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of all operators, sorted."""
        return tuple(sorted({record.call.op for record in self.records}))


class _NoSuchSizeError(Exception):
    pass


def _at(value: Any, size: Size) -> Any:
    match value:
        case Form():
            slope, base = (value.reduced_slope, value.reduced_base) if size.reduced else (value.slope, value.base)
            if slope is None:
                if not size.own:
                    raise _NoSuchSizeError
                return base
            if (found := slope * size.length + base) < 0 and base >= 0:
                raise _NoSuchSizeError
            return found
        case Spec():
            stride = None if value.stride is None else _at(value.stride, size)
            return Spec(value.dtype, _at(value.shape, size), stride, value.grad)
        case tuple():
            return tuple(_at(item, size) for item in value)
        case _:
            return value


def _specs(value: Any) -> Any:
    if isinstance(value, Spec):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _specs(item)


def names() -> list[str]:
    """Return the shipped workloads."""
    return sorted(file.name.removesuffix(SUFFIX) for file in _folder().glob(f"*{SUFFIX}"))


def find(name_or_file: str) -> Path:
    """Return the file of a shipped workload, or a user's file. Raises UsageError."""
    if name_or_file.endswith(SUFFIX):
        return Path(name_or_file)
    if not _NAME.fullmatch(name_or_file) or name_or_file not in names():
        raise UsageError(
            f"there is no workload {name_or_file[:100]!r}",
            place="setting workload",
            remedy=f"choose one of {', '.join(names())}, or give a file that ends in {SUFFIX}; `readiness trace` makes one",
        )
    return _folder() / f"{name_or_file}{SUFFIX}"


def vet(settings: Mapping[str, Any]) -> None:
    """Refuse settings of a check whose `workload` is none. Raises UsageError."""
    if name := settings.get("workload"):
        file = find(name)
        _vet(files.read_bytes(file, largest_bytes=_LARGEST_BYTES), str(file))


@lru_cache(maxsize=8)
def _vet(packed: bytes, place: str) -> None:
    """Refuse a file that is no workload. A profile names one for several checks, and reading it takes a while."""
    loads(packed, place)


def _folder() -> Path:
    return package_data.shipped("profiles") / "workloads"


def load(file: Path) -> Workload:
    """Read a workload file strictly and within bounds. Raises BadFileError with the place."""
    return loads(files.read_bytes(file, largest_bytes=_LARGEST_BYTES), str(file))


def loads(packed: bytes, place: str) -> Workload:
    """Parse a workload file strictly and within bounds. Raises BadFileError with the place."""
    if len(packed) > _LARGEST_BYTES:
        what = f"a workload of {len(packed) // 2**10} KiB is too large"
        raise BadFileError(what, place=place, remedy="trace a model with fewer different layers")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(packed, _LARGEST_TEXT_BYTES + 1)
    except zlib.error as problem:
        raise BadFileError(f"it is not compressed by gzip: {problem}", place=place, remedy=_REDO) from None
    if len(text) > _LARGEST_TEXT_BYTES or unpacker.unconsumed_tail:
        what = f"it unpacks to more than {_LARGEST_TEXT_BYTES // 2**20} MiB"
        raise BadFileError(what, place=place, remedy="give the intended file")
    if not unpacker.eof:
        raise BadFileError("it is truncated", place=place, remedy=_REDO)
    try:
        document = files.parse_json(text.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        what = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise BadFileError(f"not JSON: {what}", place=place, remedy=_REDO) from None
    found = schema.first_problem("workload", document)
    if found is not None:
        raise BadFileError(
            f"{found.path_text}: {found.message}", place=place, remedy="write it as `readiness schema workload` says"
        )
    return _Reader(place, [Form(*entry) for entry in document["forms"]]).workload(document)


@dataclass(frozen=True, slots=True)
class _Reader:
    place: str
    forms: Sequence[Form]

    def workload(self, document: Mapping[str, Any]) -> Workload:
        length = document["length"]
        return Workload(
            name=document["name"],
            title=document["title"],
            model=document["model"],
            traced=document["traced"],
            dtype=document["dtype"],
            batch=document["batch"],
            unit=length["unit"],
            length=length["full"],
            reduced_length=length.get("reduced"),
            records=tuple(self._record(number, entry) for number, entry in enumerate(document["records"])),
            not_covered=tuple(document.get("not_covered", ())),
        )

    def _record(self, number: int, entry: Mapping[str, Any]) -> Record:
        arguments = self._value(entry.get("arguments", []), number, 0)
        keywords = {name: self._value(value, number, 0) for name, value in entry.get("keywords", {}).items()}
        calls = {Phase(name): count for name, count in entry["calls"].items()}
        return Record(Call(entry["op"], arguments, tuple(sorted(keywords.items()))), calls)

    def _value(self, value: Any, number: int, depth: int) -> Any:
        match value:
            case _ if depth > 4:
                raise self._wrong(number, "an argument is nested too deeply")
            case None | bool():
                return value
            case int() | float():
                if not math.isfinite(value) or abs(value) > 2**63:
                    raise self._wrong(number, f"{value!r:.40} is not an argument")
                return value
            case str() if value.startswith("$"):
                return self._form(value, number)
            case str():
                return value[:200]
            case list():
                return tuple(self._value(item, number, depth + 1) for item in value)
            case {"tensor": str(dtype), "shape": list(shape), **rest} if rest.keys() <= {"stride", "grad"}:
                stride = rest.get("stride")
                strides = None if stride is None else self._sizes(stride, number)
                if strides is not None and len(strides) != len(shape):
                    raise self._wrong(number, "a tensor has not as many strides as dimensions")
                return Spec(dtype, self._sizes(shape, number), strides, rest.get("grad") is True)
            case {**named} if len(named) == 1 and next(iter(named)) in _KINDS:
                ((kind, word),) = named.items()
                return Named(str(kind), str(word)[:100])
            case _:
                raise self._wrong(number, f"{str(value)[:60]!r} is not an argument")

    def _sizes(self, value: Any, number: int) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > _MOST_DIMENSIONS:
            raise self._wrong(number, "a shape is a short list of sizes")
        found = tuple(self._value(item, number, 3) for item in value)
        for item in found:
            plain = isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= _LARGEST_SIZE
            if not plain and not isinstance(item, Form):
                raise self._wrong(number, f"{str(item)[:40]} is not a size")
        return found

    def _form(self, word: str, number: int) -> Form:
        index = word[1:]
        if not (index.isascii() and index.isdecimal() and len(index) < 7 and int(index) < len(self.forms)):
            raise self._wrong(number, f"there is no tensor form {word[:20]!r}")
        return self.forms[int(index)]

    def _wrong(self, number: int, what: str) -> BadFileError:
        return BadFileError(f"records[{number}]: {what}", place=self.place, remedy=_REDO)


def dumps(workload: Workload) -> bytes:
    """Return the file of a workload; equal workloads give equal bytes."""
    forms: dict[Form, int] = {}

    def plain(value: Any) -> Any:
        match value:
            case Form():
                return f"${forms.setdefault(value, len(forms))}"
            case Spec():
                found = {"tensor": value.dtype, "shape": [plain(size) for size in value.shape]}
                found |= {} if value.stride is None else {"stride": [plain(step) for step in value.stride]}
                return found | ({"grad": True} if value.grad else {})
            case Named():
                return {value.kind: value.value}
            case tuple():
                return [plain(item) for item in value]
            case _:
                return value

    records = [
        {"op": record.call.op}
        | ({"arguments": [plain(item) for item in record.call.arguments]} if record.call.arguments else {})
        | ({"keywords": {name: plain(value) for name, value in record.call.keywords}} if record.call.keywords else {})
        | {"calls": {phase.value: record.calls[phase] for phase in Phase if phase in record.calls}}
        for record in workload.records
    ]
    length = {"unit": workload.unit, "full": workload.length}
    document = {
        "schema": "readiness.workload/1", "name": workload.name, "title": workload.title, "model": dict(workload.model),
        "traced": dict(workload.traced), "dtype": workload.dtype, "batch": workload.batch,
        "length": length if workload.reduced_length is None else length | {"reduced": workload.reduced_length},
        "not_covered": list(workload.not_covered),
        "forms": [[form.slope, form.base, form.reduced_slope, form.reduced_base] for form in forms],
        "records": records,
    }  # fmt: skip
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    packer = zlib.compressobj(9, wbits=31)  # without a time in its header
    return packer.compress(text) + packer.flush()
