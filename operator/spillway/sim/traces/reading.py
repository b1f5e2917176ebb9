"""Reads lines and tables; a cell that is not what it should be is named with its place.

Columns are converted at once by numpy, which takes a fraction of the time of a call per cell, and a
column that fails is walked through to find the cell to blame.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from spillway.sim.traces.errors import TraceError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_GZIP_MAGIC: Final = b"\x1f\x8b"
#: No clock, count or length of a trace is larger; what is, is a wrong unit.
_LARGEST: Final = 1e15


def lines(path: Path) -> Iterator[str]:
    """The lines of a text file, unpacked where it is gzip's, each with its line end.

    Raises:
        TraceError: It can't be read, is cut off or is no text.
    """
    number = 0
    try:
        with _open(path) as file:
            for line in file:
                number += 1
                yield line
    except UnicodeDecodeError as error:
        raise _undecodable(path, error) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        found = "one that is cut off or damaged"
        raise TraceError(path, "a complete gzip file", found, line=number + 1) from error
    except OSError as error:
        raise TraceError(path, "a file that can be read", error.strerror or str(error)) from error


def _undecodable(path: Path, error: UnicodeDecodeError) -> TraceError:
    """Names the line: text is decoded in blocks of many, so the error itself does not know it."""
    found = f"byte {error.object[error.start]:#04x}"
    with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as here:
                found = f"byte {line[here.start]:#04x}"
                column = len(line[: here.start].decode()) + 1
                return TraceError(path, "UTF-8 text", found, line=number, column=column)
    return TraceError(path, "UTF-8 text", found)


def _open(path: Path) -> IO[str]:
    if _is_packed(path):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        path: The file.
        name: Of its header.
        number: From 1.
        cells: What stands there.
        lines: The line of each cell, from 1.
    """

    path: Path
    name: str
    number: int
    cells: list[str]
    lines: list[int]

    def numbers(self) -> NDArray[np.float64]:
        """The cells as finite numbers from 0 up.

        Raises:
            TraceError: One is not.
        """
        return self._numbers("a number from 0 up")

    def whole(self) -> NDArray[np.int64]:
        """The cells as whole numbers from 0 up; ``12.0`` is one.

        Raises:
            TraceError: One is not.
        """
        what = "a whole number from 0 up"
        values = self._numbers(what)
        self._refuse(values != np.floor(values), what)
        return values.astype(np.int64)

    def moments(self) -> NDArray[np.float64]:
        """The cells as ISO 8601 times, in seconds since the first of them.

        Raises:
            TraceError: One is not, or has a time zone where the first has none, or the reverse.
        """
        found: list[datetime] = []
        what = "an ISO 8601 time such as 2023-11-16 18:17:03.98"
        for cell, line in zip(self.cells, self.lines, strict=True):
            try:
                moment = datetime.fromisoformat(cell.strip())
            except ValueError:
                raise self.error(line, what, cell) from None
            if found and (moment.tzinfo is None) != (found[0].tzinfo is None):
                raise self.error(line, "a time zone in every row or in none", cell)
            found.append(moment)
        return np.array([(moment - found[0]).total_seconds() for moment in found], dtype=float)

    def error(self, line: int, expected: str, cell: str) -> TraceError:
        """What to raise for a cell."""
        expected = f"{expected} in {self.name}"
        return TraceError(self.path, expected, shown(cell), line=line, column=self.number)

    def _numbers(self, expected: str) -> NDArray[np.float64]:
        try:
            values = np.array(self.cells, dtype=np.float64)
        except ValueError:
            values = np.array([_number(cell) for cell in self.cells])
        self._refuse(~(np.isfinite(values) & (values >= 0) & (values <= _LARGEST)), expected)
        return values

    def _refuse(self, bad: NDArray[np.bool_], expected: str) -> None:
        if bad.any():
            first = int(np.argmax(bad))
            raise self.error(self.lines[first], expected, self.cells[first])


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file with a header and at least one row.

    Attributes:
        path: The file.
        header: Its names, without spaces around them.
        rows: Its other rows, blank ones left out.
        lines: The line of each row, from 1.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            TraceError: There is none.
        """
        if name not in self.header:
            found = ", ".join(self.header)
            raise TraceError(self.path, f"a column {name}", f"columns {found}", line=1)
        at = self.header.index(name)
        return Column(self.path, name, at + 1, [row[at] for row in self.rows], self.lines)


def table(path: Path) -> Table:
    """A CSV file.

    Raises:
        TraceError: It can't be read, has no row, or a row has more or fewer fields than the header.
    """
    reader = csv.reader(lines(path), strict=True)
    rows: list[list[str]] = []
    at: list[int] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                expected = f"{len(header)} fields ({', '.join(header)})"
                raise TraceError(
                    path, expected, str(len(row)), line=reader.line_num,
                    column=min(len(row), len(header)) + 1,
                )  # fmt: skip
            rows.append(row)
            at.append(reader.line_num)
    except csv.Error as error:
        raise TraceError(path, "CSV", str(error), line=reader.line_num) from error
    if not rows:
        raise TraceError(path, "a header and at least one row", "no row")
    return Table(path, header, rows, at)


def first_line(path: Path) -> str:
    """The first line that is not blank, "" where there is none.

    Raises:
        TraceError: It can't be read.
    """
    return next((line.strip() for line in lines(path) if line.strip()), "")


def has(header: Sequence[str], *names: str) -> bool:
    """Whether all the names are in a header."""
    return set(names) <= set(header)
