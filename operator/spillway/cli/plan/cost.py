"""``spillway plan tco`` and ``crossover``: the bill of each way to serve a load."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.cli.plan import options as o
from spillway.cli.plan.output import (
    Columns,
    needing_extra,
    number,
    percent,
    plannable,
    show,
    usd,
    write_plots,
)
from spillway.cli.plan.request import known_shape, mean_request, spread
from spillway.core.retries import attempts_per_request
from spillway.core.tco import crossover as volumes
from spillway.core.tco.agents import prefill_work
from spillway.core.tco.costs import PLANNED_UTILIZATION, ApiTerms, OwnTerms
from spillway.core.tco.load import (
    ASSUMED_P95_OVER_P50,
    Load,
    from_p95,
    from_rates,
    require,
    with_retries,
)
from spillway.core.tco.sizing import compare
from spillway.core.tokenmix import TokenMix

if TYPE_CHECKING:
    from pathlib import Path

    from spillway.core.tco.costs import Bill

#: A replica is held for minutes at least, so that is what a rate is averaged over.
_TRACE_STEP_SECONDS = 300.0


def tco(
    api_input: o.ApiInput,
    api_output: o.ApiOutput,
    replica_hour: o.ReplicaHour,
    rps_per_replica: o.RpsPerReplica,
    input_tokens: o.InputTokens = 0.0,
    output_tokens: o.OutputTokens = 0.0,
    cached_share: o.CachedShare = 0.0,
    contexts: o.Contexts = None,
    p95_rps: o.P95Rps = None,
    p95_over_p50: o.P95OverP50 = ASSUMED_P95_OVER_P50,
    retry_rate: o.RetryRate = 0.0,
    retries: o.Retries = 3,
    model: o.AttentionModel = o.ATTENTION_MODEL,
    trace: o.TraceFile = None,
    api_cached: o.ApiCached = None,
    billed_errors: o.BilledErrors = 0.0,
    extra_seconds: o.ExtraSeconds = 0.0,
    usd_per_second: o.UsdPerSecond = 0.0,
    spare_replicas: o.SpareReplicas = 0,
    storage_month: o.StorageMonth = 0.0,
    network_month: o.NetworkMonth = 0.0,
    labour_month: o.LabourMonth = 0.0,
    as_json: o.AsJson = False,
    plot: o.PlotFile = None,
) -> None:
    """A month's bill of the API, of own GPUs, and of both: from four numbers, or from a trace.

    The four: tokens a request (--input-tokens or --contexts, --output-tokens), --p95-rps,
    --retry-rate, and how context lengths are spread (--contexts).
    """
    with plannable():
        if (p95_rps is None) is (trace is None):
            fail("name the load: --p95-rps, or a recorded one with --trace", ExitCode.USAGE)
        if trace is not None:
            load, source = _recorded(trace, cached_share)
        else:
            mix = mean_request(input_tokens, output_tokens, cached_share, contexts)
            load, source = _measured(p95_rps or 0.0, p95_over_p50, mix)
        load = with_retries(load, retry_rate, retries)
        api = ApiTerms(
            api_input,
            api_output,
            api_cached,
            error_share=retry_rate,
            billed_error_share=billed_errors,
            extra_seconds=extra_seconds,
            usd_per_second=usd_per_second,
        )
        monthly = storage_month, network_month, labour_month
        own = OwnTerms(replica_hour, rps_per_replica, spare_replicas, *monthly)
        bills = compare(load, own, api)
        at = volumes.crossover(own, api, load.mix)
    attempts = attempts_per_request(retry_rate, [retries])
    figures = {
        "load": {"source": source, **_load_figures(load, attempts)},
        "api_usd_per_request": api.usd_per_request(load.mix),
        "bills": [_bill(bill) for bill in bills],
        "crossover_rps": _crossover(at),
    }
    note = f"{_load_note(load, attempts, api)}. {source}"
    tables = [_bill_table(bills, note), _crossover_table(at, own, api, load.mix)]
    if contexts is not None and trace is None:
        figures["contexts"], table = _context_answer(contexts, model)
        tables.append(table)
    show(figures, tables, as_json=as_json)
    write_plots(plot, "Ways to serve a load", note, lambda: _tco_plots(bills, load, own, api))


def crossover(
    api_input: o.ApiInput,
    api_output: o.ApiOutput,
    replica_hour: o.ReplicaHour,
    rps_per_replica: o.RpsPerReplica,
    input_tokens: o.InputTokens,
    output_tokens: o.OutputTokens,
    cached_share: o.CachedShare = 0.0,
    utilization: Annotated[
        float, typer.Option(help="How full own replicas are planned.")
    ] = PLANNED_UTILIZATION,
    api_cached: o.ApiCached = None,
    extra_seconds: o.ExtraSeconds = 0.0,
    usd_per_second: o.UsdPerSecond = 0.0,
    spare_replicas: o.SpareReplicas = 0,
    storage_month: o.StorageMonth = 0.0,
    network_month: o.NetworkMonth = 0.0,
    labour_month: o.LabourMonth = 0.0,
    as_json: o.AsJson = False,
    plot: o.PlotFile = None,
) -> None:
    """From which steady volume on own GPUs are cheaper, and how prices move it."""
    with plannable():
        require("utilization", utilization, above=0, most=1)
        mix = mean_request(input_tokens, output_tokens, cached_share, None)
        api = ApiTerms(
            api_input,
            api_output,
            api_cached,
            extra_seconds=extra_seconds,
            usd_per_second=usd_per_second,
        )
        monthly = storage_month, network_month, labour_month
        own = OwnTerms(replica_hour, rps_per_replica, spare_replicas, *monthly)
        at = volumes.crossover(own, api, mix, utilization)
        grid = volumes.sensitivity(own, api, mix, utilization=utilization)
    figures = {
        "crossover_rps": _crossover(at),
        "sensitivity": {
            "gpu_price_factors": list(volumes.FACTORS),
            "api_price_factors": list(volumes.FACTORS),
            "first_crossover_rps": [[_round(v) for v in row] for row in grid],
        },
    }
    rows = [
        (f"GPU price x {gpu:g}", *(_volume(v) for v in row))
        for gpu, row in zip(volumes.FACTORS, grid, strict=True)
    ]
    heads = ("first crossover, requests/s", *(f"API x {f:g}" for f in volumes.FACTORS))
    tables = [
        _crossover_table(at, own, api, mix),
        Columns("What prices do to it", heads, rows),
    ]
    show(figures, tables, as_json=as_json)
    subtitle = f"{number(mix.prompt_tokens)} prompt and {number(mix.output_tokens)} output tokens"
    write_plots(
        plot, "Crossover volume", subtitle, lambda: _crossover_plots(own, api, mix, utilization)
    )


def _measured(p95_rps: float, p95_over_p50: float, mix: TokenMix) -> tuple[Load, str]:
    """The load of the four numbers, and what of it is assumed."""
    load = from_p95(p95_rps, mix, p95_over_p50=p95_over_p50)
    return load, f"lognormal, p95 {p95_over_p50:g} times p50"


def _recorded(path: Path, cached_share: float) -> tuple[Load, str]:
    """The load of a trace, and where that is from and what of it is made up."""
    with needing_extra("--trace"):
        from spillway.sim.traces import TraceError
        from spillway.sim.traces import load as read
    try:
        trace = read(path)
    except TraceError as error:
        fail(str(error), ExitCode.USAGE)
    require("the cached share of the prompt", cached_share, least=0, most=1)
    prompt, output = (
        float(tokens.mean())
        for tokens in (trace.lengths.prompt_tokens, trace.lengths.output_tokens)
    )
    mix = TokenMix(prompt, output, cached_share * prompt)
    rates = trace.rates(min(_TRACE_STEP_SECONDS, trace.seconds))
    return from_rates([float(rate) for rate in rates], mix), trace.source


@dataclass(frozen=True, slots=True)
class _ContextShare:
    """What prompts of a length are of all: requests, prompt tokens, and work to compute them."""

    tokens: float
    requests: float
    prompt_tokens: float
    prefill_work: float


def _context_shares(contexts: str, model: str) -> list[_ContextShare]:
    shape = known_shape(model)
    found = spread(contexts)
    work = [prefill_work(tokens, shape.tokens_per_pair) for tokens, _ in found]
    all_tokens = sum(tokens * share for tokens, share in found)
    all_work = sum((w.linear + w.attention) * s for w, (_, s) in zip(work, found, strict=True))
    return [
        _ContextShare(
            tokens,
            share,
            tokens * share / all_tokens,
            (w.linear + w.attention) * share / all_work,
        )
        for w, (tokens, share) in zip(work, found, strict=True)
    ]


def _context_answer(contexts: str, model: str) -> tuple[list[dict[str, float]], Columns]:
    lengths = _context_shares(contexts, model)
    return [asdict(length) for length in lengths], _context_table(lengths, model)


def _context_table(lengths: list[_ContextShare], model: str) -> Columns:
    rows = [
        (
            f"{length.tokens:,.0f}",
            percent(length.requests),
            percent(length.prompt_tokens),
            percent(length.prefill_work),
        )
        for length in lengths
    ]
    heads = ("prompt tokens", "of the requests", "of the tokens", "of the prefill work")
    note = "the API bills tokens; own GPUs also pay for attention, which grows with the square"
    return Columns(f"Context lengths ({model})", heads, rows, note)


def _bill(bill: Bill) -> dict[str, Any]:
    return {
        "way": bill.name,
        "replicas": _round(bill.replicas),
        "gpu_monthly": round(bill.gpu, 2),
        "api_monthly": round(bill.api, 2),
        "fixed_monthly": round(bill.fixed, 2),
        "total_monthly": round(bill.total, 2),
        "burst_share": round(bill.burst_share, 4),
    }


def _bill_table(bills: tuple[Bill, ...], note: str) -> Columns:
    cheapest = min(bill.total for bill in bills)
    rows = [
        (
            bill.name,
            number(bill.replicas),
            usd(bill.gpu),
            usd(bill.api),
            usd(bill.fixed),
            usd(bill.total),
            percent(bill.burst_share),
            f"{bill.total / cheapest:.2f}" if cheapest > 0 else "",
        )
        for bill in bills
    ]
    heads = ("way", "replicas", "GPUs", "API", "fixed", "total", "to the API", "x cheapest")
    return Columns("US dollars a month", heads, rows, note)


def _load_figures(load: Load, attempts: float) -> dict[str, float | None]:
    return {
        "mean_rps": _round(load.mean),
        "p50_rps": _round(load.quantile(0.5)),
        "p95_rps": _round(load.quantile(0.95)),
        "attempts_per_request": _round(attempts),
        "input_tokens": _round(load.mix.prompt_tokens),
        "output_tokens": _round(load.mix.output_tokens),
    }


def _load_note(load: Load, attempts: float, api: ApiTerms) -> str:
    text = (
        f"mean {number(load.mean)}, p50 {number(load.quantile(0.5))}, "
        f"p95 {number(load.quantile(0.95))} requests/s of {number(load.mix.prompt_tokens)} prompt "
        f"and {number(load.mix.output_tokens)} output tokens, "
        f"{usd(api.usd_per_request(load.mix) * 1000)} a thousand at the API"
    )
    return text if attempts == 1 else f"{text}; {attempts:.3g} attempts a request are in the rates"


def _crossover(at: volumes.Crossover) -> dict[str, float | None]:
    return {"first": _round(at.first), "always": _round(at.always)}


def _crossover_table(at: volumes.Crossover, own: OwnTerms, api: ApiTerms, mix: TokenMix) -> Columns:
    a = api.usd_per_attempt(mix) * own.rps_per_replica * 3600
    rows = [
        ("own GPUs are first not dearer at", _volume(at.first)),
        ("and never dearer from", _volume(at.always)),
    ]
    note = (
        f"a replica-hour costs {usd(own.usd_per_replica_hour)}; the API charges {usd(a)} for what "
        "a full one serves"
    )
    return Columns("Crossover", ("steady load", "requests/s"), rows, note)


def _volume(rps: float | None) -> str:
    return "never" if rps is None else number(rps)


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _tco_plots(bills: tuple[Bill, ...], load: Load, own: OwnTerms, api: ApiTerms) -> list[Any]:
    from spillway.cli.plan import plots

    return [
        plots.bills(bills),
        plots.fleet_sizes(load, own, api),
        *_crossover_plots(own, api, load.mix, PLANNED_UTILIZATION),
    ]


def _crossover_plots(own: OwnTerms, api: ApiTerms, mix: TokenMix, utilization: float) -> list[Any]:
    from spillway.cli.plan import plots

    return [
        plots.crossover(own, api, mix, utilization),
        plots.sensitivity(own, api, mix, utilization),
    ]
