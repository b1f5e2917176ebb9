"""The fluid engine by hand: n in flight on a replica end n / (100 (10 ms + 1 ms n)) a second."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from spillway.sim import fluid
from spillway.sim.conditions import Api, Change, Conditions, GpuGauge
from spillway.sim.scaler import BurstActuator
from spillway.sim.setting import setting_of
from spillway.sim.trace import Lengths, Trace
from tests.unit.sim.worlds import Scripted, steady, trace, world

if TYPE_CHECKING:
    from spillway.sim.outcome import Result

#: $1,000 a request of 1,000 prompt and 100 output tokens.
DEAR = Api(input_usd_per_million=1e6, output_usd_per_million=0.0, late_share=0.0)


def run(
    load: Trace,
    conditions: Conditions,
    scaler: Scripted,
    actuator: BurstActuator = BurstActuator.NONE,
    record: int | None = None,
) -> list[Result]:
    return fluid.run(load, conditions, scaler, actuator, record=record)


def test_just_enough_replicas_keep_the_promise_and_a_fifth_less_lose_it() -> None:
    load = trace([80.0] * 60)
    mu = setting_of(load, world(), 5.0).told.requests_per_second
    enough = int(np.ceil(80 / mu))
    few = int(0.8 * enough)
    scaler = steady(enough, few)
    kept, lost = run(load, world(), scaler)
    assert kept.attainment > 0.95
    assert lost.attainment < 0.2
    assert scaler.seen[-1].waiting[0] == 0
    # What arrives beyond what saturated replicas finish waits: it grows all the time.
    queues = [seen.waiting[1] for seen in scaler.seen[20:]]
    assert queues == sorted(queues)
    assert queues[-1] > 1000


def test_replicas_are_paid_for_while_they_start_and_while_they_drain() -> None:
    # 2 replicas for 600 s; at 120 s 3 more, at 300 s gone again, drained for 30 s.
    scaler = Scripted([lambda now: 5 if 120 <= now < 300 else 2])
    (result,) = run(trace([1.0] * 10), world(floor=2), scaler)
    assert result.replica_hours == pytest.approx((2 * 600 + 3 * (180 + 30)) / 3600)
    assert result.gpu_usd == pytest.approx(result.replica_hours * 3.6)
    assert result.api_usd == 0
    assert result.scale_actions == 2


def test_admission_sends_away_what_the_bound_has_no_room_for() -> None:
    # 40 in flight end 8 requests/s; 20 arrive: 12 of 20 leave once the bound is reached.
    scaler = steady(1, admit=40.0)
    (result,) = run(
        trace([20.0] * 60),
        world(api=DEAR, burst_blind=True),
        scaler,
        BurstActuator.ADMISSION,
        record=0,
    )
    assert result.timeline is not None
    assert result.timeline.cloud_per_second[-1] == pytest.approx(12.0, rel=1e-4)
    assert scaler.seen[-1].running[0] == pytest.approx(40.0)
    assert result.api_usd == pytest.approx(1000 * result.cloud_requests)
    assert result.attainment > 0.99  # 50 ms a token here, and the API is never late.


def test_below_the_bound_nothing_leaves() -> None:
    (result,) = run(trace([5.0] * 10), world(), steady(1, admit=40.0), BurstActuator.ADMISSION)
    assert result.cloud_requests == pytest.approx(0.0, abs=1e-9)


def test_a_fraction_leaves_whatever_the_load() -> None:
    api = replace(DEAR, late_share=0.5)
    (result,) = run(
        trace([1.0] * 10), world(api=api), steady(1, fraction=0.25), BurstActuator.FRACTION
    )
    assert result.cloud_requests == pytest.approx(150)
    assert result.attained_requests == pytest.approx(450 + 75, rel=1e-3)


def test_without_an_actuator_nothing_leaves() -> None:
    (result,) = run(trace([50.0] * 5), world(), steady(1, fraction=1.0, admit=0.0))
    assert result.cloud_requests == 0


def test_during_an_outage_of_the_api_everything_stays() -> None:
    conditions = world(changes=(Change(at=1200.0, until=1800.0, api_down=True),))
    (result,) = run(
        trace([20.0] * 60), conditions, steady(1, admit=40.0), BurstActuator.ADMISSION, record=0
    )
    line = result.timeline
    assert line is not None
    inside = (line.at >= 1200) & (line.at < 1800)
    assert line.cloud_per_second[inside].max() == 0
    # 20 arrive and 1 / 0.11 end, for 600 s; the batch holds 100.
    assert line.waiting[inside][-1] == pytest.approx(600 * (20 - 100 / 11) - 60, rel=0.01)
    assert line.attainment[inside][-1] < 0.01
    # After it the queue leaves no room until it is worked off: all new requests leave.
    assert line.cloud_per_second[line.at == 1800][0] == pytest.approx(20.0)


def test_the_rate_limit_refuses_and_what_is_refused_stays() -> None:
    api = replace(DEAR, requests_per_minute=120)
    scaler = steady(1, admit=40.0)
    (result,) = run(trace([20.0] * 30), world(api=api), scaler, BurstActuator.ADMISSION)
    # Two a second, and once what a full minute allows.
    assert result.cloud_requests == pytest.approx(2 * 1800 + 120, rel=0.01)
    assert scaler.seen[-1].waiting[0] > 1000


def test_failed_attempts_are_repeated_billed_and_count_against_the_limit() -> None:
    # Half of the attempts fail, one is repeated: a quarter is lost; 1.5 attempts a request. Three
    # quarters are paid for, and a third of the failures (0.5 + 0.25) with them.
    api = replace(DEAR, error_share=0.5, retries=1, billed_error_share=1 / 3)
    (result,) = run(
        trace([1.0] * 60), world(api=api), steady(1, fraction=1.0), BurstActuator.FRACTION
    )
    assert result.lost_requests == pytest.approx(3600 / 4)
    assert result.api_usd == pytest.approx(3600 * 1000 * (0.75 + 0.25))
    assert result.attainment == pytest.approx(0.75)
    limited = replace(api, requests_per_minute=45)
    (result,) = run(
        trace([1.0] * 60), world(api=limited), steady(1, fraction=1.0), BurstActuator.FRACTION
    )
    assert result.cloud_requests == pytest.approx((3600 * 45 / 60 + 45) / 1.5, rel=0.01)


def test_prompts_beyond_the_api_s_context_stay() -> None:
    lengths = Lengths.of(np.array([1000, 1000, 1000, 9000]), np.array([100] * 4))
    api = replace(DEAR, max_context_tokens=4000)
    for blind in (False, True):
        (result,) = run(
            trace([1.0] * 10, lengths=lengths),
            world(api=api, burst_blind=blind),
            steady(1, admit=0.0),
            BurstActuator.ADMISSION,
        )
        assert result.cloud_requests == pytest.approx(0.75 * 600)


@pytest.mark.slow
def test_the_cheapest_for_their_gpu_time_leave_first() -> None:
    # Prompts cost dollars and no GPU time here: the short ones are the cheap ones.
    lengths = Lengths.of(np.array([1000, 9000]), np.array([100, 100]))
    cost = {}
    for blind in (False, True):
        (result,) = run(
            trace([1200.0] * 60, lengths=lengths),
            world(api=DEAR, burst_blind=blind),
            steady(100, admit=4000.0),
            BurstActuator.ADMISSION,
        )
        assert result.cloud_requests / result.requests == pytest.approx(1 / 3, abs=0.01)
        cost[blind] = result.api_usd / result.cloud_requests
    assert cost[False] == pytest.approx(1000, rel=0.05)
    assert cost[True] == pytest.approx(5000)


def test_a_new_price_is_charged_and_seen_at_once() -> None:
    conditions = world(api=DEAR, changes=(Change(at=300.0, api_price_factor=0.5),))
    scaler = steady(1, fraction=1.0)
    (result,) = run(trace([1.0] * 10), conditions, scaler, BurstActuator.FRACTION)
    assert result.api_usd == pytest.approx(1000 * 300 + 500 * 300)
    assert {seen.now: seen.api_price_factor for seen in scaler.seen}[300.0] == 0.5
    assert {seen.now: seen.api_price_factor for seen in scaler.seen}[285.0] == 1.0


def test_metrics_are_old_and_rates_are_of_a_minute() -> None:
    scaler = steady(3)
    run(trace([2.0] * 5 + [8.0] * 5), world(metric_lag_seconds=15.0), scaler)
    seen = {each.now: float(each.arrivals_per_second[0]) for each in scaler.seen}
    assert seen[0.0] == seen[315.0] == pytest.approx(2.0)
    assert seen[345.0] == pytest.approx(5.0)  # 30 s of the minute before 330 s.
    assert seen[375.0] == pytest.approx(8.0)


def test_what_is_on_its_way_is_seen_without_a_lag() -> None:
    scaler = Scripted([lambda now: 4 if now >= 60 else 1])
    conditions = world(changes=(Change(at=100.0, until=200.0, schedulable=False),))
    run(trace([1.0] * 10), conditions, scaler)
    seen = {each.now: each for each in scaler.seen}
    assert seen[75.0].requested.tolist() == [4]
    assert (seen[75.0].ready.tolist(), seen[75.0].unready.tolist()) == ([1], [3])
    assert seen[120.0].ready.tolist() == [4]


def test_hidden_drift_changes_the_world_and_not_what_is_told() -> None:
    changes = (Change(at=0.0, capacity_factor=0.5), Change(at=0.0, output_factor=2.0))
    before, after = steady(1), steady(1)
    run(trace([30.0] * 10), world(), before)
    run(trace([30.0] * 10), world(changes=changes), after)
    assert before.told is not None
    assert after.told is not None
    assert before.told.requests_per_second == after.told.requests_per_second
    # Twice the tokens at half the speed: a saturated replica ends a quarter.
    assert before.seen[-1].completions_per_second[0] == pytest.approx(100 / 11)
    assert after.seen[-1].completions_per_second[0] == pytest.approx(100 / 11 / 4)
    assert after.seen[-1].output_tokens_per_second == pytest.approx(200 * 100 / 11 / 4)


def test_told_capacity_may_be_wrong() -> None:
    right, wrong = steady(1), steady(1)
    run(trace([1.0]), world(), right)
    run(trace([1.0]), world(told_capacity_factor=1.25), wrong)
    assert right.told is not None
    assert wrong.told is not None
    assert wrong.told.requests_per_second == pytest.approx(1.25 * right.told.requests_per_second)


def test_an_interruption_takes_replicas_and_makes_what_they_had_late() -> None:
    conditions = world(changes=(Change(at=300.0, interrupted_replicas=1),))
    scaler = steady(2)
    (result,) = run(trace([10.0] * 10), conditions, scaler)
    (calm,) = run(trace([10.0] * 10), world(), steady(2))
    seen = {each.now: each for each in scaler.seen}
    assert (seen[300.0].ready.tolist(), seen[300.0].unready.tolist()) == ([1], [1])
    assert seen[375.0].ready.tolist() == [2]
    assert result.attained_requests < calm.attained_requests
    assert result.gpu_usd == pytest.approx(calm.gpu_usd)  # Its successor is paid for at once.


def test_the_two_readings_of_gpu_utilisation() -> None:
    for gauge, least, most in ((GpuGauge.LOAD, 0.3, 0.6), (GpuGauge.DUTY_CYCLE, 0.97, 1.0)):
        scaler = steady(1)
        run(trace([4.0] * 5), world(gpu_gauge=gauge), scaler)
        assert least < scaler.seen[-1].gpu_utilization[0] < most


def test_configurations_do_not_touch_each_other() -> None:
    load = trace([5.0, 40.0, 20.0, 5.0, 30.0] * 3)
    scripts = [lambda now, n=n: n + int(now / 120) % 3 for n in (1, 4, 6)]
    together = run(load, world(), Scripted(scripts, admit=60.0), BurstActuator.ADMISSION)
    for script, result in zip(scripts, together, strict=True):
        (alone,) = run(load, world(), Scripted([script], admit=60.0), BurstActuator.ADMISSION)
        assert alone.usd == pytest.approx(result.usd)
        assert alone.attainment == pytest.approx(result.attainment)


def test_the_timeline_adds_up_to_the_result() -> None:
    # Four for 30 requests/s at the begin, then 2 and 3 by turns.
    scaler = Scripted([lambda now: 2 + int(now / 100) % 2], admit=60.0)
    (result,) = run(trace([30.0] * 10), world(floor=2), scaler, BurstActuator.ADMISSION, record=0)
    line = result.timeline
    assert line is not None
    assert line.cloud_per_second.sum() * 5 == pytest.approx(result.cloud_requests)
    assert line.gpu_usd_per_hour.sum() * 5 / 3600 == pytest.approx(result.gpu_usd)
    assert line.api_usd_per_hour.sum() * 5 / 3600 == pytest.approx(result.api_usd)
    assert len(line.notes) == result.scale_actions == 6
    assert [(n.at, n.replicas_before, n.replicas) for n in line.notes[:2]] == [
        (0.0, 4, 2),
        (105.0, 2, 3),
    ]


def test_targets_that_no_load_meets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"meets ttft 2 s and tpot 0.009 s for no more than 0.0%"):
        run(trace([1.0]), world(tpot_seconds=0.009), steady(1))


def test_a_configuration_that_does_not_exist_can_t_be_recorded() -> None:
    with pytest.raises(ValueError, match="record must be from 0 to 1, got 2"):
        run(trace([1.0]), world(), steady(1, 2), record=2)
