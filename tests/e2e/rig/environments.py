"""Makes a Python environment of its own for a program whose dependencies are not Spillway's."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

_TIMEOUT_SECONDS = 1200.0


class EnvironmentsError(RuntimeError):
    """The environment could not be made; with pip's words."""


def make(requirements: Path, target: Path) -> None:
    """Install what a requirements file pins, and put the environment's interpreter at ``target``.

    ``target`` is a script beside the environment, written last: an installation that was broken off
    leaves none, and is begun anew.

    Args:
        requirements: Pins with hashes.
        target: Where the interpreter is to be called.

    Raises:
        EnvironmentsError: A package could not be had.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="env-", dir=target.parent))
    python = folder / "bin" / "python"
    _run([sys.executable, "-m", "venv", str(folder)])
    _run(
        [
            str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--require-hashes", "--only-binary=:all:", "-r", str(requirements),
        ]
    )  # fmt: skip
    script = folder / "python.sh"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    script.replace(target)


def _run(command: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    try:
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT_SECONDS,
            env=environment,
        )
    except subprocess.CalledProcessError as error:
        raise EnvironmentsError(error.stderr.strip()[-2000:]) from error
    except subprocess.TimeoutExpired as error:
        msg = f"{command[1:3]} took longer than {_TIMEOUT_SECONDS:.0f} s"
        raise EnvironmentsError(msg) from error
