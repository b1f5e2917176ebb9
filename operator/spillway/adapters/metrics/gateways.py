"""From the gateways' series to each pool's traffic upstream of the split."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

from spillway.adapters.metrics import catalog
from spillway.adapters.metrics.answers import Answer, Key, Labels
from spillway.adapters.metrics.queries import Signal
from spillway.core.facts import GatewayLoad

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.adapters.metrics.freshness import Freshness

#: Pool, then the gateway process (instance and pod), destination and provider.
SeriesKey: TypeAlias = tuple[Key, tuple[str, ...]]
_NO_ANSWER = Answer()
#: How long a gateway that is gone is remembered, in case it is only out of sight.
_FORGET_SECONDS = 3600.0


class CounterTotals:
    """Sums counters over gateway processes so that the sum never falls.

    A process that restarts begins at zero, one that goes takes its count along; both would look
    like money handed back. So each series' growth is added up instead. The sum begins with what the
    counters say when they are first seen, and with every start of the operator.
    """

    def __init__(self) -> None:
        self._last: dict[SeriesKey, tuple[float, float]] = {}
        self._totals: dict[Key, float] = {}

    def update(self, series: Mapping[SeriesKey, float], now: float) -> dict[Key, float]:
        """Totals by pool of the pools that have a series in sight."""
        for series_key, value in series.items():
            previous = self._last.get(series_key, (0.0, 0.0))[0]
            # Below the last value the process has restarted and counted from zero since.
            growth = value - previous if value >= previous else value
            pool = series_key[0]
            self._totals[pool] = self._totals.get(pool, 0.0) + growth
            self._last[series_key] = (value, now)
        self._forget(now)
        return {pool: self._totals[pool] for pool in {key[0] for key in series}}

    def _forget(self, now: float) -> None:
        gone = [key for key, (_, seen) in self._last.items() if now - seen > _FORGET_SECONDS]
        for key in gone:
            del self._last[key]
        if gone:
            pools = {key[0] for key in self._last}
            self._totals = {pool: v for pool, v in self._totals.items() if pool in pools}


class GatewayReader:
    """Turns the answers of the gateway queries into loads; keeps the counters' history."""

    def __init__(self) -> None:
        self._requests = CounterTotals()
        self._cost = CounterTotals()

    def read(
        self, answers: Mapping[Signal, Answer], fresh: Freshness
    ) -> tuple[dict[Key, GatewayLoad], dict[Key, str]]:
        """Loads by pool, and why a pool that has gateway series has none.

        Args:
            answers: By signal; a query that failed is not in it.
            fresh: Which samples are of the present.
        """
        now = fresh.now
        requests = self._totals(self._requests, answers.get(Signal.GATEWAY_REQUESTS), now)
        cost = self._totals(self._cost, answers.get(Signal.GATEWAY_COST), now)
        in_flight = _sums(_series(answers.get(Signal.GATEWAY_IN_FLIGHT, _NO_ANSWER)))
        rates = answers.get(Signal.GATEWAY_RATE, _NO_ANSWER)
        arrivals = _sums(_series(rates))
        to_cloud = _sums(_series(rates, destination=catalog.CLOUD))
        failing = _failing(answers.get(Signal.GATEWAY_FAILURES, _NO_ANSWER), rates)
        hits = _sums(_series(answers.get(Signal.GATEWAY_CACHE_HITS, _NO_ANSWER)))
        saved = _sums(_series(answers.get(Signal.GATEWAY_CACHE_SAVED_TOKENS, _NO_ANSWER)))
        routed = _sums(_series(answers.get(Signal.GATEWAY_ROUTED, _NO_ANSWER)))
        sampled_at = _oldest(answers.get(Signal.GATEWAY_SAMPLED_AT, _NO_ANSWER))
        loads: dict[Key, GatewayLoad] = {}
        unusable = _rejected(rates)
        for pool in (arrivals.keys() | sampled_at.keys()) - unusable.keys():
            at = sampled_at.get(pool)
            if at is None or pool not in arrivals:
                unusable[pool] = "too few samples of the gateway for a rate"
            elif why := fresh.fault(at):
                unusable[pool] = f"gateway: {why}"
            else:
                loads[pool] = GatewayLoad(
                    sampled_at=at,
                    arrivals_per_second=arrivals[pool],
                    cloud_per_second=to_cloud.get(pool, 0.0),
                    cloud_requests_total=requests.get(pool),
                    cloud_usd_total=cost.get(pool),
                    in_flight=in_flight.get(pool),
                    failing_by_provider=failing.get(pool, {}),
                    cache_hits_per_second=hits.get(pool, 0.0),
                    cache_saved_tokens_per_second=saved.get(pool, 0.0),
                    routed_per_second=routed.get(pool, 0.0),
                )
        return loads, unusable

    @staticmethod
    def _totals(totals: CounterTotals, answer: Answer | None, now: float) -> dict[Key, float]:
        return totals.update(_series(answer), now) if answer is not None else {}


def _pool_key(labels: Labels) -> Key | None:
    """Namespace and pool that a gateway's series is about.

    The gateway names the pool's namespace itself; with honorLabels off Prometheus moves that to
    ``exported_namespace`` and puts the gateway's own in its place.
    """
    namespace = labels.get("exported_namespace") or labels.get("namespace")
    pool = labels.get("pool")
    return (namespace, pool) if namespace and pool else None


def _series(answer: Answer, *, destination: str | None = None) -> dict[SeriesKey, float]:
    """Values by pool and process; a series that two scrape jobs bring counts once."""
    found: dict[SeriesKey, float] = {}
    for labels, value in answer.samples:
        pool = _pool_key(labels)
        to = labels.get(catalog.DESTINATION_LABEL, "")
        if pool is not None and destination in {None, to}:
            process = (labels.get("instance", ""), labels.get("pod", ""))
            key = (pool, (*process, to, labels.get("provider", "")))
            found[key] = max(value, found.get(key, value))
    return found


def _sums(series: Mapping[SeriesKey, float]) -> dict[Key, float]:
    sums: defaultdict[Key, float] = defaultdict(float)
    for (pool, _), value in series.items():
        sums[pool] += value
    return dict(sums)


def _failing(failures: Answer, attempts: Answer) -> dict[Key, dict[str, float]]:
    """Share of the attempts that failed, by pool and provider; of those that were tried at all."""
    failed, tried = _by_provider(failures), _by_provider(attempts)
    shares: defaultdict[Key, dict[str, float]] = defaultdict(dict)
    for (pool, provider), rate in tried.items():
        if rate > 0:
            shares[pool][provider] = min(1.0, failed.get((pool, provider), 0.0) / rate)
    return dict(shares)


def _by_provider(answer: Answer) -> dict[tuple[Key, str], float]:
    rates: defaultdict[tuple[Key, str], float] = defaultdict(float)
    for labels, value in answer.samples:
        pool, provider = _pool_key(labels), labels.get("provider", "")
        if pool is not None and provider:
            rates[pool, provider] += value
    return dict(rates)


def _oldest(answer: Answer) -> dict[Key, float]:
    oldest: dict[Key, float] = {}
    for (pool, _), at in _series(answer).items():
        oldest[pool] = min(at, oldest.get(pool, at))
    return oldest


def _rejected(answer: Answer) -> dict[Key, str]:
    return {
        pool: f"gateway rate: {why}"
        for labels, why in answer.rejected
        if (pool := _pool_key(labels)) is not None
    }
