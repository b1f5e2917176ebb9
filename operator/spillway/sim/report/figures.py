"""The plots of a study."""

from __future__ import annotations

import html
import textwrap
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from spillway.sim.report.page import (
    CAPACITY,
    CLEAR,
    CLOUD,
    DRAINING,
    FONT,
    LOCAL,
    MONEY,
    QUEUE,
    STARTING,
    WARM,
    faded,
)
from spillway.sim.study import OPTIMUM, SCHEDULE, SPILLWAY, over

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from spillway.sim.outcome import Note, Timeline
    from spillway.sim.study import Entry, Study

    Floats = NDArray[np.float64]

#: Points of a curve: more than a screen has pixels, few enough for a file of a few megabytes.
_POINTS: Final = 4000
_MARKERS: Final = 2000
_HOVER_WIDTH: Final = 62
_BAR_HEIGHT: Final = 34
_COLOURS: Final = (LOCAL, CLOUD, QUEUE, WARM, STARTING, "#F0E442", DRAINING)
_MARGIN: Final = {"l": 8, "r": 44, "t": 30, "b": 8}
#: What costs several times as much is off the first picture: the rest would look alike beside it.
_SHOWN_TIMES: Final = 2.2


def colours(study: Study) -> dict[str, str]:
    """A colour for each name, the same in all plots; Spillway's is the one of capacity."""
    rivals = sorted({e.name for e in (*study.entries, *study.frontier)} - {SPILLWAY})
    found = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(rivals)}
    return {SPILLWAY: CAPACITY, OPTIMUM: DRAINING, **found}


def cost_split(study: Study) -> go.Figure:
    """Bars of what GPUs and the API cost, and beside each the attainment it bought."""
    entries = list(reversed(_with_optimum(study)))
    plots = make_subplots(
        rows=1, cols=2, shared_yaxes=True, column_widths=[0.7, 0.3], horizontal_spacing=0.04,
    )  # fmt: skip
    labels = [_strong(entry.label, entry.name == SPILLWAY) for entry in entries]
    for name, colour, values in (
        ("own GPUs", LOCAL, [entry.result.gpu_usd for entry in entries]),
        ("paid API", CLOUD, [entry.result.api_usd for entry in entries]),
    ):
        plots.add_trace(
            go.Bar(
                x=_rounded(values), y=labels, orientation="h", name=name,
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate=f"{name}: $%{{x:,.2f}}<extra></extra>",
            ),
            1,
            1,
        )  # fmt: skip
    attained = [100 * entry.result.attainment for entry in entries]
    kept = [study.keeps(entry) for entry in entries]
    plots.add_trace(
        go.Scatter(
            x=_rounded(attained), y=labels, mode="markers+text", showlegend=False,
            marker={"size": 11, "color": [CAPACITY if good else QUEUE for good in kept],
                    "symbol": ["circle" if good else "x" for good in kept]},
            text=[f"{value:.1f} %" for value in attained], textposition="middle left",
            hovertemplate="%{x:.2f} %<extra></extra>",
        ),
        1,
        2,
    )  # fmt: skip
    target = 100 * study.conditions.attainment
    plots.add_vline(target, line={"dash": "dot", "color": QUEUE, "width": 1.5}, row=1, col=2)
    if study.optimum is not None:
        line = {"dash": "dot", "color": DRAINING, "width": 1.5}
        plots.add_vline(study.optimum.result.usd, line=line, row=1, col=1)
    _dress(plots, _BAR_HEIGHT * len(entries) + 100)
    plots.update_layout(barmode="stack", bargap=0.35, hovermode="closest", legend=_above())
    plots.update_xaxes(tickprefix="$", rangemode="tozero", row=1, col=1)
    plots.update_xaxes(title_text="requests within the targets", row=1, col=2)
    span = max(100 - min([target, *attained]), 1.0)
    plots.update_xaxes(range=[100 - 1.9 * span, 100 + 0.12 * span], ticksuffix=" %", row=1, col=2)
    plots.update_xaxes(nticks=5, row=1, col=2)
    plots.update_yaxes(showgrid=False)
    return plots


