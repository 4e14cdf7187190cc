"""Redaction of an assessment: remove what identifies people and places before it is given away, and list it.

Serial numbers, host names, network addresses and user names become placeholders (`host-1`), the same one wherever the same
value stands, so that the document still agrees with itself and is judged again to the same findings. What a profile demanded
is never changed: its digest would be another one.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache, partial
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
#: Words of a text, and all other characters one by one; and what may follow a host's name, or a short one of an accelerator.
_TOKEN, _WORD = re.compile(r"[\w-]+|[^\w-]"), re.compile(r"[\w-]")
_DOMAIN, _ACCELERATOR = re.compile(r"(?:\.[A-Za-z0-9-]+(?![\w-]))*"), re.compile(r"/[a-z]+:[0-9]")
#: So many redactions are listed one by one.
MOST_LISTED = 10_000
#: So few values are looked for in a text first, before it is taken apart into words.
_FEW_WORDS = 50

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
        self._words = _Words(())
        self._labels: frozenset[str] = frozenset()

    def applied(self, name: str, document: Json) -> Json:
        """A document without them; `name` stands before the places in the list."""
        for path, value in _strings(document, ()):
            for secret, text in _named(path, value):
                self._placeholder(secret, text)
        self._labels = frozenset(_demanded_labels(document))
        self._words = _Words(
            (secret, word, item) for (secret, word), item in self.found.items() if secret is not Secret.ADDRESSES
        )
        redacted = self._walk(document, (), name)
        assert isinstance(redacted, dict)
        return redacted

    def listed(self) -> list[Json]:
        """Return every secret that was removed, without its value; of very many of a kind the last ones as one entry."""
        items = [item for item in {id(item): item for item in self.found.values()}.values() if item.places]
        listed = [_entry(item) for item in items[:MOST_LISTED]]
        for secret in Secret:
            if rest := [item for item in items[MOST_LISTED:] if item.secret is secret]:
                last = f"{rest[0].placeholder} to {rest[-1].placeholder}, {len(rest)} values"
                places = sum(len(item.places) for item in rest)
                listed.append({**_entry(rest[0]), "placeholder": last, "places": places})
        return listed

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
        text = self._words.replaced(text, lambda item: _note(item, path, name))
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


def _entry(item: Redacted) -> Json:
    return {
        "what": item.secret.value, "placeholder": item.placeholder, "places": len(item.places), "first": item.places[:5],
    }  # fmt: skip


def _note(item: Redacted, path: Path, name: str) -> str:
    place = _place(path, name)
    if not item.places or item.places[-1] != place:
        item.places.append(place)
    return item.placeholder


@lru_cache(maxsize=16)  # one text may have it a million times
def _place(path: Path, name: str) -> str:
    return name + "".join(f"[{step}]" if isinstance(step, int) else f".{_shown(step)}" for step in path)


def _shown(step: str) -> str:
    """Return a key for display; one that itself is a secret is hidden."""
    return step if re.fullmatch(r"[a-z_0-9]{1,40}", step) else "*"


def _key(path: Path) -> str:
    return next((step for step in reversed(path) if isinstance(step, str)), "")


class _Words:
    """Values to find in texts as whole words, in one pass over a text however many they are.

    They are looked up by their first word and their length; of several at one place the longest is found.
    """

    def __init__(self, words: Iterable[tuple[Secret, str, Redacted]]) -> None:
        self._known: dict[str, dict[int, dict[str, tuple[Secret, Redacted]]]] = {}
        for secret, word, item in words:
            first = _TOKEN.match(word)
            if first is not None:
                self._known.setdefault(first[0], {}).setdefault(len(word), {}).setdefault(word, (secret, item))
        for first_word, lengths in self._known.items():
            self._known[first_word] = dict(sorted(lengths.items(), reverse=True))

    def replaced(self, text: str, placeholder: Callable[[Redacted], str]) -> str:
        """Return the text with a placeholder for each of them."""
        if len(self._known) < _FEW_WORDS and not any(first in text for first in self._known):
            return text
        pieces, done, known = [], 0, self._known.get
        for token in _TOKEN.finditer(text):  # millions, nearly all of which are none
            if (lengths := known(token[0])) is None or token.start() < done:
                continue
            if (found := _found(lengths, text, token.start())) is None:
                continue
            end, item = found
            pieces += [text[done : token.start()], placeholder(item)]
            done = end
        return "".join([*pieces, text[done:]])


def _found(
    lengths: Mapping[int, Mapping[str, tuple[Secret, Redacted]]], text: str, start: int
) -> tuple[int, Redacted] | None:
    """Return the end of the longest value that begins here and is a whole word, and what stands for it."""
    if start and _WORD.match(text[start - 1]):
        return None
    for length, words in lengths.items():
        known = words.get(text[start : start + length])
        if known is None or _WORD.match(text, start + length):
            continue
        secret, item = known
        end = start + length
        if secret is Secret.USERS and length <= _SHORTEST_WORD:
            if not text[max(start - 6, 0) : start - 1].endswith(("home", "Users")) or text[start - 1] not in "/\\":
                continue
        elif length < _SHORTEST_WORD:
            if (start and text[start - 1] == ".") or not _ACCELERATOR.match(text, end):
                continue
        elif secret is Secret.HOSTS and (domain := _DOMAIN.match(text, end)) is not None:
            end = domain.end()
        return end, item
    return None


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
