"""The version files below /usr/local/Ascend: driver, firmware, CANN, and whether they accept one another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from readiness.accelerators import sysfs
from readiness.accelerators.rated_figures import Rated

ROOT = Path("/usr/local/Ascend")

#: Version files of CANN, the newest layout first (from 8.5.0 on it lies below `cann`).
_CANN = (
    "cann/*/ascend_toolkit_install.info",
    "ascend-toolkit/latest/*/ascend_toolkit_install.info",
    "nnae/latest/ascend_nnae_install.info",
    "nnae/latest/*/ascend_nnae_install.info",
    "nnrt/latest/*/ascend_nnrt_install.info",
)
#: The same from where `set_env.sh` points to.
_HOME = tuple(f"{folder}ascend_{kind}_install.info" for kind in ("toolkit", "nnae", "nnrt") for folder in ("*/", ""))


@dataclass(frozen=True, slots=True)
class AscendFiles:
    """The key-value lines of each file, keys in lower case; empty where the file is not there."""

    driver: Mapping[str, str] = field(default_factory=dict)
    firmware: Mapping[str, str] = field(default_factory=dict)
    cann: Mapping[str, str] = field(default_factory=dict)

    def software(self) -> dict[str, str | None]:
        """The three versions; None where a file or its line is missing."""
        files = {"driver": self.driver, "firmware": self.firmware, "cann": self.cann}
        return {component: lines.get("version") for component, lines in files.items()}

    def compatibility(self) -> dict[str, bool | None]:
        """Return whether driver, firmware and CANN accept each other by their own lists; None if they do not say.

        An older driver cannot list a CANN that came later: it is enough that one of the two lists the other.
        """
        return {
            "driver_and_firmware": _together(
                all,
                _in_range(self.firmware.get("version"), self.driver.get("compatible_version_fw")),
                _in_prefixes(self.driver.get("version"), self.firmware.get("compatible_version_drv")),
            ),
            "driver_and_cann": _together(
                any,
                _in_prefixes(self.cann.get("innerversion"), self.driver.get("compatible_version")),
                _in_prefixes(self.driver.get("innerversion"), self.cann.get("compatible_version")),
            ),
        }


def read(root: Path = ROOT, home: str | None = None) -> AscendFiles:
    """Read the version files below this folder; a missing file is no error.

    `home` is where the CANN lies that is in use (`ASCEND_HOME_PATH`, which its `set_env.sh` sets): another one beside it,
    of which hosts often have several, tells nothing.
    """
    folder, patterns = (Path(home), _HOME) if home else (root, _CANN)
    cann = next((file for pattern in patterns for file in sorted(folder.glob(pattern))), None)
    return AscendFiles(
        driver=parse(sysfs.read_text(root / "driver/version.info") or ""),
        firmware=parse(sysfs.read_text(root / "firmware/version.info") or ""),
        cann=parse(sysfs.read_text(cann) or "") if cann is not None else {},
    )


def rated(home: str | None, soc: str | None, root: Path = ROOT) -> Rated | None:
    """Return the rated figures of a chip from the platform file that CANN has of it; None if there is none.

    A matrix unit multiplies m x k by k x n each cycle: cores x clock x m x n x k x 2. On 910B2, 24 x 1.8 GHz x 16^3 x 2 are
    353.9 TFLOP/s, the published figure of the matrix units alone (gitcode.com/cann/ops-nn/issues/6033).
    """
    if not soc or not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", soc):
        return None
    folders = [Path(home)] if home else [root / "ascend-toolkit/latest", *sorted((root / "cann").parent.glob("cann*"))]
    names = (f"*/data/platform_config/{soc}.ini", f"data/platform_config/{soc}.ini")
    file = next((file for folder in folders for name in names for file in sorted(folder.glob(name))), None)
    found = parse(sysfs.read_text(file) or "") if file is not None else {}
    numbers = [_whole(found.get(key)) for key in ("ai_core_cnt", "cube_freq", "cube_m_size", "cube_n_size", "cube_k_size")]
    memory = _whole(found.get("memory_size"))
    tflops = {}
    if all(numbers):
        cores, megahertz, rows, columns, depth = (float(number or 0) for number in numbers)
        rate = cores * megahertz * 1e6 * rows * columns * depth * 2 / 1e12
        tflops = {"float16": rate} | ({"bfloat16": rate} if found.get("support_bf16") == "1" else {})
    if not tflops and not memory:
        return None
    return Rated(f"the host's own platform file {file.name if file is not None else ''}", "", tflops, memory)


def _whole(text: str | None) -> int | None:
    """Return a whole number above 0; None for anything else, as the empty value of a file that was not filled in."""
    return int(text) if text and text.isdecimal() and int(text) > 0 else None


def parse(text: str) -> dict[str, str]:
    """Parse lines of `key=value`; other lines are skipped, the first value of a key counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"\s*(\w+)\s*=\s*(.*?)\s*", line):
            found.setdefault(match[1].lower(), match[2])
    return found


def _together(how: Callable[[Iterable[bool]], bool], *answers: bool | None) -> bool | None:
    known = [answer for answer in answers if answer is not None]
    return how(known) if known else None


def _in_prefixes(version: str | None, listed: str | None) -> bool | None:
    """Return whether the version begins with one of `[A],[B]` or `[A,B]`: they name branches, not single versions."""
    if version is None or not listed:
        return None
    prefixes = [item.strip().lower().rstrip(".") for item in re.findall(r"[^\[\],]+", listed) if item.strip()]
    return any(re.match(rf"{re.escape(prefix)}(?!\d)", version.lower()) is not None for prefix in prefixes)


def _in_range(version: str | None, listed: str | None) -> bool | None:
    """Return whether the version lies in `[low,high]`, compared number by number as far as the bounds go."""
    bounds = re.fullmatch(r"\s*\[([\d.]+),([\d.]+)\]\s*", listed or "")
    if version is None or bounds is None:
        return None
    low, high = (tuple(map(int, bound.strip(".").split("."))) for bound in bounds.groups())
    number = re.match(r"\d+(?:\.\d+)*", version)
    if number is None:
        return None
    parts = tuple(map(int, number[0].split(".")))
    return low <= parts[: len(low)] and parts[: len(high)] <= high
