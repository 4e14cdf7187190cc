"""The checklist: `@check`, and the discovery of check files folder by folder.

A check file is plain Python in a family's folder; any `Check` it defines joins the checklist. Nothing registers itself
and nothing here imports torch, so that `readiness list` answers at once: a check imports torch inside its function.
"""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

from readiness import content
from readiness.errors import CheckFileError
from readiness.model import Cost, Yield

CheckFunction = Callable[..., Iterator[Yield]]
#: From the file that a check has kept to what can be told of it, without torch and without the device.
Recount = Callable[[Path], Iterator[Yield]]


class Scope(StrEnum):
    """Whether a check runs once for each accelerator or once for all the accelerators of a stack together."""

    ACCELERATOR = "accelerator"
    GROUP = "group"


class Phase(StrEnum):
    """When a check runs: last are those that look back on the whole run (fault counters)."""

    ANY = "any"
    LAST = "last"


class Skip(Exception):  # noqa: N818 - it reads as what the check says, and is no error
    """Raised by a check that finds nothing to measure here. The reason becomes evidence; what asked for it is unknown."""


@dataclass(frozen=True, slots=True)
class Check:
    """One item of the checklist.

    `measures` maps each measurement's name to its unit. `settings` are the function's keyword-only parameters with
    their defaults: what a profile may set. `alone` keeps every other check off the machine meanwhile.
    `typical_s` is its duration on two CPU cores; `limit_s` the time limit of its first try. `catches` are the kinds of
    defect of a simulated chip that it claims to see: `readiness rehearse` holds it to that. `vet` looks at the settings that
    a profile gives it, before anything runs.

    `lasting` names the setting that says for how many seconds it works: `run --soak` gives it, and where it is zero the
    check is left out. `recount` tells what a check that was cut off had found by then, from the file that it kept.
    """

    id: str
    title: str
    function: CheckFunction
    measures: Mapping[str, str]
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
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The part of the id before the first dot."""
        return self.id.partition(".")[0]

    @property
    def documentation(self) -> str:
        """The function's docstring, unindented."""
        return inspect.getdoc(self.function) or ""

    @property
    def place(self) -> str:
        """`file:line` of the function."""
        code = self.function.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"


def check(
    id: str,
    *,
    title: str,
    measures: Mapping[str, str],
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
) -> Callable[[CheckFunction], Check]:
    """Declare a generator function as a check. Its docstring and this call are its only declaration.

    The function takes the accelerator and, keyword-only and with defaults, its settings; it yields `Measurement`,
    `Row` and `Note`. `measures` gives the unit of each measurement, "1" where it has none; `catches` names the kinds of
    defect (`readiness rehearse --kinds`) that it is made to see. `vet`, if given, is handed the settings of a profile and
    raises UsageError for what cannot be, as a file that is none; it must not import torch, nor may `recount`. `least` and
    `most` are bounds of settings that are numbers, without which the check would measure nothing; none may be below 0. With
    `recount`, what the check must not lose belongs into the file `accelerator.kept`, one JSON record a line.
    """

    def declare(function: CheckFunction) -> Check:
        declared = Check(
            id=id,
            title=title,
            function=function,
            measures=dict(measures),
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
            settings={
                name: parameter.default
                for name, parameter in inspect.signature(function).parameters.items()
                if parameter.kind is inspect.Parameter.KEYWORD_ONLY
            },
        )
        _refuse_impossible(declared)
        return declared

    return declare


def _refuse_impossible(declared: Check) -> None:
    def refuse(what: str, remedy: str) -> None:
        raise CheckFileError(f"check {declared.id!r}: {what}", place=declared.place, remedy=remedy)

    family, dot, topic = declared.id.partition(".")
    if not (dot and family.isidentifier() and topic.replace(".", "_").isidentifier()):
        refuse("its id is not FAMILY.TOPIC", "name it like 'parity.matmul', in letters, digits and underscores")
    if not inspect.isgeneratorfunction(declared.function):
        refuse("it is not a generator function", "yield each Measurement instead of returning it")
    if not declared.documentation:
        refuse("it has no docstring", "say in its docstring what it measures and why that matters")
    if not declared.measures:
        refuse("it declares no measurement", "give measures={'name': 'unit'}")
    if declared.lasting is not None and declared.lasting not in declared.settings:
        refuse(f"it has no setting {declared.lasting!r}", "name the setting that says how long it works")
    strangers = [name for name in (*declared.least, *declared.most) if name not in declared.settings]
    if strangers:
        refuse(f"it has no setting {strangers[0]!r}", "bound a setting that it has")
    missing = [name for name, default in declared.settings.items() if default is inspect.Parameter.empty]
    if missing:
        refuse(f"setting {missing[0]!r} has no default", "a check must run without being told anything")


def discover() -> dict[str, Check]:
    """The whole checklist by id, sorted; ours and that of the user's folders.

    Raises CheckFileError for a file that cannot be imported and for two checks of one id, naming both places: a broken
    file must not silently shorten the list.
    """
    found: dict[str, Check] = {}
    for module in _modules():
        for declared in vars(module).values():
            if not isinstance(declared, Check) or declared.function.__module__ != module.__name__:
                continue
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
    """One check by id and file, for a worker: nothing else is imported."""
    for folder in content.folders("checks"):
        if Path(file).is_relative_to(folder):
            module = _import(_module_name(Path(file), Path(folder)), Path(file))
            for declared in vars(module).values():
                if isinstance(declared, Check) and declared.id == id:
                    return declared
    raise CheckFileError(f"check {id!r} is not there", place=file, remedy="pass its folder with --checks")


def _modules() -> Iterable[ModuleType]:
    # Folder by folder: pkgutil.iter_modules over the whole __path__ would hide a file of the same name without a word.
    seen: dict[str, Path] = {}
    for folder in map(Path, content.folders("checks")):
        if not folder.is_dir():
            raise CheckFileError(
                "this folder of checks does not exist", place=str(folder), remedy="correct --checks or READINESS_CHECKS"
            )
        for file in sorted([*folder.glob("*.py"), *folder.glob("*/*.py")]):
            if file.name.startswith(("_", ".")) or file.parent.name.startswith(("_", ".")):
                continue
            name = _module_name(file, folder)
            if name in seen and seen[name] != file:
                raise CheckFileError(
                    f"two check files share the name {name.removeprefix('readiness.checks.')}, the other is {seen[name]}",
                    place=str(file),
                    remedy="rename one of them",
                )
            seen[name] = file
            yield _import(name, file)


def _module_name(file: Path, folder: Path) -> str:
    return ".".join(["readiness.checks", *file.relative_to(folder).with_suffix("").parts])


def _import(name: str, file: Path) -> ModuleType:
    package = importlib.import_module("readiness.checks")
    package.__path__ = content.folders("checks")  # the variable may have been set since the package was imported
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
            remedy="mend it, or move it out of the folder",
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
