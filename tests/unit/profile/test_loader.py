"""Profiles: what they may say, how they extend each other, and what becomes of hostile ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readiness import package_data
from readiness.check_registry import Check, check
from readiness.datamodel import Action, Level, Measurement, Operator, Profile, Use
from readiness.documents import toml, waivers
from readiness.errors import BadFileError, Exit, UsageError
from readiness.profile import loader, shipped
from tests.support import checks

HEAD = 'schema = "readiness.profile/1"\nname = "test"\ntitle = "A test"\n'
REQUIREMENT = '[[require]]\nid = "one"\ncheck = "family.topic"\nmeasure = "error"\nat_most = 1.0\n'


@check("family.topic", title="A topic", measures={"error": "1", "speed": "GB/s"})
def topic(
    accelerator: object, *, dtypes: tuple[str, ...] = ("float32",), ranks: int = 2, share: float = 0.5, deep: bool = False
) -> Iterator[Measurement]:
    """Is it a check?"""
    yield Measurement("error", 0.0)


CHECKLIST: dict[str, Check] = {"family.topic": topic}


def test_weights_are_multiplied_by_those_of_their_levels_and_inherited(tmp_path: Path) -> None:
    should = REQUIREMENT.replace('"one"', '"two"') + 'level = "should"\nweight = 2\n'
    write(tmp_path, f"{HEAD}[weights]\nmust = 4\n{REQUIREMENT}weight = 3\n{should}", "base.toml")
    child = HEAD.replace('"test"', '"child"') + 'extends = ["base"]\n' + REQUIREMENT.replace('"one"', '"three"')
    found = loader.load(write(tmp_path, child), CHECKLIST)
    assert {one.id: one.weight for one in found.requirements} == {"one": 12, "two": 2, "three": 4}
    overruled = child.replace("[[require]]", "[weights]\nmust = 1\nshould = 0.5\n[[require]]")
    found = loader.load(write(tmp_path, overruled), CHECKLIST)
    assert {one.id: one.weight for one in found.requirements} == {"one": 3, "two": 1, "three": 1}
    wrong = write(tmp_path, child.replace("[[require]]", "[weights]\nmust = 0\n[[require]]"))
    with pytest.raises(BadFileError, match="weights"):
        loader.load(wrong, CHECKLIST)


def write(folder: Path, text: str, name: str = "test.toml") -> str:
    file = folder / name
    file.write_text(dedent(text))
    return str(file)


def load(folder: Path, text: str) -> Profile:
    return loader.load(write(folder, text), CHECKLIST)


def test_every_key_of_a_requirement_arrives(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        HEAD
        + """
        uses = ["training"]
        [settings."family.topic"]
        dtypes = ["bfloat16"]
        ranks = 8
        share = 1
        [[require]]
        id = "one"
        use = ["training"]
        check = "family.topic"
        measure = "speed"
        where = { dtype = "bfloat16" }
        at_least = 1.0
        zero = 0.9
        level = "should"
        weight = 5
        why = "because"
        source = "somewhere"
        remedy = "update"
        action = "update-software"
        only_on = ["cuda", "ro*"]
        """.replace("\n        ", "\n"),
    )
    (requirement,) = loaded.requirements
    assert requirement.uses == (Use.TRAINING,)
    assert (requirement.limit.operator, requirement.limit.bound, requirement.limit.zero) == (Operator.AT_LEAST, 1.0, 0.9)
    assert requirement.level is Level.SHOULD
    assert requirement.remedy is not None
    assert requirement.remedy.action is Action.UPDATE_SOFTWARE
    assert requirement.where == {"dtype": "bfloat16"}
    assert requirement.only_on == ("cuda", "ro*")
    assert loaded.settings["family.topic"] == {"dtypes": ["bfloat16"], "ranks": 8, "share": 1}


def test_a_child_overrides_its_parents(tmp_path: Path) -> None:
    write(tmp_path, HEAD + REQUIREMENT + 'weight = 3\nremedy = "r"\n[[require]]\nid = "two"\ncheck = "family.topic"\nmeasure = "speed"\nat_least = 2\nzero = 1\n', "base.toml")
    loaded = load(tmp_path, HEAD + 'extends = ["base"]\n[[require]]\nid = "two"\nat_most = 9\n[[require]]\nid = "one"\nlevel = "info"\n')
    one, two = loaded.requirements
    assert (one.level, one.weight, one.limit.bound) == (Level.INFO, 3, 1.0)
    assert (two.limit.operator, two.limit.bound, two.limit.zero) == (Operator.AT_MOST, 9, None)
    assert two.place is not None
    assert two.place.endswith("test.toml:5")


def test_a_child_may_drop_what_it_inherits(tmp_path: Path) -> None:
    write(tmp_path, HEAD + REQUIREMENT, "base.toml")
    for drop in ("one", "o*", "?ne", "family.topic", "family.*"):
        assert load(tmp_path, HEAD + f'extends = ["base"]\ndrop = ["{drop}"]\n').requirements == ()


def test_dropping_beside_a_requirement_that_names_no_check_is_a_mistake_of_the_latter(tmp_path: Path) -> None:
    write(tmp_path, HEAD + '[[require]]\nid = "half"\nat_least = 1\n' + REQUIREMENT, "base.toml")
    with pytest.raises(BadFileError, match="half"):
        load(tmp_path, HEAD + 'extends = ["base"]\ndrop = ["family.*"]\n')


def test_smoke_takes_seconds_on_one_chip_and_on_several() -> None:
    """By what its checks declare: a node health program is killed after a minute."""
    smoke = loader.load("smoke", checks())
    wanted = {item.check for item in smoke.requirements}
    assert {"multichip.data_parallel", "driver.memory", "parity.matmul"} <= wanted
    assert sum(checks()[id].typical_s for id in wanted - {"operators.sweep"}) < 25
    one_chip = {item.check for item in smoke.requirements if item.least_chips < 2}
    assert not any(id.startswith("multichip.") for id in one_chip)


def test_the_digest_is_of_what_is_demanded(tmp_path: Path) -> None:
    first = load(tmp_path, HEAD + REQUIREMENT)
    assert load(tmp_path, "# a comment\n" + HEAD + REQUIREMENT + 'why = "told"\n').sha256 == first.sha256
    assert load(tmp_path, HEAD + REQUIREMENT.replace("1.0", "1.0000001")).sha256 != first.sha256


@pytest.mark.parametrize("name", shipped.names())
def test_the_shipped_profiles_load(name: str) -> None:
    loaded = loader.load(name, checks())
    assert loaded.name == name
    assert loaded.requirements
    for requirement in loaded.requirements:
        assert requirement.why, f"{requirement.id} does not say why"
        assert requirement.remedy is not None, f"{requirement.id} does not say what to do"


def nested(depth: int) -> str:
    return HEAD + "description = " + "[" * depth + "]" * depth + "\n"


HOSTILE: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", r":1: .*'schema' is a required property"),
    "no_toml": ("{]", r":1: not TOML"),
    "half_a_string": (HEAD + 'description = "never clo', r":4: not TOML"),
    "cut_short": (HEAD + REQUIREMENT[:-8], r":\d+: .*"),
    "not_text": (b"\xff\xfe\x00schema", r"not UTF-8"),
    "huge": ("#" * (2**20 + 1), r"larger than 1024 KiB"),
    "deep": (nested(100_000), r"nested too deeply|not TOML"),
    "huge_number": (HEAD + REQUIREMENT.replace("1.0", "9" * 5000), r":8: a number of more than 250 digits"),
    "another_schema": (HEAD.replace("profile/1", "profile/9"), r":1: schema: 'readiness.profile/1' was expected"),
    "schema_is_a_list": (HEAD.replace('"readiness.profile/1"', "[]"), r":1: schema"),
    "name_with_a_path": (HEAD.replace('"test"', '"../../etc/passwd"'), r":2: name: "),
    "title_is_a_number": (HEAD.replace('"A test"', "3"), r":3: title: 3 is not of type 'string'"),
    "unknown_key": (HEAD + "limit = 3\n", r"'limit' was unexpected"),
    "unknown_key_of_requirement": (HEAD + REQUIREMENT + "at_moost = 2\n", r"'at_moost' was unexpected"),
    "unknown_check": (HEAD + REQUIREMENT.replace("family.topic", "family.topik"), r":4: .*no check 'family.topik'\n.*did you mean family.topic\?"),
    "unknown_measure": (HEAD + REQUIREMENT.replace('"error"', '"eror"'), r"does not measure 'eror'\n.*error, speed"),
    "check_is_code": (HEAD + REQUIREMENT.replace("family.topic", "__import__('os')"), r":6: |:4: "),
    "no_limit": (HEAD + REQUIREMENT.replace("at_most = 1.0\n", ""), r"has no bound\n.*at_least, at_most"),
    "two_limits": (HEAD + REQUIREMENT + "at_least = 2\n", r"has 2 bounds"),
    "limit_is_nan": (HEAD + REQUIREMENT.replace("1.0", "nan"), r":8: require\[0\].at_most: it is nan"),
    "limit_is_infinite": (HEAD + REQUIREMENT.replace("1.0", "inf"), r":8: require\[0\].at_most: it is inf"),
    "limit_is_text": (HEAD + REQUIREMENT.replace("1.0", '"1.0"'), r":8: .*not of type 'number'"),
    "limit_is_true": (HEAD + REQUIREMENT.replace("1.0", "true"), r":8: .*True is not of type 'number'"),
    "between_upside_down": (HEAD + REQUIREMENT.replace("at_most = 1.0", "between = [2, 1]"), r"no value is between"),
    "between_of_three": (HEAD + REQUIREMENT.replace("at_most = 1.0", "between = [1, 2, 3]"), r"between"),
    "zero_on_the_wrong_side": (HEAD + REQUIREMENT + "zero = 0.5\n", r"zero = 0.5 does not fit"),
    "weight_is_negative": (HEAD + REQUIREMENT + "weight = -1\n", r":9: .*weight"),
    "weight_is_nan": (HEAD + REQUIREMENT + "weight = nan\n", r"weight"),
    "level_unknown": (HEAD + REQUIREMENT + 'level = "maybe"\n', r"'maybe' is not one of"),
    "use_unknown": (HEAD + REQUIREMENT + 'use = ["both"]\n', r"'both' is not one of"),
    "action_unknown": (HEAD + REQUIREMENT + 'action = "rm -rf /"\n', r"is not one of"),
    "id_with_html": (HEAD + REQUIREMENT.replace('"one"', '"<script>"'), r":5: .*does not match"),
    "id_twice": (HEAD + REQUIREMENT + REQUIREMENT, r":9: two requirements have the id 'one'"),
    "where_is_a_number": (HEAD + REQUIREMENT + "where = { dtype = 3 }\n", r"where"),
    "extends_nobody": (HEAD + 'extends = ["nobody"]\n', r":4: .*'nobody'.*\n.*general"),
    "extends_a_path": (HEAD + 'extends = ["../../etc/passwd"]\n', r":4: extends\[0\]"),
    "extends_itself": (HEAD + 'extends = ["test"]\n', r":4: it extends itself"),
    "drops_nothing": (HEAD + 'drop = ["one"]\n', r":4: drop\[0\]"),
    "stack_unknown": (HEAD + REQUIREMENT + 'only_on = ["cuad"]\n', r"'cuad' matches no stack\n.*cuda"),
    "least_chips_is_none": (HEAD + REQUIREMENT + "least_chips = 0\n", r":9: .*least_chips"),
    "least_chips_is_half": (HEAD + REQUIREMENT + "least_chips = 1.5\n", r":9: .*least_chips"),
    "least_chips_is_text": (HEAD + REQUIREMENT + 'least_chips = "several"\n', r":9: .*least_chips"),
    "least_chips_is_true": (HEAD + REQUIREMENT + "least_chips = true\n", r":9: .*least_chips"),
    "settings_of_no_check": (HEAD + '[settings."no.check"]\na = 1\n', r":4: settings for 'no.check'"),
    "unknown_setting": (HEAD + '[settings."family.topic"]\nrank = 2\n', r":4: .*no setting 'rank'\n.*ranks"),
    "setting_of_another_kind": (HEAD + '[settings."family.topic"]\nranks = "two"\n', r"the setting 'ranks' is 'two'"),
    "setting_is_true": (HEAD + '[settings."family.topic"]\nranks = true\n', r"the setting 'ranks' is True"),
    "setting_is_a_fraction": (HEAD + '[settings."family.topic"]\nranks = 2.5\n', r"the setting 'ranks' is 2.5"),
    "setting_is_nan": (HEAD + '[settings."family.topic"]\nshare = nan\n', r":5: settings.family.topic.share: it is nan"),
    "setting_list_of_numbers": (HEAD + '[settings."family.topic"]\ndtypes = [1]\n', r"the setting 'dtypes'"),
    "setting_is_a_table": (HEAD + '[settings."family.topic".ranks]\na = 1\n', r"settings"),
    "require_is_a_table": (HEAD + '[require]\nid = "one"\n', r":4: require"),
    "too_many_requirements": (HEAD + '[[require]]\nid = "a"\n' * 10_001, r"too long|expected"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_profiles(tmp_path: Path, name: str) -> None:
    text, message = HOSTILE[name]
    file = tmp_path / "test.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadFileError, match=f"(?s){message}") as caught:
        loader.load(str(file), CHECKLIST)
    assert caught.value.exit_code is Exit.USAGE
    assert caught.value.place is not None
    assert str(file) in caught.value.place
    assert caught.value.remedy
    assert len(str(caught.value)) < 1000


def test_a_circle_of_profiles_is_an_error(tmp_path: Path) -> None:
    for name, parent in (("a", "b"), ("b", "c"), ("c", "a")):
        write(tmp_path, HEAD.replace("test", name) + f'extends = ["{parent}"]\n', f"{name}.toml")
    with pytest.raises(BadFileError, match="extends itself through 'a'"):
        loader.load(str(tmp_path / "a.toml"), CHECKLIST)


@pytest.mark.parametrize("name", ["generol", "", "general\0", "../general", "no/such.toml", "."])
def test_a_profile_that_is_not_there(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        loader.load(name, CHECKLIST)
    assert caught.value.remedy


def test_how_many_chips_it_takes_is_part_of_the_demands(tmp_path: Path) -> None:
    def load(line: str) -> Profile:
        file = tmp_path / "test.toml"
        file.write_text(HEAD + REQUIREMENT + line)
        return loader.load(str(file), CHECKLIST)

    assert [item.least_chips for item in load("least_chips = 2\n").requirements] == [2]
    assert load("least_chips = 2\n").sha256 != load("").sha256
    assert load("least_chips = 1\n").sha256 == load("").sha256  # what was always meant


def test_a_name_that_was_mistyped_is_guessed() -> None:
    with pytest.raises(UsageError, match="did you mean general"):
        loader.load("generol", CHECKLIST)


def test_a_file_that_was_named_without_its_ending_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"did you mean the file ours\.toml"):
        loader.load("ours", CHECKLIST)


def test_a_folder_and_a_fifo_are_no_profiles(tmp_path: Path) -> None:
    import os

    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    for name in ("folder", "pipe"):
        with pytest.raises(BadFileError, match="not a file"):
            loader.load(str(tmp_path / f"{name}.toml"), CHECKLIST)


@given(st.text())
def test_no_text_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("any") / "test.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadFileError):
        loader.load(str(file), CHECKLIST)


def test_lines_are_found_through_strings_arrays_and_quoted_keys() -> None:
    text = dedent(
        '''\
        a = """
        [not.a.table]
        b = 1
        """
        c = 'x # no comment'
        [t."quoted.key"]
        d = [
          1,
        ]
        [[e]]
        f = 1
        [[e]]
        f = 2
        [e.g]
        h = 3
        '''
    )
    lines = toml.lines_of(text)
    assert lines.line(("c",)) == 5
    assert lines.line(("t", "quoted.key", "d")) == 7
    assert lines.line(("e", 1, "f")) == 13
    assert lines.line(("e", 1, "g", "h")) == 15
    assert lines.line(("e", 0, "missing")) == 10
    assert lines.line(("nothing",)) == 1
    assert ("not", "a", "table") not in lines.by_path


def test_the_shipped_profiles_are_in_the_package_data() -> None:
    assert (package_data.shipped("profiles") / "general.toml").is_file()


def _small(folder: Path, name: str, extends: list[str], requirements: dict[str, int], more: str = "") -> Path:
    file = folder / f"{name}.toml"
    text = f'schema = "readiness.profile/1"\nname = "{name}"\ntitle = "{name}"\nextends = {json.dumps(extends)}\n{more}'
    for id, limit in requirements.items():
        text += f'[[require]]\nid = "{id}"\ncheck = "parity.matmul"\nmeasure = "supported"\nat_least = {limit}\n'
    file.write_text(text)
    return file


@pytest.mark.parametrize("order", [["strict", "extra"], ["extra", "strict"], ["strict", "base"], ["base", "strict"]])
def test_a_common_ancestor_undoes_no_parents_declaration(tmp_path: Path, order: list[str]) -> None:
    _small(tmp_path, "base", [], {"one": 1, "two": 1}, '[settings."parity.training"]\nsteps = 4\n')
    _small(tmp_path, "strict", ["base"], {"one": 9}, 'drop = ["two"]\n[settings."parity.training"]\nsteps = 6\n')
    _small(tmp_path, "extra", ["base"], {"three": 3})
    found = loader.load(str(_small(tmp_path, "team", order, {})), checks())
    limits = {item.id: item.limit.bound for item in found.requirements}
    assert limits == {"one": 9} | ({"three": 3} if "extra" in order else {})
    assert found.settings["parity.training"] == {"steps": 6}


def _limits(file: Path) -> dict[str, float]:
    return {item.id: item.limit.bound for item in loader.load(str(file), checks()).requirements}


def test_conflicting_parents_are_an_error_unless_the_child_declares_the_key(tmp_path: Path) -> None:
    for name, limit in (("left", 2), ("right", 3), ("same", 2)):
        _small(tmp_path, name, [], {"one": limit})
    for order in (["left", "right"], ["right", "left"], ["same", "left", "right"]):
        with pytest.raises(BadFileError, match="which it extends, disagree on the requirement 'one'"):
            _limits(_small(tmp_path, "both", order, {}))
        assert _limits(_small(tmp_path, "both", order, {"one": 4})) == {"one": 4}
        assert _limits(_small(tmp_path, "both", order, {}, 'drop = ["one"]\n')) == {}
    assert _limits(_small(tmp_path, "both", ["left", "same"], {})) == {"one": 2}
    _small(tmp_path, "middle", ["right", "same"], {"one": 4})
    _small(tmp_path, "upper", ["left"], {"one": 5})
    for order in (["left", "middle"], ["middle", "left"], ["same", "upper"], ["upper", "same"]):
        with pytest.raises(BadFileError, match="disagree on"):
            _limits(_small(tmp_path, "both", order, {}))


def test_an_entry_over_conflicting_parents_must_be_complete(tmp_path: Path) -> None:
    for name, level, limit in (("left", "must", 2), ("right", "should", 3)):
        _small(tmp_path, name, [], {}, f"""[[require]]
            id = "one"
            check = "parity.matmul"
            measure = "supported"
            level = "{level}"
            at_least = {limit}
            """)
    for order in (["left", "right"], ["right", "left"]):
        file = _small(tmp_path, "both", order, {}, '[[require]]\nid = "one"\nat_least = 4\n')
        with pytest.raises(BadFileError, match="disagree on it") as caught:
            _limits(file)
        assert "write all of it" in str(caught.value)
        assert f"{file}:" in str(caught.value)
        (found,) = loader.load(str(_small(tmp_path, "both", order, {"one": 4})), checks()).requirements
        assert (found.level, found.limit.bound) == (Level.MUST, 4), "nothing of either is left"


def test_what_one_parent_drops_and_another_demands_is_no_matter_of_their_order(tmp_path: Path) -> None:
    _small(tmp_path, "base", [], {"one": 1, "two": 1})
    for name in ("first", "second"):
        _small(tmp_path, name, ["base"], {}, 'drop = ["two"]\n')
    _small(tmp_path, "strict", ["base"], {"two": 9})
    assert _limits(_small(tmp_path, "both", ["first", "second"], {})) == {"one": 1}
    assert _limits(_small(tmp_path, "both", ["first", "base"], {})) == {"one": 1}
    for order in (["first", "strict"], ["strict", "first"]):
        with pytest.raises(BadFileError, match="first and strict, which it extends, disagree on the requirement 'two'"):
            _limits(_small(tmp_path, "both", order, {}))
    for name, steps in (("short", 4), ("long", 6)):
        _small(tmp_path, name, ["base"], {}, f'[settings."parity.training"]\nsteps = {steps}\n')
    with pytest.raises(BadFileError, match=r"disagree on the setting 'parity.training.steps'"):
        _limits(_small(tmp_path, "both", ["short", "long"], {}))
    file = _small(tmp_path, "both", ["short", "long"], {}, '[settings."parity.training"]\nsteps = 5\n')
    assert loader.load(str(file), checks()).settings["parity.training"] == {"steps": 5}


@pytest.mark.parametrize("text", [f"at_least = 0x{'f' * 4000}", "[" + ".".join(["a"] * 3000) + "]", f"weight = {'9' * 4000}"])
def test_monstrous_numbers_and_depths_are_one_clear_error(tmp_path: Path, text: str) -> None:
    file = _small(tmp_path, "monster", [], {})
    file.write_text(file.read_text() + text)
    with pytest.raises(BadFileError):
        loader.load(str(file), checks())


@pytest.mark.parametrize("order", [["both-uses", "one-use"], ["one-use", "both-uses"]])
def test_parents_that_disagree_on_uses_are_refused_in_any_order(tmp_path: Path, order: list[str]) -> None:
    _small(tmp_path, "both-uses", [], {"one": 1}, 'uses = ["training", "inference"]\n')
    _small(tmp_path, "one-use", [], {"two": 1}, 'uses = ["inference"]\n')
    with pytest.raises(BadFileError, match="disagree on the uses"):
        _limits(_small(tmp_path, "team", order, {}))
    found = loader.load(str(_small(tmp_path, "team", order, {}, 'uses = ["training", "inference"]\n')), checks())
    assert found.uses == (Use.TRAINING, Use.INFERENCE)
    # What a file demands of its uses it demands of these, whoever extends it.
    assert {item.id: item.uses for item in found.requirements} == {"one": (Use.TRAINING, Use.INFERENCE), "two": (Use.INFERENCE,)}


def test_no_shipped_profile_demands_what_its_own_settings_leave_out() -> None:
    """Else it stays unknown in every run, with a remedy that nobody can follow."""
    of_label = {"dtype": ("dtypes", "core_dtypes"), "mode": ("modes",), "optimizer": ("optimizers",), "architecture": ("architectures",)}
    for name in shipped.names():
        loaded = loader.load(name, checks())
        for item in loaded.requirements:
            settings = {**checks()[item.check].settings, **loaded.settings.get(item.check, {})}
            for label, names in of_label.items():
                offered = [str(value) for key in names for value in settings.get(key, ())]
                wanted = item.where.get(label)
                if wanted is not None and offered and not (label == "dtype" and item.check.startswith("operators.")):
                    assert wanted in offered, (name, item.id, label)


def test_the_content_of_a_file_beside_it_is_part_of_what_a_profile_demands(tmp_path: Path) -> None:
    shipped = package_data.shipped("profiles") / "workloads"
    more = '[settings."operators.workload"]\nworkload = "beside:mine.json.gz"\n'
    digests = []
    for workload in ("qwen3-8b", "llama-3.1-8b"):
        (tmp_path / "mine.json.gz").write_bytes((shipped / f"{workload}.json.gz").read_bytes())
        loaded = loader.load(str(_small(tmp_path, "team", [], {"one": 1}, more)), checks())
        digests.append(loaded.sha256)
        assert list(loaded.files) == [str(tmp_path / "mine.json.gz")]
    assert digests[0] != digests[1]


MISTYPED = {
    "key": (HEAD + REQUIREMENT + "wieght = 2\n", ":9: require[0].wieght:", "did you mean weight?"),
    "key of the profile": ('titel = "A"\n' + HEAD, ":1: titel:", "did you mean title?"),
    "limit": (HEAD + REQUIREMENT.replace("at_most", "at_mots"), ":8: require[0].at_mots:", "did you mean at_most?"),
    "level": (HEAD + REQUIREMENT + 'level = "shoud"\n', ":9: require[0].level:", "did you mean should?"),
    "use": (HEAD + REQUIREMENT + 'use = ["trainig"]\n', ":9: require[0].use[0]:", "did you mean training?"),
    "action": (HEAD + REQUIREMENT + 'action = "replacd"\n', ":9: require[0].action:", "did you mean replace?"),
    "form": (HEAD.replace("profile/1", "profil/1"), ":1: schema:", "did you mean readiness.profile/1?"),
    "measure": (HEAD + REQUIREMENT.replace('"error"', '"eror"'), ":4: ", "did you mean error?"),
    "stack": (HEAD + REQUIREMENT + 'only_on = ["cudda"]\n', ":4: ", "did you mean cuda?"),
    "setting": (HEAD + '[settings."family.topic"]\nrank = 3\n', ":4: ", "did you mean ranks?"),
    "check of a setting": (HEAD + '[settings."family.topics"]\nranks = 3\n', ":4: ", "did you mean family.topic?"),
    "parent": (HEAD + 'extends = ["genral"]\n', ":4: ", "did you mean general?"),
    "drop": (HEAD + 'extends = ["general"]\ndrop = ["gradient-fre-layers"]\n', ":5: ", "correct the id"),
}


@pytest.mark.parametrize("name", MISTYPED)
def test_a_misspelled_key_suggests_the_right_one(name: str, tmp_path: Path) -> None:
    text, where, hint = MISTYPED[name]
    with pytest.raises(BadFileError) as caught:
        load(tmp_path, text)
    assert f"test.toml{where}" in str(caught.value)
    assert hint in (caught.value.remedy or "")


def test_a_later_profile_schema_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(BadFileError) as caught:
        load(tmp_path, HEAD.replace("profile/1", "profile/2"))
    assert "a later version of readiness wrote it" in (caught.value.remedy or "")


def test_a_misspelled_waiver_key_suggests_the_right_one(tmp_path: Path) -> None:
    demanded = load(tmp_path, HEAD + REQUIREMENT.replace('"one"', '"matmul-float32"'))
    entry = '[[waive]]\nrequirement = "{}"\naccelerator = "*"\nreason = "r"\n{} = "b"\nuntil = "2027-01-31"\n'
    for requirement, by, line, hint in (
        ("matmul-float23", "by", 3, "did you mean matmul-float32? `readiness explain test`"),
        ("matmul-float32", "bye", 6, "did you mean by?"),
    ):
        (tmp_path / "waivers.toml").write_text('schema = "readiness.waivers/1"\n' + entry.format(requirement, by))
        with pytest.raises(BadFileError) as caught:
            waivers.load(tmp_path / "waivers.toml", demanded)
        assert hint in (caught.value.remedy or "")
        assert caught.value.place == f"{tmp_path / 'waivers.toml'}:{line}"
