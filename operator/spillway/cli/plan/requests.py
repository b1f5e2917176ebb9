"""``spillway plan agents``, ``rag`` and ``levers``: what kinds of requests cost, and what helps."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spillway.api.inferencepool import Latency
from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.cli.plan import options as o
from spillway.cli.plan.output import (
    Columns,
    number,
    percent,
    plannable,
    show,
    usd,
    write_plots,
)
from spillway.cli.plan.request import known_shape, offers
from spillway.core.tco.agents import Chain, Rag, own_usd, prefill_work
from spillway.core.tco.costs import ApiTerms
from spillway.core.tco.levers import NO_LEVERS, Levers, request_usd, savings
from spillway.core.tco.load import require
from spillway.core.tokenmix import TokenMix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.core.tco.agents import PrefillWork
    from spillway.core.tco.levers import Saving

#: Prompts whose prefill work is shown; 1,024 against 4,096 is the sources' example.
_CONTEXTS = (1024, 4096, 16_384, 32_768, 131_072)


def agents(
    calls: Annotated[int, typer.Option(help="Model calls of a task.")],
    api_input: o.ApiInput,
    api_output: o.ApiOutput,
    base_tokens: Annotated[
        float, typer.Option(help="System prompt, tools and the task itself.")
    ] = 3000,
    output_tokens: o.OutputTokens = 300,
    tool_tokens: Annotated[float, typer.Option(help="What a tool returns after a call.")] = 700,
    hit_share: Annotated[
        float, typer.Option(help="Share of what a prefix cache could answer that it does.")
    ] = 1.0,
    model: o.AttentionModel = o.ATTENTION_MODEL,
    gpu: Annotated[
        str | None,
        typer.Option(help="GPU=US dollars an hour, such as h100=3.5: own replicas of one GPU too."),
    ] = None,
    api_cached: o.ApiCached = None,
    as_json: o.AsJson = False,
    plot: o.PlotFile = None,
) -> None:
    """What an agent's task costs that sends its context again with every call."""
    with plannable():
        chain = Chain(calls, base_tokens, output_tokens, tool_tokens, hit_share)
        api = ApiTerms(api_input, api_output, api_cached)
    pair = known_shape(model).tokens_per_pair
    work = {tokens: prefill_work(tokens, pair) for tokens in _CONTEXTS}
    plain, cached = (chain.usd(api, cached=each) for each in (False, True))
    one = Chain(1, base_tokens, output_tokens, 0.0).usd(api, cached=False)
    figures: dict[str, Any] = {
        "calls": calls,
        "prompt_tokens": chain.prompt_tokens,
        "new_tokens": chain.new_tokens,
        "cached_tokens": chain.cached_tokens,
        "last_prompt_tokens": base_tokens + (output_tokens + tool_tokens) * (calls - 1),
        "usd_one_call": one,
        "usd_per_task": plain,
        "usd_per_task_cached": cached,
        "prefill_attention_share": {n: round(w.attention_share, 4) for n, w in work.items()},
    }
    rows = [
        ("one call", number(base_tokens), "", usd(one), ""),
        ("the task", number(chain.prompt_tokens), "", usd(plain), f"{plain / one:.0f} x"),
        (
            "the task, prefix cached",
            number(chain.prompt_tokens),
            number(chain.cached_tokens),
            usd(cached),
            f"{cached / one:.0f} x",
        ),
    ]
    note = f"{calls} calls; each sends all before it again. " + (
        "The API has no cached price (--api-cached)." if api_cached is None else ""
    )
    heads = ("", "prompt tokens", "of these cached", "$", "against one call")
    if gpu is not None:
        with plannable():
            own = _own(chain, model, gpu)
        figures["own"] = {"gpu": gpu, "usd_per_task": own[0], "usd_per_task_cached": own[1]}
        rows += _own_rows(chain, gpu, own)
        note = f"{note.strip()} Own GPUs: by the built-in table, full, ttft 2 s, tpot 60 ms."
    tables = [Columns("An agent's task", heads, rows, note.strip()), _work_table(work, model)]
    show(figures, tables, as_json=as_json)
    write_plots(plot, "An agent's task", note, lambda: _agent_plots(chain, api))


