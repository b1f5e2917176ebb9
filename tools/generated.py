"""A file that a program writes: written, or with ``--check`` compared with what is there."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_or_check(description: str, target: Path, make: Callable[[], str]) -> int:
    """Exit code of a generator's command line: 1 where ``--check`` finds the file stale.

    Args:
        description: What the generator does, for its help.
        target: The file.
        make: Its text as it should be.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check, text = parser.parse_args().check, make()
    if not check:
        target.write_text(text, encoding="utf-8")
        return 0
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{target.name} is stale: run make manifests\n")
    return 1
