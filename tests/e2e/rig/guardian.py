"""Ends everything that a rig started, when the rig ends in whatever way.

It is a process of its own that reads its standard input, a pipe whose other end only the rig holds.
The pipe closes when the rig says so and just as well when the rig is killed, so tidying up has one
path, and that path cannot be skipped by an exception, a signal or SIGKILL.

Processes are known by a token in their environment. Children inherit it, daemons of daemons too,
so nothing has to be registered and there is no moment at which a process is not yet covered.

It imports nothing but the standard library and is run with ``python -I``: it must start fast and
must not depend on anything that a broken checkout could break.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

#: Name of the environment variable that holds the token.
TOKEN_VARIABLE = "SPILLWAY_RIG_CUSTODY"  # noqa: S105 - a variable's name
#: The longest one command at the end may take (deleting namespaces of a slow cluster).
_COMMAND_SECONDS = 90.0
#: The longest that killing may take before it is given up.
_KILL_SECONDS = 20.0


def processes(token: str) -> list[int]:
    """Ids of the living processes that carry the token, this one excepted."""
    wanted = f"{TOKEN_VARIABLE}={token}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # A process may end, or belong to someone else, while one looks.
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def kill_all(token: str) -> None:
    """Kill until none is left: a process may have forked between the look and the kill."""
    deadline = time.monotonic() + _KILL_SECONDS
    while (found := processes(token)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def main() -> None:
    """Wait for the end of the rig, then run the commands it left, kill, and remove its folder.

    Arguments: the token and the folder. Standard input: one JSON object a line,
    ``{"argv": [...], "env": {...}}``, a command to run at the end; the last one given runs first.
    """
    token, folder = sys.argv[1:3]
    # Ctrl-C reaches the whole terminal group and SIGTERM may be sent to it; both end the rig, which
    # closes the pipe. Only that may end the guardian.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    commands = [json.loads(line) for line in sys.stdin]
    for command in reversed(commands):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                command["argv"],
                env={**os.environ, **command["env"]},
                timeout=_COMMAND_SECONDS,
                check=False,
            )
    kill_all(token)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
