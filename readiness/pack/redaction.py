"""Redaction of an assessment: remove what identifies people and places before it is given away, and list it.

Serial numbers, host names, network addresses and user names become placeholders (`host-1`), the same one wherever the same
value stands, so that the document still agrees with itself and is judged again to the same findings. What a profile demanded
is never changed: its digest would be another one.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

Json = dict[str, Any]
Path = tuple[str | int, ...]


class Secret(StrEnum):
    """Kinds of secrets, redacted by default."""

    SERIALS = "serials"
    HOSTS = "hosts"
    ADDRESSES = "addresses"
    USERS = "users"

    @property
    def placeholder(self) -> str:
        """Return the text in place of a secret, before its number."""
        return {"serials": "serial", "hosts": "host", "addresses": "address", "users": "user"}[self.value]


@dataclass(slots=True)
class Redacted:
    """One value that was taken out: what it was, what stands for it, and where."""

    secret: Secret
    placeholder: str
    places: list[str] = field(default_factory=list)


_SERIAL_KEYS = re.compile(r"serial|uuid|guid|asset_tag|board_id|^mac(?:_|$)", re.IGNORECASE)
_USER_KEYS = re.compile(r"^(?:user|username|user_name|login|owner|logname)$", re.IGNORECASE)
_HOST_KEYS = re.compile(r"^(?:host|hostname|host_name|node|nodename|node_name)$", re.IGNORECASE)
_HOME = re.compile(r"(?:/home|/Users|[A-Z]:\\Users|/data/home|/export/home)[/\\]([A-Za-z0-9._-]{2,64})")
_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.]*\w)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])")
#: Versions of four numbers look like addresses.
_VERSION_KEYS = re.compile(r"version|firmware|bios|driver", re.IGNORECASE)
_MAC = re.compile(r"(?<![\w:-])(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}(?![\w:-])")
#: Values that identify no person, host or device.
_NOBODY = frozenset({
    "", "0", "unknown", "none", "null", "n/a", "na", "not available", "localhost", "root", "cpu", "sim",
    "user", "users", "admin", "ubuntu", "runner", "shared",
})  # fmt: skip
#: Shorter values are words too often: they are taken out where they stand alone, and not looked for within texts.
_SHORTEST_WORD = 3

#: Keys whose values are words of the tool or of the profile, and never those of a person or a place.
_KEPT_KEYS = frozenset({
    "schema", "tool", "started", "seconds", "uses", "interrupted", "demands", "sha256", "check", "status", "cause",
    "earlier",
    "attempts", "requirement", "use", "level", "outcome", "unit", "limit", "weight", "earned", "measure", "verdicts",
    "kind",
    "driven_by", "stack", "counters", "packages", "present", "action", "title", "why", "remedy", "by", "until", "vendor",
    "model", "lasting", "version", "python", "system", "torch", "rehearsal",
})  # fmt: skip


_DETAILS = frozenset({"rows", "properties", "environment", "process", "settings", "files"})


class Redaction:
    """Takes values out of documents; what was taken out of all of them is in `found`."""

    def __init__(self, kept: Iterable[Secret] = ()) -> None:
        self.kept = frozenset(kept)
        self.found: dict[tuple[Secret, str], Redacted] = {}
        self._counts: dict[Secret, int] = {}
        self._words: list[tuple[str, re.Pattern[str], Redacted]] = []
        self._labels: frozenset[str] = frozenset()

    def applied(self, name: str, document: Json) -> Json:
        """A document without them; `name` stands before the places in the list."""
        for path, value in _strings(document, ()):
            for secret, text in _named(path, value):
                self._placeholder(secret, text)
        self._labels = frozenset(_demanded_labels(document))
        self._words = [
            (word, _pattern(secret, word), item)
            for (secret, word), item in sorted(self.found.items(), key=lambda entry: -len(entry[0][1]))
            if secret is not Secret.ADDRESSES
        ]
        redacted = self._walk(document, (), name)
        assert isinstance(redacted, dict)
        return redacted

    def listed(self) -> list[Json]:
        """Return every secret that was removed, without its value."""
        return [
            {
                "what": item.secret.value, "placeholder": item.placeholder, "places": len(item.places),
                "first": item.places[:5],
            }
            for item in {id(item): item for item in self.found.values()}.values()
            if item.places
        ]

    def _placeholder(self, secret: Secret, value: str) -> Redacted | None:
        if secret in self.kept or value.strip().lower() in _NOBODY:
            return None
        if (known := self.found.get((secret, value))) is not None:
            return known
        short = value.partition(".")[0] if secret is Secret.HOSTS and not value[0].isdigit() else value
        if (known := self.found.get((secret, short))) is None:
            number = self._counts[secret] = self._counts.get(secret, 0) + 1
            known = Redacted(secret, f"{secret.placeholder}-{number}")
        self.found[secret, value] = known
        if len(short) >= _SHORTEST_WORD:
            self.found.setdefault((secret, short), known)  # `node1` is `node1.example.com`
        return known

    def _walk(self, value: Any, path: Path, name: str) -> Any:
        if isinstance(value, str):
            return self._text(value, path, name)
        if isinstance(value, list):
            return [self._walk(item, (*path, number), name) for number, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        # Keys of details are free: a table by host is one. Those of the document itself identify nobody.
        free = _is_free(path)
        return {
            self._text(key, (*path, key), name) if free else key:
                item if key in _KEPT_KEYS and not free else self._walk(item, (*path, key), name)
            for key, item in value.items()
        }  # fmt: skip

    def _text(self, text: str, path: Path, name: str) -> str:
        if text in self._labels and "labels" in path:
            return text
        for secret, whole in _named(path, text):
            if whole == text and (known := self._placeholder(secret, text)) is not None:
                return _note(known, path, name)
        for word, pattern, item in self._words:
            if word in text:
                text = pattern.sub(partial(_replaced, item, path, name), text)
        if Secret.ADDRESSES not in self.kept and not _VERSION_KEYS.search(_key(path)):
            if text.count(":") > 1 or text.count("-") > 4:
                text = _IPV6.sub(partial(self._address, path, name), _MAC.sub(partial(self._address, path, name), text))
            if text.count(".") > 2:
                text = _IPV4.sub(partial(self._address, path, name), text)
        return text

    def _address(self, path: Path, name: str, match: re.Match[str]) -> str:
        text = match[0]
        if _is_of_nobody(text) or (known := self._placeholder(Secret.ADDRESSES, text)) is None:
            return text
        return _note(known, path, name)


def _replaced(item: Redacted, path: Path, name: str, match: re.Match[str]) -> str:
    start, end = match.start("word") - match.start(), match.end("word") - match.start()
    return match[0][:start] + _note(item, path, name) + match[0][end:]


def _note(item: Redacted, path: Path, name: str) -> str:
    place = name + "".join(f"[{step}]" if isinstance(step, int) else f".{_shown(step)}" for step in path)
    if not item.places or item.places[-1] != place:
        item.places.append(place)
    return item.placeholder


def _shown(step: str) -> str:
    """Return a key for display; one that itself is a secret is hidden."""
    return step if re.fullmatch(r"[a-z_0-9]{1,40}", step) else "*"


def _key(path: Path) -> str:
    return next((step for step in reversed(path) if isinstance(step, str)), "")


def _pattern(secret: Secret, word: str) -> re.Pattern[str]:
    """Return a pattern that finds a value in text as a whole word; a short one only where it names an accelerator or a
    path.
    """
    escaped = re.escape(word)
    if secret is Secret.USERS and len(word) <= _SHORTEST_WORD:
        return re.compile(rf"(?:home|Users)[/\\](?P<word>{escaped})(?![\w-])")
    if len(word) < _SHORTEST_WORD:
        return re.compile(rf"(?<![\w.-])(?P<word>{escaped})(?=/[a-z]+:[0-9])")
    domain = r"(?:\.[A-Za-z0-9-]+)*" if secret is Secret.HOSTS else ""
    return re.compile(rf"(?<![\w-])(?P<word>{escaped}{domain})(?![\w-])")


def _is_of_nobody(text: str) -> bool:
    """Return whether it is no address, or one that every machine has."""
    if _MAC.fullmatch(text):
        return False
    if ":" in text and len(text.replace("::", ":").strip(":").split(":")) < 2:
        return True  # `c10d::*` is a glob over operators
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return True
    return address.is_loopback or address.is_unspecified


def _is_free(path: Path) -> bool:
    """Return whether a path leads into details that a check or a device filled in."""
    return "demands" not in path and not _DETAILS.isdisjoint(path)


def _strings(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _strings(item, (*path, number))
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in _KEPT_KEYS or _is_free(path):
                yield from _strings(item, (*path, key))


def _demanded_labels(document: Json) -> Iterator[str]:
    """Return label values by which a profile chooses measurements: they are no secrets, even if a host has such a name."""
    profile = document.get("profile")
    demands = profile.get("demands") if isinstance(profile, dict) else None
    for entry in demands["require"] if demands else ():
        yield from entry["where"].values()


_BY_KEY: tuple[tuple[re.Pattern[str], Secret], ...] = (
    (_SERIAL_KEYS, Secret.SERIALS), (_USER_KEYS, Secret.USERS), (_HOST_KEYS, Secret.HOSTS),
)  # fmt: skip


def _named(path: Path, text: str) -> Iterator[tuple[Secret, str]]:
    """Return what a text names by its position, or by a path in somebody's home."""
    key = _key(path)
    if path == ("host", "name"):
        yield Secret.HOSTS, text
    elif _is_id(path) and "/" in text:
        yield Secret.HOSTS, text.partition("/")[0]
    elif "labels" not in path:  # a label called `host` says how something was measured
        for pattern, secret in _BY_KEY:
            if pattern.search(key) and len(text) <= 200:
                yield secret, text
    for match in _HOME.finditer(text):
        yield Secret.USERS, match[1]


def _is_id(path: Path) -> bool:
    return path[-1:] == ("id",) or path[:1] == ("under_test",) or "accelerators" in path[-2:]


def kinds_of(texts: Iterable[str]) -> frozenset[Secret]:
    """Return the kinds that `--keep` names: `all` for everything. Raises ValueError."""
    return frozenset(secret for text in texts for secret in (Secret if text == "all" else (Secret(text),)))


_IN_WORDS = {"hosts": "host names", "serials": "serial numbers", "addresses": "addresses", "users": "user names"}


def words(listed: Iterable[Mapping[str, Any]]) -> str:
    """`host names (1), serial numbers (8)`: how many values of each kind were taken out."""
    counts = Counter(item["what"] for item in listed)
    return ", ".join(f"{_IN_WORDS[what]} ({number})" for what, number in counts.items()) or "nothing"
