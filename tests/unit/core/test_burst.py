"""What the fast loop takes from the last decision and from the samples that it has just read."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from spillway.api.inferencepool import InferencePoolStatus
from spillway.api.names import Role
from spillway.core.burst import (
    is_hot,
    live_load,
    overflow_inputs,
    serving_uids,
)
from spillway.core.facts import (
    Contention,
    GatewayLoad,
    LengthQuantiles,
    PodPhase,
    PoolFacts,
)
from spillway.core.pool import Outcome, PoolState, step
from tests.unit.core import pools

if TYPE_CHECKING:
    from spillway.core.overflow import OverflowInputs

NOW = pools.START
SPEC = pools.spec(burst=pools.burst())


def decided(pool: pools.Pool, lengths: LengthQuantiles | None = None) -> tuple[PoolFacts, Outcome]:
    facts = replace(pool.facts(), lengths=lengths)
    before = PoolState.restored(InferencePoolStatus(), pool.now)
    outcome = step(
        facts, before, pool.now, read_only=False, overflow_fraction=0.0, budget_left=True
    )
    return facts, outcome


def inputs(pool: pools.Pool, lengths: LengthQuantiles | None = None) -> OverflowInputs:
    facts, outcome = decided(pool, lengths)
    return overflow_inputs(facts, outcome, None, pool.now)


def test_capacity_price_and_arrivals_come_from_the_decision() -> None:
    found = inputs(pools.Pool(spec=SPEC, rps=12.0))
    assert (found.mu, found.concurrency) == (10.0, 40.0)
    assert found.demand_per_second == 12.0
    assert found.price_known
    assert not found.release
    # 1,000 prompt tokens at $0.20 and 200 output tokens at $0.80 a million.
    assert found.cost_by_provider == {"api": pytest.approx(0.00036)}
    assert found.p95_cost_usd == pytest.approx(3.14 * 0.00036)
    assert found.tokens_per_request == pytest.approx(1200)


def test_a_grant_is_priced_at_the_dearest_provider() -> None:
    dear = {"name": "dear", "price": {"inputPerMillion": "2", "outputPerMillion": "8"}}
    burst = pools.burst()
    burst["providers"].append(dear)
    found = inputs(pools.Pool(spec=pools.spec(burst=burst)))
    assert found.p95_cost_usd == pytest.approx(3.14 * 0.0036)


def test_a_long_request_is_priced_by_the_lengths_where_these_are_measured() -> None:
    pool = pools.Pool(spec=pools.spec(burst=pools.burst()))
    # Prompts all alike, answers with a p95 five times the median: sigma ln 5 / 1.645 = 0.978, and
    # so p95 over mean is exp(ln 5 - 0.978^2 / 2) = 3.10.
    found = inputs(pool, LengthQuantiles(1000, 1000, 100, 500))
    assert found.p95_cost_usd == pytest.approx(0.0002 + 3.10 * 0.00016, rel=0.01)
    assert found.prompt_tokens_per_request == pytest.approx(1000)
    assert found.prompt_cv == 0


def test_one_price_that_is_missing_turns_burst_off() -> None:
    for spec in (
        pools.spec(burst=pools.burst(), variants=[pools.variant(usd=None)]),
        pools.spec(burst=pools.burst(input_usd=None)),
    ):
        assert not inputs(pools.Pool(spec=spec)).price_known


@pytest.mark.parametrize("mode", ["Advise", "Paused"])
def test_a_pool_that_is_not_active_releases(mode: str) -> None:
    spec = pools.spec(burst=pools.burst(), mode=mode)
    assert inputs(pools.Pool(spec=spec)).release


def test_a_contested_target_releases() -> None:
    contested = {"contention": Contention("HorizontalPodAutoscaler", "web")}
    assert inputs(pools.Pool(spec=SPEC, target_changes=contested)).release


def test_a_gateway_that_fell_silent_is_no_count_of_arrivals() -> None:
    facts, outcome = decided(pools.Pool(spec=SPEC, rps=12.0))
    stale = replace(facts, gateway=GatewayLoad(NOW - 90, 500.0))
    assert overflow_inputs(stale, outcome, None, NOW).demand_per_second == 12.0
    fresh = replace(facts, gateway=GatewayLoad(NOW, 50.0))
    assert overflow_inputs(fresh, outcome, None, NOW).demand_per_second == 50.0


def test_behind_one_service_the_slowest_variant_in_use_sets_the_pace() -> None:
    variants = [pools.variant("fast", rps="20"), pools.variant("slow", rps="5")]
    pool = pools.Pool(spec=pools.spec(variants=variants, burst=pools.burst()))
    facts, outcome = decided(pool)
    assert overflow_inputs(facts, outcome, None, NOW).mu == 20.0, "no slow one is asked for"
    both = replace(outcome.decision, by_variant={"fast": 1, "slow": 1})
    mixed = replace(outcome, decision=both)
    assert overflow_inputs(facts, mixed, None, NOW).mu == 5.0


# Live load


def facts_with(*pods: Any) -> PoolFacts:
    return pools.Pool(spec=SPEC, replicas=2, extra_pods=tuple(pods)).facts()


def test_only_ready_serving_pods_serve() -> None:
    facts = facts_with(
        pools.pod("warm", None, role=Role.WARM),
        pools.pod("starts", None, phase=PodPhase.STARTING),
        pools.pod("drains", None, role=Role.DRAINING),
    )
    assert serving_uids(facts) == ("p0", "p1")


def test_pods_that_were_not_read_count_as_the_mean_of_the_others() -> None:
    facts = facts_with()
    live = live_load(facts, {"p0": pools.load(NOW - 1, running=10.0, waiting=2.0)}, NOW)
    assert live is not None
    assert (live.replicas_serving, live.in_flight_by_pod) == (2, (12.0,))
    assert live.in_flight == 24.0
    assert live.at == NOW - 1


def test_when_no_serving_pod_was_read_nothing_is_known() -> None:
    assert live_load(facts_with(), {}, NOW) is None


def test_when_none_serves_that_is_known() -> None:
    live = live_load(pools.Pool(spec=SPEC, replicas=0).facts(), {}, NOW)
    assert live is not None
    assert (live.replicas_serving, live.in_flight) == (0, None)


def test_a_pool_is_hot_from_half_of_what_its_replicas_hold() -> None:
    # Two replicas of 40: hot from 40 requests in flight.
    for running, hot in ((19.0, False), (20.0, True)):
        facts, outcome = decided(pools.Pool(spec=SPEC, load_changes={"running": running}))
        assert is_hot(facts, outcome) is hot


def test_a_pool_of_which_nothing_is_known_is_watched() -> None:
    pool = pools.Pool(spec=SPEC, gateway=False, load_changes={"sampled_at": 0.0})
    assert is_hot(*decided(pool))


def test_the_inputs_of_a_thousand_pools_take_a_small_part_of_a_second() -> None:
    facts, outcome = decided(pools.Pool(spec=SPEC))
    started = time.process_time()
    for _ in range(1000):
        overflow_inputs(facts, outcome, None, NOW)
    assert time.process_time() - started < 0.5
