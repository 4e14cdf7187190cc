"""The house in its three forms: wheel, editable install, bare checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.timeout(1200)  # a build, and environments that import torch for the first time

CONTENT = ("checks", "profiles", "reports")
#: As `python -m readiness`, but looking for no other accelerator than the CPU.
LIST = ("-m", "readiness", "list", "-f", "json")


def tracked() -> list[str]:
    result = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip("not a git checkout: there is nothing to compare the wheel with")
    return [name for name in result.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel built from it, from a copy of what git tracks."""
    folder = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    result = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def test_the_wheel_holds_what_git_tracks_and_no_generic_name(distributions: tuple[Path, Path]) -> None:
    names = {name for name in zipfile.ZipFile(distributions[1]).namelist() if ".dist-info/" not in name}
    expected = {name for name in tracked() if name.startswith("readiness/")}
    expected |= {f"readiness/content/{name}" for name in tracked() if name.startswith(tuple(f"{kind}/" for kind in CONTENT))}
    assert names == expected
    assert {name.partition("/")[0] for name in names} == {"readiness"}


def test_the_sdist_can_be_tested(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "pyproject.toml", "README.md", "docs/usage.md", "tests/support/__init__.py", "profiles/general.toml", "checks/parity/matmul.py",
    ):  # fmt: skip
        assert name in names


def test_the_licence_goes_with_it(distributions: tuple[Path, Path]) -> None:
    """A buyer looks for it in the package's own data, and a lawyer for its whole text."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    with tarfile.open(distributions[0]) as archive:
        (name,) = [name for name in archive.getnames() if name.partition("/")[2] == "LICENSE"]
        member = archive.extractfile(name)
        assert member is not None
        assert member.read().decode() == text
    with zipfile.ZipFile(distributions[1]) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(metadata).decode().splitlines()
        assert "License-Expression: Apache-2.0" in lines
        assert "License-File: LICENSE" in lines
        assert archive.read(metadata.replace("METADATA", "licenses/LICENSE")).decode() == text


def test_the_installed_wheel_works_from_another_folder(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    """A clean environment that holds the wheel and, by a path file, the dependencies; nothing of the checkout."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / "venv" / "lib" / version / "site-packages"
    zipfile.ZipFile(distributions[1]).extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "elsewhere" / "checks").mkdir(parents=True)  # a foreign folder of that name must not be picked up
    (tmp_path / "elsewhere" / "checks" / "intruder.py").write_text("raise SystemExit('a foreign folder was imported')")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "READINESS"))}
    environment |= {"XDG_STATE_HOME": str(tmp_path / "state")}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), *arguments], cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True, check=False
        )

    where = call("-c", "import readiness; print(readiness.__file__)")
    assert str(site) in where.stdout
    listed = call(*LIST)
    assert listed.returncode == 0, listed.stderr
    in_checkout = subprocess.run([sys.executable, *LIST], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(listed.stdout) == json.loads(in_checkout.stdout)
    result = call("-m", "readiness", "run", "-d", "cpu", "-k", "parity.matmul", "-f", "json")
    document = json.loads(result.stdout)
    statuses = {item["check"]: item["status"] for item in document["accelerators"][0]["evidence"]}
    assert statuses["parity.matmul"] == "measured", result.stderr


def test_a_bare_checkout_works(tmp_path: Path) -> None:
    """Nothing installed: `python -m readiness` in the checkout, with only the dependencies on the path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": sysconfig.get_path("purelib"), "XDG_STATE_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-S", *LIST], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "parity.matmul" in result.stdout


def test_content_folders_are_no_packages() -> None:
    """A family is a plain folder, so that a user's folder may add files to it; a hidden file would be shipped."""
    for name in tracked():
        top, _, rest = name.partition("/")
        if top in CONTENT:
            assert not rest.endswith("__init__.py"), name
            assert not any(part.startswith(".") for part in rest.split("/")), name
