"""Traffic upstream of the split, from gateways that come, go and restart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.adapters.metrics.answers import Answer
from spillway.adapters.metrics.freshness import Freshness
from spillway.adapters.metrics.gateways import CounterTotals, GatewayReader
from spillway.adapters.metrics.queries import Signal
from tests.unit.adapters.metrics.builders import NOW, answer

POOL = ("serving", "llama")


def series(to: str = "local", gateway: str = "gw-1", **more: str) -> dict[str, str]:
    return {
        "namespace": "gateways",
        "exported_namespace": "serving",
        "pool": "llama",
        "destination": to,
        "instance": f"{gateway}:9100",
        "pod": gateway,
        **more,
    }


def answers(age: float = 5.0, cloud_total: float = 100.0) -> dict[Signal, Answer]:
    return {
        Signal.GATEWAY_RATE: answer(
            (series(), 6.0), (series("cloud"), 1.0), (series(gateway="gw-2"), 3.0)
        ),
        Signal.GATEWAY_SAMPLED_AT: answer(
            (series(), NOW - 1), (series("cloud"), NOW - 1), (series(gateway="gw-2"), NOW - age)
        ),
        Signal.GATEWAY_REQUESTS: answer((series("cloud"), cloud_total)),
        Signal.GATEWAY_COST: answer(
            (series("cloud", provider="x"), 1.5), (series("cloud", provider="y"), 2.0)
        ),
        Signal.GATEWAY_IN_FLIGHT: answer((series(), 7.0), (series(gateway="gw-2"), 5.0)),
    }


def test_gateways_are_summed_and_both_destinations_are_arrivals() -> None:
    loads, unusable = GatewayReader().read(answers(), Freshness(NOW, 60.0))
    load = loads[POOL]
    assert unusable == {}
    assert load.arrivals_per_second == 10.0
    assert load.cloud_per_second == 1.0
    assert load.cloud_requests_total == 100.0
    assert load.cloud_usd_total == 3.5
    assert load.in_flight == 12.0
    assert load.sampled_at == NOW - 5


def test_what_a_cache_answers_is_no_arrival() -> None:
    pool = {k: v for k, v in series().items() if k != "destination"}
    given = answers() | {
        Signal.GATEWAY_CACHE_HITS: answer((pool, 2.0), ({**pool, "pod": "gw-2"}, 1.0)),
        Signal.GATEWAY_CACHE_SAVED_TOKENS: answer((pool, 300.0)),
        Signal.GATEWAY_ROUTED: answer((pool, 4.0)),
    }
    load = GatewayReader().read(given, Freshness(NOW, 60.0))[0][POOL]
    assert load.arrivals_per_second == 10.0
    assert (load.cache_hits_per_second, load.cache_saved_tokens_per_second) == (3.0, 300.0)
    assert load.routed_per_second == 4.0


def test_a_failed_cost_query_is_not_a_cost_of_zero() -> None:
    given_answers = answers()
    del given_answers[Signal.GATEWAY_COST]
    loads, _ = GatewayReader().read(given_answers, Freshness(NOW, 60.0))
    assert loads[POOL].cloud_usd_total is None


def test_a_gateway_that_stopped_reporting_makes_the_arrivals_unknown() -> None:
    loads, unusable = GatewayReader().read(answers(age=90.0), Freshness(NOW, 60.0))
    assert loads == {}
    assert "90 s old" in unusable[POOL]


def test_one_sample_is_no_rate() -> None:
    given_answers = answers()
    given_answers[Signal.GATEWAY_RATE] = Answer()
    loads, unusable = GatewayReader().read(given_answers, Freshness(NOW, 60.0))
    assert loads == {}
    assert POOL in unusable


def test_a_gateway_scraped_by_two_jobs_counts_once() -> None:
    given_answers = answers()
    honoured = {**series(), "namespace": "serving"}
    del honoured["exported_namespace"]
    given_answers[Signal.GATEWAY_RATE].samples.append((honoured, 6.0))
    loads, _ = GatewayReader().read(given_answers, Freshness(NOW, 60.0))
    assert loads[POOL].arrivals_per_second == 10.0


def test_a_restarted_gateway_does_not_hand_money_back() -> None:
    reader = GatewayReader()
    totals = []
    for counter in (100.0, 130.0, 4.0, 10.0):
        loads, _ = reader.read(answers(cloud_total=counter), Freshness(NOW, 60.0))
        totals.append(loads[POOL].cloud_requests_total)
    assert totals == [100.0, 130.0, 134.0, 140.0]


def test_what_a_gone_gateway_counted_stays_counted() -> None:
    totals = CounterTotals()
    assert totals.update({(POOL, ("1",)): 5.0, (POOL, ("2",)): 7.0}, NOW) == {POOL: 12.0}
    assert totals.update({(POOL, ("1",)): 6.0}, NOW + 15) == {POOL: 13.0}
    # Back in sight after an hour's outage of nothing but its scrape.
    assert totals.update({(POOL, ("1",)): 6.0, (POOL, ("2",)): 8.0}, NOW + 30) == {POOL: 14.0}


def test_gateways_gone_for_long_are_forgotten() -> None:
    totals = CounterTotals()
    totals.update({(POOL, ("1",)): 5.0}, NOW)
    assert totals.update({}, NOW + 7200) == {}
    assert totals._last == {}
    assert totals._totals == {}


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=30))
def test_a_total_never_falls(counters: list[float]) -> None:
    totals = CounterTotals()
    seen = [totals.update({(POOL, ("1",)): value}, NOW)[POOL] for value in counters]
    assert seen == sorted(seen)
    assert seen[-1] >= max(counters) or seen[-1] == pytest.approx(max(counters))


def test_each_providers_failures_are_a_share_of_what_was_tried_there() -> None:
    given_answers = answers()
    given_answers[Signal.GATEWAY_RATE] = answer(
        (series(), 6.0),
        (series("cloud", provider="x"), 2.0),
        (series("cloud", provider="x", gateway="gw-2"), 2.0),
        (series("cloud", provider="y"), 3.0),
        (series("cloud", provider="idle"), 0.0),
    )
    given_answers[Signal.GATEWAY_FAILURES] = answer(
        (series("cloud", provider="x", code="429"), 1.0),
        (series("cloud", provider="x", code="500"), 0.5),
        (series("cloud", provider="x", gateway="gw-2", code="429"), 1.5),
    )
    loads, _ = GatewayReader().read(given_answers, Freshness(NOW, 60.0))
    assert loads[POOL].failing_by_provider == {"x": 0.75, "y": 0.0}
