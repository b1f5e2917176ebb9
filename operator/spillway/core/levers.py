"""What a gateway's cache and routing spare a pool: never load, and worth what load costs.

A cached answer reaches neither a replica nor an API, so it is no arrival and sizes nothing. Its
worth is taken at the present mean cost of a token, GPUs and API together: what is paid an hour,
over the tokens that are served an hour. That is what the cache is worth in the long run, when
replicas have followed the load; on a pool at its floor a hit spares nothing now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.core.samples import is_fresh
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.core.demand import DemandEstimate
    from spillway.core.facts import GatewayLoad


@dataclass(frozen=True, slots=True)
class Levers:
    """What the gateway does.

    Attributes:
        cache_hits_per_second: Requests that its cache answers.
        cache_hit_share: Of all requests, 0 to 1.
        saved_tokens_per_second: Prompt and output tokens of these.
        saved_usd_per_hour: What serving them would cost; None where a token's cost is not known.
        routed_share: Share of the arrivals that routing by complexity sent here.
    """

    cache_hits_per_second: float
    cache_hit_share: float
    saved_tokens_per_second: float
    saved_usd_per_hour: float | None
    routed_share: float


def levers(
    gateway: GatewayLoad | None,
    demand: DemandEstimate | None,
    usd_per_hour: float | None,
    now: float,
) -> Levers | None:
    """What the gateway spares the pool; None where nothing of the kind is reported.

    Args:
        gateway: Its counters.
        demand: What arrives, with its tokens.
        usd_per_hour: What is paid for what arrives, GPUs and API.
        now: Seconds since the epoch.
    """
    if gateway is None or not is_fresh(gateway.sampled_at, now):
        return None
    hits, arrivals = gateway.cache_hits_per_second, gateway.arrivals_per_second
    if hits <= 0 and gateway.routed_per_second <= 0:
        return None
    return Levers(
        cache_hits_per_second=hits,
        cache_hit_share=hits / (hits + arrivals) if hits > 0 else 0.0,
        saved_tokens_per_second=gateway.cache_saved_tokens_per_second,
        saved_usd_per_hour=_worth(gateway.cache_saved_tokens_per_second, demand, usd_per_hour),
        routed_share=min(1.0, gateway.routed_per_second / arrivals) if arrivals > 0 else 0.0,
    )


def _worth(
    tokens_per_second: float, demand: DemandEstimate | None, usd_per_hour: float | None
) -> float | None:
    if demand is None or usd_per_hour is None:
        return None
    prompt, output = demand.prompt_tokens_per_request, demand.output_tokens_per_request
    if prompt is None or output is None:
        return None
    served = demand.requests_per_second * (prompt + output)
    return usd_per_hour * tokens_per_second / served if served > 0 else None
