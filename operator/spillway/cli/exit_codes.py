"""Exit codes of every command; scripts may rely on them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code means."""

    OK = 0
    """Done."""
    FAILED = 1
    """It ran and failed; the message says why."""
    USAGE = 2
    """A flag, an environment variable or a file is wrong; nothing was done."""
    UNREACHABLE = 3
    """The API server or Prometheus could not be reached."""
    FORBIDDEN = 4
    """The API server refused: a permission is missing."""
    INVALID = 5
    """The objects that were checked are not valid."""
