"""``spillway plan``: what serving a load costs, before a cluster is there. One module a topic."""

from __future__ import annotations

import typer

from spillway.cli.manual import epilog
from spillway.cli.plan import autoscaling, cost, prices, requests, rightsizing

app = typer.Typer(
    name="plan",
    help="What serving a load costs: API, own GPUs, and what lies between.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _command in (
    cost.tco,
    cost.crossover,
    rightsizing.rightsizing,
    autoscaling.autoscaling,
    requests.agents,
    requests.rag,
    requests.levers,
    prices.prices,
):
    app.command(_command.__name__, epilog=epilog(f"plan {_command.__name__}"))(_command)
