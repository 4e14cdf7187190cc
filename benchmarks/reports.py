"""Cost of each report of a saved assessment, in CPU seconds and in memory, by the number of accelerators.

Run by hand: `python benchmarks/reports.py [ACCELERATORS ...]`. Each format is written in a process of its own that has read
the assessment before; the named alternative is `json.dumps` of the same document. All accelerators are alike in the first
table; in the second each has a model and figures of its own, so that nothing can be said once for several.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import assessments
from readiness.documents import assessment, files
from readiness.rendering import formats

SIZES = (1, 8, 1_000)
_ALTERNATIVE = "(json.dumps)"


def main() -> None:
    """Print a table for alike and one for unlike accelerators; or, as a child, one figure."""
    if sys.argv[1:2] == ["--one"]:
        _one(sys.argv[2], Path(sys.argv[3]))
        return
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    with tempfile.TemporaryDirectory() as folder:
        for title, distinct in (("alike", False), ("each of a model and with figures of its own", True)):
            print(f"{'accelerators':>12}  {title:28} {'s':>7} {'x json.dumps':>13} {'MiB':>6} {'kB of text':>10}")
            for count in sizes:
                _table(Path(folder), count, distinct)


def _table(folder: Path, count: int, distinct: bool) -> None:
    file = folder / "assessment.json"
    file.write_text(assessments.made(folder, count, distinct=distinct))
    floor = 0.0
    for name in (_ALTERNATIVE, *formats.formats()):
        command = [sys.executable, __file__, "--one", name, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{count:12}  {name:28} failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        seconds, grown, size = map(float, done.stdout.split()[-3:])
        floor = floor or seconds
        print(f"{count:12}  {name:28} {seconds:7.3f} {seconds / floor:13.1f} {grown:6.0f} {size / 1000:10.0f}", flush=True)


def _one(name: str, file: Path) -> None:
    """Print the CPU seconds, the MiB by which peak memory grew, and the bytes of the report, which is written to a file."""
    document = files.read_json(file, largest_bytes=assessment.LARGEST_FILE_BYTES)
    read = assessment.parsed(document, str(file))
    formats.formats()
    target = file.with_name("report")

    def write() -> None:
        if name == _ALTERNATIVE:
            target.write_text(json.dumps(document))
        else:
            formats.write(formats.Request(name, target), read, False, sys.stdout)

    before, begun = _peak_mib(), time.process_time()
    write()
    print(time.process_time() - begun, _peak_mib() - before, target.stat().st_size)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