def timeline(study: Study) -> go.Figure | None:
    """Load and who answers it, replicas and decisions, and cost over time; None if not kept."""
    way = study.spillway.result.timeline
    if way is None:
        return None
    plots = make_subplots(
        rows=3, cols=1, shared_xaxes=True, row_heights=[0.44, 0.3, 0.26], vertical_spacing=0.075,
        subplot_titles=(
            "Requests a second, by who answers", "Replicas, and decisions",
            "Cost rate, US dollars an hour",
        ),
    )  # fmt: skip
    at = _thinned(way.at / 3600)
    local = way.arrivals_per_second - way.cloud_per_second
    curves: tuple[tuple[int, str, Floats, str, str], ...] = (
        (1, "own GPUs", local, LOCAL, "%{y:.1f}"),
        (1, "paid API", way.cloud_per_second, CLOUD, "%{y:.1f}"),
        (2, "ready", way.ready, LOCAL, "%{y:.0f}"),
        (2, "starting", way.unready, STARTING, "%{y:.0f}"),
        (3, "own GPUs ", way.gpu_usd_per_hour, LOCAL, MONEY),
        (3, "paid API ", way.api_usd_per_hour, CLOUD, MONEY),
    )
    for row, name, values, colour, template in curves:
        plots.add_trace(
            go.Scatter(
                x=at, y=_thinned(values), name=name, stackgroup=str(row),
                legend=_legend(row), line={"width": 0.6, "color": colour},
                fillcolor=faded(colour), hovertemplate=template,
            ),
            row,
            1,
        )  # fmt: skip
    plots.add_trace(
        go.Scatter(
            x=at, y=_thinned(way.capacity_per_second), name="what the replicas can take",
            legend="legend", hovertemplate="%{y:.1f}",
            line={"width": 1.5, "color": CAPACITY, "dash": "dot"},
        ),
        1,
        1,
    )  # fmt: skip
    plots.add_trace(_decisions(way), 2, 1)
    _dress(plots, 860)
    _place_legends(plots)
    plots.update_layout(hovermode="x unified", hoversubplots="axis")
    end = study.trace.seconds / 3600
    plots.update_xaxes(ticksuffix=" h", hoverformat=".2f", zeroline=False, range=[0, end])
    plots.update_yaxes(rangemode="tozero", zeroline=False, nticks=6)
    plots.update_yaxes(tickprefix="$", row=3, col=1)
    return plots


