"""The checklist: `@check`, and the discovery of check files folder by folder.

A check file is plain Python in a family's folder; any `Check` it defines joins the checklist. Nothing registers itself
and nothing here imports torch, so that `readiness list` answers at once: a check imports torch inside its function.
"""

from __future__ import annotations

import importlib
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

from readiness import package_data
from readiness.datamodel import Cost, Measure, Yield
from readiness.errors import CheckFileError

CheckFunction = Callable[..., Iterator[Yield]]
#: Function from the file that a check has kept to its measurements, without torch and without the device.
Recount = Callable[[Path], Iterator[Yield]]


class Scope(StrEnum):
    """Scope of a check: once for each accelerator, or once for all accelerators of a stack together."""

    ACCELERATOR = "accelerator"
    GROUP = "group"


class Phase(StrEnum):
    """Time at which a check runs: `last` are checks on the whole run (fault counters)."""

    ANY = "any"
    LAST = "last"


class Skip(Exception):  # noqa: N818 - it reads as what the check says, and is no error
    """Raised by a check that has nothing to measure here. The reason becomes evidence; its requirements are unknown."""


@dataclass(frozen=True, slots=True)
class Check:
    """One item of the checklist.

    `measures` maps each measurement's name to what it means. `settings` are the function's keyword-only parameters with
    their defaults: what a profile may set. `alone` keeps every other check off the machine meanwhile.
    `typical_s` is its duration on two CPU cores; `limit_s` the time limit of its first try. `catches` are the kinds of
    defect of a simulated chip that it claims to see: `readiness rehearse` holds it to that. `vet` looks at the settings that
    a profile gives it, before anything runs.

    `lasting` names the setting that says for how many seconds it works: `run --soak` gives it, and where it is zero the
    check is left out. `recount` tells what a check that was cut off had found by then, from the file that it kept.

    `provokes` says that it makes errors on purpose which drivers log: a line that comes meanwhile may be its own.

    `documentation` is the function's docstring, unindented; `file` and `line` are where it is declared.
    """

    id: str
    title: str
    function: CheckFunction
    measures: Mapping[str, Measure]
    cost: Cost
    typical_s: float
    limit_s: float
    scope: Scope = Scope.ACCELERATOR
    phase: Phase = Phase.ANY
    alone: bool = False
    catches: tuple[str, ...] = ()
    vet: Callable[[Mapping[str, Any]], None] | None = None
    least: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    lasting: str | None = None
    recount: Recount | None = None
    provokes: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    documentation: str = ""
    file: str = ""
    line: int = 0

    @property
    def family(self) -> str:
        """The part of the id before the first dot."""
        return self.id.partition(".")[0]

    @property
    def place(self) -> str:
        """`file:line` of the function."""
        return f"{self.file}:{self.line}"


def check(
    id: str,
    *,
    title: str,
    measures: Mapping[str, str | Measure],
    cost: Cost = Cost.SECONDS,
    typical_s: float | None = None,
    limit_s: float | None = None,
    scope: Scope = Scope.ACCELERATOR,
    phase: Phase = Phase.ANY,
    alone: bool = False,
    catches: Iterable[str] = (),
    vet: Callable[[Mapping[str, Any]], None] | None = None,
    least: Mapping[str, float] | None = None,
    most: Mapping[str, float] | None = None,
    lasting: str | None = None,
    recount: Recount | None = None,
    provokes: bool = False,
) -> Callable[[CheckFunction], Check]:
    """Declare a generator function as a check. Its docstring and this call are its whole declaration.

    The function takes the accelerator and, keyword-only and with defaults, its settings; it yields `Measurement`, `Row`
    and `Note`. `measures` says of each measurement what it means (`Measure`), or its unit alone, "1" where it has none;
    `catches` names the kinds of defect (`readiness rehearse --kinds`) that it is made to see. `vet`, if given, is handed
    the settings of a profile and raises UsageError for what cannot be, as a file that is none; it must not import torch,
    nor may `recount`. `least` and `most` are bounds of settings that are numbers, without which the check would measure
    nothing; none may be below 0. With `recount`, what the check must not lose belongs into the file `accelerator.kept`,
    one JSON record a line. `provokes` is for a check that makes
    errors on purpose which drivers log.
    """

    def declare(function: CheckFunction) -> Check:
        code = getattr(inspect.unwrap(function), "__code__", None)
        module = sys.modules.get(function.__module__)
        declared = Check(
            id=id,
            title=title,
            function=function,
            measures={name: Measure(given) if isinstance(given, str) else given for name, given in measures.items()},
            cost=cost,
            typical_s=cost.typical_s if typical_s is None else typical_s,
            limit_s=cost.limit_s if limit_s is None else limit_s,
            scope=scope,
            phase=phase,
            alone=alone,
            catches=tuple(catches),
            vet=vet,
            least=dict(least or {}),
            most=dict(most or {}),
            lasting=lasting,
            recount=recount,
            provokes=provokes,
            settings={
                name: parameter.default
                for name, parameter in inspect.signature(function).parameters.items()
                if parameter.kind is inspect.Parameter.KEYWORD_ONLY
            },
            documentation=inspect.getdoc(function) or "",
            file=str(getattr(module, "__file__", None) or getattr(code, "co_filename", "")),
            line=getattr(code, "co_firstlineno", 1),
        )
        _refuse_impossible(declared)
        return declared

    return declare


