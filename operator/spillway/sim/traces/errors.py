"""What is wrong with a trace's file, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_SHOWN_CHARACTERS: Final = 60


class TraceError(ValueError):
    """A file that is not the trace it should be.

    Its text is ``path:line:column: expected ..., found ...``; what is not known is left out.

    Attributes:
        path: The file.
        line: From 1; None where the file as a whole is meant.
        column: From 1: the field of a CSV row, the character of a JSON line.
        expected: What is accepted.
        found: What was there.
    """

    def __init__(
        self,
        path: Path,
        expected: str,
        found: str,
        *,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        where = ":".join(str(part) for part in (path, line, column) if part is not None)
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.path = path
        self.line = line
        self.column = column
        self.expected = expected
        self.found = found


def shown(value: object) -> str:
    """A value in a message: quoted, on one line, and not the whole of a long one."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
