"""Whether the gateway that a driver relies on is there: by what it reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.api.inferencepool import BurstDriver

if TYPE_CHECKING:
    from spillway.core.facts import PoolFacts

#: Drivers whose gateway decides request by request and counts what it does.
REPORTING: Final = frozenset({BurstDriver.EDGE_ENVOY, BurstDriver.LITELLM})
#: A gateway or a Prometheus that restarts needs two scrapes and a rate window; that is no absence.
PATIENCE_SECONDS: Final = 120.0


def expects_gateway(facts: PoolFacts) -> bool:
    """Whether the pool's driver has a gateway that reports."""
    burst = facts.spec.burst
    return burst is not None and burst.driver in REPORTING


def gateway_lost(facts: PoolFacts, now: float) -> bool:
    """Whether the gateway that has to carry burst has not been seen for longer than is usual."""
    since = facts.gateway_missing_since
    return expects_gateway(facts) and since is not None and now - since >= PATIENCE_SECONDS
