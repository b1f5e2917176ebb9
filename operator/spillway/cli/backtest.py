"""``spillway backtest``: what Spillway would have cost on the load that Prometheus recorded."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spillway.api.quantities import parse_duration
from spillway.cli.errors import describe, describe_unreadable, fail
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
from spillway.cli.simulate import rivals_of

if TYPE_CHECKING:
    from spillway.adapters.metrics.recorded import Whose
    from spillway.cli.worlds import World
    from spillway.sim.traces.observed import Observed

_DAY_SECONDS: Final = 86_400.0
#: A week shows weekdays and a weekend.
_SINCE: Final = "7d"


def backtest(
    export: Annotated[
        Path | None,
        typer.Argument(
            help="A range export (JSON of the HTTP API, CSV, or what --save wrote); none: ask "
            "Prometheus."
        ),
    ] = None,
    prometheus_url: Annotated[
        str | None, typer.Option(help="Prometheus; unset: SPILLWAY_PROMETHEUS_URL.")
    ] = None,
    pool: Pool = None,
    model: Annotated[str | None, typer.Option(help="model_name of the engines.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Theirs.")] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(help="LABEL=VALUE that every series must have; may be repeated."),
    ] = None,
    since: Annotated[str, typer.Option(help="How far back, such as 12h or 30d.")] = _SINCE,
    step: Annotated[str, typer.Option(help="From sample to sample.")] = "1m",
    save: Annotated[
        Path | None, typer.Option(help="Write what Prometheus answered, to replay it later.")
    ] = None,
    mix: Mix = None,
    keep_gaps: KeepGaps = False,
    profile: Profile = None,
    gpu_price: GpuPrice = None,
    api_price: ApiPrice = None,
    lead: Lead = None,
    compare: Compare = None,
    optimum: Optimum = True,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report.")] = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Replay the recorded past of a pool through Spillway's core, rivals and the optimum.

    It says what it could not see. Nothing is changed anywhere.
    """
    require("backtest", "numpy", *(("plotly",) if report is not None else ()))
    from spillway.cli import studying, worlds
    from spillway.sim import study

    studying.require_folder(report)
    world = worlds.world(worlds.WorldOptions(pool, profile, gpu_price, api_price, lead))
    asked = None
    if export is None:
        export, answers, asked = _ask(
            prometheus_url, _whose(world, model, namespace, match), since=since, step=step
        )
        if save is not None:
            _save(save, answers)
    elif save is not None:
        fail("--save is for what Prometheus answers; the export is a file already", ExitCode.USAGE)
    else:
        answers = None
    try:
        seen = _observed(export, answers, mix, keep_gaps=keep_gaps, asked=asked)
        plan = study.plan(
            world.conditions,
            rivals_of(compare),
            with_optimum=optimum,
            burst=world.burst,
            pool=world.fields,
        )
        study.check(seen.trace, plan)
    except ValueError as error:
        fail(str(error), ExitCode.USAGE)
    processes = jobs or studying.cores()
    found = studying.study(seen.trace, world.conditions, plan, processes=processes, quiet=as_json)
    remarks = (*_recorded(world, seen), *seen.unseen, *world.remarks)
    studying.deliver(
        found, f"Backtest of {seen.trace.name}", remarks, report=report, as_json=as_json
    )


def _observed(
    path: Path,
    answers: dict[str, Any] | None,
    mix: str | None,
    *,
    keep_gaps: bool,
    asked: tuple[float, float] | None,
) -> Observed:
    """The load in the answers, or in the export where there are none.

    Raises:
        ValueError: They are not what they should be; the message names the place.
    """
    from spillway.sim.traces import Gaps
    from spillway.sim.traces.observed import observed
    from spillway.sim.traces.promexport import Signal, from_answers, read

    if answers is None:
        grid = read(path)
    else:
        grid = from_answers(path, {Signal(name): answer for name, answer in answers.items()})
    gaps = Gaps.KEEP if keep_gaps else Gaps.INTERPOLATE
    return observed(path, grid, mix=mix, gaps=gaps, asked=asked)


def _recorded(world: World, seen: Observed) -> list[str]:
    """What the replicas that ran cost."""
    if seen.replica_hours is None:
        return []
    price = world.conditions.gpu_usd_per_replica_hour
    usd = seen.replica_hours * price
    ran = f"What ran: {seen.replica_hours:,.1f} replica-hours, ${usd:,.2f} at ${price:g} each"
    return [f"{ran}; start-up before an engine answers is not in it."]


def _whose(
    world: World, model: str | None, namespace: str | None, match: list[str] | None
) -> Whose:
    from spillway.adapters.metrics.recorded import Whose

    pairs = [pair.partition("=") for pair in match or []]
    bad = [name + sign + value for name, sign, value in pairs if not (name and sign)]
    if bad:
        fail(f"--match must be LABEL=VALUE, got {bad[0]!r}", ExitCode.USAGE)
    identity = world.identity
    whose = Whose(
        model=model or (identity.model if identity else None),
        namespace=namespace or (identity.namespace if identity else None),
        pool=identity.name if identity else None,
        matchers={name: value for name, _, value in pairs},
    )
    if whose.model is None:
        fail("say which engines: --model, or --pool with a manifest", ExitCode.USAGE)
    return whose


def _ask(
    url: str | None, whose: Whose, *, since: str, step: str
) -> tuple[Path, dict[str, Any], tuple[float, float]]:
    """A name for the answers, they by signal, and the first and last moment asked for."""
    # Here, not above: a replay of a file asks nobody.
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from spillway.adapters.metrics.recorded import PrometheusRecord, RecordError, expressions
    from spillway.controller.settings import PREFIX, Settings

    span, width = _span("since", since), _span("step", step)
    if span < 2 * width:
        fail(f"--since {since} must span two steps of {step} at least", ExitCode.USAGE)
    now = time.time() // width * width
    try:
        flags: dict[str, Any] = {} if url is None else {"prometheus_url": url}
        settings = Settings(**flags)
        whose = replace(whose, matchers={**settings.prometheus_labels, **whose.matchers})
        record = PrometheusRecord(settings.prometheus_url, auth=settings.prometheus_auth())
        queries = expressions(whose, width)
    except ValidationError as error:
        fail(f"settings are not valid\n       {describe(error, PREFIX)}", ExitCode.USAGE)
    except SettingsError as error:
        text = describe_unreadable(error, PREFIX)
        fail(f"settings are not valid\n       {text}", ExitCode.USAGE)
    except ValueError as error:
        fail(str(error), ExitCode.USAGE)
    try:
        answers = {
            name: record.ask(promql, now - span, now, width) for name, promql in queries.items()
        }
    except RecordError as error:
        fail(str(error), ExitCode.UNREACHABLE)
    finally:
        record.close()
    name = whose.pool or str(whose.model).rpartition("/")[2]
    return Path(name), answers, (now - span, now)


def _span(name: str, text: str) -> float:
    days = re.fullmatch(r"(\d{1,4})d", text)
    if days is not None:
        return int(days[1]) * _DAY_SECONDS
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        fail(f"--{name} {error}", ExitCode.USAGE)
    if seconds < 1:
        fail(f"--{name} must be at least 1s, got {text!r}", ExitCode.USAGE)
    return seconds


def _save(path: Path, answers: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(answers), encoding="utf-8")
    except OSError as error:
        fail(f"{path}: {error.strerror}; name a file that can be written", ExitCode.USAGE)
