"""``spillway simulate``: what Spillway, its rivals and the optimum would cost on a load."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import typer

from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.cli.extras import require
from spillway.cli.replay_options import (  # noqa: TC001 - typer reads the annotations
    ApiPrice,
    AsJson,
    Compare,
    GpuPrice,
    Jobs,
    KeepGaps,
    Lead,
    Mix,
    Optimum,
    Pool,
    Profile,
)

if TYPE_CHECKING:
    from spillway.sim.trace import Trace

#: Mean load of a made-up trace in replicas: the smallest pool of the benchmark tables.
_MADE_UP_REPLICAS: Final = 10.0
#: Of a manifest's `max`: made-up load peaks at about three times its mean.
_SHARE_OF_MAX: Final = 1 / 3
#: Other worlds of the report: leads in seconds, factors on the API's prices.
_LEADS: Final = (60.0, 420.0)
_API_PRICE_FACTORS: Final = (0.5, 2.0)


def simulate(
    trace: Annotated[
        Path | None,
        typer.Argument(
            help="A trace (Azure, BurstGPT, Mooncake, ServeGen, a Prometheus range export; .gz "
            "or not); none: made-up load."
        ),
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(help="Made-up load: day, diurnal, bursty, agentic, launch or outage."),
    ] = "day",
    days: Annotated[float | None, typer.Option(help="Length of made-up load.")] = None,
    mix: Mix = None,
    lengths: Annotated[
        Path | None, typer.Option(help="A trace of single requests to take lengths from.")
    ] = None,
    keep_gaps: KeepGaps = False,
    replicas: Annotated[
        float | None,
        typer.Option(help="Scale the load so that its mean needs so many replicas."),
    ] = None,
    pool: Pool = None,
    profile: Profile = None,
    gpu_price: GpuPrice = None,
    api_price: ApiPrice = None,
    lead: Lead = None,
    ttft: Annotated[str | None, typer.Option(help="Time to first token. (default: 2s)")] = None,
    tpot: Annotated[str | None, typer.Option(help="Time per token. (default: 60ms)")] = None,
    attainment: Annotated[
        float | None, typer.Option(help="Share of requests within both. (default: 0.95)")
    ] = None,
    floor: Annotated[int | None, typer.Option(help="Fewest replicas. (default: 1)")] = None,
    most: Annotated[
        int | None, typer.Option("--max", help="Most replicas. (default: 1000)")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
    compare: Compare = None,
    optimum: Optimum = True,
    report: Annotated[
        Path | None,
        typer.Option(help="Write an HTML report, with other leads, prices and tunings (minutes)."),
    ] = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Replay a load through Spillway's own core, rivals and the optimum, and compare the bills.

    Without arguments: a made-up day of chat, about ten replicas of load.
    """
    require("simulate", "numpy", *(("plotly",) if report is not None else ()))
    from spillway.cli import studying, worlds
    from spillway.sim import study

    studying.require_folder(report)
    world = worlds.world(
        worlds.WorldOptions(
            pool, profile, gpu_price, api_price, lead, ttft, tpot, attainment, floor, most, seed
        )
    )
    if replicas is None and trace is None:
        replicas = min(_MADE_UP_REPLICAS, max(1.0, _SHARE_OF_MAX * world.conditions.max))
    try:
        load = _load(trace, scenario, days, mix, lengths, keep_gaps=keep_gaps, seed=seed)
        if replicas is not None:
            load = study.scaled_to(load, world.conditions, replicas)
        plan = study.plan(
            world.conditions,
            rivals_of(compare),
            with_optimum=optimum,
            leads=_LEADS if report is not None else (),
            api_price_factors=_API_PRICE_FACTORS if report is not None else (),
            frontier=report is not None,
            burst=world.burst,
            pool=world.fields,
        )
        study.check(load, plan)
    except ValueError as error:
        fail(str(error), ExitCode.USAGE)
    processes = jobs or studying.cores()
    found = studying.study(load, world.conditions, plan, processes=processes, quiet=as_json)
    title = f"Spillway on the load {load.name}"
    studying.deliver(found, title, world.remarks, report=report, as_json=as_json)


def _load(
    path: Path | None,
    scenario: str,
    days: float | None,
    mix: str | None,
    lengths: Path | None,
    *,
    keep_gaps: bool,
    seed: int,
) -> Trace:
    """The load that was asked for.

    Raises:
        ValueError: It can't be had; the message says why.
    """
    from spillway.sim import traces

    if mix is not None and lengths is not None:
        msg = "give --mix or --lengths, not both"
        raise ValueError(msg)
    if path is not None and days is not None:
        msg = "--days is for made-up load; a trace has its own length"
        raise ValueError(msg)
    rows = None if mix is None else traces.named(mix, seed=seed)
    if lengths is not None:
        rows = traces.load(lengths).lengths
    if path is None:
        return traces.generate(traces.scenario_named(scenario), seed=seed, days=days, lengths=rows)
    gaps = traces.Gaps.KEEP if keep_gaps else traces.Gaps.INTERPOLATE
    return traces.load(path, lengths=rows, gaps=gaps)


def rivals_of(text: str | None) -> tuple[str, ...]:
    """Rivals of ``--compare``.

    Raises:
        ValueError: One of them is not known; the message lists those that are.
    """
    from spillway.sim import study

    if text is None:
        return study.DEFAULT_RIVALS
    if text.strip() == "none":
        return ()
    return study.rivals_named(name.strip() for name in text.split(",") if name.strip())