def _own(chain: Chain, model: str, gpu: str) -> tuple[float | None, float | None]:
    """What the task costs on own replicas, without and with their prefix cache."""
    (offer,) = offers([gpu])
    plain, cached = (
        own_usd(chain, known_shape(model), offer, Latency(), cached=each) for each in (False, True)
    )
    return plain, cached


def _own_rows(
    chain: Chain, gpu: str, own: tuple[float | None, float | None]
) -> list[tuple[str, str, str, str, str]]:
    rows = ((f"on own {gpu}", ""), (f"on own {gpu}, prefix cached", number(chain.cached_tokens)))
    return [
        (
            name,
            number(chain.prompt_tokens),
            held,
            "not in time" if cost is None else usd(cost),
            "",
        )
        for (name, held), cost in zip(rows, own, strict=True)
    ]


def rag(
    api_input: o.ApiInput,
    api_output: o.ApiOutput,
    input_tokens: o.InputTokens = 5000,
    output_tokens: o.OutputTokens = 100,
    shared_tokens: Annotated[
        float, typer.Option(help="Of the prompt, what all requests share (cacheable).")
    ] = 0,
    semantic_hits: Annotated[
        float, typer.Option(help="Share of the requests that a semantic cache answers.")
    ] = 0.2,
    lookup_usd: Annotated[float, typer.Option(help="Price of a look-up in it.")] = 0.0,
    requests_per_day: Annotated[float, typer.Option(help="Requests a day.")] = 100_000,
    api_cached: o.ApiCached = None,
    as_json: o.AsJson = False,
    plot: o.PlotFile = None,
) -> None:
    """What retrieval-augmented answers cost: long prompts, short answers."""
    with plannable():
        api = ApiTerms(api_input, api_output, api_cached)
        asked = Rag(input_tokens, output_tokens, shared_tokens, semantic_hits, lookup_usd)
        bare = Rag(input_tokens, output_tokens)
        prefix = Rag(input_tokens, output_tokens, shared_tokens)
    ways = (
        ("every request computed", bare.usd(api)),
        ("shared prefix cached", prefix.usd(api)),
        (f"and {percent(semantic_hits)} from a semantic cache", asked.usd(api)),
    )
    figures = {
        "prompt_share_of_price": round(bare.prompt_share(api), 4),
        "usd_per_request": dict(ways),
        "usd_per_day": {name: round(each * requests_per_day, 2) for name, each in ways},
    }
    rows = [
        (name, usd(each * 1000), usd(each * requests_per_day), percent(1 - each / ways[0][1]))
        for name, each in ways
    ]
    note = f"the prompt is {percent(bare.prompt_share(api))} of what a request costs"
    heads = ("", "$ a thousand", "$ a day", "saved")
    show(figures, [Columns("Retrieval-augmented answers", heads, rows, note)], as_json=as_json)
    daily = [each * requests_per_day for _, each in ways]
    saved = [
        (name, before - after)
        for (name, _), (before, after) in zip(ways[1:], pairwise(daily), strict=True)
    ]
    write_plots(plot, "Retrieval-augmented answers", note, lambda: _rag_plots(daily[0], saved))


