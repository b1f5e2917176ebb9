from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.api.inferencepool import Latency
from spillway.core.throughput import BatchBounds, RequestWork, throughput

#: 8 ms a step; 20 ms of prefill and 200 tokens of 0.1 ms: (1 - 8/60) / 40 ms = 21.7 a second by the
#: mean alone.
WORK = RequestWork(
    base_seconds=0.008,
    prefill_seconds=0.020,
    token_seconds=1e-4,
    output_tokens=200.0,
    prefill_cv=1.0,
    output_cv=1.0,
)
FREE = BatchBounds(sequences=1e6, step_tokens=1e9, computed_tokens=1000)
TARGETS = Latency(ttft=2.0, tpot=0.060, attainment=0.95)


def rate(work: RequestWork = WORK, latency: Latency = TARGETS, bounds: BatchBounds = FREE) -> float:
    return throughput(work, latency, bounds).requests_per_second


def line(work: RequestWork = WORK, tpot: float = 0.060) -> float:
    return (1 - work.base_seconds / tpot) / work.seconds


def test_many_small_requests_come_close_to_the_mean_value_line() -> None:
    assert 0.85 * line() < rate() < line()


def test_few_lumpy_ones_stay_far_below_it() -> None:
    """As of code: prompts of 150 ms beside answers of 28 tokens."""
    lumpy = replace(WORK, prefill_seconds=0.150, output_tokens=28.0, output_cv=2.0)
    assert rate(lumpy) < 0.5 * line(lumpy)


def test_a_router_that_evens_out_lets_more_be_used() -> None:
    lumpy = replace(WORK, prefill_seconds=0.080, output_tokens=40.0)
    assert rate(replace(lumpy, pooling=4.0)) > 1.1 * rate(lumpy)


def test_a_step_longer_than_the_target_serves_nothing() -> None:
    assert rate(latency=Latency(tpot=0.008)) == 0
    assert rate(latency=Latency(ttft=0.005)) == 0


def test_a_tight_first_token_bounds_the_rate() -> None:
    tight = Latency(ttft=0.12, tpot=1.0)
    assert rate(latency=tight) < 0.8 * rate(latency=Latency(ttft=20.0, tpot=1.0))


def test_places_in_the_batch_bound_the_rate() -> None:
    found = throughput(WORK, TARGETS, replace(FREE, sequences=64))
    # 64 places less sqrt(64): 56 decode, in steps of 8 ms / (1 - rho).
    assert found.concurrency == pytest.approx(56 + found.requests_per_second * 0.02)
    busy = found.requests_per_second * WORK.seconds
    assert found.requests_per_second * 200 * 0.008 / (1 - busy) == pytest.approx(56)


def test_the_tokens_of_a_step_bound_the_rate() -> None:
    # 1,000 prompt tokens for 200 of output: six tokens a sequence and step.
    found = throughput(WORK, TARGETS, replace(FREE, step_tokens=60))
    assert found.concurrency == pytest.approx(10 + found.requests_per_second * 0.02)


works = st.builds(
    RequestWork,
    base_seconds=st.floats(0.001, 0.05),
    prefill_seconds=st.floats(0, 2),
    token_seconds=st.floats(1e-6, 0.005),
    output_tokens=st.floats(1, 4000),
    prefill_cv=st.floats(0, 4),
    output_cv=st.floats(0, 4),
    pooling=st.floats(1, 8),
)


@given(work=works, attainment=st.floats(0.01, 1.0))
def test_no_work_is_served_faster_than_the_mean_allows(
    work: RequestWork, attainment: float
) -> None:
    latency = Latency(ttft=2.0, tpot=0.060, attainment=attainment)
    found = throughput(work, latency, FREE)
    assert 0 <= found.requests_per_second <= line(work) * (1 + 1e-9)
    assert math.isfinite(found.concurrency)


@given(work=works, factor=st.floats(0.1, 10))
def test_an_engine_and_targets_that_are_both_slower_by_a_factor_serve_as_much_less(
    work: RequestWork, factor: float
) -> None:
    slow = replace(
        work,
        base_seconds=factor * work.base_seconds,
        prefill_seconds=factor * work.prefill_seconds,
        token_seconds=factor * work.token_seconds,
    )
    targets = Latency(ttft=2.0 * factor, tpot=0.060 * factor, attainment=0.95)
    # By bisection, so not to the last digit.
    assert rate(slow, targets) * factor == pytest.approx(rate(work), rel=1e-2, abs=1e-6)
