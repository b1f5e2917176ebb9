"""The plots of ``spillway plan``; imported only where one is wanted (plotly is an extra)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import plotly.graph_objects as go

from spillway.core.economics import SECONDS_PER_HOUR
from spillway.core.tco import crossover as volumes
from spillway.core.tco.costs import HOURS_PER_MONTH, PLANNED_UTILIZATION, fixed_fleet
from spillway.sim.report.page import CAPACITY, CLEAR, CLOUD, DRAINING, FONT, LOCAL, MONEY, Plot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.core.tco.agents import Chain
    from spillway.core.tco.costs import ApiTerms, Bill, OwnTerms
    from spillway.core.tco.load import Load
    from spillway.core.tco.rightsizing import Option
    from spillway.core.tokenmix import TokenMix

_HEIGHT: Final = 380
_POINTS: Final = 400
_MONTH: Final = "US dollars a month"


def bills(found: Sequence[Bill]) -> Plot:
    """The bill of each way, by what it is spent on."""
    names = [bill.name for bill in found][::-1]
    figure = _figure(barmode="stack")
    for part, colour, values in (
        ("GPUs", LOCAL, [b.gpu for b in found]),
        ("API", CLOUD, [b.api for b in found]),
        ("spare, storage, network, labour", DRAINING, [b.fixed for b in found]),
    ):
        figure.add_bar(
            x=values[::-1], y=names, name=part, orientation="h", marker_color=colour,
            hovertemplate="$%{x:,.0f}",
        )  # fmt: skip
    figure.update_xaxes(title=_MONTH, tickprefix="$")
    return Plot(figure, "What each way costs")


def fleet_sizes(load: Load, own: OwnTerms, api: ApiTerms) -> Plot:
    """The month's bill over the number of replicas, and where the rules of thumb land."""
    p50, p95 = (own.replicas_for(load.quantile(level)) for level in (0.5, 0.95))
    most = max(p95, own.replicas_for(load.rates[-1])) + 1
    sizes = list(range(most + 1))
    costs = [fixed_fleet("", n, load, own, api) for n in sizes]
    figure = _figure()
    for name, colour, values, width in (
        ("total", CAPACITY, [c.total for c in costs], 3),
        ("GPUs", LOCAL, [c.gpu + c.fixed for c in costs], 1.5),
        ("API", CLOUD, [c.api for c in costs], 1.5),
    ):
        figure.add_scatter(
            x=sizes, y=values, name=name, mode="lines+markers" if most < 60 else "lines",
            line={"color": colour, "width": width}, hovertemplate=MONEY,
        )  # fmt: skip
    best = min(sizes, key=lambda n: costs[n].total)
    for n, text in ((p50, "p50 at 85 %"), (p95, "p95 at 85 %"), (best, "optimum")):
        figure.add_annotation(x=n, y=costs[n].total, text=text, ay=-36 if n != best else 42)
    figure.update_xaxes(title="replicas, all month")
    figure.update_yaxes(title=_MONTH, tickprefix="$", rangemode="tozero")
    note = "GPUs alone on the right, the API alone on the left; the cheapest is between them."
    return Plot(figure, "How many replicas", note)


def crossover(
    own: OwnTerms, api: ApiTerms, mix: TokenMix, utilization: float = PLANNED_UTILIZATION
) -> Plot:
    """The month's bill of both over the volume."""
    at = volumes.crossover(own, api, mix, utilization)
    end = 1.6 * (at.always or at.first or 4 * own.rps_per_replica * utilization)
    rates = [end * i / _POINTS for i in range(_POINTS + 1)]
    seconds = HOURS_PER_MONTH * SECONDS_PER_HOUR
    per_request = api.usd_per_attempt(mix)
    figure = _figure()
    figure.add_scatter(
        x=rates, y=[rate * seconds * per_request for rate in rates], name="API",
        line={"color": CLOUD, "width": 2}, hovertemplate=MONEY,
    )  # fmt: skip
    hour = own.usd_per_replica_hour * HOURS_PER_MONTH
    figure.add_scatter(
        x=rates,
        y=[own.replicas_for(r, utilization) * hour + own.fixed_per_month for r in rates],
        name="own GPUs", line={"color": LOCAL, "width": 2, "shape": "hv"}, hovertemplate=MONEY,
    )  # fmt: skip
    if at.first is not None:
        figure.add_vline(x=at.first, line_dash="dot", line_color=DRAINING)
    figure.update_xaxes(title="steady requests per second")
    figure.update_yaxes(title=_MONTH, tickprefix="$", rangemode="tozero")
    return Plot(figure, "Crossover", "Replicas come whole, so own GPUs cost by steps.")