def levers(
    input_tokens: o.InputTokens,
    output_tokens: o.OutputTokens,
    api_input: o.ApiInput,
    api_output: o.ApiOutput,
    monthly_usd: Annotated[
        float | None, typer.Option(help="Today's bill; sets the number of requests.")
    ] = None,
    requests_per_month: Annotated[float | None, typer.Option(help="Or that number.")] = None,
    semantic_hits: Annotated[
        float, typer.Option(help="Share of the requests that a semantic cache answers.")
    ] = 0.2,
    lookup_usd: Annotated[float, typer.Option(help="Price of a look-up in it.")] = 0.0,
    routed: Annotated[
        float, typer.Option(help="Share of the requests that a cheap model can answer.")
    ] = 0.5,
    cheap_price: Annotated[
        float, typer.Option(help="The cheap model's price over this one's.")
    ] = 0.1,
    system_tokens_saved: Annotated[
        float, typer.Option(help="Prompt tokens that a shorter system prompt has less.")
    ] = 0.0,
    compressed: Annotated[
        float, typer.Option(help="Share by which compression shrinks the prompt.")
    ] = 0.3,
    prefix_hits: Annotated[
        float, typer.Option(help="Share of the prompt that the API's prefix cache answers.")
    ] = 0.0,
    cached_price: Annotated[
        float, typer.Option(help="Its price over that of other prompt tokens.")
    ] = 0.1,
    as_json: o.AsJson = False,
    plot: o.PlotFile = None,
) -> None:
    """What each request-level lever saves of an API bill, alone and after the ones before it.

    The defaults are middles of what is reported for each; yours are what counts.
    """
    with plannable():
        api, mix = ApiTerms(api_input, api_output), TokenMix(input_tokens, output_tokens)
        pulled = Levers(
            semantic_hits,
            lookup_usd,
            routed,
            cheap_price,
            system_tokens_saved,
            compressed,
            prefix_hits,
            cached_price,
        )
        each = request_usd(api, mix, NO_LEVERS)
        count = _count(monthly_usd, requests_per_month, each)
        found = savings(api, mix, count, pulled)
    whole = count * each
    figures = {
        "usd_per_request": each,
        "requests_per_month": round(count, 1),
        "monthly_usd": round(whole, 2),
        "levers": [_saving(saving) for saving in found],
        "left_monthly_usd": round(found[-1].left, 2),
        "savings_fraction": round(1 - found[-1].left / whole, 4),
    }
    note = (
        f"{number(count)} requests a month at {usd(each)}: {number(input_tokens)} * "
        f"${api_input:g}/M + {number(output_tokens)} * ${api_output:g}/M"
    )
    show(figures, [_lever_table(whole, found, note)], as_json=as_json)
    write_plots(plot, "Request-level levers", note, lambda: _lever_plots(whole, found))


def _saving(saving: Saving) -> dict[str, Any]:
    return {
        "lever": saving.lever,
        "alone_usd": round(saving.alone, 2),
        "after_usd": round(saving.after, 2),
        "left_usd": round(saving.left, 2),
    }


def _lever_table(whole: float, found: Sequence[Saving], note: str) -> Columns:
    rows = [("today", "", "", usd(whole), "")]
    rows += [
        (s.lever, usd(s.alone), usd(s.after), usd(s.left), percent(1 - s.left / whole))
        for s in found
    ]
    heads = ("lever", "saves alone", "saves after those above", "left a month", "saved")
    return Columns("Request-level levers", heads, rows, note)


def _count(monthly_usd: float | None, requests: float | None, usd_each: float) -> float:
    """Requests a month, from today's bill or as given."""
    if (monthly_usd is None) is (requests is None):
        fail("name --monthly-usd or --requests-per-month, one of the two", ExitCode.USAGE)
    if requests is not None:
        return requests
    require("the price of a request", usd_each, above=0)
    return (monthly_usd or 0.0) / usd_each


def _work_table(work: dict[int, PrefillWork], model: str) -> Columns:
    least = next(iter(work.values()))
    rows = [
        (
            f"{tokens:,}",
            f"{(w.linear + w.attention) / (least.linear + least.attention):.1f} x",
            f"{w.attention / least.attention:.0f} x",
            percent(w.attention_share),
        )
        for tokens, w in work.items()
    ]
    heads = ("prompt tokens", "prefill work", "attention part", "its share")
    note = "attention grows with the square of the prompt, the rest in proportion"
    return Columns(f"Computing a prompt ({model})", heads, rows, note)


def _agent_plots(chain: Chain, api: ApiTerms) -> list[Any]:
    from spillway.cli.plan import plots

    return [plots.chain(chain, api)]


def _rag_plots(whole: float, saved: Sequence[tuple[str, float]]) -> list[Any]:
    from spillway.cli.plan import plots

    return [plots.waterfall(whole, saved, "US dollars a day")]


def _lever_plots(whole: float, found: Sequence[Saving]) -> list[Any]:
    from spillway.cli.plan import plots

    return [plots.waterfall(whole, [(s.lever, s.after) for s in found])]
