"""Compares the locked dependencies with a copy of the known vulnerabilities, without a network.

    python -m tools.audit                      # exit 1 and name what is affected
    python -m tools.audit --update FOLDER      # take the copy anew from a clone of
                                               # https://github.com/pypa/advisory-database

The copy (requirements/advisories.json) holds the advisories of what is locked, and no others, with
the commit and day that they are from. CI asks pip-audit besides, which is as new as the day.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
COPY: Final = ROOT / "requirements" / "advisories.json"
LOCKS: Final = ("runtime.txt", "dev.txt", "build.txt")
#: Looked at and taken, with the reason.
ACCEPTED: Final = {
    "PYSEC-2022-42969": "py's Subversion parser; disputed, and interrogate alone imports py, "
    "for its terminal output",
}
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)

Advisory = dict[str, Any]


def locked(root: Path = ROOT) -> dict[str, set[str]]:
    """Versions of every package in the lock files, by its normalised name."""
    found: dict[str, set[str]] = {}
    for lock in LOCKS:
        text = (root / "requirements" / lock).read_text(encoding="utf-8")
        for name, version in _PINNED.findall(text):
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(version)
    return found


def is_affected(version: str, advisory: Advisory) -> bool:
    """Whether an advisory is about this version: it is listed, or lies in a range."""
    if version in advisory["versions"]:
        return True
    try:
        ours = Version(version)
        return any(_within(ours, events) for events in advisory["ranges"])
    except InvalidVersion:
        # What can't be compared is not known to be safe.
        return True


def _within(ours: Version, events: Sequence[dict[str, str]]) -> bool:
    """Whether a version lies in one of the stretches from ``introduced`` to ``fixed``."""
    inside = False
    for event in events:
        for kind, text in event.items():
            if kind == "introduced" and (text == "0" or ours >= Version(text)):
                inside = True
            elif (kind == "fixed" and ours >= Version(text)) or (
                kind == "last_affected" and ours > Version(text)
            ):
                inside = False
    return inside


def affected(packages: dict[str, set[str]], advisories: Sequence[Advisory]) -> Iterator[str]:
    """One line for each package, version and advisory that fit."""
    for advisory in advisories:
        if advisory["id"] in ACCEPTED:
            continue
        for version in sorted(packages.get(advisory["package"], ())):
            if is_affected(version, advisory):
                yield f"{advisory['package']} {version}: {advisory['id']}: {advisory['summary']}"


def read_database(folder: Path, packages: dict[str, set[str]]) -> dict[str, Any]:
    """The copy, from a clone of the database (with a work tree or without)."""

    def git(*args: str) -> str:
        command = ["git", "-C", str(folder), *args]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        return done.stdout

    commit, day = git("log", "-1", "--format=%H %cs").split()
    found: list[Advisory] = []
    for path in git("ls-tree", "-r", "--name-only", "HEAD", "vulns/").splitlines():
        if path.split("/")[1] in packages:
            entry = yaml.safe_load(git("show", f"HEAD:{path}"))
            if "withdrawn" not in entry:
                found += _advisories(entry)
    found.sort(key=lambda advisory: (advisory["package"], advisory["id"]))
    return {"commit": commit, "day": day, "advisories": found}


def _advisories(entry: dict[str, Any]) -> Iterator[Advisory]:
    for part in entry["affected"]:
        kept = {"ECOSYSTEM", "SEMVER"}
        yield {
            "package": part["package"]["name"].lower(),
            "id": entry["id"],
            "summary": " ".join(entry.get("summary", entry.get("details", "")).split())[:120],
            "ranges": [r["events"] for r in part.get("ranges", ()) if r["type"] in kept],
            "versions": list(part.get("versions", ())) if not part.get("ranges") else [],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit, or take the copy anew."""
    parser = argparse.ArgumentParser(description="known vulnerabilities of locked dependencies")
    parser.add_argument("--update", type=Path, metavar="FOLDER", help="clone of the database")
    folder = parser.parse_args(arguments).update
    packages = locked()
    if folder is not None:
        text = json.dumps(read_database(folder, packages), indent=1) + "\n"
        COPY.write_text(text, encoding="utf-8")
    copy = json.loads(COPY.read_text(encoding="utf-8"))
    found = list(affected(packages, copy["advisories"]))
    for line in found:
        sys.stderr.write(f"{line}\n")
    sys.stdout.write(
        f"{len(packages)} packages, {len(copy['advisories'])} advisories of {copy['day']}, "
        f"{len(found)} affected\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
