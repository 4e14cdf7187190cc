"""Rated figures: found by the driver's name of a model, from a host's own platform file, and not made up for what has none."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path

import pytest

from readiness.accelerators import ascend_install, rated_figures
from readiness.accelerators.rated_figures import of_model

INI = """[version]
SoC_version=Ascend910B2
[SoCInfo]
ai_core_cnt=24
memory_size=68719476736
support_bf16=1
[AICoreSpec]
cube_freq=1800
cube_m_size=16
cube_n_size=16
cube_k_size=16
"""


@pytest.mark.parametrize(
    ("model", "bfloat16", "gib"),
    [
        ("NVIDIA H100 80GB HBM3", 989, 80), ("NVIDIA H200", 989, 141), ("NVIDIA B200", 2250, 180), ("NVIDIA H20", 148, 96),
        ("NVIDIA A100-SXM4-80GB", 312, 80), ("NVIDIA L40S", 362, 48), ("AMD Instinct MI300X", 1307, 192), ("HL-325", 1677, 128),
    ],
)  # fmt: skip
def test_models_by_the_names_that_drivers_give(model: str, bfloat16: float, gib: float) -> None:
    rated = of_model(model)
    assert rated is not None
    assert (rated.rate("bfloat16"), rated.memory_bytes) == (bfloat16, gib * 2**30)


@pytest.mark.parametrize(
    "model",
    [None, "", "AMD EPYC 9654", "NVIDIA H200 MIG 1g.18gb", "NVIDIA GH200 480GB", "NVIDIA H20-3e", "NVIDIA H100 PCIe", "GRID A100-SXM4-80GB", "simulated healthy"],
)
def test_what_nobody_has_written_down_has_none(model: str | None) -> None:
    assert of_model(model) is None


def test_tf32_is_a_rate_of_its_own() -> None:
    rated = of_model("NVIDIA H100 80GB HBM3")
    assert rated is not None
    assert (rated.rate("float32"), rated.rate("float32", tf32=True), rated.rate("float64")) == (67, 494.5, None)


def test_every_entry_has_a_source_and_a_date() -> None:
    entries = tomllib.loads(rated_figures._FILE.read_text(encoding="utf-8"))["chip"]
    assert len(entries) > 10
    for entry in entries:
        assert entry["source"]
        date.fromisoformat(entry["date"])
        assert all(glob == glob.lower() for glob in entry["models"])


def platform_file(folder: Path, text: str, soc: str = "Ascend910B2") -> Path:
    file = folder / "aarch64-linux" / "data" / "platform_config" / f"{soc}.ini"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return folder


def test_an_ascend_is_rated_by_the_hosts_own_platform_file(tmp_path: Path) -> None:
    rated = ascend_install.rated(str(platform_file(tmp_path, INI)), "Ascend910B2")
    assert rated is not None
    assert rated.rate("bfloat16") == pytest.approx(353.9, abs=0.1)  # published: gitcode.com/cann/ops-nn/issues/6033
    assert rated.memory_bytes == 64 * 2**30
    assert "Ascend910B2.ini" in rated.source


def test_a_file_that_says_less_rates_less(tmp_path: Path) -> None:
    without = INI.replace("support_bf16=1\n", "").replace("memory_size=68719476736", "memory_size=")
    rated = ascend_install.rated(str(platform_file(tmp_path, without)), "Ascend910B2")
    assert rated is not None
    assert set(rated.tflops) == {"float16"}
    assert rated.memory_bytes is None


@pytest.mark.parametrize("soc", ["Ascend910C", "../../etc/passwd", "", None])
def test_no_file_no_figures(tmp_path: Path, soc: str | None) -> None:
    assert ascend_install.rated(str(platform_file(tmp_path, INI)), soc) is None


def test_a_file_without_cores_rates_nothing(tmp_path: Path) -> None:
    assert ascend_install.rated(str(platform_file(tmp_path, "[SoCInfo]\nai_core_cnt=\n")), "Ascend910B2") is None
