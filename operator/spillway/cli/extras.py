"""What the operator does without: numpy and plotly come with the extra ``sim``."""

from __future__ import annotations

from importlib.util import find_spec

from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode


def require(command: str, *modules: str) -> None:
    """Leave with one message that says how to install, if a module is missing."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        fail(
            f"spillway {command} needs {' and '.join(missing)}, which the operator goes without; "
            "install them with: pip install 'spillway[sim]'",
            ExitCode.USAGE,
        )
