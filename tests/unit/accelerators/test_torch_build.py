"""What the installed torch was built for, from its text."""

from __future__ import annotations

import pytest

from readiness.accelerators import torch_build

TEXT = """from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']
__version__ = '{version}'
debug = False
cuda: Optional[str] = {cuda}
git_version = 'abc'
hip: Optional[str] = {hip}
{more}
"""


def _build(version: str, cuda: str = "None", hip: str = "None", more: str = "") -> torch_build.TorchBuild:
    return torch_build.parse(TEXT.format(version=version, cuda=cuda, hip=hip, more=more))


def test_an_ordinary_build() -> None:
    build = _build("2.9.0+cu130", cuda="'13.0'")
    assert (build.version, build.runtime("cuda"), build.runtime("hip"), build.maker) == ("2.9.0+cu130", "13.0", None, None)


@pytest.mark.parametrize(
    ("version", "more", "maker"),
    [
        ("2.8.0+metax3.5.3.9", "", "MetaX"),
        ("2.8.0", "maca: Optional[str] = '3.5'", "MetaX"),
        ("2.4.1+corex.4.3.0", "", "Iluvatar"),
        ("2.5.1+das.opt1.dtk25041", "", "Hygon"),
        ("2.9.0+rocm6.4", "", None),
        ("2.9.0+cpu", "", None),
        ("2.9.0a0+git1234dask", "", None),
    ],
)
def test_whose_build_it_is(version: str, more: str, maker: str | None) -> None:
    assert _build(version, more=more).maker == maker


def test_this_installation_is_read_without_importing_it() -> None:
    build = torch_build.installed()
    assert build is not None
    import torch

    assert build.version == torch.__version__
    assert build.runtime("cuda") == torch.version.cuda


def test_a_text_without_a_version_is_refused() -> None:
    with pytest.raises(ValueError, match="no version"):
        torch_build.parse("cuda = None\n")


def test_a_module_that_is_not_there_is_named() -> None:
    assert torch_build.missing_module("no_such_plugin.torch") == "no_such_plugin.torch is not installed"
    assert torch_build.missing_module("json") is None
