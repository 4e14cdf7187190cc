"""What other users leave in places that everybody may write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def planted(folder: Path, way: str, mode: int = 0o1777) -> Path:
    """What another user put into a folder that everybody may write, where a report of ours is to go."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    (folder / "target").write_bytes(b"precious")
    public = folder / "public"
    public.mkdir()
    public.chmod(mode)
    file = public / "report"
    if way == "a pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(folder / ("target" if way == "a link" else "nothing"))
    os.chown(file, 4711, -1, follow_symlinks=False)
    return file
