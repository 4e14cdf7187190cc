"""Run as a script in place of an interpreter, `-m MODULE`: has a command server fork one that has torch, or becomes a fresh one.

Its input, output and errors are the fork's, and its exit code is its own. When it is killed, the fork is.
"""

from __future__ import annotations

import os
import sys

from tests.support import command_server

_CODE = "import os, runpy, sys; os.dup2(given[0], 0); os.close(given[0]); runpy.run_module(sys.argv[1], run_name='__main__', alter_sys=True)"


def main() -> int:
    """Its exit code: as a shell tells it where it was a signal."""
    option, module = sys.argv[1:]
    assert option == "-m"
    if not command_server.is_shared():
        os.execv(sys.executable, [sys.executable, "-m", module])
    server = command_server.command_server(torch=True)
    server.start(_CODE, [module], os.environ, (1, 2, 0))
    code = server.ended()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
