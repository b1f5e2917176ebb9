"""``spillway plan autoscaling``: fixed against autoscaled, by the classic formula."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from spillway.cli.plan.options import AsJson, PlotFile, ReplicaHour, RpsPerReplica  # noqa: TC001 - as there
from spillway.cli.plan.output import (
    Columns,
    number,
    percent,
    plannable,
    show,
    write_plots,
)
from spillway.core.tco.autoscaling import HEADROOM, classic
from spillway.core.tco.costs import HOURS_PER_MONTH

if TYPE_CHECKING:
    from spillway.core.tco.autoscaling import Autoscaling


def autoscaling(
    peak_rps: Annotated[float, typer.Option(help="Requests a second at the peak.")],
    mean_rps: Annotated[float, typer.Option(help="Requests a second on the mean.")],
    rps_per_replica: RpsPerReplica,
    replica_hour: ReplicaHour,
    headroom: Annotated[float, typer.Option(help="Capacity held over what is needed.")] = HEADROOM,
    as_json: AsJson = False,
    plot: PlotFile = None,
) -> None:
    """Fixed capacity for the peak against autoscaled capacity, by a formula of means.

    It knows neither how the load moves nor how long a replica takes to start; spillway simulate
    does, on a trace.
    """
    with plannable():
        found = classic(peak_rps, mean_rps, rps_per_replica, replica_hour, headroom=headroom)
    figures = {
        "fixed_replicas": found.fixed_replicas,
        "autoscaled_replicas": round(found.autoscaled_replicas, 4),
        "fixed_monthly": round(found.fixed_monthly, 2),
        "autoscaled_monthly": round(found.autoscaled_monthly, 2),
        "savings_fraction": round(found.savings_fraction, 4),
    }
    rows = [
        ("fixed, for the peak", str(found.fixed_replicas), f"${found.fixed_monthly:,.2f}", ""),
        (
            "autoscaled",
            number(found.autoscaled_replicas),
            f"${found.autoscaled_monthly:,.2f}",
            percent(found.savings_fraction),
        ),
    ]
    note = (
        f"fixed: ceil({headroom:g} * {peak_rps:g} / {rps_per_replica:g}); autoscaled: "
        f"{headroom:g} * {mean_rps:g} / {rps_per_replica:g} + 1; a month has {HOURS_PER_MONTH:g} h"
    )
    heads = ("", "replicas", "$ a month", "saved")
    show(figures, [Columns("Fixed against autoscaled", heads, rows, note)], as_json=as_json)
    write_plots(plot, "Fixed against autoscaled", note, lambda: _plots(found))


def _plots(found: Autoscaling) -> list[Any]:
    from spillway.cli.plan import plots

    return [plots.two_bars("fixed", found.fixed_monthly, "autoscaled", found.autoscaled_monthly)]
