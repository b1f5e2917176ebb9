"""How much work arrives, measured upstream of the split wherever that can be seen.

Burst empties the local queue, so a scaler that reads the queue stops its own burst and oscillates.
Hence the order of sources: a gateway counts every arrival, wherever it goes. An engine counts only
what reached it, and only when it is finished, so arrivals are completions plus the growth of what
is in flight; while overflow may be applied that is a lower bound, and marked as one. Where the
weights of a route make the split, and a gateway has confirmed them, arrivals are counted back to
what they were before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from spillway.api.inferencepool import DemandSource
from spillway.api.names import Role
from spillway.core.samples import fresh_load, is_fresh, pods_of, reporting
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.core.facts import PoolFacts, ReplicaLoad

#: Below this share of reporting replicas the engines' sum says more about the outage than the load.
MIN_REPORTING_SHARE: Final = 0.5
#: Above this share a small error of it, or of what is left, makes any demand of it.
MOST_INVERTED_SHARE: Final = 0.95
#: Fewer completions per second than this make tokens per request a ratio of noise.
_MIN_FINISHED_PER_SECOND: Final = 1e-3


@dataclass(frozen=True, slots=True)
class DemandEstimate:
    """Load of one pool, wherever it is served.

    Attributes:
        at: When it was estimated.
        requests_per_second: Arrivals per second, mean over the rate window (about a minute).
        source: Who counted them.
        lower_bound: True where requests that burst are not among them.
        queue: Requests waiting on serving replicas.
        in_flight: Requests running or waiting on serving and draining replicas.
        prompt_tokens_per_request: Mean prompt length, cached tokens included; None if unknown.
        output_tokens_per_request: Mean output length; None if unknown.
        cached_tokens_per_request: Of the prompt, tokens that the prefix cache answered, mean; None
            if unknown.
    """

    at: float
    requests_per_second: float
    source: Literal["Gateway", "Engine"]
    lower_bound: bool
    queue: float = 0.0
    in_flight: float = 0.0
    prompt_tokens_per_request: float | None = None
    output_tokens_per_request: float | None = None
    cached_tokens_per_request: float | None = None

    @property
    def prefill_tokens_per_second(self) -> float | None:
        """Prompt tokens to compute for what arrives, cached ones taken off; None if unknown."""
        if self.prompt_tokens_per_request is None:
            return None
        computed = self.prompt_tokens_per_request - (self.cached_tokens_per_request or 0.0)
        return self.requests_per_second * max(0.0, computed)

    @property
    def decode_tokens_per_second(self) -> float | None:
        """Output tokens to generate for what arrives; None if unknown."""
        if self.output_tokens_per_request is None:
            return None
        return self.requests_per_second * self.output_tokens_per_request


def estimate(
    facts: PoolFacts, now: float, *, overflow_fraction: float = 0.0
) -> DemandEstimate | None:
    """Demand at ``now``, or None where it is not known (which is not zero).

    Args:
        facts: What is known of the pool.
        now: Seconds since the epoch; samples older than a minute do not count.
        overflow_fraction: Share of arrivals that may be leaving; above 0 the engines' own count
            is a lower bound.

    The gateway is asked first unless ``spec.demand.source`` is Engine; with source Gateway nothing
    replaces it. None as well where fewer than half of the serving replicas report: a pool whose
    queues are out of sight holds still. The engines' sum is scaled up for the few that are silent,
    since all stand behind the same Service.
    """
    pods = [p for p in pods_of(facts) if p.role is not Role.WARM]
    loads, owing = reporting(pods, now)
    if len(loads) < MIN_REPORTING_SHARE * owing:
        return None
    leaving = [
        load for p in pods if p.role is Role.DRAINING and (load := fresh_load(p, now)) is not None
    ]
    source: Literal["Gateway", "Engine"] = "Gateway"
    arrivals = _gateway_arrivals(facts, now)
    if arrivals is None:
        if facts.spec.demand.source is DemandSource.GATEWAY:
            return None
        arrivals = _engine_arrivals(loads, owing, leaving)
        source = "Engine"
    if arrivals is None:
        return None
    share = _share_that_left(facts) if source == "Engine" else None
    if share is not None:
        arrivals /= 1 - share
    everyone = loads + leaving
    prompt, output, cached = _tokens_per_request(everyone)
    return DemandEstimate(
        at=now,
        requests_per_second=arrivals,
        source=source,
        lower_bound=source == "Engine" and overflow_fraction > 0 and share is None,
        queue=sum(load.waiting for load in loads),
        in_flight=sum(load.in_flight for load in everyone),
        prompt_tokens_per_request=prompt,
        output_tokens_per_request=output,
        cached_tokens_per_request=cached,
    )


def _share_that_left(facts: PoolFacts) -> float | None:
    """Share of the arrivals that engines did not see, where the route's weights tell it.

    Only weights that a gateway has confirmed do, and only up to `MOST_INVERTED_SHARE`.
    """
    share = None if facts.route is None else facts.route.cloud_share
    return None if share is None or share > MOST_INVERTED_SHARE else share


def _gateway_arrivals(facts: PoolFacts, now: float) -> float | None:
    gateway = facts.gateway
    if gateway is None or facts.spec.demand.source is DemandSource.ENGINE:
        return None
    return gateway.arrivals_per_second if is_fresh(gateway.sampled_at, now) else None


def _arrivals_at(load: ReplicaLoad) -> float | None:
    """Arrivals per second at one replica: what it finished plus what it has more of in flight."""
    if load.finished_per_second is None or load.in_flight_change_per_second is None:
        return None
    return load.finished_per_second + load.in_flight_change_per_second


def _engine_arrivals(
    serving: list[ReplicaLoad], owing: int, leaving: list[ReplicaLoad]
) -> float | None:
    """Sum over the replicas; draining ones are in it because theirs cancels out as they empty."""
    counted = [rate for load in serving if (rate := _arrivals_at(load)) is not None]
    if not counted or len(counted) < MIN_REPORTING_SHARE * owing:
        return None
    drained = [rate for load in leaving if (rate := _arrivals_at(load)) is not None]
    return max(0.0, sum(counted) * owing / len(counted) + sum(drained))


def _tokens_per_request(
    loads: list[ReplicaLoad],
) -> tuple[float | None, float | None, float | None]:
    """Prompt, output and cached tokens per finished request, over replicas that report both."""
    counted = [load for load in loads if load.finished_per_second is not None]
    finished = [load.finished_per_second for load in counted]
    return (
        _per_request([load.prompt_tokens_per_second for load in counted], finished),
        _per_request([load.generation_tokens_per_second for load in counted], finished),
        _per_request([load.prefix_hit_tokens_per_second for load in counted], finished),
    )


def _per_request(rates: list[float | None], finished: list[float | None]) -> float | None:
    requests = tokens = 0.0
    for rate, done in zip(rates, finished, strict=True):
        if rate is not None and done is not None:
            tokens += rate
            requests += done
    return tokens / requests if requests >= _MIN_FINISHED_PER_SECOND else None
