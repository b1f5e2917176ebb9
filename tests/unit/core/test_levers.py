"""What a gateway's cache and routing spare: never load, and worth what load costs."""

from __future__ import annotations

from typing import Any

import pytest

from spillway.core.demand import DemandEstimate
from spillway.core.facts import GatewayLoad
from spillway.core.levers import levers

NOW = 1_000.0
#: Ten requests a second of 1,000 tokens each are served for $36 an hour: a dollar a million tokens.
DEMAND = DemandEstimate(
    at=NOW,
    requests_per_second=10.0,
    source="Gateway",
    lower_bound=False,
    queue=0.0,
    in_flight=5.0,
    prompt_tokens_per_request=900.0,
    output_tokens_per_request=100.0,
    cached_tokens_per_request=None,
)


def gateway(**seen: Any) -> GatewayLoad:
    return GatewayLoad(NOW, 10.0, **seen)


def test_a_hit_is_worth_what_its_tokens_cost_when_they_are_served() -> None:
    seen = gateway(cache_hits_per_second=2.5, cache_saved_tokens_per_second=2_500.0)
    found = levers(seen, DEMAND, 36.0, NOW)
    assert found is not None
    assert found.saved_usd_per_hour == pytest.approx(9.0)
    assert found.cache_hit_share == pytest.approx(0.2)
    assert found.routed_share == 0


def test_what_routing_sends_here_is_a_share_of_what_arrives() -> None:
    found = levers(gateway(routed_per_second=4.0), DEMAND, 36.0, NOW)
    assert found is not None
    assert (found.routed_share, found.cache_hit_share) == (0.4, 0.0)
    assert found.saved_usd_per_hour == 0


def test_what_is_not_known_is_not_made_up() -> None:
    seen = gateway(cache_hits_per_second=1.0, cache_saved_tokens_per_second=100.0)
    for demand, paid in ((None, 36.0), (DEMAND, None)):
        found = levers(seen, demand, paid, NOW)
        assert found is not None
        assert found.saved_usd_per_hour is None
    assert levers(None, DEMAND, 36.0, NOW) is None
    assert levers(gateway(), DEMAND, 36.0, NOW) is None, "nothing of the kind is reported"
    assert levers(seen, DEMAND, 36.0, NOW + 600) is None, "of ten minutes ago"
