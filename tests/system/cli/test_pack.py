"""`readiness pack` and `readiness verify` as they are called: exit codes, what is written where, no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from readiness.__main__ import main
from readiness.datamodel import AcceleratorFacts, Use
from readiness.judging.judge import judge
from readiness.profile import loader
from tests.support import build as of_reports
from tests.support import checks, packs


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An assessment under a shipped profile, of which nothing was measured."""
    profile = loader.load("smoke", checks())
    facts = AcceleratorFacts("cuda:0", "cuda", 0, "cuda", "Acme", "A1", "SN-4711", software={"torch": "2.9"})
    made = of_reports.assessment(
        judge(profile, facts, []), started="2026-11-23T10:00:00Z", profile_name=profile.name, profile_title=profile.title,
        profile_sha256=profile.sha256, basis=loader.basis_of(profile, checks()), uses=tuple(Use), host={"name": "gpu-node17"},
    )  # fmt: skip
    return packs.written(tmp_path_factory.mktemp("smoke"), made, "smoke")


class Called:
    """What a command left: exit code, standard output and error."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        self.monkeypatch.setattr(sys, "argv", ["readiness", *map(str, arguments)])
        streams = sys.stdout, sys.stderr
        try:
            with pytest.raises(SystemExit) as left:
                main()
        finally:
            sys.stdout, sys.stderr = streams
        self.out, self.err = self.capsys.readouterr()
        return left.value.code if isinstance(left.value.code, int) else 0


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Called:
    return Called(capsys, monkeypatch)


@pytest.mark.parametrize("name", ["pack", "pack.zip"])
def test_the_exit_codes_of_verify(call: Called, smoke: Path, tmp_path: Path, name: str) -> None:
    mine, public = packs.key_files(tmp_path)
    _, other = packs.key_files(tmp_path / "other")
    place = tmp_path / name
    assert call("pack", smoke, "-o", place, "--sign", mine) == 0
    assert call.out == ""
    assert "signed by the key" in call.err
    assert "host names (1), serial numbers (1)" in call.err
    assert call("verify", place, "--key", public) == 0
    assert "whole and signed by" in call.out
    assert "cuda:0, training: undetermined (0..100), judged again from its evidence" in call.out
    assert call("verify", place) == 1
    assert call("verify", place, "--key", other) == 1
    assert "and not by" in call.out
    if place.is_dir():
        (place / "assessments" / "smoke.json").write_text("{}")
    else:
        place.write_bytes(place.read_bytes().replace(b'"status": "', b'"status": !', 1))
    assert call("verify", place, "--key", public, "-q") == 2
    assert call.out == f"{place}: altered\n"
    assert call("verify", place, "--key", public, "-f", "json") == 2
    found = json.loads(call.out)
    assert found["state"] == "altered"
    assert found["altered"][0]["file"]


def test_a_pack_is_stale_where_the_shipped_profile_has_changed(
    call: Called, smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, public = packs.key_files(tmp_path)
    assert call("pack", smoke, "-o", tmp_path / "p.zip", "--sign", mine) == 0
    (tmp_path / "smoke.toml").write_text('schema = "readiness.profile/1"\nname = "smoke"\ntitle = "Another"\nextends = ["smoke"]\n'
                                         '[settings."parity.training"]\nsteps = 31\n')
    assert call("verify", tmp_path / "p.zip", "--key", public) == 0
    assert call("verify", tmp_path / "p.zip", "--key", public, "--profile", tmp_path / "smoke.toml") == 1
    assert "stale" in call.out


def test_the_last_word_on_an_unsigned_pack(call: Called, smoke: Path, tmp_path: Path) -> None:
    assert call("pack", smoke, "-o", tmp_path / "p", "--keep", "all", "-q") == 0
    assert (call.out, call.err) == ("", "")
    assert "SN-4711" in (tmp_path / "p" / "index.html").read_text()
    assert call("verify", tmp_path / "p") == 1
    assert "it is not signed" in call.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pack", "SAVED"), "Missing option"), (("pack", "-o", "OUT"), "Missing argument"),
        (("pack", "SAVED", "-o", "DIR"), "it is there already"), (("pack", "SAVED", "-o", "OUT", "--sign", "NOKEY"), "no private key"),
        (("pack", "DIR", "-o", "OUT"), "not a file"), (("pack", "SAVED", "-o", "OUT", "--attach", "DIR"), "not a file"),
        (("pack", "SAVED", "-o", "OUT", "--rehearsal", "SAVED"), "not a rehearsal"), (("pack", "SAVED", "-o", ""), "it is empty"),
        (("pack", "SAVED", "-o", "OUT", "--system", "SAVED"), "has no field"), (("pack", "SAVED", "-o", "OUT", "--subject", "x" * 1001), "shorter"),
        (("pack", "SAVED", "-o", "OUT", "-p", "nothing"), "there is no profile"), (("verify", "OUT"), "no such file"),
        (("verify", "DIR"), "no acceptance pack"), (("verify", "SAVED"), "no acceptance pack"), (("verify", "DIR", "--key", "NOKEY"), "no public key"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_error_and_leaves_nothing(
    call: Called, smoke: Path, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "dir").mkdir()
    places: dict[str, Any] = {"SAVED": smoke, "OUT": tmp_path / "out", "DIR": tmp_path / "dir", "NOKEY": Path(__file__).parent.with_name("__init__.py")}
    assert call(*(places.get(argument, argument) for argument in arguments)) == 2
    assert says in call.out + call.err
    assert "Traceback" not in call.err
    assert [file.name for file in tmp_path.iterdir()] == ["dir"]


def test_no_torch_and_no_unrequested_extra_is_imported(smoke: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom readiness.__main__ import main\n"
        "for arguments in (['pack', sys.argv[1], '-o', sys.argv[2]], ['verify', sys.argv[2]]):\n"
        "    sys.argv[1:], kept = arguments, sys.argv[1:]\n"
        "    try:\n        main()\n    except SystemExit:\n        pass\n    sys.argv[1:] = kept\n"
        "print([name for name in ('torch', 'numpy', 'weasyprint', 'xlsxwriter', 'cryptography') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(smoke), str(tmp_path / "p")], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "p" / "index.html").is_file()


@packs.needs_openssl
def test_the_recipe_for_a_time_stamp_works_with_an_authority_of_our_own(call: Called, smoke: Path, tmp_path: Path) -> None:
    """As docs/packs.md has it, the authority's answer made by openssl instead of fetched."""
    authority = packs.Authority(tmp_path)
    mine, public = packs.key_files(tmp_path)
    asked = tmp_path / "pack.tsq"
    assert call("pack", smoke, "-o", tmp_path / "first.zip", "--sign", mine, "--timestamp-request", asked) == 0
    (tmp_path / "pack.tsr").write_bytes(authority.reply(asked.read_bytes()))
    options = ("--sign", mine, "--timestamp", tmp_path / "pack.tsr")
    assert call("pack", smoke, "-o", tmp_path / "PACK", *options) == 0
    authority.run("ts", "-verify", "-data", "PACK/statement.json", "-in", "PACK/signatures/timestamp.tsr", "-CAfile", "tsa.pem")
    assert call("verify", tmp_path / "PACK", "--key", public) == 0
    assert "statement.json stamped 20" in call.out
    assert "by CN=an authority: the stamp is of this pack, its signature was not checked" in call.out
    checked = ("verify", tmp_path / "PACK", "--key", public, "--timestamp-ca", authority.certificate)
    assert call(*checked) == 0
    assert "its signature fits" in call.out
    assert call(*checked, "-f", "json") == 0
    stamp = json.loads(call.out)["timestamp"]
    assert (stamp["of"], stamp["policy"], stamp["signature_checked"]) == ("statement.json", "1.2.3", True)
    stranger = packs.Authority(tmp_path / "stranger")
    assert call("verify", tmp_path / "PACK", "--key", public, "--timestamp-ca", stranger.certificate) == 1
    assert "not by an authority of --timestamp-ca" in call.out
    assert call("verify", tmp_path / "first.zip", "--key", public, "--timestamp-ca", authority.certificate) == 1
    assert "it has no time stamp" in call.out
    assert call("pack", smoke, "-o", tmp_path / "other", "--note", "another one", *options) == 2
    assert "this time stamp is not of this pack" in call.err
    assert not (tmp_path / "other").exists()
