"""Write the goldens anew, or hold the machines against theirs: `python -m tests.goldens [--machines PROFILE] [--compare]`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests import goldens


def _write_texts() -> None:
    for arguments, text in goldens.texts().items():
        file = goldens.file_of(arguments.split(" "))
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    with tempfile.TemporaryDirectory() as folder:
        (goldens.FOLDER / "report.html").write_text(goldens.page(Path(folder)))
        for name, text in goldens.reports(Path(folder)).items():
            (goldens.FOLDER / "reports" / name).write_text(text)
    (goldens.FOLDER / "digests.json").write_text(json.dumps(goldens.digests(), indent=1) + "\n")


def _machines(profile: str, compare: bool) -> int:
    differing = 0
    for machine in goldens.MACHINES:
        kept = goldens.FOLDER / "machines" / f"{profile}-{machine}.json"
        with tempfile.TemporaryDirectory() as folder:
            runs = [
                goldens.outline(goldens.assess(machine, profile, Path(folder, f"{number}.json")))
                for number in range(1 if compare else 2)
            ]
        if compare:
            found = goldens.differences(json.loads(kept.read_text()), runs[0])
            print(f"{machine} under {profile}: {len(found)} differences", *found, sep="\n  ")
            differing += bool(found)
        else:
            kept.parent.mkdir(exist_ok=True)
            earlier = json.loads(kept.read_text()) if kept.exists() else None
            kept.write_text(json.dumps(goldens.masked(runs[0], runs[1], earlier), indent=0) + "\n")
    return differing


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.goldens", description=goldens.__doc__)
    parser.add_argument("--machines", metavar="PROFILE", help="the simulated machines under this profile, not the texts")
    parser.add_argument("--compare", action="store_true", help="compare with what is kept and write nothing")
    options = parser.parse_args()
    if options.machines:
        sys.exit(min(_machines(options.machines, options.compare), 1))
    _write_texts()
