"""The next overflow value: how much leaves, where to, and when nothing may."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from spillway.api.reasons import Reason
from spillway.core.overflow import (
    LEASE_SECONDS,
    NO_ALLOWANCE,
    Allowance,
    OverflowInputs,
    OverflowValue,
    next_value,
)
from tests.unit.core.bursting import NOW, inputs, live, spec

if TYPE_CHECKING:
    from spillway.api.inferencepool import InferencePoolSpec

PLENTY = Allowance(10_000, 100.0)


def value(
    of: OverflowInputs, previous: OverflowValue | None = None, at: float = NOW
) -> OverflowValue:
    return next_value(of, previous, at, 1, PLENTY)


def shortage(fraction_of_arrivals: float = 0.5) -> OverflowInputs:
    return inputs(live=live(arrivals=10 / (1 - fraction_of_arrivals)))


def test_admit_is_what_the_replicas_can_take_within_the_ttft_target() -> None:
    # N (B* + w mu) = 2 * (20 + (2 - 0.5) * 5)
    admit = value(inputs()).admit
    assert admit is not None
    assert admit.in_flight == 55
    slow = value(inputs(prefill_seconds=9.0)).admit
    assert slow is not None
    assert slow.in_flight == 40


def test_prompt_tokens_in_flight_are_bounded_by_what_so_many_prompts_usually_have() -> None:
    # 55 prompts of 1,000 tokens, all alike; with lengths that scatter by their mean the sum of 55
    # is 1.645 * sqrt(55) = 12.2 prompts larger in one case of twenty; two caches hold 60,000.
    def tokens(**changes: float) -> int | None:
        admit = value(inputs(**changes)).admit
        assert admit is not None
        return admit.prompt_tokens

    assert tokens() is None
    assert tokens(prompt_tokens_per_request=1000.0) == 55_000
    assert tokens(prompt_tokens_per_request=1000.0, prompt_cv=1.0) == 67_199
    cramped = tokens(prompt_tokens_per_request=1000.0, prompt_cv=1.0, kv_tokens=30_000.0)
    assert cramped == 60_000


def test_below_capacity_nothing_leaves() -> None:
    covered = value(inputs())
    assert (covered.fraction, covered.reason) == (0.0, Reason.COVERED)
    assert covered.until == NOW + LEASE_SECONDS


def test_what_exceeds_capacity_leaves_within_one_tick() -> None:
    # 20 arrive, 10 are served.
    short = value(shortage(0.5), previous=value(inputs()), at=NOW + 1)
    assert short.fraction == pytest.approx(0.5)
    assert short.reason is Reason.SHORTAGE


def test_a_backlog_is_worked_off() -> None:
    # 77.5 in flight where 55 fit: 22.5 within 5 s, of 9 arrivals a second.
    assert value(inputs(live=live((38.75, 38.75), 9.0))).fraction == pytest.approx(0.5)
    # Two replicas of which one was sampled.
    assert value(inputs(live=live((38.75,), 9.0, serving=2))).fraction == pytest.approx(0.5)


def test_without_a_serving_replica_everything_leaves() -> None:
    empty = value(inputs(live=live((), 4.0, serving=0)))
    assert empty.fraction == 1.0
    assert empty.admit is not None
    assert empty.admit.in_flight == 0


def test_replicas_that_idle_stop_overflow_before_the_mean_of_arrivals_does() -> None:
    # 20 a second arrived over the last minute; the replicas, which hold 40, are nearly empty.
    gone = inputs(live=live((0.0, 0.0), 20.0))
    assert value(gone).fraction == 0.0
    assert value(inputs(live=live((1.0, 1.0), 20.0))).fraction == pytest.approx(0.25)
    relieved = inputs(live=live((2.0, 2.0), 20.0))
    assert value(relieved).fraction == pytest.approx(0.5)


def test_the_fraction_falls_slowly_while_the_replicas_are_full() -> None:
    high = value(shortage(0.5))
    full = inputs(live=live((20.0, 20.0)))
    after = value(full, previous=high, at=NOW + 3)
    assert after.fraction == pytest.approx(0.4)
    later = value(full, previous=after, at=NOW + 6)
    assert later.fraction == pytest.approx(0.3)
    # A value that has expired had no effect any more.
    assert value(full, previous=high, at=NOW + 60).fraction == 0.0


def test_replicas_that_have_come_take_over_as_fast_as_they_fill() -> None:
    """20 arrive a second; two full replicas become four, which hold 20 more than they have."""
    high = value(shortage(0.5))
    came = inputs(live=live((20.0, 20.0, 10.0, 10.0), 20.0))
    after = value(came, previous=high, at=NOW + 1)
    # 20 within 5 s are 4 of the 20 a second, so a fifth.
    assert after.fraction == pytest.approx(0.3)
    # Once they have filled, it goes on slowly.
    filled = inputs(live=live((20.0, 20.0, 20.0, 20.0), 20.0))
    later = value(filled, previous=after, at=NOW + 2)
    assert later.fraction == pytest.approx(0.3 - 1 / 30)


def test_without_data_the_last_value_stays_to_the_end_of_its_lease() -> None:
    high = value(shortage(0.5))
    blind = inputs(live=None)
    held = value(blind, previous=high, at=NOW + 40)
    assert (held.fraction, held.until) == (high.fraction, high.until)
    over = value(blind, previous=high, at=NOW + 46)
    assert (over.fraction, over.allowance, over.reason) == (0.0, NO_ALLOWANCE, Reason.NO_DATA)
    assert value(blind).fraction == 0.0
    assert value(inputs(mu=None), previous=high, at=NOW + 1).fraction == high.fraction


def test_without_arrivals_the_slow_loop_and_then_the_queue_are_asked() -> None:
    assert value(
        inputs(live=live(arrivals=None), demand_per_second=20.0)
    ).fraction == pytest.approx(0.5)
    assert value(inputs(live=live(arrivals=None))).fraction == 0.0
    queued = live((50.0, 50.0), None, waiting=45.0)
    # At least 10 arrive where two replicas are full; 45 too many in 5 s.
    assert value(inputs(live=queued)).fraction == pytest.approx(0.9)


def test_max_fraction_caps() -> None:
    capped = dataclasses.replace(shortage(0.5), spec=spec(maxFraction="0.2"))
    assert value(capped).fraction == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"release": True}, Reason.RELEASED),
        ({"spec": spec(mode="Paused")}, Reason.PAUSED),
        ({"spec": spec(mode="Advise")}, Reason.ADVISE),
        ({"spec": spec().model_copy(update={"burst": None})}, Reason.BURST_DISABLED),
        ({"spec": spec(maxFraction="0")}, Reason.BURST_DISABLED),
        ({"route_problem": Reason.ROUTE_CONTESTED}, Reason.ROUTE_CONTESTED),
        ({"price_known": False}, Reason.PRICE_UNKNOWN),
        ({"p95_cost_usd": None}, Reason.PRICE_UNKNOWN),
        ({"p95_cost_usd": float("nan")}, Reason.PRICE_UNKNOWN),
    ],
)
def test_forbidden_burst_says_why_and_spends_nothing(
    changes: dict[str, object], reason: Reason
) -> None:
    high = value(shortage(0.5))
    closed = value(dataclasses.replace(shortage(0.5), **changes), previous=high, at=NOW + 1)  # type: ignore[arg-type]
    assert closed.reason is reason
    assert (closed.fraction, closed.allowance, closed.admit) == (0.0, NO_ALLOWANCE, None)
    assert closed.providers == ()


def test_a_budget_that_is_used_up_stops_burst_once_the_last_grant_is_gone() -> None:
    broke = dataclasses.replace(shortage(0.5), budget_left_usd=0.0)
    assert value(broke).fraction == pytest.approx(0.5)
    gone = next_value(broke, None, NOW, 1, NO_ALLOWANCE)
    assert (gone.fraction, gone.reason) == (0.0, Reason.BUDGET_EXHAUSTED)


def test_a_small_allowance_is_spread_over_the_lease() -> None:
    # 90 requests in 45 s are two a second, of 20.
    small = next_value(shortage(0.5), None, NOW, 1, Allowance(90, 1.0))
    assert small.fraction == pytest.approx(0.1)


def providers(*limits: dict[str, int]) -> InferencePoolSpec:
    names = ("dear", "cheap", "unpriced")
    return spec(
        providers=[{"name": n, "limits": x} for n, x in zip(names, limits, strict=True)],
    )


def test_providers_fill_by_price_within_their_limits() -> None:
    of = dataclasses.replace(
        shortage(0.5),
        spec=providers({}, {"requestsPerMinute": 240}, {}),
        cost_by_provider={"dear": 0.02, "cheap": 0.01},
    )
    # 240 a minute are 4 of 20 arrivals a second.
    shares = value(of).providers
    assert [p.name for p in shares] == ["cheap", "dear", "unpriced"]
    assert [p.fraction for p in shares] == pytest.approx([0.2, 0.3, 0.0])


def test_providers_token_limits_count_and_what_fits_nowhere_stays_local() -> None:
    of = dataclasses.replace(
        shortage(0.5),
        spec=providers(
            {"requestsPerMinute": 60}, {"tokensPerMinute": 120_000}, {"requestsPerMinute": 60}
        ),
        tokens_per_request=1000.0,
    )
    # One, two and one a second, of 20.
    result = value(of)
    assert [p.fraction for p in result.providers] == pytest.approx([0.05, 0.1, 0.05])
    assert result.fraction == pytest.approx(0.2)


@pytest.mark.parametrize("most", [None, 256.0])
def test_an_engine_that_takes_more_into_its_batch_queues_nothing_and_gets_no_more(
    most: float | None,
) -> None:
    # Two replicas of B* = 20: beyond them requests would not wait, they would slow the others.
    admit = value(inputs(engine_concurrency=most)).admit
    assert admit is not None
    assert admit.in_flight == 40


def test_a_late_figure_of_arrivals_gives_way_to_a_queue_on_the_replicas() -> None:
    # 65 are on two replicas that take 40, and 15 more that may wait; they serve 10 a second.
    queued = live((32.5, 32.5), None)
    for late in (0.0, 0.1, 9.9):
        assert value(inputs(live=queued, demand_per_second=late)).fraction == pytest.approx(0.2)


def test_a_late_figure_of_arrivals_does_not_hand_all_of_it_back_at_once() -> None:
    high = value(shortage(0.5))
    drained = inputs(live=live((15.0, 15.0), None), demand_per_second=0.1)
    # Room for 10 is filled in 5 s by a fifth of the 10 a second that two replicas serve.
    after = value(drained, previous=high, at=NOW + 1)
    assert after.fraction == pytest.approx(0.3)


def test_a_provider_that_refuses_most_loses_its_share_to_the_next() -> None:
    two = spec(providers=[{"name": "first"}, {"name": "second"}])
    costs = {"first": 0.01, "second": 0.02}
    full = live((40.0, 40.0), 40.0)
    usual = inputs(spec=two, live=full, cost_by_provider=costs)
    refusing = dataclasses.replace(usual, failing_by_provider={"first": 0.6})
    few = dataclasses.replace(usual, failing_by_provider={"first": 0.4})
    shares = [
        [p.fraction > 0 for p in next_value(each, None, NOW, 1, Allowance(1000, 10.0)).providers]
        for each in (usual, refusing, few)
    ]
    assert shares == [[True, False], [False, True], [True, False]]


def test_with_all_providers_down_requests_queue_and_the_reason_says_so() -> None:
    two = spec(providers=[{"name": "first"}, {"name": "second"}])
    down = inputs(
        spec=two,
        live=live((40.0, 40.0), 40.0),
        failing_by_provider={"first": 1.0, "second": 0.9},
    )
    value = next_value(down, None, NOW, 1, Allowance(1000, 10.0))
    assert value.reason is Reason.PROVIDERS_DOWN
    assert value.idle