def _refuse_impossible(declared: Check) -> None:
    """Raise CheckFileError for the first thing that is wrong with a declaration."""
    for what, remedy in (*_wrong_with_itself(declared), *_wrong_with_settings(declared)):
        raise CheckFileError(f"check {declared.id!r}: {what}", place=declared.place, remedy=remedy)


def _wrong_with_itself(declared: Check) -> Iterator[tuple[str, str]]:
    family, dot, topic = str(declared.id).partition(".")
    if not (dot and family.isidentifier() and topic.replace(".", "_").isidentifier()):
        yield "its id is not FAMILY.TOPIC", "name it like 'parity.matmul', in letters, digits and underscores"
    if not inspect.isgeneratorfunction(declared.function):
        yield "it is not a generator function", "yield each Measurement instead of returning it"
    if not declared.documentation:
        yield "it has no docstring", "say in its docstring what it measures and why that matters"
    if not declared.measures:
        yield "it declares no measurement", "give measures={'name': 'unit'}"
    if not all(isinstance(measure, Measure) for measure in declared.measures.values()):
        yield "a measure is neither a unit nor a Measure", "give measures={'name': 'unit'}"
    if not all(isinstance(text, str) for text in (declared.title, *declared.catches, *_texts_of(declared.measures))):
        yield "its title, measures or catches are not text", "give them as strings"
    if not all(isinstance(*pair) for pair in ((declared.cost, Cost), (declared.scope, Scope), (declared.phase, Phase))):
        yield "its cost, scope or phase is not a member of its enum", "use the members of Cost, Scope and Phase"
    for what, value in (("typical_s", declared.typical_s), ("limit_s", declared.limit_s)):
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            yield f"{what} is {value!r}", "give a number of seconds above 0"


def _texts_of(measures: Mapping[str, Measure]) -> Iterator[object]:
    for name, measure in measures.items():
        yield name
        if isinstance(measure, Measure):
            yield from (measure.unit, measure.meaning, measure.title, measure.why, measure.remedy)


def _wrong_with_settings(declared: Check) -> Iterator[tuple[str, str]]:
    if declared.lasting is not None and declared.lasting not in declared.settings:
        yield f"it has no setting {declared.lasting!r}", "name the setting with its duration"
    for name in (*declared.least, *declared.most):
        if name not in declared.settings:
            yield f"it has no setting {name!r}", "bound one of its settings"
    for name, default in declared.settings.items():
        if default is inspect.Parameter.empty:
            yield f"setting {name!r} has no default", "give each setting a default"
        elif not is_plain(default):
            yield f"a profile cannot express the default of setting {name!r}", "use a number, a text, or a list of them"
    for which, bounds in (("least", declared.least), ("most", declared.most)):
        for name, value in bounds.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                yield f"{which} of {name} is {value!r}", "give a number"


def is_plain(value: Any, depth: int = 4) -> bool:
    """Return whether a value can be sent to another process and written in a profile."""
    match value:
        case None | bool() | float() | str():
            return True
        case int():
            return abs(value) < 2**63
        case list() | tuple():
            return depth > 0 and all(is_plain(item, depth - 1) for item in value)
        case dict():
            return depth > 0 and all(isinstance(name, str) and is_plain(item, depth - 1) for name, item in value.items())
        case _:
            return False


def shipped() -> dict[str, Check]:
    """Return the shipped checks by id, sorted; their files are trusted and imported here."""
    folder = [str(package_data.shipped("checks"))]
    return _imported([(name, file) for name, file, _ in _files(folder)], folder, lambda _: None)


def discover(*, shipped: bool = True, begin: Callable[[Path], object] = lambda _: None) -> dict[str, Check]:
    """Return all checks by id, sorted, or without `shipped` those of the user's folders: all imported in this process.

    Files of others may end or hold up a process: the command line asks `readiness.engine.check_declarations`. `begin` is
    told of each file first. Raises CheckFileError for one that cannot be imported and for two checks of one id, naming both
    places.
    """
    own, folders = str(package_data.shipped("checks")), package_data.folders("checks")
    files = [(name, file) for name, file, folder in _files(folders) if shipped or folder != own]
    return _imported(files, folders, begin)


