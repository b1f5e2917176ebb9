"""What a load costs a month at an API and on own GPUs, part by part.

    API          requests * (input * price + output * price + latency cost)
    self-hosted  GPU-hours + storage + network + labour, with redundancy

A month has 730 hours (8,760 / 12), as cloud price calculators count it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from spillway.core.economics import SECONDS_PER_HOUR, usd_per_attempt
from spillway.core.prices import PriceSource, TokenPrice
from spillway.core.retries import billed_per_answer
from spillway.core.tco.load import require
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.core.tco.load import Load
    from spillway.core.tokenmix import TokenMix

HOURS_PER_MONTH: Final = 730.0
#: Own GPUs are not planned fuller than this on the mean: the sources' figure, and what queues need.
PLANNED_UTILIZATION: Final = 0.85


@dataclass(frozen=True, slots=True)
class ApiTerms:
    """What an API charges, and what its answers cost besides.

    Attributes:
        input_per_million: US dollars.
        output_per_million: US dollars.
        cached_input_per_million: US dollars; None: it does not cache.
        error_share: Share of the attempts that fail, below 1.
        billed_error_share: Share of those that is billed.
        extra_seconds: How much longer an answer takes than an own replica's.
        usd_per_second: What a second of waiting costs (a person's or a process's time).
    """

    input_per_million: float
    output_per_million: float
    cached_input_per_million: float | None = None
    error_share: float = 0.0
    billed_error_share: float = 0.0
    extra_seconds: float = 0.0
    usd_per_second: float = 0.0

    def __post_init__(self) -> None:
        """Refuse prices that can't be.

        Raises:
            NotPlannableError: Naming the figure.
        """
        require("the API's input price", self.input_per_million, least=0)
        require("the API's output price", self.output_per_million, least=0)
        if self.cached_input_per_million is not None:
            require("the API's cached input price", self.cached_input_per_million, least=0)
        require("the API's error share", self.error_share, least=0, below=1)
        require("the billed share of errors", self.billed_error_share, least=0, most=1)
        require("the API's extra seconds", self.extra_seconds, least=0)
        require("the cost of a second", self.usd_per_second, least=0)

    def tokens_usd(self, mix: TokenMix) -> float:
        """US dollars for the tokens of an answered request, failed attempts included."""
        price = TokenPrice(
            self.input_per_million,
            self.output_per_million,
            PriceSource.DECLARED,
            self.cached_input_per_million,
        )
        return usd_per_attempt(price, mix) * billed_per_answer(
            self.error_share, self.billed_error_share
        )

    @property
    def latency_usd(self) -> float:
        """US dollars for the waiting of a request."""
        return self.extra_seconds * self.usd_per_second

    def usd_per_request(self, mix: TokenMix) -> float:
        """US dollars for an answered request, waiting included."""
        return self.tokens_usd(mix) + self.latency_usd

    def usd_per_attempt(self, mix: TokenMix) -> float:
        """US dollars for an attempt on the mean: of each so many are answered, the rest fail."""
        return self.usd_per_request(mix) * (1 - self.error_share)


@dataclass(frozen=True, slots=True)
class OwnTerms:
    """What own GPUs cost, and what they take.

    Attributes:
        usd_per_replica_hour: g.
        rps_per_replica: mu, requests per second of the mix within the latency promise.
        spare_replicas: Redundancy: replicas beyond what the load needs, at all times.
        storage_per_month: US dollars: weights, images, logs.
        network_per_month: US dollars: egress, load balancers.
        labour_per_month: US dollars: the engineers' share.
    """

    usd_per_replica_hour: float
    rps_per_replica: float
    spare_replicas: int = 0
    storage_per_month: float = 0.0
    network_per_month: float = 0.0
    labour_per_month: float = 0.0

    def __post_init__(self) -> None:
        """Refuse terms that can't be.

        Raises:
            NotPlannableError: Naming the figure.
        """
        require("the price of a replica-hour", self.usd_per_replica_hour, above=0)
        require("requests per second of a replica", self.rps_per_replica, above=0)
        require("spare replicas", self.spare_replicas, least=0)
        require("storage a month", self.storage_per_month, least=0)
        require("network a month", self.network_per_month, least=0)
        require("labour a month", self.labour_per_month, least=0)

    @property
    def fixed_per_month(self) -> float:
        """US dollars a month that don't depend on the load."""
        spare = self.spare_replicas * self.usd_per_replica_hour * HOURS_PER_MONTH
        return spare + self.storage_per_month + self.network_per_month + self.labour_per_month

    def replicas_for(self, rps: float, utilization: float = PLANNED_UTILIZATION) -> int:
        """Replicas that serve a rate at a utilisation, without the spare ones; at least 1."""
        return max(1, math.ceil(rps / (self.rps_per_replica * utilization) - 1e-9))


@dataclass(frozen=True, slots=True)
class Bill:
    """A month's cost of one way to serve a load.

    Attributes:
        name: Which way.
        replicas: Replicas that serve, the spare ones left out; the mean where they change.
        gpu: US dollars for them.
        api: US dollars for the API's tokens and its waiting.
        fixed: US dollars for spare replicas, storage, network and labour.
        burst_share: Share of the requests that the API serves.
    """

    name: str
    replicas: float
    gpu: float
    api: float
    fixed: float
    burst_share: float

    @property
    def total(self) -> float:
        """US dollars a month."""
        return self.gpu + self.api + self.fixed


def api_alone(load: Load, api: ApiTerms) -> Bill:
    """Every request at the API."""
    return _bill("API alone", 0.0, 0.0, load.mean, load, api, 0.0)


def fixed_fleet(name: str, replicas: int, load: Load, own: OwnTerms, api: ApiTerms) -> Bill:
    """So many replicas all month, and the API for what they can't take."""
    most = replicas * own.rps_per_replica
    leaving = math.fsum(max(0.0, rate - most) for rate in load.rates) / len(load.rates)
    gpu = replicas * own.usd_per_replica_hour * HOURS_PER_MONTH
    return _bill(name, float(replicas), gpu, leaving, load, api, own.fixed_per_month)


def following_fleet(name: str, load: Load, own: OwnTerms, api: ApiTerms) -> Bill:
    """At each rate the cheapest number of replicas at once: what no autoscaler can be better than.

    Start-up times, drains and a floor come on top; `spillway simulate` has them.
    """
    a = api.usd_per_attempt(load.mix) * own.rps_per_replica * SECONDS_PER_HOUR
    mu = own.rps_per_replica
    replicas = leaving = 0.0
    for rate in load.rates:
        whole, part = divmod(rate / mu, 1.0)
        # A replica that is used by the share `part` earns a * part.
        own_part = a * part > own.usd_per_replica_hour
        n = 0.0 if a <= own.usd_per_replica_hour else whole + own_part
        replicas += n / len(load.rates)
        leaving += max(0.0, rate - n * mu) / len(load.rates)
    gpu = replicas * own.usd_per_replica_hour * HOURS_PER_MONTH
    return _bill(name, replicas, gpu, leaving, load, api, own.fixed_per_month)


def _bill(
    name: str,
    replicas: float,
    gpu: float,
    leaving_rps: float,
    load: Load,
    api: ApiTerms,
    fixed: float,
) -> Bill:
    seconds = HOURS_PER_MONTH * SECONDS_PER_HOUR
    usd = leaving_rps * seconds * api.usd_per_attempt(load.mix)
    return Bill(name, replicas, gpu, usd, fixed, leaving_rps / load.mean)
