from __future__ import annotations

import json

import pytest

from tools.audit import COPY, affected, is_affected, locked

RANGES = {
    "package": "a",
    "id": "PYSEC-1",
    "summary": "",
    "versions": [],
    "ranges": [[{"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "2.0"}, {"fixed": "2.5"}]],
}


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.1.9", True), ("1.2", False), ("1.10", False), ("2.0", True), ("2.5.1", False),
     ("no version", True)],
)  # fmt: skip
def test_a_version_is_affected_within_the_ranges(version: str, *, expected: bool) -> None:
    assert is_affected(version, RANGES) is expected


def test_a_listed_version_is_affected() -> None:
    assert is_affected("3.0", {**RANGES, "ranges": [], "versions": ["3.0"]})


def test_what_is_affected_is_named_with_its_advisory() -> None:
    (line,) = affected({"a": {"1.1", "1.3"}, "b": {"1.1"}}, [RANGES])
    assert line.startswith("a 1.1: PYSEC-1")


def test_the_copy_knows_packages_that_are_locked_and_no_others() -> None:
    copy = json.loads(COPY.read_text(encoding="utf-8"))
    packages = locked()
    assert {"aiohttp", "requests", "urllib3"} <= packages.keys()
    assert {advisory["package"] for advisory in copy["advisories"]} <= packages.keys()
    assert len(copy["commit"]) == 40
