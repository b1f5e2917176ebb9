"""Dollars: what a replica costs, what the API charges for its work, and how many replicas pay.

*Marginal rule.* Replica n earns what the API would charge for the work it takes over, which is a
full replica's work only in so far as demand reaches that far: add it while

    a * E[clip(D/mu - (n-1), 0, 1)] > g

with D the forecast demand, mu what a replica serves, g its price an hour and a what the API charges
for mu requests per second for an hour. The quantile 1 - g/a treats a partly used last replica as a
full one; sizing for the median is the same with g/a = 1/2. Both are special cases, not used here.

Money arrives as Decimal from the spec and becomes a float rate in US dollars here, with its unit in
the name; nothing is booked with these.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from spillway.core.prices import declared_api, declared_gpu
from spillway.core.retries import attempts_per_request, billed_per_answer
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.api.inferencepool import Burst, Provider, Variant
    from spillway.core.forecast import Forecast
    from spillway.core.prices import Prices, TokenPrice
    from spillway.core.tokenmix import TokenMix

#: Upper bound of spec.replicas.max in the API: no pool can be larger.
MOST_REPLICAS: Final = 10_000
SECONDS_PER_HOUR: Final = 3600.0
_TOKENS_PER_MILLION: Final = 1e6
#: A load that is a whole number of replicas but for rounding needs no replica more.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Economics:
    """Prices and cost rates in US dollars; None where a price is not known.

    Attributes:
        gpu_per_replica_hour: g, of the cheapest variant per unit of capacity.
        api_per_replica_hour: a, what the API charges for what one replica serves in an hour.
        api_per_request: Price of a request of the present mix at the cheapest provider.
        provider: Its name.
        gpu_per_hour: GPUs held now.
        api_per_hour: Burst at the present rate; 0 where nothing leaves.
        all_gpu_per_hour: The forecast load on GPUs alone, sized for the attainment quantile.
        all_api_per_hour: The present load at the API alone.
    """

    gpu_per_replica_hour: float | None = None
    api_per_replica_hour: float | None = None
    api_per_request: float | None = None
    provider: str | None = None
    gpu_per_hour: float | None = None
    api_per_hour: float | None = None
    all_gpu_per_hour: float | None = None
    all_api_per_hour: float | None = None


def gpu_usd_per_replica_hour(variant: Variant, prices: Prices | None = None) -> float | None:
    """What one replica of the variant costs an hour; None where its price is not known.

    Args:
        variant: See the spec.
        prices: The prices to decide by; None takes what the spec declares.
    """
    price = declared_gpu(variant) if prices is None else prices.gpus.get(variant.name)
    if price is None:
        return None
    return price.usd_per_gpu_hour * variant.accelerator.per_replica


def usd_per_attempt(price: TokenPrice, mix: TokenMix, *, caches_prefix: bool = True) -> float:
    """What one attempt of the mix is billed at when it is answered.

    The share of the prompt that the local prefix cache answers is priced as cached only where the
    provider caches: it has a price for it, and is not said to see other prompts than we do.
    """
    cached = price.cached_input_per_million if caches_prefix else None
    if cached is None:
        cached = price.input_per_million
    return (
        mix.computed_tokens * price.input_per_million
        + mix.cached_tokens * cached
        + mix.output_tokens * price.output_per_million
    ) / _TOKENS_PER_MILLION


def api_usd_per_request(
    provider: Provider, mix: TokenMix, prices: Prices | None = None
) -> float | None:
    """What an answered request of the mix costs at the provider; None where no price is known.

    Failed attempts count at the share of them that the provider bills.

    Args:
        provider: See the spec.
        mix: Mix of the requests.
        prices: The prices to decide by; None takes what the spec declares.
    """
    price = declared_api(provider) if prices is None else prices.apis.get(provider.name)
    if price is None:
        return None
    billed = billed_per_answer(provider.error_share, provider.billed_error_share)
    return billed * usd_per_attempt(price, mix, caches_prefix=provider.caches_prefix)


def cheapest_provider(
    burst: Burst | None, mix: TokenMix, prices: Prices | None = None
) -> tuple[str, float] | None:
    """(name, US dollars a request) of the provider with the lowest effective price.

    None without burst, and where no provider's price is known.
    """
    priced = [
        (usd, provider.name)
        for provider in (burst.providers if burst is not None else ())
        if (usd := api_usd_per_request(provider, mix, prices)) is not None
    ]
    if not priced:
        return None
    usd, name = min(priced)
    return name, usd


def requests_per_minute_limit(provider: Provider, tokens_per_request: float | None) -> float:
    """Requests a minute that the provider's rate limits let through; inf where there are none.

    Attempts count against them, not requests.

    Args:
        provider: See the spec.
        tokens_per_request: Prompt and output tokens of the mean request; None leaves a limit in
            tokens unchecked.
    """
    requests, tokens = provider.limits.requests_per_minute, provider.limits.tokens_per_minute
    most = math.inf if requests is None else float(requests)
    if tokens is not None and tokens_per_request:
        most = min(most, tokens / tokens_per_request)
    layers = (layer.most for layer in provider.retries)
    return most / attempts_per_request(provider.error_share, layers)


def most_burst_per_second(
    burst: Burst, mix: TokenMix, demand: float, prices: Prices | None = None
) -> float:
    """Most requests per second that may leave: the spec's share, and the providers' limits."""
    tokens = mix.prompt_tokens + mix.output_tokens
    limits = (
        requests_per_minute_limit(provider, tokens) / 60
        for provider in burst.providers
        if api_usd_per_request(provider, mix, prices) is not None
    )
    return min(sum(limits), burst.max_fraction * demand)


def replicas_by_marginal_rule(forecast: Forecast, mu: float, g: float, a: float, max_n: int) -> int:
    """Replicas that each earn more than they cost; exact for the forecast's distribution.

    Args:
        forecast: Demand while the replica would serve, as a discrete distribution.
        mu: Requests per second one replica serves; above 0.
        g: US dollars an hour one replica costs.
        a: US dollars an hour the API charges for mu requests per second.
        max_n: Most replicas.

    What replica n earns falls as n rises, so the last one that pays is found by bisection; one that
    no demand reaches earns nothing.
    """
    loads = _loads(forecast, mu)
    low, high = 0, min(max_n, math.ceil(max(load for _, load in loads)))
    while low < high:
        middle = (low + high + 1) // 2
        if a * _share_used(loads, middle) > g:
            low = middle
        else:
            high = middle - 1
    return low


def share_used(forecast: Forecast, mu: float, n: int) -> float:
    """E[clip(D/mu - (n - 1), 0, 1)]: how much of replica ``n`` (from 1) the demand will use."""
    return _share_used(_loads(forecast, mu), n)


def _loads(forecast: Forecast, mu: float) -> list[tuple[float, float]]:
    """The forecast in replicas: pairs (probability, D/mu)."""
    return [(p, demand / mu) for p, demand in forecast.atoms()]


def _share_used(loads: list[tuple[float, float]], n: int) -> float:
    before, share = n - 1, 0.0
    for p, load in loads:
        if load >= n:
            share += p
        elif load > before:
            share += p * (load - before)
    return share


def replicas_by_quantile(forecast: Forecast, mu: float, quantile: float, max_n: int) -> int:
    """Replicas that serve the forecast's quantile on their own (no burst to lean on)."""
    return replicas_for(forecast.quantile(quantile), mu, max_n)


def replicas_for(requests_per_second: float, mu: float, max_n: int) -> int:
    """Replicas that serve a load of which nothing leaves; none for a load below 0."""
    return min(max_n, max(0, math.ceil(requests_per_second / mu - _ROUNDING)))
