"""Draws the dashboard's panels from a Prometheus, as one page; Grafana is not needed.

    python -m tools.draw_dashboard http://127.0.0.1:9090 --minutes 5 --out page.html

The queries are the dashboard's own, with its variables set to all. It shows what they return, not
how Grafana draws it. Needs the extra `sim` (plotly).
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import requests
from plotly.subplots import make_subplots

from tools.gen_dashboard import ROWS, WISHES, Panel

_COLORS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#a16207")
_POINTS = 150
_PANEL_HEIGHT = 210
#: How Grafana's units look on an axis.
_UNITS = {
    "percentunit": {"tickformat": ".0%"},
    "currencyUSD": {"tickprefix": "$"},
    "reqps": {"ticksuffix": "/s"},
    "ops": {"ticksuffix": "/s"},
    "s": {"ticksuffix": " s"},
}


def ask(url: str, query: str, begin: float, end: float) -> list[dict[str, Any]]:
    """The series of a query between two moments.

    Raises:
        RuntimeError: Prometheus refused the query.
    """
    step = max(1.0, (end - begin) / _POINTS)
    parameters = {
        "query": re.sub(r"\$(namespace|pool)", ".*", query),
        "start": str(begin), "end": str(end), "step": f"{step:.3f}",
    }  # fmt: skip
    answer = requests.get(f"{url}/api/v1/query_range", params=parameters, timeout=30).json()
    if answer["status"] != "success":
        msg = f"{query}: {answer.get('error')}"
        raise RuntimeError(msg)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def named(legend: str, labels: dict[str, str]) -> str:
    """The legend with a series' labels in it."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)


def draw(url: str, begin: float, end: float) -> go.Figure:
    """Every panel between two moments (seconds since the epoch)."""
    panels: list[Panel] = [panel for row in ROWS.values() for panel in row]
    rows = (len(panels) + 1) // 2
    figure = make_subplots(
        rows=rows, cols=2, subplot_titles=[p.title for p in panels],
        vertical_spacing=0.3 / rows, horizontal_spacing=0.17,
    )  # fmt: skip
    for place, panel in enumerate(panels):
        color = 0
        for legend, query in panel.queries.items():
            for series in ask(url, query, begin, end):
                dash = "dash" if legend in WISHES else "solid"
                line = {"color": _COLORS[color % len(_COLORS)], "width": 1.6, "dash": dash}
                color += 1
                figure.add_trace(
                    go.Scatter(
                        x=[1000 * at for at, _ in series["values"]],
                        y=[float(value) for _, value in series["values"]],
                        name=named(legend, series["metric"]), mode="lines", line=line,
                        stackgroup="one" if panel.stacked else None,
                        legend=f"legend{place + 1}",
                    ),
                    row=place // 2 + 1, col=place % 2 + 1,
                )  # fmt: skip
        where = {"row": place // 2 + 1, "col": place % 2 + 1}
        figure.update_yaxes(**_UNITS.get(panel.unit, {}), **where)
        _place_legend(figure, place)
    figure.update_xaxes(type="date", range=[1000 * begin, 1000 * end])
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(
        height=rows * _PANEL_HEIGHT, width=1400, template="plotly_white",
        margin={"l": 50, "r": 200, "t": 40, "b": 30}, font={"size": 11},
    )  # fmt: skip
    return figure


def _place_legend(figure: go.Figure, place: int) -> None:
    """To the right of the panel, where it hides no line."""
    suffix = "" if place == 0 else str(place + 1)
    x, y = (figure.layout[f"{axis}axis{suffix}"].domain for axis in "xy")
    figure.update_layout(
        {
            f"legend{place + 1}": {
                "x": x[1], "y": y[1], "xanchor": "left", "yanchor": "top", "orientation": "v",
                "font": {"size": 9},
            }
        }
    )  # fmt: skip


def main() -> int:
    """Ask, draw, write."""
    parser = argparse.ArgumentParser(description="Draws the dashboard from a Prometheus.")
    parser.add_argument("url", help="such as http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=60.0, help="how far back")
    parser.add_argument("--out", type=Path, default=Path("dashboard.html"))
    chosen = parser.parse_args()
    now = time.time()
    figure = draw(chosen.url.rstrip("/"), now - 60 * chosen.minutes, now)
    page = figure.to_html(include_plotlyjs=True, config={"displayModeBar": False})
    chosen.out.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
