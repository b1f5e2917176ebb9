"""The demo's page: one HTML file that needs no network, light and dark."""

from __future__ import annotations

import html
import textwrap
from typing import TYPE_CHECKING, Final

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
    Html,
    Plot,
    Tile,
    faded,
    render_page,
)
from tests.e2e.rig.recording import StepKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.e2e.rig.recording import Recording, Step

_TITLES: Final = (
    "Requests a second, by who answers",
    "Replicas by role, and Spillway's decisions",
    "Overflow, and requests that wait on the replicas",
    "Cost rate, US dollars an hour",
)
#: Tops of the four plots and their heights, as shares of the figure.
_DOMAINS: Final = ((0.745, 0.985), (0.475, 0.685), (0.255, 0.415), (0.0, 0.195))
_SHORT_QUEUE: Final = 20.0
_HOVER_WIDTH: Final = 62
_HEIGHT: Final = 1060


def clock(seconds: float) -> str:
    """Minutes and seconds, as ``3:07``."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    return f"{minutes}:{rest:02d}"


def render(
    recording: Recording,
    subtitle: str,
    tiles: Sequence[Tile] = (),
    figures: Sequence[tuple[str, str]] = (),
    *,
    answered: Sequence[tuple[str, str]] = (),
    peak_fleet: tuple[str, float] | None = None,
) -> str:
    """The whole page.

    Args:
        recording: What happened.
        subtitle: A sentence or two on what was real and what was emulated.
        tiles: Shown on top.
        figures: Pairs of what and how much, shown as a table.
        answered: Pairs of who and how many requests, shown as another.
        peak_fleet: Label and US dollars an hour of the fleet that would have served the peak.
    """
    rows = "".join(map(_row, recording.steps)) or _NO_ROWS
    tables = Html(
        "<h2>What Spillway did, and why</h2>"
        "<table><thead><tr><th>at</th><th>reason</th><th>what</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
        + _pairs("Who answered, by the servers' own counts", answered)
        + _pairs("In figures", figures)
    )
    plot = Plot(figure(recording, peak_fleet))
    return render_page(recording.title, subtitle, tiles, [plot, tables])


def _pairs(heading: str, pairs: Sequence[tuple[str, str]]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(what)}</td><td>{html.escape(much)}</td></tr>" for what, much in pairs
    )
    return f"<h2>{html.escape(heading)}</h2><table><tbody>{rows}</tbody></table>"


_NO_ROWS: Final = '<tr class="minor"><td></td><td></td><td>nothing had to be done</td></tr>'


def _row(step: Step) -> str:
    first, *limits = step.reasons
    why = f"<b>{html.escape(first)}</b>"
    if limits:
        why += f" <i>{html.escape(', '.join(limits))}</i>"
    minor = "" if step.kind is StepKind.DECISION else ' class="minor"'
    return (
        f'<tr{minor}><td class="at">{clock(step.at)}</td><td class="why">{why}</td>'
        f"<td>{html.escape(step.message)}</td></tr>"
    )


def figure(recording: Recording, peak_fleet: tuple[str, float] | None = None) -> go.Figure:
    """Four plots over one axis of time."""
    plots = make_subplots(
        rows=4, cols=1, shared_xaxes=True, specs=[[{}], [{}], [{"secondary_y": True}], [{}]]
    )
    _draw_requests(plots, recording)
    _draw_replicas(plots, recording)
    _draw_overflow(plots, recording)
    _draw_cost(plots, recording, peak_fleet)
    _arrange(plots, recording)
    _mark_phases(plots, recording)
    return plots


def _curve(
    plots: go.Figure, recording: Recording, row: int, name: str, label: str, **style: object
) -> None:
    """One field over time; ``fill`` stacks it on the plot's other filled ones."""
    colour, fill = style.pop("color"), style.pop("fill", False)
    secondary, scale = style.pop("secondary_y", False), style.pop("scale", 1.0)
    template = style.pop("template", "%{y:.1f}")
    moments = recording.moments
    plots.add_trace(
        go.Scatter(
            x=[round(moment.at / 60, 4) for moment in moments],
            y=[round(getattr(moment, name) * scale, 3) for moment in moments],
            name=label,
            legend=f"legend{row}" if row > 1 else "legend",
            line={"color": colour, "width": 0.8 if fill else 2, **style},
            stackgroup=str(row) if fill else None,
            fillcolor=faded(str(colour)) if fill else None,
            hovertemplate=template,
        ),
        row,
        1,
        secondary_y=secondary,
    )


def _draw_requests(plots: go.Figure, recording: Recording) -> None:
    _curve(plots, recording, 1, "local_per_second", "own GPUs", color=LOCAL, fill=True)
    _curve(plots, recording, 1, "cloud_per_second", "paid API", color=CLOUD, fill=True)
    _curve(
        plots, recording, 1, "capacity_per_second", "what the replicas can take",
        color=CAPACITY, shape="hv", dash="dot",
    )  # fmt: skip


