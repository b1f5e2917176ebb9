"""The request-level engine, by hand where one can, and against the fluid engine."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from spillway.sim import fluid, request_level
from spillway.sim.conditions import Api, Change, Conditions
from spillway.sim.scaler import BurstActuator
from spillway.sim.setting import setting_of
from spillway.sim.spillway_scaler import SpillwayScaler
from spillway.sim.trace import Lengths, Requests, Trace
from spillway.sim.workload import MIXES
from tests.unit.sim.worlds import Scripted, same_lengths, steady, trace, world

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.sim.outcome import Result

FREE = Api(late_share=0.0)


def few(*arrived_at: float, seconds: float = 60.0, prompt: int = 1000, output: int = 100) -> Trace:
    """Single requests, all alike."""
    count = len(arrived_at)
    lengths = same_lengths(prompt, output).take(np.zeros(count, dtype=np.int64))
    bins = np.bincount((np.array(arrived_at) // 5).astype(int), minlength=int(seconds / 5)) / 5.0
    requests = Requests(np.array(arrived_at), lengths, np.full(count, -1))
    return Trace("few", "made up", 5.0, bins, same_lengths(prompt, output), requests)


def test_a_lone_request_takes_its_steps() -> None:
    # 100 steps of 11 ms: the first token after one, a token each 11 ms from there.
    (result,) = request_level.run(few(1.0), world(), steady(1), BurstActuator.NONE)
    assert result.requests == result.attained_requests == 1
    assert result.ttft_seconds[50] == pytest.approx(0.011)
    assert result.tpot_seconds[50] == pytest.approx(0.011)
    assert result.gpu_usd == pytest.approx(0.06)


def test_arrivals_are_dealt_out_to_the_replica_with_the_fewest() -> None:
    # Two at once on two replicas: neither is slowed by the other.
    (result,) = request_level.run(few(1.0, 1.0), world(floor=2), steady(2), BurstActuator.NONE)
    assert result.tpot_seconds[99] == pytest.approx(0.011)
    (result,) = request_level.run(few(1.0, 1.0), world(), steady(1), BurstActuator.NONE)
    assert result.tpot_seconds[99] == pytest.approx(0.012)


def test_what_finds_the_bound_reached_leaves_at_once() -> None:
    conditions = world(api=FREE, burst_blind=True)
    scaler = steady(1, admit=2.0)
    (result,) = request_level.run(
        few(1.0, 1.0, 1.0, 1.0, 30.0), conditions, scaler, BurstActuator.ADMISSION
    )
    assert result.cloud_requests == 2
    assert result.api_usd == pytest.approx(2 * (1000 * 0.30 + 100 * 0.60) / 1e6)
    assert result.attained_requests == 5


def test_during_an_outage_and_beyond_context_and_limit_they_stay() -> None:
    down = world(api=FREE, changes=(Change(at=0.0, api_down=True),))
    short = world(api=replace(FREE, max_context_tokens=999))
    limited = world(api=replace(FREE, requests_per_minute=1))
    for conditions, sent in ((down, 0), (short, 0), (limited, 1)):
        (result,) = request_level.run(
            few(1.0, 1.0, 1.0), conditions, steady(1, fraction=1.0), BurstActuator.FRACTION
        )
        assert (result.cloud_requests, result.requests) == (sent, 3)


def test_attempts_that_fail_to_the_last_are_lost() -> None:
    conditions = world(api=replace(FREE, error_share=0.5, retries=1))
    load = trace([2.0] * 20)
    (result,) = request_level.run(load, conditions, steady(1, fraction=1.0), BurstActuator.FRACTION)
    assert result.cloud_requests == result.requests
    assert result.lost_requests / result.requests == pytest.approx(0.25, abs=0.03)
    assert result.attained_requests == result.requests - result.lost_requests


def test_requests_of_a_vanished_replica_begin_anew_and_are_late() -> None:
    # 100 tokens in 1.1 s; the replica goes after 1 s and its successor needs 60 s.
    conditions = world(changes=(Change(at=5.0, interrupted_replicas=1),))
    (result,) = request_level.run(
        few(4.0, seconds=120.0), conditions, steady(1), BurstActuator.NONE
    )
    assert result.attained_requests == 0
    assert result.ttft_seconds[50] == pytest.approx(61 + 0.011)


def test_a_drained_replica_finishes_what_it_has() -> None:
    scaler = Scripted([lambda now: 2 if now < 15 else 1])
    conditions = world(drain_seconds=0.0)
    (result,) = request_level.run(
        few(14.9, 14.9, 16.0, seconds=30.0), conditions, scaler, BurstActuator.NONE
    )
    assert result.attained_requests == 3
    # The first step has one replica: nothing arrives then.
    assert result.replica_hours == pytest.approx((15 + 30) / 3600)


def test_drift_of_lengths_reaches_single_requests() -> None:
    changes = (Change(at=0.0, output_factor=3.0),)
    (result,) = request_level.run(few(1.0), world(changes=changes), steady(1), BurstActuator.NONE)
    (plain,) = request_level.run(few(1.0), world(), steady(1), BurstActuator.NONE)
    assert result.attained_requests == plain.attained_requests == 1
    scaler = steady(1)
    request_level.run(few(1.0), world(changes=changes), scaler, BurstActuator.NONE)
    assert max(float(seen.running[0]) for seen in scaler.seen) <= 1


def test_only_one_configuration_at_a_time() -> None:
    with pytest.raises(ValueError, match="takes one configuration, got 2"):
        request_level.run(few(1.0), world(), steady(1, 2), BurstActuator.NONE)


def binned(load: Trace, seed: int) -> Trace:
    """The same load with its single requests, and with bins that show how they scatter."""
    requests = load.sampled(seed)
    count = int(load.seconds / 5)
    bins = np.bincount((requests.arrived_at // 5).astype(int), minlength=count)[:count] / 5.0
    return Trace(load.name, load.source, 5.0, bins, load.lengths, requests)


@pytest.mark.slow
def test_both_engines_agree_where_queueing_is_light() -> None:
    rng = np.random.default_rng(2)
    prompt = np.maximum(1, rng.lognormal(6.0, 0.8, 2000)).astype(np.int64)
    output = np.maximum(1, rng.lognormal(3.5, 0.7, 2000)).astype(np.int64)
    load = binned(trace([12, 16, 20, 24, 20, 16], lengths=Lengths.of(prompt, output)), 3)
    conditions = world(scatter=True)
    # Four and five replicas by turns, for what three and a half would be just enough for; a tenth
    # leaves.
    for actuator in (BurstActuator.NONE, BurstActuator.FRACTION):
        results = [
            run(
                load,
                conditions,
                Scripted([lambda now: 4 + int(now / 90) % 2], fraction=0.1),
                actuator,
            )[0]
            for run in (fluid.run, request_level.run)
        ]
        smooth, exact = results
        assert exact.requests == pytest.approx(smooth.requests)
        assert smooth.gpu_usd == pytest.approx(exact.gpu_usd)
        assert smooth.cloud_requests == pytest.approx(exact.cloud_requests, rel=0.1)
        assert smooth.usd == pytest.approx(exact.usd, rel=0.02)
        assert smooth.attainment == pytest.approx(exact.attainment, abs=0.01)


def bursty(
    mix: str, replicas: int, share: float, minutes: int, seed: int
) -> tuple[Trace, Conditions]:
    """A load of so large a share of what so many replicas of an 8B model serve within the targets.

    The mixes have the moments of public traces; prompts take most of the GPU's time.
    """
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    rows = np.array([MIXES[mix].draw(draw) for _ in range(3000)])
    lengths = Lengths(rows[:, 0], rows[:, 1], rows[:, 2])
    conditions = Conditions(floor=replicas, max=replicas, seed=seed)
    mu = setting_of(trace([15.0 * replicas], lengths=lengths), conditions, 5.0).told
    load = trace([share * replicas * mu.requests_per_second] * minutes, lengths=lengths)
    return binned(load, seed), conditions


def together(results: Sequence[Result]) -> tuple[float, float, float]:
    """Means of cost, of that the API's, and of attainment."""
    rows = [(each.usd, each.api_usd, each.attainment) for each in results]
    usd, api, attainment = np.mean(rows, axis=0).tolist()
    return usd, api, attainment


