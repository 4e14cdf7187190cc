"""HTML pages of the project, for readers that accept no script."""

from __future__ import annotations

import base64
import hashlib

from readiness.rendering import html


def without_tools(text: str) -> str:
    """The page without its one script, which must be ours to the letter, and the only one that its policy lets run."""
    script = (html.FOLDER / "tools.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'\"" in text
    assert text.count(f"<script>{script}</script>") == 1
    return text.replace(f"<script>{script}</script>", "")
