from __future__ import annotations

import pytest

from spillway.api.inferencepool import Burst, Provider
from spillway.core.economics import (
    api_usd_per_request,
    cheapest_provider,
    gpu_usd_per_replica_hour,
    most_burst_per_second,
    replicas_by_marginal_rule,
    replicas_by_quantile,
    requests_per_minute_limit,
)
from spillway.core.forecast import Forecast
from spillway.core.retries import attempts_per_request
from spillway.core.tokenmix import TokenMix

from .pools import burst, spec

MIX = TokenMix(1000, 200)


def certain(rps: float) -> Forecast:
    return Forecast(0.0, 120.0, rps, ((0.5, rps),))


def either(low: float, high: float) -> Forecast:
    """Two loads, as likely as each other."""
    return Forecast(0.0, 120.0, (low + high) / 2, ((0.25, low), (0.75, high)))


def test_a_replica_of_four_gpus_costs_four_gpu_hours() -> None:
    variants = [
        {
            "name": "a",
            "targetRef": {"name": "a"},
            "accelerator": {"perReplica": 4},
            "price": {"perAcceleratorHour": "2.50"},
        }
    ]
    assert gpu_usd_per_replica_hour(spec(variants=variants).variants[0]) == 10.0


def test_a_request_costs_its_prompt_and_its_answer() -> None:
    provider = Burst.model_validate(burst()).providers[0]
    # 1,000 * $0.20/M + 200 * $0.80/M
    assert api_usd_per_request(provider, MIX) == pytest.approx(0.00036)


def test_the_cached_price_counts_only_where_the_provider_caches() -> None:
    mix = TokenMix(1000, 200, cached_tokens=500)
    plain = Burst.model_validate(burst()).providers[0]
    caching = Provider.model_validate(
        {
            "name": "c",
            "price": {
                "inputPerMillion": "0.20",
                "outputPerMillion": "0.80",
                "cachedInputPerMillion": "0.02",
            },
        }
    )
    assert api_usd_per_request(plain, mix) == pytest.approx(0.00036)
    assert api_usd_per_request(caching, mix) == pytest.approx(0.00027)


def test_the_cheapest_provider_depends_on_the_mix() -> None:
    two = Burst.model_validate(
        {
            "providers": [
                {"name": "in", "price": {"inputPerMillion": "0.10", "outputPerMillion": "2"}},
                {"name": "out", "price": {"inputPerMillion": "0.50", "outputPerMillion": "0.50"}},
            ]
        }
    )
    rag, chat = TokenMix(5000, 100), TokenMix(100, 1000)
    for mix, name, usd in ((rag, "in", 0.0007), (chat, "out", 0.00055)):
        found = cheapest_provider(two, mix)
        assert found is not None
        assert found[0] == name
        assert found[1] == pytest.approx(usd)


def test_no_price_is_no_provider() -> None:
    assert cheapest_provider(Burst.model_validate(burst(input_usd=None)), MIX) is None
    assert cheapest_provider(None, MIX) is None


def test_rate_limits_bound_what_may_leave() -> None:
    limited = burst(provider={"limits": {"requestsPerMinute": 120}})
    assert most_burst_per_second(Burst.model_validate(limited), MIX, 50.0) == 2.0
    tokens = burst(provider={"limits": {"tokensPerMinute": 72_000}})
    assert most_burst_per_second(Burst.model_validate(tokens), MIX, 50.0) == pytest.approx(1.0)
    share = burst(maxFraction="0.1")
    assert most_burst_per_second(Burst.model_validate(share), MIX, 50.0) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("rps", "replicas"),
    [(0.0, 0), (3.0, 0), (6.0, 1), (10.0, 1), (13.0, 1), (16.0, 2), (30.0, 3)],
)
def test_a_replica_is_added_when_it_is_used_for_more_than_its_price(
    rps: float, replicas: int
) -> None:
    """At g = $5 and a = $10 the last replica must be more than half used; mu = 10."""
    assert replicas_by_marginal_rule(certain(rps), 10.0, 5.0, 10.0, 100) == replicas


def test_uncertain_load_counts_by_its_expected_use() -> None:
    # The second replica is idle at 10 rps and full at 20: used by half on average, worth $5.
    assert replicas_by_marginal_rule(either(10, 20), 10.0, 4.9, 10.0, 100) == 2
    assert replicas_by_marginal_rule(either(10, 20), 10.0, 5.1, 10.0, 100) == 1


def test_an_api_cheaper_than_the_gpu_pays_for_no_replica() -> None:
    assert replicas_by_marginal_rule(certain(1000.0), 10.0, 5.0, 4.0, 100) == 0


def test_max_bounds_both_rules() -> None:
    assert replicas_by_marginal_rule(certain(1e6), 10.0, 1.0, 10.0, 7) == 7
    assert replicas_by_quantile(certain(1e6), 10.0, 0.95, 7) == 7


def test_the_quantile_rule_rounds_up_but_not_for_rounding_errors() -> None:
    assert replicas_by_quantile(certain(20.0), 10.0, 0.95, 100) == 2
    assert replicas_by_quantile(certain(20.1), 10.0, 0.95, 100) == 3
    assert replicas_by_quantile(certain(0.3), 0.1, 0.95, 100) == 3


def provider(**changes: object) -> Provider:
    priced = {"name": "api", "price": {"inputPerMillion": "0.20", "outputPerMillion": "0.80"}}
    return Provider.model_validate(priced | changes)


def test_failures_are_billed_at_their_share_only() -> None:
    usd = api_usd_per_request(provider(), MIX)
    assert usd is not None
    # One attempt in five fails: for four answers five attempts are made.
    refused = provider(errorShare="0.2")
    assert api_usd_per_request(refused, MIX) == pytest.approx(usd)
    billed = provider(errorShare="0.2", billedErrorShare="1")
    assert api_usd_per_request(billed, MIX) == pytest.approx(usd * 5 / 4)
    half = provider(errorShare="0.2", billedErrorShare="0.5")
    assert api_usd_per_request(half, MIX) == pytest.approx(usd * 9 / 8)


def test_retries_use_up_the_rate_limit() -> None:
    limited = {"limits": {"requestsPerMinute": 60}, "errorShare": "0.5"}
    layers = [{"layer": "gateway", "most": 1}, {"layer": "client", "most": 1}]
    assert requests_per_minute_limit(provider(**limited), None) == 60
    # 1 + 1/2 attempts below the gateway, and of what fails there (1/4) one more round.
    retried = provider(**limited, retries=layers)
    assert requests_per_minute_limit(retried, None) == pytest.approx(60 / (1.5 * 1.25))


def test_in_an_outage_three_layers_of_two_retries_make_27_attempts_of_one() -> None:
    # Failures that come singly cost hardly more than their share.
    assert attempts_per_request(1.0, [2, 2, 2]) == 27
    assert attempts_per_request(0.05, [2, 2, 2]) == pytest.approx(1 / 0.95)


def test_a_provider_that_sees_other_prompts_caches_nothing() -> None:
    mix = TokenMix(1000, 200, cached_tokens=500)
    price = {"inputPerMillion": "0.20", "outputPerMillion": "0.80", "cachedInputPerMillion": "0.02"}
    assert api_usd_per_request(provider(price=price), mix) == pytest.approx(0.00027)
    cold = provider(price=price, cachesPrefix=False)
    assert api_usd_per_request(cold, mix) == pytest.approx(0.00036)
