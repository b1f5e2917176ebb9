"""Takes a program out of a Debian package, without root and without installing anything.

Seconds, where a build from source takes minutes; on other systems there is nothing to take.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

#: A mirror that does not answer must not hold up the build that works without it.
_TIMEOUT_SECONDS = 90.0


def available() -> bool:
    """Whether this system has Debian's tools."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg-deb"))


def take(package: str, program: str, target: Path) -> bool:
    """Download a package and put its ``/usr/bin/<program>`` at ``target``.

    The package lists that are there are tried first; a fresh machine has none, and then a private
    copy of them is fetched, as the system's may be written by root alone.

    Args:
        package: Name of the package.
        program: Name of the program in it.
        target: Where it goes; on the same file system as its parent folder.

    Returns:
        Whether it is there now. Whatever went wrong, another way to get the program is as good.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        try:
            _download(package, folder)
            archive = next(folder.glob(f"{package}_*.deb"))
            _run(["dpkg-deb", "-x", str(archive), str(folder / "root")], folder)
            found = folder / "root/usr/bin" / program
            # It may need libraries that are not here: it must run at least this far.
            _run([str(found), "--version"], folder)
            found.rename(target)
        except (subprocess.SubprocessError, OSError, StopIteration):
            return False
    return True


def _download(package: str, folder: Path) -> None:
    apt = ["apt-get", "-q", "-o", "APT::Sandbox::User=root"]
    try:
        _run([*apt, "download", package], folder)
    except subprocess.CalledProcessError:
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        private = [
            *apt,
            "-o", f"Dir::State={folder / 'state'}",
            "-o", "Dir::State::status=/var/lib/dpkg/status",
            "-o", f"Dir::Cache={folder / 'cache'}",
        ]  # fmt: skip
        _run([*private, "update"], folder)
        _run([*private, "download", package], folder)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=_TIMEOUT_SECONDS)
