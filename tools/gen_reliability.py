"""Writes the table of docs/reliability.md from what the end-to-end tests have recorded.

    python -m tools.gen_reliability            # write the table
    python -m tools.gen_reliability --check    # exit 1 when it is stale

`make reliability` runs the tests and then this. The records are docs/reliability/faults.json; a run
of some of the tests replaces their rows and leaves the others.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
RECORDS: Final = ROOT / "docs" / "reliability" / "faults.json"
PAGE: Final = ROOT / "docs" / "reliability.md"
BEGIN: Final = "<!-- faults: written by tools/gen_reliability.py -->"
END: Final = "<!-- end of faults -->"


def table(document: dict[str, Any]) -> str:
    """The rows as Markdown, the machine above them."""
    rows = document["faults"]
    days = sorted({row["day"] for row in rows})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    lines = [
        f"{len(rows)} faults, {document['machine']}, {span}.",
        "",
        "| Fault | What held | Recovery | Test |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f} s"
        file = row["test"].partition("::")[0]
        test = f"[{file.removeprefix('test_').removesuffix('.py')}](../tests/e2e/{file})"
        lines.append(f"| {row['fault']} | {row['held']} | {seconds} | {test} |")
    return "\n".join(lines)


def render(page: str, document: dict[str, Any]) -> str:
    """The page with its table made anew.

    Raises:
        ValueError: The page has no place for it.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        msg = f"{PAGE.name} must have the lines {BEGIN} and {END}"
        raise ValueError(msg)
    return f"{before}{BEGIN}\n\n{table(document)}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table, or check it."""
    parser = argparse.ArgumentParser(description="the table of docs/reliability.md")
    parser.add_argument("--check", action="store_true", help="only say whether it is stale")
    check = parser.parse_args(arguments).check
    page = PAGE.read_text(encoding="utf-8")
    fresh = render(page, json.loads(RECORDS.read_text(encoding="utf-8")))
    if fresh == page:
        return 0
    if check:
        sys.stderr.write(f"{PAGE} is stale; run python -m tools.gen_reliability\n")
        return 1
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