def _draw_replicas(plots: go.Figure, recording: Recording) -> None:
    for name, colour in (
        ("serving", LOCAL),
        ("warm", WARM),
        ("starting", STARTING),
        ("draining", DRAINING),
    ):
        _curve(
            plots, recording, 2, name, name, color=colour, fill=True, shape="hv", template="%{y}"
        )
    _curve(
        plots, recording, 2, "desired", "asked to serve",
        color=CAPACITY, dash="dot", shape="hv", template="%{y}",
    )  # fmt: skip
    decisions = recording.decisions()
    top = max((m.serving + m.warm + m.starting + m.draining for m in recording.moments), default=1)
    plots.add_trace(
        go.Scatter(
            x=[round(step.at / 60, 4) for step in decisions],
            y=[top + 0.6] * len(decisions),
            name="decision",
            legend="legend2",
            mode="markers",
            marker={"symbol": "triangle-down", "size": 11, "color": CAPACITY},
            customdata=[_hover(step) for step in decisions],
            hovertemplate="%{customdata}<extra></extra>",
        ),
        2,
        1,
    )


def _hover(step: Step) -> str:
    """Reasons in bold and the sentence, in lines; Plotly reads a little HTML."""
    first, *rest = (html.escape(reason) for reason in step.reasons)
    head = f"<b>{first}</b>" + (f" ({', '.join(rest)})" if rest else "")
    text = "<br>".join(map(html.escape, textwrap.wrap(step.message, _HOVER_WIDTH)))
    return f"{head}<br>{text}"


def _draw_overflow(plots: go.Figure, recording: Recording) -> None:
    _curve(
        plots, recording, 3, "overflow", "overflow, % of arrivals (left)",
        color=CLOUD, scale=100.0, template="%{y:.0f} %", shape="hv",
    )  # fmt: skip
    _curve(
        plots, recording, 3, "queue", "queue, requests (right)",
        color=QUEUE, secondary_y=True, template="%{y:.0f}", width=1.5,
    )  # fmt: skip


def _draw_cost(
    plots: go.Figure, recording: Recording, peak_fleet: tuple[str, float] | None
) -> None:
    _curve(
        plots, recording, 4, "gpu_per_hour", "own GPUs",
        color=LOCAL, fill=True, shape="hv", template=MONEY,
    )  # fmt: skip
    _curve(plots, recording, 4, "api_per_hour", "paid API", color=CLOUD, fill=True, template=MONEY)
    if peak_fleet is None or not recording.moments:
        return
    label, per_hour = peak_fleet
    ends = [round(recording.moments[i].at / 60, 4) for i in (0, -1)]
    plots.add_trace(
        go.Scatter(
            x=ends, y=[per_hour, per_hour], name=label, legend="legend4", mode="lines",
            line={"color": DRAINING, "width": 2, "dash": "dash"}, hovertemplate=MONEY,
        ),
        4,
        1,
    )  # fmt: skip


def _arrange(plots: go.Figure, recording: Recording) -> None:
    axes = ("yaxis", "yaxis2", "yaxis3", "yaxis5")
    layout: dict[str, object] = {}
    for row, ((bottom, top), axis, title) in enumerate(
        zip(_DOMAINS, axes, _TITLES, strict=True), start=1
    ):
        layout[axis] = {"domain": [bottom, top]}
        layout[f"legend{row}" if row > 1 else "legend"] = {
            "orientation": "h", "x": 1, "xanchor": "right", "y": top, "yanchor": "bottom",
            "font": {"size": 12.5}, "bgcolor": CLEAR,
        }  # fmt: skip
        plots.add_annotation(
            text=f"<b>{title}</b>", x=0, xanchor="left", xref="paper", y=top + 0.004,
            yanchor="bottom", yref="paper", showarrow=False, font={"size": 14},
        )  # fmt: skip
    plots.update_layout(
        height=_HEIGHT,
        margin={"l": 44, "r": 44, "t": 26, "b": 44},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        font=FONT,
        hovermode="x unified",
        hoversubplots="axis",
        modebar={"bgcolor": CLEAR, "orientation": "v"},
        **layout,
    )
    plots.update_yaxes(rangemode="tozero", zeroline=False, nticks=6)
    plots.update_yaxes(range=[0, 104], ticksuffix=" %", row=3, secondary_y=False)
    # A queue of a handful is noise and should look like it.
    longest = max(_SHORT_QUEUE, 1.1 * recording.peak("queue"))
    plots.update_yaxes(
        range=[0, longest], tickmode="auto", nticks=5, showgrid=False, row=3, secondary_y=True
    )
    plots.update_yaxes(tickprefix="$", row=4)
    plots.update_yaxes(dtick=2, row=2)
    end = recording.moments[-1].at / 60 if recording.moments else 1.0
    plots.update_xaxes(
        domain=[0, 1], range=[0, max(end, 0.1)], zeroline=False, dtick=1, hoverformat=".2f"
    )
    plots.update_xaxes(title_text="minutes", row=4)


def _mark_phases(plots: go.Figure, recording: Recording) -> None:
    """Names of the workload's parts along the first plot, with a line where each begins."""
    end = recording.moments[-1].at if recording.moments else 0.0
    for phase in recording.phases:
        if phase.at > end:
            break
        minute = phase.at / 60
        plots.add_vline(
            minute, line={"width": 1, "dash": "dot", "color": DRAINING}, layer="below", opacity=0.6
        )
        plots.add_annotation(
            text=phase.name, x=minute, xanchor="left", xshift=3, xref="x", y=1, yanchor="top",
            yref="y domain", showarrow=False, font={"size": 12, "color": DRAINING},
        )  # fmt: skip
