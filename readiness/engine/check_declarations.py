"""Discovery of checks for the command line: shipped files are imported here, the user's in a separate process.

What a user's file declares comes back as data. Its functions never do: a worker imports the file itself to run a check, and
what a check brings along for the command line (`vet`, `recount`) is called over there as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readiness import check_registry, package_data
from readiness.check_registry import Check, Phase, Scope
from readiness.datamodel import Action, Better, Cost, Measure, Measurement, Row, Yield
from readiness.errors import CheckFileError, InternalError

if TYPE_CHECKING:  # what it takes to start a process is imported where one is: our own checks need none
    from readiness.engine.isolated_call import FailedCallError

#: What may take as long as the import of torch from a slow disk does; and what is to end while somebody waits for a word to
#: be completed.
IMPORT_LIMIT_S, COMPLETION_LIMIT_S = 30.0, 3.0
#: Of files with many records.
_RECOUNT_LIMIT_S = 120.0
#: The import of torch takes less than one.
_MEMORY_BYTES = 4 * 2**30
_HERE = "readiness.engine.check_declarations"
Json = dict[str, Any]


def discover(limit_s: float = IMPORT_LIMIT_S) -> dict[str, Check]:
    """Return all checks by id, sorted; the user's folders are those of --checks and READINESS_CHECKS.

    Raises CheckFileError, which names the file, for one that cannot be imported, that ends or holds up whoever imports it,
    and for two checks of one id.
    """
    own = check_registry.shipped()
    if package_data.folders("checks") == [str(package_data.shipped("checks"))]:
        return own
    from readiness.engine.isolated_call import FailedCallError, call

    try:
        answer = call(f"{_HERE}:_declare", {}, limit_s=limit_s, memory_bytes=_MEMORY_BYTES)
    except FailedCallError as problem:
        raise _unusable(problem) from None
    try:
        declared = [_from_json(item) for item in answer]
    except (KeyError, TypeError, ValueError, AttributeError) as problem:  # code of others may have answered
        raise _unusable(FailedCallError(f"{type(problem).__name__}: {problem}")) from None
    return check_registry.joined(own, declared)


def _unusable(problem: FailedCallError) -> CheckFileError:
    if not problem.note:
        what = f"the user's check files cannot be imported: {problem}"
        return CheckFileError(what, place="--checks", remedy="name another folder, or fix it")
    line = problem.line_in(problem.note)
    return CheckFileError(
        f"this check file cannot be imported: {problem}",
        place=problem.note if line is None else f"{problem.note}:{line}",
        remedy="at import it should only declare checks; or move it out of the folder",
    )


def _declare(note: Callable[[str], object]) -> list[Json]:
    """Return the declarations of the user's check files; runs in the other process."""
    return [_to_json(item) for item in check_registry.discover(shipped=False, begin=lambda file: note(str(file))).values()]


_PLAIN = ("id", "title", "typical_s", "limit_s", "lasting", "documentation", "file", "line")
_TABLES = ("least", "most")


def _to_json(check: Check) -> Json:
    return {
        **{name: getattr(check, name) for name in _PLAIN},
        **{name: dict(getattr(check, name)) for name in _TABLES},
        "measures": {name: asdict(measure) for name, measure in check.measures.items()},
        "cost": check.cost.value, "scope": check.scope.value, "phase": check.phase.value, "catches": list(check.catches),
        "settings": {name: _plain(value) for name, value in check.settings.items()},
        "alone": bool(check.alone), "provokes": bool(check.provokes),
        "vets": check.vet is not None, "recounts": check.recount is not None,
    }  # fmt: skip


