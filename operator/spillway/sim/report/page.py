"""One HTML file that needs no network, light and dark: tiles, plots and whatever else.

The simulator's report and the demo's page are made of it.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Final

from plotly.offline import get_plotlyjs

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Colour-blind safe (Okabe and Ito, 2008); the same colour means the same thing in every plot.
LOCAL: Final = "#0072B2"
CLOUD: Final = "#E69F00"
WARM: Final = "#CC79A7"
STARTING: Final = "#56B4E9"
DRAINING: Final = "#999999"
CAPACITY: Final = "#009E73"
QUEUE: Final = "#D55E00"
CLEAR: Final = "rgba(0,0,0,0)"
FONT: Final = {"family": "system-ui, -apple-system, Segoe UI, sans-serif"}
MONEY: Final = "$%{y:,.2f}"
"""Hover template of a value in US dollars."""

_TEMPLATE: Final = Path(__file__).with_name("page.html")


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure shown large.

    Attributes:
        value: The figure.
        label: What it is.
        kind: Its colour: own, api, good, bad, or "" for none.
    """

    value: str
    label: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with a heading.

    Attributes:
        figure: A ``plotly.graph_objects.Figure`` with a height.
        heading: Above it; "" for none.
        note: A sentence or two below the heading.
    """

    figure: Any
    heading: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that goes onto the page as it is: its text must be escaped."""

    markup: str


def render_page(
    title: str, subtitle: str, tiles: Sequence[Tile], parts: Sequence[Plot | Html]
) -> str:
    """The page.

    Args:
        title: Its title, as text.
        subtitle: A sentence or two, as text.
        tiles: Shown on top.
        parts: What follows, in order.
    """
    body, figures = [], []
    for number, part in enumerate(parts):
        if isinstance(part, Html):
            body.append(part.markup)
            continue
        name = f"plot-{number}"
        height = int(part.figure.layout.height)
        body.append(f'{_head(part)}<div id="{name}" style="min-height: {height}px"></div>')
        # A "</script>" in a text must not end the script.
        figures.append(f'figures["{name}"] = {part.figure.to_json()};'.replace("</", "<\\/"))
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        tiles="".join(map(_tile, tiles)),
        body="\n".join(body),
        plotly=get_plotlyjs(),
        figures="\n".join(figures),
    )


def faded(colour: str) -> str:
    """A colour ``#rrggbb`` that others show through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.62)"


def _tile(tile: Tile) -> str:
    value, label = html.escape(tile.value), html.escape(tile.label)
    return f'<div class="tile {tile.kind}"><b>{value}</b><span>{label}</span></div>'


def _head(plot: Plot) -> str:
    heading = f"<h2>{html.escape(plot.heading)}</h2>" if plot.heading else ""
    return heading + (f"<p>{html.escape(plot.note)}</p>" if plot.note else "")
