"""`python -m readiness` and the `readiness` command: every way out has its exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

from readiness.errors import Exit, ReadinessError


def main() -> NoReturn:
    """Run the command line. An uncaught exception is 70, never Python's 1, which would read `not ready`."""
    _open_standard_streams()
    try:
        from readiness.cli import app

        app(prog_name="readiness")
        sys.exit(Exit.READY)  # pragma: no cover - typer leaves by itself
    except ReadinessError as problem:
        _complain(f"readiness: {problem}")
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        print("readiness: interrupted", file=sys.stderr)
        sys.exit(Exit.INTERRUPTED)
    except Exception:  # noqa: BLE001 - the last resort
        traceback.print_exc()
        print(
            "readiness: internal fault; nothing is known about the accelerator\n"
            "  remedy: report the lines above; a run's evidence is safe in its journal (`readiness run --resume DIR`)",
            file=sys.stderr,
        )
        sys.exit(Exit.INTERNAL)


def _open_standard_streams() -> None:
    """Closed standard streams lead to nowhere: else the next pipe to a worker would take their numbers."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w", closefd=False))  # noqa: SIM115


def _complain(text: str) -> None:
    """An error on stderr; what it quotes from a file must not drive the terminal."""
    from readiness.telling import clean

    for line in text.splitlines():
        print(" " * (len(line) - len(line.lstrip())) + clean(line), file=sys.stderr)


if __name__ == "__main__":
    main()
