"""Finished jobs of a benchmark on disk, so that a run of hours that is interrupted goes on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import spillway
from spillway.sim.benchmark.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spillway.sim.trace import Trace


class JournalError(ValueError):
    """The file is no journal; the message names it and the line."""


def fingerprint(traces: Mapping[str, Trace]) -> str:
    """What results depend on beside their job: the loads, and every line of this package.

    A figure of an older policy or of another trace must not stand for this one's.
    """
    digest = hashlib.sha256()
    root = Path(spillway.__file__).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    for name, trace in sorted(traces.items()):
        digest.update(f"{name} {trace.bin_seconds!r} {trace.seconds!r}".encode())
        lengths = trace.lengths
        for numbers in (
            trace.requests_per_second,
            lengths.prompt_tokens,
            lengths.output_tokens,
            lengths.cached_tokens,
        ):
            digest.update(numbers.tobytes())
    return digest.hexdigest()


class Journal:
    """Records by job, one job a line of a file; what is there is read when it is opened.

    A last line that was cut off, as a run that was killed may leave it, is written anew.

    Args:
        path: The file; it is made if it is not there.
        what: What the jobs' names leave out and their results depend on, see `fingerprint`: lines
            with another value are not of this run.

    Raises:
        JournalError: A line before the last is not one of a journal.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._done: dict[str, list[Record]] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole, _, _ = text.rpartition("\n")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                records = [Record(**record) for record in entry["records"]]
                if entry["what"] == what:
                    self._done[entry["job"]] = records
            except (ValueError, KeyError, TypeError) as error:
                msg = f"{path}, line {number}: must be a job of this benchmark, got {line[:80]!r}"
                raise JournalError(msg) from error
        if text and not text.endswith("\n"):
            path.write_text(whole + "\n" if whole else "", encoding="utf-8")

    def records(self, job: object) -> list[Record] | None:
        """What a job came to; None if it has not ended yet."""
        return self._done.get(repr(job))

    def add(self, job: object, records: Sequence[Record]) -> None:
        """Keep what a job came to."""
        self._done[repr(job)] = list(records)
        entry = {
            "what": self._what,
            "job": repr(job),
            "records": [record.as_json() for record in records],
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, separators=(",", ":")) + "\n")