@pytest.mark.slow
def test_both_engines_send_away_the_peaks_that_reach_a_bound() -> None:
    # 60 % of the GPU's time are prompts, and answers last half a second. As a mere flow hardly
    # anything would reach the bound at this load.
    flow, smooth, exact = [], [], []
    for seed in (1, 2):
        load, conditions = bursty("code", 6, 0.9, 4, seed)
        told = setting_of(load, conditions, 5.0).told
        scaler = steady(6, admit=6 * told.concurrency)
        still = replace(conditions, scatter=False)
        flow += fluid.run(load, still, scaler, BurstActuator.ADMISSION)
        smooth += fluid.run(load, conditions, scaler, BurstActuator.ADMISSION)
        exact += request_level.run(load, conditions, scaler, BurstActuator.ADMISSION)
    usd, api, attainment = together(exact)
    assert api > 0.2 * usd
    assert together(flow)[1] < 0.1 * api
    # Two draws of four minutes; half of the API's bill would be 13 % of it all.
    assert together(smooth)[0] == pytest.approx(usd, rel=0.1)
    assert together(smooth)[2] == pytest.approx(attainment, abs=0.01)


@pytest.mark.slow
def test_both_engines_burst_alike_where_a_lagged_fraction_sends_away() -> None:
    # Spillway's own fast loop, which sees what is in flight 15 s later, at a load of all that four
    # replicas serve: surges fill them before it acts, and it empties them before it ends.
    smooth, exact = [], []
    for seed in (1, 2):
        load, conditions = bursty("chat", 4, 1.0, 6, seed)
        scaler = SpillwayScaler()
        exact += request_level.run(load, conditions, scaler, BurstActuator.FRACTION)
        for other in range(2):
            world = replace(conditions, seed=10 * other + seed)
            smooth += fluid.run(load, world, scaler, BurstActuator.FRACTION)
    usd, api, attainment = together(exact)
    assert api > 0.1 * usd
    assert together(smooth)[0] == pytest.approx(usd, rel=0.1)
    assert together(smooth)[2] == pytest.approx(attainment, abs=0.01)