def _decisions(way: Timeline) -> go.Scatter:
    """Marks above the replicas; pointing at one tells its reason."""
    notes = way.notes[:_MARKERS]
    top = float((way.ready + way.unready).max()) if len(way.ready) else 0.0
    return go.Scatter(
        x=_rounded([note.at / 3600 for note in notes]),
        y=[top * 1.07 + 0.5] * len(notes),
        name="decision",
        legend="legend2",
        mode="markers",
        marker={
            "symbol": ["triangle-up" if n.replicas > n.replicas_before else "triangle-down"
                       for n in notes],
            "size": 9, "color": CAPACITY,
        },
        customdata=[_hover(note) for note in notes],
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _hover(note: Note) -> str:
    """The change in bold and the reason, in lines; Plotly reads a little HTML."""
    head = f"<b>{note.replicas_before} to {note.replicas} replicas</b>"
    text = "<br>".join(map(html.escape, textwrap.wrap(note.reason, _HOVER_WIDTH)))
    return f"{head}<br>{text}" if text else head


def frontier(study: Study) -> go.Figure:
    """Cost against attainment: grids as faint points, their best as lines, Spillway as a star."""
    plots = go.Figure()
    colour_of = colours(study)
    groups: dict[tuple[str, bool], list[Entry]] = {}
    for entry in study.frontier or study.entries:
        if entry.name != SPILLWAY:
            groups.setdefault((entry.name, entry.bursts), []).append(entry)
    for (name, bursts), entries in groups.items():
        _frontier_of(plots, entries, colour_of[name], bursts=bursts)
    for entry, symbol, size in (
        (study.spillway, "star", 17),
        *(((study.optimum, "diamond", 12),) if study.optimum is not None else ()),
    ):
        plots.add_trace(
            go.Scatter(
                x=[_percent(entry)], y=[round(entry.result.usd, 2)], name=entry.label,
                mode="markers",
                marker={"symbol": symbol, "size": size, "color": colour_of[entry.name]},
                hovertemplate=f"{entry.label}<br>%{{x:.2f}} %, $%{{y:,.2f}}<extra></extra>",
            )
        )  # fmt: skip
    target = 100 * study.conditions.attainment
    plots.add_vline(target, line={"dash": "dot", "color": QUEUE, "width": 1.5})
    _dress(plots, 480)
    plots.update_layout(hovermode="closest", legend=_above())
    kept = [e.result.usd for e in (*study.entries, *study.frontier) if study.keeps(e)]
    cheapest = min([study.spillway.result.usd, *kept])
    reach = [0.75 * cheapest, _SHOWN_TIMES * cheapest]
    plots.update_yaxes(tickprefix="$", range=reach, zeroline=False)
    margin = 100 - target
    plots.update_xaxes(
        ticksuffix=" %", range=[target - 1.6 * margin, 100 + 0.1 * margin],
        title_text="requests within the targets", zeroline=False,
    )  # fmt: skip
    return plots


def _frontier_of(plots: go.Figure, entries: Sequence[Entry], colour: str, *, bursts: bool) -> None:
    label = entries[0].label
    words = [f"{label}<br>{html.escape(e.result.configuration)}" for e in entries]
    plots.add_trace(
        go.Scatter(
            x=[_percent(entry) for entry in entries],
            y=_rounded([entry.result.usd for entry in entries]),
            name=label, legendgroup=label, showlegend=len(entries) == 1, mode="markers",
            marker={"color": colour, "size": 5, "opacity": 0.45,
                    "symbol": "circle" if bursts else "circle-open"},
            customdata=words,
            hovertemplate="%{customdata}<br>%{x:.2f} %, $%{y:,.2f}<extra></extra>",
        )
    )  # fmt: skip
    if len(entries) == 1:
        plots.data[-1].update(marker={"size": 9, "opacity": 1.0})
        return
    best = pareto([(entry.result.attainment, entry.result.usd) for entry in entries])
    plots.add_trace(
        go.Scatter(
            x=_rounded([100 * attained for attained, _ in best]),
            y=_rounded([usd for _, usd in best]),
            name=label, legendgroup=label, mode="lines", hoverinfo="skip",
            line={"color": colour, "width": 2, "dash": "solid" if bursts else "dash",
                  "shape": "vh"},
        )
    )  # fmt: skip


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those (attainment, cost) that no other beats in both, by attainment."""
    best: list[tuple[float, float]] = []
    for attained, usd in sorted(points, key=lambda point: (-point[0], point[1])):
        if not best or usd < best[-1][1]:
            best.append((attained, usd))
    return best[::-1]


def against(
    worlds: Mapping[float, Sequence[Entry]], study: Study, title: str, suffix: str
) -> go.Figure:
    """Cost over the optimum (or in dollars where it is not known) from world to world."""
    plots = go.Figure()
    colour_of = colours(study)
    relative = study.optimum is not None
    lines: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for at, entries in worlds.items():
        best = next((entry for entry in entries if entry.name == OPTIMUM), None)
        for entry in entries:
            if entry.name not in {OPTIMUM, SCHEDULE}:
                value = over(entry, best) if relative else entry.result.usd
                lines.setdefault((entry.label, entry.bursts), []).append((at, value or np.nan))
    for (label, bursts), points in lines.items():
        name = label.removesuffix(" + burst")
        plots.add_trace(
            go.Scatter(
                x=[f"{at:g}{suffix}" for at, _ in points],
                y=[round(value, 4) for _, value in points],
                name=label, mode="lines+markers",
                line={"color": colour_of[name], "width": 3.5 if name == SPILLWAY else 2,
                      "dash": "solid" if bursts else "dash"},
                hovertemplate="%{y:.3f}" if relative else MONEY,
            )
        )  # fmt: skip
    _dress(plots, 400)
    plots.update_layout(hovermode="x unified", legend=_above())
    plots.update_xaxes(type="category", title_text=title)
    values = [value for points in lines.values() for _, value in points if value > 0]
    near = [value for value in values if value <= _SHOWN_TIMES * min(values)]
    plots.update_yaxes(range=[0.95 * min(near), 1.05 * max(near)], zeroline=False)
    if relative:
        plots.update_yaxes(title_text="cost / optimum")
    else:
        plots.update_yaxes(tickprefix="$")
    return plots


def regret(study: Study) -> go.Figure | None:
    """Dollars beyond the optimum; None where that is not known."""
    if study.optimum is None:
        return None
    best = study.optimum.result.usd
    entries = list(reversed(study.entries))
    values = [entry.result.usd - best for entry in entries]
    plots = go.Figure(
        go.Bar(
            x=_rounded(values),
            y=[_strong(entry.label, entry.name == SPILLWAY) for entry in entries],
            orientation="h",
            marker={"color": [CAPACITY if e.name == SPILLWAY else DRAINING for e in entries]},
            text=[f"${value:,.0f} ({value / best:+.1%})" for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="$%{x:,.2f}<extra></extra>",
        )
    )
    _dress(plots, _BAR_HEIGHT * len(entries) + 60)
    plots.update_layout(bargap=0.35, hovermode="closest")
    plots.update_xaxes(tickprefix="$", range=[0, 1.25 * max([*values, 1e-9])])
    plots.update_yaxes(showgrid=False)
    return plots


def _with_optimum(study: Study) -> list[Entry]:
    return [*study.entries, *(() if study.optimum is None else (study.optimum,))]


def _thinned(values: Floats) -> list[float]:
    """Means of as many equal pieces as a plot can show."""
    each = -(-len(values) // _POINTS)
    if each > 1:
        whole = len(values) // each * each
        values = values[:whole].reshape(-1, each).mean(axis=1)
    return _rounded(values)


def _rounded(values: Sequence[float] | Floats) -> list[float]:
    """Short in the file."""
    return [round(float(value), 4) for value in values]


def _percent(entry: Entry) -> float:
    return round(100 * entry.result.attainment, 4)


def _strong(label: str, ours: bool) -> str:  # noqa: FBT001 - a word for a word
    return f"<b>{label}</b>  " if ours else f"{label}  "


def _legend(row: int) -> str:
    return "legend" if row == 1 else f"legend{row}"


def _above() -> dict[str, Any]:
    return {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": CLEAR}


def _place_legends(plots: go.Figure) -> None:
    """Each row's legend above its right end, its title above its left."""
    for row, note in enumerate(plots.layout.annotations, start=1):
        note.update(x=0, xanchor="left", font={"size": 14}, text=f"<b>{note.text}</b>")
        legend = {
            "orientation": "h", "x": 1, "xanchor": "right", "y": note.y, "yanchor": "bottom",
            "font": {"size": 12.5}, "bgcolor": CLEAR,
        }  # fmt: skip
        plots.update_layout({_legend(row): legend})


def _dress(plots: go.Figure, height: int) -> None:
    plots.update_layout(
        height=height, margin=_MARGIN, paper_bgcolor=CLEAR, plot_bgcolor=CLEAR, font=FONT,
        modebar={"bgcolor": CLEAR, "orientation": "v"},
    )  # fmt: skip
    plots.update_annotations(font={"size": 13})
    plots.update_xaxes(automargin=True)
    plots.update_yaxes(automargin=True)
