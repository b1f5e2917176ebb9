"""``spillway plan rightsizing``: which GPUs and which precision hold a model, at what price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from spillway.api.inferencepool import Latency
from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.cli.plan import options as o  # noqa: TC001 - typer reads the annotations
from spillway.cli.plan.output import Columns, number, percent, plannable, show, write_plots
from spillway.cli.plan.request import known_shape, mean_request, named, offers, spread
from spillway.core.profiles import ModelShape
from spillway.core.tco.load import require
from spillway.core.tco.rightsizing import PRECISIONS, Work, best_of_each, options

if TYPE_CHECKING:
    from spillway.core.tco.rightsizing import Option


def rightsizing(
    model: Annotated[
        str, typer.Option(help="Model by name and size, such as llama-3.1-8b; or see --shape.")
    ],
    gpu: Annotated[
        list[str], typer.Option(help="GPU=US dollars an hour, such as h100=3.5; once for each.")
    ],
    output_tokens: o.OutputTokens,
    input_tokens: o.InputTokens = 0.0,
    contexts: o.Contexts = None,
    longest: Annotated[
        float | None,
        typer.Option(help="Longest context that must fit; unset: the longest of --contexts."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Shape of a model that is not known: PARAMETERS_B,LAYERS,HEADS x HEAD_DIM,"
            "KV_HEADS x HEAD_DIM, such as 8.03,32,4096,1024."
        ),
    ] = None,
    ttft: Annotated[float, typer.Option(help="Target, seconds to the first token.")] = 2.0,
    tpot: Annotated[float, typer.Option(help="Target, seconds per output token.")] = 0.06,
    attainment: Annotated[float, typer.Option(help="Share of requests that meet both.")] = 0.95,
    quality: Annotated[
        list[str] | None,
        typer.Option(help="Declared quality, such as fp8=0.99; once for each precision."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every number of GPUs, not the best alone.")
    ] = False,
    as_json: o.AsJson = False,
    plot: o.PlotFile = None,
) -> None:
    """Which GPUs and precisions hold a model and its contexts, and what a token costs on each."""
    with plannable():
        mix = mean_request(input_tokens, output_tokens, contexts=contexts)
        most = mix.prompt_tokens if contexts is None else max(t for t, _ in spread(contexts))
        most = longest or most + output_tokens
        require("the longest context", most, least=mix.prompt_tokens)
        require("ttft", ttft, above=0)
        require("tpot", tpot, above=0)
        require("attainment", attainment, above=0, below=1)
    work = Work(
        _shape(model, shape), mix, Latency(ttft=ttft, tpot=tpot, attainment=attainment), most
    )
    found = options(work, offers(gpu), _quality(quality or []))
    shown = found if every else best_of_each(found)
    note = (
        f"{number(mix.prompt_tokens)} prompt and {number(mix.output_tokens)} output tokens, the "
        f"longest {number(most)}; {attainment:.0%} within ttft {ttft:g} s and tpot "
        f"{tpot * 1000:g} ms. From the built-in table, not measured: trust the order of the rows "
        "more than the figures"
    )
    title = f"{work.shape.billions:g}B parameters, $ a million tokens (prompt and output)"
    show(
        {"options": [_figures(option) for option in shown]},
        [_table(shown, title, note)],
        as_json=as_json,
    )
    write_plots(plot, "Right-sizing", note, lambda: _plots(best_of_each(found)))


def _shape(model: str, given: str | None) -> ModelShape:
    if given is None:
        return known_shape(model)
    try:
        billions, layers, width, kv_width = (float(part) for part in given.split(","))
    except ValueError:
        fail(
            f"--shape: must be four numbers such as 8.03,32,4096,1024, got {given}", ExitCode.USAGE
        )
    if min(billions, layers, width, kv_width) <= 0:
        fail(f"--shape: must be numbers above 0, got {given}", ExitCode.USAGE)
    return ModelShape(model.lower(), billions, int(layers), int(width), int(kv_width))


def _quality(given: list[str]) -> dict[str, float]:
    known = {precision.name for precision in PRECISIONS}
    declared = dict(named(given, "--quality", "fp8=0.99"))
    for name, share in declared.items():
        if name not in known:
            fail(f"--quality: must be of {', '.join(sorted(known))}, got {name}", ExitCode.USAGE)
        if not 0 < share <= 1:
            fail(f"--quality {name}: must be above 0 and at most 1, got {share:g}", ExitCode.USAGE)
    return declared


def _figures(option: Option) -> dict[str, Any]:
    return {
        "gpu": option.gpu,
        "gpus": option.gpus,
        "precision": option.precision,
        "weight_gigabytes": round(option.weight_gigabytes, 1),
        "kv_tokens": max(0, round(option.kv_tokens)),
        "usd_per_hour": option.usd_per_hour,
        "requests_per_second": float(f"{option.requests_per_second:.4g}"),
        "concurrency": float(f"{option.concurrency:.4g}"),
        "usd_per_million_tokens": (
            None if option.usd_per_million is None else float(f"{option.usd_per_million:.4g}")
        ),
        "quality": option.quality,
        "obstacle": option.obstacle,
    }


def _table(shown: tuple[Option, ...], title: str, note: str) -> Columns:
    rows = [
        (
            f"{option.gpus} x {option.gpu}",
            option.precision,
            f"{option.weight_gigabytes:.0f}",
            f"{max(0.0, option.kv_tokens):,.0f}",
            option.obstacle or number(option.requests_per_second),
            f"{option.usd_per_hour:.2f}",
            "" if option.usd_per_million is None else f"{option.usd_per_million:.3f}",
            "not declared" if option.quality is None else percent(option.quality),
        )
        for option in shown
    ]
    heads = ("GPUs", "bits", "GB", "KV tokens", "req/s", "$ an hour", "$/M", "quality")
    return Columns(title, heads, rows, note)


def _plots(best: tuple[Option, ...]) -> list[Any]:
    from spillway.cli.plan import plots

    return [plots.token_prices(best)]
