"""KEDA: an HPA that KEDA makes and feeds with one ``prometheus`` trigger.

A ScaledObject's trigger has the metric type ``AverageValue`` by default, so the HPA is one on an
External metric; KEDA 2 hands the query's value over in whole thousandths each time the HPA asks
(``pkg/scalers/prometheus_scaler.go``, ``pkg/provider/provider.go``). Its HPA has no ``behavior``
unless ``advanced.horizontalPodAutoscalerConfig`` states one. ``pollingInterval`` and
``cooldownPeriod`` concern scaling from and to zero alone; a pool's floor is at least 1, so they
have no part here.

What is queried decides what it is worth:

- ``waiting``: ``sum(vllm:num_requests_waiting)``; most guides' choice. 0 until replicas are full.
- ``inflight``: running and waiting; the answer follows load before a queue stands.
- ``rate``: requests per second at the gateway; upstream of what leaves for an API, so burst hides
  no load from it.

Thresholds of the last two are multiples of what a replica is told to serve (B*, mu): who sets them
has measured a replica.
"""

from __future__ import annotations

from typing import Final

from spillway.sim.rivals.hpa import ExternalSum, Hpa, HpaConfiguration, tuned

_WAITING: Final = ExternalSum(lambda seen: seen.waiting, lambda _told: 1.0)
_IN_FLIGHT: Final = ExternalSum(
    lambda seen: seen.running + seen.waiting, lambda told: told.concurrency
)
_RATE: Final = ExternalSum(
    lambda seen: seen.arrivals_per_second, lambda told: told.requests_per_second
)

#: Requests that wait, a replica.
_WAITING_THRESHOLDS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
#: Share of B* or mu.
_SHARES: Final = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3)
#: A usual headroom: a fifth of what was measured.
_DEFAULT_SHARE: Final = 0.8


def on_waiting() -> Hpa:
    """Two waiting requests a replica."""
    return Hpa("keda-waiting", _WAITING, [HpaConfiguration(2.0)])


def on_waiting_grid() -> Hpa:
    """Thresholds and stabilisation windows to tune."""
    return Hpa("keda-waiting", _WAITING, tuned(_WAITING_THRESHOLDS))


def on_in_flight() -> Hpa:
    """Four fifths of B* a replica."""
    return Hpa("keda-inflight", _IN_FLIGHT, [HpaConfiguration(_DEFAULT_SHARE)])


def on_in_flight_grid() -> Hpa:
    """Thresholds and stabilisation windows to tune."""
    return Hpa("keda-inflight", _IN_FLIGHT, tuned(_SHARES))


def on_rate() -> Hpa:
    """Four fifths of mu a replica."""
    return Hpa("keda-rate", _RATE, [HpaConfiguration(_DEFAULT_SHARE)])


def on_rate_grid() -> Hpa:
    """Thresholds and stabilisation windows to tune."""
    return Hpa("keda-rate", _RATE, tuned(_SHARES))
