"""What a replica really serves, by hand: t(n) = 10 ms + 1 ms a sequence, 100 tokens a request."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spillway.sim.profiles import PROFILES, ReplicaProfile
from spillway.sim.trace import Lengths
from spillway.sim.truth import ReplicaTruth, faster, gpu_seconds, replica_truth
from tests.unit.sim.worlds import BY_HAND, same_lengths

MANY = 1e12
"""Replicas of a pool so large that nothing scatters."""


def truth(
    profile: ReplicaProfile = BY_HAND,
    lengths: Lengths | None = None,
    replicas: float = MANY,
    tpot: float = 0.06,
) -> ReplicaTruth:
    return replica_truth(
        profile,
        lengths or same_lengths(),
        ttft_seconds=2.0,
        tpot_seconds=tpot,
        attainment=0.95,
        replicas=replicas,
    )


def test_without_scatter_a_replica_serves_what_steps_within_the_target() -> None:
    # 50 sequences step in 60 ms, and 50 / (100 * 0.060) requests end a second.
    found = truth()
    assert found.concurrency == pytest.approx(50, rel=0.02)
    assert found.requests_per_second == pytest.approx(50 / 6, rel=0.01)
    assert found.max_concurrency == 100
    assert found.max_requests_per_second == pytest.approx(100 / (100 * 0.110))


def test_in_flight_and_rate_are_each_others_inverse() -> None:
    found = truth()
    for rate in (0.5, 3.0, 8.0):
        assert found.rate_at(found.in_flight_at(rate)) == pytest.approx(rate)
    assert found.in_flight_at(50.0) == found.max_concurrency
    assert found.rate_at(1000.0) == found.max_requests_per_second


def test_the_smaller_the_pool_the_less_each_replica_serves() -> None:
    rates = [truth(replicas=n).requests_per_second for n in (1, 4, 16, MANY)]
    assert rates == sorted(rates)
    assert rates[0] < 0.95 * rates[-1]


def test_a_target_below_the_base_of_a_step_is_met_at_no_rate() -> None:
    found = truth(tpot=0.009)
    assert (found.requests_per_second, found.concurrency) == (0.0, 0.0)


def test_kv_cache_and_token_budget_bound_the_batch() -> None:
    # A request holds 1,000 + 50 tokens on average, and half a block.
    assert truth(replace(BY_HAND, kv_capacity_tokens=10_580)).max_concurrency == pytest.approx(10)
    # 11 tokens a step and sequence: its own, and 1,000 / 100 of a prompt.
    assert truth(replace(BY_HAND, max_num_batched_tokens=220)).max_concurrency == pytest.approx(20)


def test_waiting_beyond_the_ttft_target_is_late() -> None:
    found = truth(replace(BY_HAND, max_num_seqs=40))
    # 40 / (100 * 0.050) = 8 requests/s: 12 that wait, wait 1.5 s; 20 wait 2.5 s.
    assert found.attained_at(40 + 12) == pytest.approx(1.0)
    assert found.attained_at(40 + 20) == pytest.approx(0.0)


def test_a_faster_engine_serves_more_of_the_same() -> None:
    quick = truth(faster(BY_HAND, 2.0))
    assert quick.max_requests_per_second == pytest.approx(2 * truth().max_requests_per_second)
    assert quick.requests_per_second > 2 * truth().requests_per_second


def test_prompts_that_the_cache_answers_cost_no_prefill() -> None:
    profile = PROFILES["llama-3.1-8b-h100"]
    plain = Lengths.of(np.array([2000]), np.array([100]))
    cached = replace(plain, cached_tokens=np.array([1900]))
    assert gpu_seconds(profile, cached)[0] < 0.5 * gpu_seconds(profile, plain)[0]
    assert (
        truth(profile, cached, 8).requests_per_second
        > 1.5 * truth(profile, plain, 8).requests_per_second
    )


def test_lengths_that_scatter_make_code_like_traffic_harder() -> None:
    profile = PROFILES["llama-3.1-8b-h100"]
    rng = np.random.default_rng(1)
    prompt = np.maximum(1, rng.lognormal(7.3, 0.8, 5000)).astype(np.int64)
    output = np.maximum(1, rng.lognormal(2.5, 1.3, 5000)).astype(np.int64)
    mixed = truth(profile, Lengths.of(prompt, output), 8)
    alike = truth(
        profile, same_lengths(round(float(prompt.mean())), round(float(output.mean()))), 8
    )
    assert mixed.requests_per_second < 0.85 * alike.requests_per_second
