"""Simulated machine as a TOML file describes it: chips, software stack, and defects. Nothing here imports torch.

The command line reads the file once; what it says travels in the facts of each simulated accelerator to the workers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from readiness.documents import files, toml
from readiness.errors import BadFileError, UsageError
from readiness.simulator.validation import Place, as_list, validate

#: What a worker is told must fit into one message, and the chip is part of it. As JSON, without blanks.
LARGEST_CHIP_BYTES = 2**16

_FOLDER = Path(__file__).parent
_SOFTWARE = {"driver": "1.0.0", "runtime": "1.0.0"}
_COUNTERS = {"uncorrected": 0, "corrected": 0, "link_errors": 0, "link_retries": 0}
_INTEGERS = frozenset({
    "numel_over", "numel_under", "rows_over", "tensors_over", "multiple_of", "remainder", "dimension", "after_calls",
    "every", "group_under",
})  # fmt: skip
#: Conditions that are one or several of something, by what each of them is; those that are a word.
_SEVERAL: Mapping[str, type] = {"ndim": int, "chip": int, "rank": int, "of": str, "dtype": str}
_WORDS = frozenset({"memory_format", "unseen"})
Value = str | int | float | bool
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """Condition of a defect: every field that is set must hold; None and empty mean any.

    `numel_*` in elements, `temperature` in degrees Celsius, `after_s` in seconds of load. `exchanging`: while a collective
    is under way. `compiled`: in a graph of the chip's compiler; `replayed`: in the replay of a captured one. `ndim`,
    `dtype`, `chip` and `rank` hold for any of theirs. The truth values mean only with (True) or only without (False).
    `argument` holds what arguments are, by the names that the operator's schema has for them, and `of` those of whose
    tensors each must meet what is said of tensors. `group_under` speaks of how many ranks a collective is between, `rank`
    of this one's in its group. `unseen` ("shape" or "number") is what a call must have that no such call of this process
    had.
    """

    numel_over: int | None = None
    numel_under: int | None = None
    rows_over: int | None = None
    tensors_over: int | None = None
    noncontiguous: bool | None = None
    offset: bool | None = None
    empty: bool | None = None
    negative: bool | None = None
    ndim: tuple[int, ...] = ()
    multiple_of: int | None = None
    remainder: int = 0
    dimension: int = -1
    memory_format: str | None = None
    conjugate: bool | None = None
    expanded: bool | None = None
    dtype: tuple[str, ...] = ()
    value_over: float | None = None
    value_under: float | None = None
    nan: bool | None = None
    infinite: bool | None = None
    deterministic: bool | None = None
    unseen: str | None = None
    of: tuple[str, ...] = ()
    argument: Mapping[str, Value] = field(default_factory=dict)
    after_calls: int | None = None
    every: int | None = None
    probability: float | None = None
    chip: tuple[int, ...] = ()
    rank: tuple[int, ...] = ()
    group_under: int | None = None
    temperature: float | None = None
    after_s: float | None = None
    exchanging: bool | None = None
    backward: bool | None = None
    compiled: bool | None = None
    replayed: bool | None = None


@dataclass(frozen=True, slots=True)
class Defect:
    """Defect of a chip. `severity` None means the default of its kind; `set` holds further options of the kind.

    `expected` are the requirements that ought to fail by it.
    """

    kind: str
    op: tuple[str, ...] = ("*",)
    dtype: tuple[str, ...] = ()
    when: Condition = field(default_factory=Condition)
    severity: float | None = None
    set: Mapping[str, Value] = field(default_factory=dict)
    name: str | None = None
    source: str | None = None
    expected: tuple[str, ...] = ()

    def label(self, position: int) -> str:
        """What it is called where several are told apart: its name, or its number in the file, from 1, and its kind."""
        return self.name or f"{position + 1} {self.kind}"

    def on_chip(self, number: int) -> bool:
        """True if the defect may act on the chip with this number."""
        return not self.when.chip or number in self.when.chip

    def to_json(self) -> Json:
        """Return plain JSON of changed fields, flat (`when.every`), since facts are cut below a few levels."""
        document = _changed_fields(self)
        document.pop("when", None)
        return document | {f"when.{key}": value for key, value in _changed_fields(self.when).items()}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Defect:
        """The inverse of `to_json`."""
        values = {key: _as_tuple(value) for key, value in document.items()}
        when = {key.removeprefix("when."): values.pop(key) for key in document if key.startswith("when.")}
        return Defect(**values, when=Condition(**when))


@dataclass(frozen=True, slots=True)
class Chip:
    """Simulated machine of `chips` equal chips with `memory_gib` GiB each.

    `counters` are the fault counters as they stand at the start. `management` names the vendor's library at whose interface
    the chip reports its health (`libdcmi`); None for one of its own. `sha256` is that of the file's bytes, `path` where it
    was read.
    """

    name: str
    title: str
    description: str = ""
    source: str | None = None
    chips: int = 1
    memory_gib: float = 4.0
    vendor: str | None = None
    model: str | None = None
    management: str | None = None
    software: Mapping[str, str] = field(default_factory=_SOFTWARE.copy)
    counters: Mapping[str, int] = field(default_factory=_COUNTERS.copy)
    defects: tuple[Defect, ...] = ()
    sha256: str = ""
    path: str = ""

    @property
    def memory_bytes(self) -> int:
        """Memory of each chip in bytes, at least one."""
        return max(int(self.memory_gib * 2**30), 1)

    def memory_of(self, number: int) -> int:
        """Memory of the chip with this number in bytes: a defect may have left it a part."""
        shares = [
            0.5 if defect.severity is None else defect.severity
            for defect in self.defects
            if defect.kind == "less-memory" and defect.on_chip(number)
        ]
        return max(int(self.memory_bytes * min([*shares, 1.0])), 1)

    def to_json(self) -> Json:
        """Return plain JSON of all fields that differ from the default, for `AcceleratorFacts.properties`."""
        document = _changed_fields(self)
        if self.defects:
            document["defects"] = [defect.to_json() for defect in self.defects]
        return document

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Chip:
        """The inverse of `to_json`. Raises TypeError for what is not a chip."""
        defects = tuple(Defect.from_json(defect) for defect in document.get("defects", ()))
        return Chip(**{**document, "defects": defects})


def names() -> dict[str, Path]:
    """Return the shipped chips and their files: hand-written chips first, then those with one planted defect each."""
    found: dict[str, Path] = {}
    for folder in ("chips", "seeded_faults"):
        for file in sorted((_FOLDER / folder).glob("*.toml")):
            found.setdefault(file.stem, file)
    return found


def find(name_or_file: str, kinds: Collection[str]) -> Chip:
    """Return the chip that `sim:NAME` or `sim:FILE.toml` names. `kinds` are the known kinds of defects.

    Raises UsageError for an unknown name and BadFileError, with file and line, for everything else.
    """
    separators = [separator for separator in ("/", os.sep, os.altsep) if separator]
    if name_or_file.endswith(".toml") or any(separator in name_or_file for separator in separators):
        return load(Path(name_or_file), kinds)
    shipped = names()
    if name_or_file not in shipped:
        near = get_close_matches(name_or_file, shipped, n=3)
        others = [name for name, file in shipped.items() if file.parent.name == "chips" and name not in near]
        raise UsageError(
            f"there is no simulated chip {name_or_file[:100]!r}",
            place="--device",
            remedy=f"choose one of {', '.join([*near, *others]) or 'none'}, or give a file that ends in .toml",
        )
    return load(shipped[name_or_file], kinds)


def load(path: Path, kinds: Collection[str]) -> Chip:
    """Load a chip file. Raises BadFileError with file and line."""
    document, lines = toml.read(path, "chip")
    validate(document, Place(path, lines), counters=document.get("counters", _COUNTERS), kinds=kinds)
    chip = Chip(
        name=document["name"],
        title=document["title"],
        description=document.get("description", "").strip(),
        source=document.get("source"),
        chips=int(document.get("chips", 1)),
        memory_gib=float(document.get("memory_gib", 4.0)),
        vendor=document.get("vendor"),
        model=document.get("model"),
        management=document.get("management"),
        defects=tuple(_defect(entry) for entry in document.get("defect", [])),
        sha256=hashlib.sha256(files.read_bytes(path, largest_bytes=toml.LARGEST_FILE_BYTES)).hexdigest(),
        path=str(path),
        **{key: document[key] for key in ("software", "counters") if key in document},
    )
    size = len(json.dumps(chip.to_json(), separators=(",", ":")))
    if size > LARGEST_CHIP_BYTES:
        raise BadFileError(
            f"it has {size // 2**10} KiB; the maximum for a simulated chip is {LARGEST_CHIP_BYTES // 2**10} KiB",
            place=str(path),
            remedy="shorten its texts, or split its defects over several files",
        )
    return chip


def _defect(entry: Mapping[str, Any]) -> Defect:
    """Return the defect of a validated entry."""
    when: dict[str, Any] = {}
    for key, value in entry.get("when", {}).items():
        if key in _SEVERAL:
            when[key] = tuple(_SEVERAL[key](item) for item in as_list(value))
        elif key == "argument":
            when[key] = dict(value)
        elif key in _WORDS:
            when[key] = value
        else:  # TOML's 4.0 is a whole number to the schema
            when[key] = value if isinstance(value, bool) else int(value) if key in _INTEGERS else float(value)
    return Defect(
        kind=entry["kind"],
        op=tuple(as_list(entry.get("op", "*"))),
        dtype=tuple(as_list(entry.get("dtype", []))),
        when=Condition(**when),
        severity=None if "severity" not in entry else float(entry["severity"]),
        set=dict(entry.get("set", {})),
        name=entry.get("name"),
        source=entry.get("source"),
        expected=tuple(entry.get("expected", ())),
    )


def _changed_fields(value: Any) -> Json:
    """Return the fields of a dataclass that differ from their default, tuples as lists."""
    document = {}
    for known in fields(value):
        own = getattr(value, known.name)
        default = known.default_factory() if known.default_factory is not MISSING else known.default
        if own != default:
            document[known.name] = list(own) if isinstance(own, tuple) else dict(own) if isinstance(own, Mapping) else own
    return document


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