def _from_json(document: Json) -> Check:
    """Parse a declaration. Raises KeyError, TypeError or ValueError for an invalid one: it may come from the user's code."""
    id, file = str(document["id"]), str(document["file"])

    def elsewhere(*_: Any, **__: Any) -> Iterator[Yield]:
        raise InternalError(f"{id} can be run by workers only", place=file, remedy="report this bug")

    def vet(settings: Mapping[str, Any]) -> None:
        _request(id, file, "_vet", {"settings": dict(settings)}, IMPORT_LIMIT_S)

    def recount(path: Path) -> Iterator[Yield]:
        from readiness.documents.assessment import measurement_from_json

        for kind, item in _request(id, file, "_recount", {"path": str(path)}, _RECOUNT_LIMIT_S):
            yield measurement_from_json(item) if kind == "measurement" else Row(item)

    return Check(
        id=id, title=str(document["title"]), function=elsewhere, cost=Cost(document["cost"]),
        measures={str(name): _measure(declared) for name, declared in document["measures"].items()},
        typical_s=_number(document["typical_s"]), limit_s=_number(document["limit_s"]),
        scope=Scope(document["scope"]), phase=Phase(document["phase"]), alone=document["alone"] is True,
        provokes=document["provokes"] is True,
        catches=tuple(map(str, document["catches"])),
        vet=vet if document["vets"] else None, recount=recount if document["recounts"] else None,
        least={str(name): _number(bound) for name, bound in document["least"].items()},
        most={str(name): _number(bound) for name, bound in document["most"].items()},
        lasting=None if document["lasting"] is None else str(document["lasting"]),
        settings={str(name): _understood(value) for name, value in document["settings"].items()},
        documentation=str(document["documentation"]), file=file, line=int(document["line"]),
    )  # fmt: skip


def _measure(declared: Json) -> Measure:
    texts = {name: str(declared[name]) for name in ("unit", "meaning", "title", "why", "remedy")}
    better = None if declared["better"] is None else Better(declared["better"])
    return Measure(**texts, better=better, action=Action(declared["action"]))


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    return value


def _plain(value: Any) -> Any:
    """Encode a setting's default as JSON that keeps tuples, tables, NaN and infinity."""
    match value:
        case tuple():
            return {"tuple": [_plain(item) for item in value]}
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {"table": {name: _plain(item) for name, item in value.items()}}
        case float() if not math.isfinite(value):
            return {"float": str(value)}
        case _:
            return value


def _understood(value: Any) -> Any:
    match value:
        case {"tuple": list(items)}:
            return tuple(map(_understood, items))
        case {"table": dict(items)}:
            return {str(name): _understood(item) for name, item in items.items()}
        case {"float": str(text)}:
            return float(text)
        case list():
            return [_understood(item) for item in value]
        case None | bool() | int() | float() | str():
            return value
    raise ValueError(f"{value!r:.60} is not a setting")


def _request(id: str, file: str, function: str, arguments: Json, limit_s: float) -> Any:
    """Call a function that a check declares. Raises CheckFileError where it fails."""
    from readiness.engine.isolated_call import FailedCallError, call

    try:
        return call(
            f"{_HERE}:{function}", {"id": id, "file": file, **arguments}, limit_s=limit_s, memory_bytes=_MEMORY_BYTES
        )
    except FailedCallError as problem:
        what = f"check {id!r}: its {function.removeprefix('_')} fails: {problem}"
        line = problem.line_in(file)
        raise CheckFileError(what, place=file if line is None else f"{file}:{line}", remedy="fix it") from None


def _vet(id: str, file: str, settings: Json, note: Callable[[str], object]) -> None:  # noqa: ARG001
    """Let a check validate the settings of a profile; runs in the other process."""
    vet = check_registry.load(id, file).vet
    assert vet is not None
    vet(settings)


def _recount(id: str, file: str, path: str, note: Callable[[str], object]) -> list[tuple[str, Json]]:  # noqa: ARG001
    """Return what a file saved by a check proves; runs in the other process."""
    check = check_registry.load(id, file)
    assert check.recount is not None
    return [_yielded(item, check) for item in check.recount(Path(path)) if isinstance(item, Measurement | Row)]


def _yielded(item: Measurement | Row, check: Check) -> tuple[str, Json]:
    from readiness.documents.assessment import measurement_to_json
    from readiness.documents.strict_json import plain
    from readiness.engine.worker import with_unit

    if isinstance(item, Row):
        return "row", plain(item.cells)
    return "measurement", measurement_to_json(with_unit(item, check))