def _imported(
    files: Iterable[tuple[str, Path]], folders: list[str], begin: Callable[[Path], object]
) -> dict[str, Check]:
    found: dict[str, Check] = {}
    for name, file in files:
        begin(file)
        module = _import(name, file, folders)
        own = [item for item in vars(module).values() if isinstance(item, Check)]
        found = joined(found, [item for item in own if item.function.__module__ == module.__name__])
    return found


def joined(one: Mapping[str, Check], others: Iterable[Check]) -> dict[str, Check]:
    """Merge two checklists by id, sorted. Raises CheckFileError for two checks of one id, with both places."""
    found = dict(one)
    for declared in others:
        twin = found.get(declared.id)
        if twin is not None and twin is not declared:
            raise CheckFileError(
                f"check {declared.id!r} is declared twice, here and at {twin.place}",
                place=declared.place,
                remedy="give one of them another id",
            )
        found[declared.id] = declared
    return dict(sorted(found.items()))


def load(id: str, file: str) -> Check:
    """Load one check by id and file, for a worker: nothing else is imported."""
    folders = package_data.folders("checks")
    for folder in folders:
        if Path(file).is_relative_to(folder):
            module = _import(_module_name(Path(file), Path(folder)), Path(file), folders)
            for declared in vars(module).values():
                if isinstance(declared, Check) and declared.id == id:
                    return declared
    raise CheckFileError(f"check {id!r} does not exist", place=file, remedy="name its folder with --checks")


def _files(folders: Iterable[str]) -> list[tuple[str, Path, str]]:
    """Yield every check file with its module name and folder.

    Folder by folder: `pkgutil.iter_modules` over the whole `__path__` would hide a file of the same name without a word.
    """
    seen: dict[str, Path] = {}
    found = [(_module_name(file, Path(folder)), file, folder) for folder in folders for file in _files_in(Path(folder))]
    for name, file, _ in found:
        if seen.setdefault(name, file) != file:
            raise CheckFileError(
                f"two check files share the name {name.removeprefix('readiness.checks.')}, the other is {seen[name]}",
                place=str(file),
                remedy="rename one of them",
            )
    for name, file, folder in found:
        family = file.parent.name if file.parent != Path(folder) else None
        hiding = [Path(other) / family / "__init__.py" for other in folders if family and other != folder]
        hiding += [other for other in [seen.get(name.rpartition(".")[0])] if other is not None]
        for other in filter(Path.exists, hiding):
            what = f"it hides the family of {file}: Python stops at the first match"
            raise CheckFileError(what, place=str(other), remedy="rename it, or remove it")
    return found


def _files_in(folder: Path) -> list[Path]:
    """The check files of a folder and of the families in it, sorted. Raises CheckFileError where they cannot be listed."""
    if not folder.is_dir():
        raise CheckFileError(
            "this folder of checks does not exist", place=str(folder), remedy="correct --checks or READINESS_CHECKS"
        )
    found: list[Path] = []
    try:
        families = [item for item in sorted(folder.iterdir()) if item.is_dir() and not item.name.startswith(("_", "."))]
        for place in (folder, *families):
            found += [item for item in place.iterdir() if item.suffix == ".py" and not item.name.startswith(("_", "."))]
    except OSError as problem:
        raise CheckFileError(
            f"it cannot be listed: {problem.strerror or problem}",
            place=str(problem.filename or folder),
            remedy="make it readable, or name another folder with --checks",
        ) from None
    for file in found:
        if not file.is_file():  # opening a pipe would wait for ever
            raise CheckFileError("this is not a file", place=str(file), remedy="move it out of the folder")
    return sorted(found)


def _module_name(file: Path, folder: Path) -> str:
    return ".".join(["readiness.checks", *file.relative_to(folder).with_suffix("").parts])


def _import(name: str, file: Path, folders: list[str]) -> ModuleType:
    package = importlib.import_module("readiness.checks")
    # The variable may have been set since the package was imported; and no folder of the user's shall answer for our own.
    package.__path__ = folders
    try:
        module = importlib.import_module(name)
    except CheckFileError:
        raise
    except BaseException as problem:
        if isinstance(problem, KeyboardInterrupt):
            raise
        raise CheckFileError(
            f"this check file cannot be imported: {type(problem).__name__}: {problem}",
            place=f"{file}:{_failing_line(problem, file)}",
            remedy="fix it, or move it out of the folder",
        ) from problem
    if Path(module.__file__ or "").resolve() != file.resolve():
        raise CheckFileError(
            f"the name {name} already belongs to {module.__file__}", place=str(file), remedy="rename the file"
        )
    return module


def _failing_line(problem: BaseException, file: Path) -> int:
    if isinstance(problem, SyntaxError) and problem.lineno:
        return problem.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if Path(frame.filename) == file]
    return (lines[-1] if lines else None) or 1
