"""Files from outside: what is wrong is told with its line, and none of them takes more time or memory than its size is worth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from readiness.documents import files, toml
from readiness.errors import BadFileError
from tests.support.paths import ROOT

LINES = {
    "NaN": ('{"a": "NaN is here",\n "b": [1, NaN]}', "NaN is not a JSON number", 2),
    "minus infinity": ('{"a":\n\n -Infinity}', "-Infinity is not a JSON number", 3),
    "too large": ('{"a": "1e999",\n "b": 0.1,\n "c": -1e999}', "-1e999 is too large for a number", 3),
    "long number": ('{"a": "' + "9" * 500 + '",\n "b": ' + "9" * 500 + "}", "a number of 500 digits", 2),
    "same key": ('{"a": {"x": 1},\n "b": {"x": 1,\n "y": "x",\n "x": 2}}', "the key 'x' occurs twice", 4),
    "same key with quotes": ('{"a": 1,\n "b\\"c": 1, "d": "b\\"c",\n "b\\"c": 2}', "occurs twice", 3),
    "syntax": ('{"a": 1,\n\n oops}', "not JSON", 3),
}


@pytest.mark.parametrize("name", LINES)
def test_the_line_of_a_mistake_in_json(name: str, tmp_path: Path) -> None:
    text, what, line = LINES[name]
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(BadFileError, match=what) as caught:
        files.read_json(file, largest_bytes=2**20)
    assert caught.value.place == f"{file}:{line}"
    assert caught.value.remedy


def test_a_key_that_is_written_in_two_ways_stands_twice_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1, "\\u0061": 2}}}}')
    with pytest.raises(BadFileError, match="the key 'a' occurs twice") as caught:
        files.read_json(tmp_path / "a.json", largest_bytes=2**20)
    assert caught.value.place == str(tmp_path / "a.json")


def test_long_digits_in_a_text_are_a_text() -> None:
    assert files.parse_json(json.dumps({"a": "7" * 1000, "b": -12, "c": 1.5})) == {"a": "7" * 1000, "b": -12, "c": 1.5}


def test_a_long_number_is_found_wherever_it_begins() -> None:
    for place in range(80):
        with pytest.raises(ValueError, match="a number of 401 digits"):
            files.parse_json("[" + " " * place + "9" * 401 + "]")
        assert files.parse_json("[" + " " * place + "9" * 399 + "]") == [10**399 - 1]


def test_more_values_than_fit_into_memory_are_refused_before_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_VALUES", 100)
    assert files.parse_json("[" + "{}," * 48 + "{}]") == [{}] * 49
    (tmp_path / "a.json").write_text("[" + "{}," * 50 + "{}]")
    with pytest.raises(BadFileError, match="it has about 102 values; the maximum is 100"):
        files.read_json(tmp_path / "a.json", largest_bytes=2**20)


LINES_OF = '''schema = "readiness.profile/1"
name = "a.b = 1"   # x = 2
"quoted.key" = """
not = "a key"
[[no.table]]
""" # closed
text = \'\'\'
also = 'none'\'\'\'
[[require]]
id = "one"
where = { dtype = "x" }
[settings."family.topic"]
'share' = [
  "a = b",
  # c = 1
]
[[require]]
id = "two # three"
a . "b" . 'c' = 1
'''


def test_lines_are_found_behind_texts_and_comments_that_look_like_keys() -> None:
    assert toml.lines_of(LINES_OF).by_path == {
        ("schema",): 1, ("name",): 2, ("quoted.key",): 3, ("text",): 7, ("require", 0): 9, ("require", 0, "id"): 10,
        ("require", 0, "where"): 11, ("settings", "family.topic"): 12, ("settings", "family.topic", "share"): 13,
        ("require", 1): 17, ("require", 1, "id"): 18, ("require", 1, "a", "b", "c"): 19,
    }  # fmt: skip


def test_every_key_of_a_shipped_profile_has_its_line() -> None:
    text = (ROOT / "profiles" / "general.toml").read_text()
    lines = text.split("\n")
    found = toml.lines_of(text).by_path
    assert len(found) > 800
    for path, number in found.items():
        line = lines[number - 1]
        if path[-2:-1] == ("require",) and line.startswith("  {"):  # one of an array of inline tables
            assert "id = " in line, path
        else:
            assert str(path[-1] if isinstance(path[-1], str) else path[-2]) in line, path


DATES = {
    "date": ("2027-01-31", 'give a text, in quotes: "2027-01-31"'),
    "time": ("2027-01-31T10:00:00Z", "give a text, in quotes"),
    "not finite": ("-inf", "is not of type 'string'"),
}


@pytest.mark.parametrize("name", DATES)
def test_a_date_without_quotes_is_an_error_with_a_remedy(name: str, tmp_path: Path) -> None:
    value, what = DATES[name]
    file = tmp_path / "waivers.toml"
    file.write_text(
        'schema = "readiness.waivers/1"\n[[waive]]\nrequirement = "a"\naccelerator = "*"\nreason = "r"\nby = "b"\n'
        f"until = {value}\n"
    )
    with pytest.raises(BadFileError) as caught:
        toml.read(file, "waivers")
    assert what in str(caught.value)
    assert caught.value.place == f"{file}:7"