def sensitivity(
    own: OwnTerms, api: ApiTerms, mix: TokenMix, utilization: float = PLANNED_UTILIZATION
) -> Plot:
    """The first crossover over both prices; blank where own GPUs are never cheaper."""
    factors = [0.25 * i for i in range(1, 13)]
    grid = volumes.sensitivity(own, api, mix, factors, utilization)
    figure = _figure()
    figure.add_heatmap(
        x=factors, y=factors, z=grid, colorscale="Viridis", hoverongaps=False,
        colorbar={"title": "requests/s"},
        hovertemplate="API x %{x}, GPU x %{y}: %{z:.3g} requests/s<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title="API price, x today's")
    figure.update_yaxes(title="GPU price, x today's")
    return Plot(figure, "What prices do to the crossover", "Blank: own GPUs are never cheaper.")


def chain(task: Chain, api: ApiTerms) -> Plot:
    """What a task costs over its calls, with and without a prefix cache."""
    calls = list(range(1, max(30, task.calls) + 1))
    figure = _figure()
    for name, colour, cached in (("without", CLOUD, False), ("with", CAPACITY, True)):
        figure.add_scatter(
            x=calls, y=[replace(task, calls=n).usd(api, cached=cached) for n in calls],
            name=f"{name} prefix caching", line={"color": colour, "width": 2},
            hovertemplate="$%{y:.3f}",
        )  # fmt: skip
    figure.update_xaxes(title="model calls of a task")
    figure.update_yaxes(title="US dollars a task", tickprefix="$", rangemode="tozero")
    return Plot(figure, "Context that is sent again")


def waterfall(whole: float, steps: Sequence[tuple[str, float]], unit: str = _MONTH) -> Plot:
    """What each lever takes off the bill."""
    figure = _figure()
    figure.add_waterfall(
        x=["today", *(name for name, _ in steps), "left"],
        y=[whole, *(-saved for _, saved in steps), 0],
        measure=["absolute", *("relative" for _ in steps), "total"],
        decreasing={"marker": {"color": CAPACITY}},
        totals={"marker": {"color": CLOUD}},
        hovertemplate=MONEY,
    )
    figure.update_yaxes(title=unit, tickprefix="$")
    return Plot(figure, "What each lever takes off")


def token_prices(best: Sequence[Option]) -> Plot:
    """What a million tokens cost, by GPU and precision."""
    figure = _figure(barmode="group")
    serving = [option for option in best if option.usd_per_million is not None]
    for precision in sorted({option.precision for option in serving}):
        rows = [option for option in serving if option.precision == precision]
        figure.add_bar(
            x=[row.gpu for row in rows],
            y=[row.usd_per_million for row in rows],
            text=[f"{row.gpus} GPUs" for row in rows],
            name=precision,
            hovertemplate="$%{y:.3f}",
        )
    figure.update_yaxes(title="US dollars a million tokens", tickprefix="$")
    return Plot(figure, "What a token costs", "The best number of GPUs for each, by the table.")


def two_bars(first: str, before: float, second: str, after: float) -> Plot:
    """Two totals side by side."""
    figure = _figure()
    figure.add_bar(
        x=[first, second], y=[before, after], marker_color=[DRAINING, LOCAL], hovertemplate=MONEY
    )
    figure.update_yaxes(title=_MONTH, tickprefix="$")
    return Plot(figure)


def _figure(**layout: Any) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=_HEIGHT, font=FONT, paper_bgcolor=CLEAR, plot_bgcolor=CLEAR,
        margin={"l": 8, "r": 8, "t": 30, "b": 8},
        legend={"orientation": "h", "y": 1.1}, **layout,
    )  # fmt: skip
    return figure
