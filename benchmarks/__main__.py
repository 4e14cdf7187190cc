"""All benchmarks, one after the other: `python benchmarks`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run every benchmark beside this file in a process of its own."""
    for file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        if file.stem == "device":  # a quarter of an hour on an accelerator that somebody lends
            continue
        print(f"== {file.stem}", flush=True)
        subprocess.run([sys.executable, str(file)], check=True)


if __name__ == "__main__":
    main()
