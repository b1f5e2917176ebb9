"""Which requests leave first, by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from spillway.sim.burst_order import burst_order
from spillway.sim.conditions import Api
from spillway.sim.trace import Lengths
from tests.unit.sim.worlds import BY_HAND

#: Prompts cost dollars and no GPU time, answers the other way round: 1 ms a token.
API = Api(input_usd_per_million=1e6, output_usd_per_million=0.0, max_context_tokens=5000)
LENGTHS = Lengths.of(np.array([100, 1000, 9000, 400]), np.array([100, 100, 100, 300]))


def test_the_cheapest_for_the_gpu_time_that_they_free_go_first() -> None:
    order = burst_order(BY_HAND, LENGTHS, API)
    # 600 tokens of GPU time in all: 100 frees 1/6 for $100, 400 frees 1/2 for $400, 1,000 another
    # 1/6 for $1,000; 9,000 is beyond the API's context.
    assert order.freed == pytest.approx([0, 1 / 6, 4 / 6, 5 / 6])
    assert order.requests == pytest.approx([0, 0.25, 0.5, 0.75])
    assert order.usd * 4 == pytest.approx([0, 100, 500, 1500])
    assert order.eligible == 0.75
    assert order.mean_usd == pytest.approx(500)
    assert order.mean_freed == pytest.approx((100 + 300 + 100) / 3 / 150)


def test_a_router_goes_by_the_prompt_and_not_by_an_answer_that_it_can_t_know() -> None:
    rng = np.random.default_rng(1)
    output = rng.integers(1, 200, 4000)
    order = burst_order(BY_HAND, Lengths.of(np.full(4000, 1000), output), API)
    # All prompts alike: no choice is better than any other.
    assert np.interp(0.3, order.freed, order.usd) == pytest.approx(0.3 * 1000, rel=0.1)


def test_a_narrow_window_lets_dearer_requests_leave() -> None:
    rng = np.random.default_rng(1)
    lengths = Lengths.of(rng.integers(100, 5000, 4000), np.full(4000, 100))
    costs = [
        float(np.interp(0.1, order.freed, order.usd))
        for window in (float("inf"), 400.0, 30.0)
        for order in [burst_order(BY_HAND, lengths, API, window_requests=window)]
    ]
    assert costs == sorted(costs)
    assert costs[0] < 0.8 * costs[2]
    assert costs[2] < 0.1 * 2550  # Still cheaper than at random.


def test_ranks_cut_the_gpu_time_into_classes_without_a_gap() -> None:
    order = burst_order(BY_HAND, LENGTHS, API)
    spans = sorted((begin, end) for begin, end in order.ranks.tolist() if end > begin)
    assert spans[0][0] == pytest.approx(0)
    assert spans[-1][1] == pytest.approx(1)
    assert all(a[1] == pytest.approx(b[0]) for a, b in pairwise(spans))
