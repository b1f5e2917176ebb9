"""How the plan commands answer: a table or a JSON object, and plots on request."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.core.tco.load import NotPlannableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

#: Distributions that a plot or a trace needs and the operator does not.
_EXTRA = "sim"
_WIDEST = 1000


@dataclass(frozen=True, slots=True)
class Columns:
    """A table of an answer.

    Attributes:
        title: Above it.
        heads: Heads of its columns; all but the first are of figures.
        rows: Its rows, as text.
        note: Below it; "" for none.
    """

    title: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def show(figures: dict[str, Any], tables: Sequence[Columns], *, as_json: bool) -> None:
    """Print the answer.

    Args:
        figures: The JSON object.
        tables: The same for a person.
        as_json: Which of the two.
    """
    console = Console(soft_wrap=as_json)
    if as_json:
        console.print_json(json.dumps(figures, allow_nan=False))
        return
    for columns in tables:
        table = _table(columns)
        # A figure that is cut off is a wrong figure: a narrow terminal wraps the line instead.
        unbounded = console.options.update(max_width=_WIDEST)
        width = Measurement.get(console, unbounded, table).maximum
        Console(width=max(console.width, width), soft_wrap=True).print(table)
        if columns.note:
            console.print(columns.note, style="dim", markup=False, highlight=False)
        console.print()


def _table(columns: Columns) -> Table:
    table = Table(title=columns.title, title_justify="left", title_style="bold", box=None)
    for place, head in enumerate(columns.heads):
        table.add_column(
            head,
            justify="right" if place else "left",
            style="" if place else "cyan",
            no_wrap=True,
        )
    for row in columns.rows:
        table.add_row(*row)
    return table


@contextmanager
def plannable() -> Iterator[None]:
    """Figures that no plan can be made of end the command with code 2 and name themselves."""
    try:
        yield
    except NotPlannableError as error:
        fail(str(error), ExitCode.USAGE)


@contextmanager
def needing_extra(what: str) -> Iterator[None]:
    """A missing optional dependency ends the command with code 2 and says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        text = (
            f"{what} needs {error.name}, which is not installed: pip install 'spillway[{_EXTRA}]'"
        )
        fail(text, ExitCode.USAGE)


def write_plots(
    path: Path | None, title: str, subtitle: str, plots: Callable[[], list[Any]]
) -> None:
    """Write the plots as one HTML page, if asked to.

    Args:
        path: The file; None writes nothing.
        title: Of the page.
        subtitle: Of the page.
        plots: Makes `spillway.sim.report.page.Plot` values; called only where they are wanted.
    """
    if path is None:
        return
    with needing_extra("--plot"):
        from spillway.sim.report.page import render_page

        page = render_page(title, subtitle, (), plots())
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        fail(f"--plot {path}: {error.strerror}; name a file that can be written", ExitCode.USAGE)


def usd(value: float) -> str:
    """An amount in US dollars, with as many digits as it needs."""
    if abs(value) >= 100:
        return f"${value:,.0f}"
    if abs(value) >= 0.1 or value == 0:
        return f"${value:,.2f}"
    return f"${value:.3g}"


def percent(share: float) -> str:
    """A share."""
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"


def number(value: float) -> str:
    """A figure to three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def pairs(text: str, flag: str, example: str) -> list[tuple[float, float]]:
    """Pairs of numbers such as ``1000:0.7,8000:0.3``; anything else ends the command."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+):([0-9]*\.?[0-9]+)\s*", part)
        if match is None:
            fail(f"{flag}: must be pairs such as {example}, got {part!r}", ExitCode.USAGE)
        found.append((float(match[1]), float(match[2])))
    return found
