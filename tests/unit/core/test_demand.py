from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from spillway.api.names import Role
from spillway.core.demand import estimate
from spillway.core.facts import PodPhase, RouteFacts

from .pools import START, Pool, load, pod, spec

if TYPE_CHECKING:
    from spillway.core.facts import PodFacts, PoolFacts


def facts_with(*pods: PodFacts, gateway: bool = False, source: str = "Auto") -> PoolFacts:
    pool = Pool(spec=spec(demand={"source": source}), gateway=gateway, rps=42.0)
    return replace(pool.facts(), targets={"gpu": replace(pool.facts().targets["gpu"], pods=pods)})


def test_the_gateways_count_wins_because_it_sees_what_bursts() -> None:
    found = estimate(facts_with(pod("a", load(START, 5.0)), gateway=True), START)
    assert found is not None
    assert (found.requests_per_second, found.source, found.lower_bound) == (42.0, "Gateway", False)


def test_without_a_gateway_arrivals_are_completions_plus_growth_in_flight() -> None:
    pods = (
        pod("a", load(START, 3.0, in_flight_change_per_second=1.0, waiting=4.0)),
        pod("b", load(START, 2.0)),
    )
    found = estimate(facts_with(*pods), START)
    assert found is not None
    assert found.requests_per_second == 6.0
    assert found.source == "Engine"
    assert found.queue == 4.0
    assert found.in_flight == 14.0
    assert found.prompt_tokens_per_request == pytest.approx(1000)
    assert found.output_tokens_per_request == pytest.approx(200)


def test_a_draining_replica_that_empties_adds_no_arrivals() -> None:
    leaving = load(START, 2.0, in_flight_change_per_second=-2.0)
    pods = (pod("a", load(START, 3.0)), pod("b", leaving, role=Role.DRAINING))
    found = estimate(facts_with(*pods), START)
    assert found is not None
    assert found.requests_per_second == 3.0


def test_engine_demand_is_a_lower_bound_while_overflow_may_be_applied() -> None:
    facts = facts_with(pod("a", load(START)))
    found = estimate(facts, START, overflow_fraction=0.2)
    assert found is not None
    assert found.lower_bound
    quiet = estimate(facts, START, overflow_fraction=0.0)
    assert quiet is not None
    assert not quiet.lower_bound


def test_samples_older_than_a_minute_are_no_data() -> None:
    facts = facts_with(pod("a", load(START)), gateway=True)
    assert estimate(facts, START + 60) is not None
    assert estimate(facts, START + 61) is None


def test_no_samples_is_not_zero_demand() -> None:
    assert estimate(facts_with(pod("a", None), pod("b", None)), START) is None
    assert estimate(facts_with(), START) is None


def test_a_silent_minority_is_assumed_to_serve_like_the_rest() -> None:
    pods = [pod(f"p{i}", load(START, 3.0)) for i in range(3)]
    found = estimate(facts_with(*pods, pod("p3", None)), START)
    assert found is not None
    assert found.requests_per_second == 12.0


def test_a_silent_majority_is_no_data_even_with_a_gateway() -> None:
    pods = (pod("a", load(START)), pod("b", None), pod("c", None))
    assert estimate(facts_with(*pods), START) is None
    assert estimate(facts_with(*pods, gateway=True), START) is None


def test_a_replica_that_has_just_become_ready_owes_no_sample_yet() -> None:
    fresh = [pod(f"n{i}", None, since=START - 20) for i in range(4)]
    found = estimate(facts_with(pod("a", load(START, 5.0)), *fresh), START)
    assert found is not None
    assert found.requests_per_second == 5.0


def test_starting_pods_have_no_engine_to_ask() -> None:
    starting = [pod(f"s{i}", None, phase=PodPhase.STARTING) for i in range(5)]
    assert estimate(facts_with(pod("a", load(START)), *starting), START) is not None


def test_source_gateway_is_not_replaced_and_source_engine_ignores_the_gateway() -> None:
    a = pod("a", load(START, 5.0))
    assert estimate(facts_with(a, source="Gateway"), START) is None
    found = estimate(facts_with(a, gateway=True, source="Engine"), START)
    assert found is not None
    assert found.requests_per_second == 5.0


def test_demand_is_told_in_tokens_to_compute_and_to_generate() -> None:
    pods = (pod("a", load(START, 5.0, prefix_hit_tokens_per_second=2000.0)),)
    found = estimate(facts_with(*pods, gateway=True), START)
    assert found is not None
    # 42 requests a second arrive; of 1,000 prompt tokens the cache answers 2,000 / 5.
    assert found.prefill_tokens_per_second == pytest.approx(42 * 600)
    assert found.decode_tokens_per_second == pytest.approx(42 * 200)


def test_tokens_are_not_known_before_a_request_has_finished() -> None:
    pods = (pod("a", load(START, 0.0, in_flight_change_per_second=3.0)),)
    found = estimate(facts_with(*pods), START)
    assert found is not None
    assert found.prefill_tokens_per_second is None
    assert found.decode_tokens_per_second is None


@pytest.mark.parametrize(
    ("share", "arrivals", "lower_bound"),
    [(0.5, 10.0, False), (0.0, 5.0, False), (None, 5.0, True), (0.96, 5.0, True)],
)
def test_engine_demand_is_what_it_was_before_weights_that_a_gateway_has_confirmed(
    share: float | None,
    arrivals: float,
    lower_bound: bool,  # noqa: FBT001 - a column of the table
) -> None:
    facts = replace(facts_with(pod("a", load(START, 5.0))), route=RouteFacts(cloud_share=share))
    found = estimate(facts, START, overflow_fraction=0.5)
    assert found is not None
    assert found.requests_per_second == pytest.approx(arrivals)
    assert found.lower_bound is lower_bound


def test_a_gateways_count_is_not_divided_by_what_stayed() -> None:
    facts = facts_with(pod("a", load(START, 5.0)), gateway=True)
    found = estimate(replace(facts, route=RouteFacts(cloud_share=0.5)), START)
    assert found is not None
    assert found.requests_per_second == 42.0
