"""A step of the batches, by hand: 100 tokens a request, steps of 10 ms and 1 ms a sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spillway.sim.batch import Batch
from spillway.sim.truth import ReplicaTruth, replica_truth
from tests.unit.sim.worlds import BY_HAND, same_lengths

SECONDS = 5.0
ONE = np.ones(1)


def truth(prompt_seconds: float = 0.0, **changes: Any) -> ReplicaTruth:
    """Prompts of 1,000 tokens, each to compute in so many seconds."""
    profile = replace(BY_HAND, per_prefill_token_seconds=prompt_seconds / 1000, **changes)
    return replica_truth(
        profile, same_lengths(), ttft_seconds=2.0, tpot_seconds=0.06, attainment=0.95, replicas=1e12
    )


def batch(
    replica: ReplicaTruth,
    running: float,
    arriving: float,
    waiting: float = 0.0,
    unseen: float | None = None,
    draw: float = 0.0,
    serving: float = 1.0,
) -> Batch:
    made = Batch(replica, SECONDS, unseen)
    made.begin(running * ONE, waiting * ONE, serving * ONE, arriving * ONE, draw)
    return made


@pytest.mark.parametrize("prompt_seconds", [0.0, 0.05])
def test_a_load_that_lasts_keeps_as_many_in_flight_as_the_replica_s_truth_says(
    prompt_seconds: float,
) -> None:
    replica = truth(prompt_seconds)
    n, rate = 5.0, 4.0
    for _ in range(400):
        after = batch(replica, n, rate * SECONDS).after(rate * SECONDS * ONE)
        n = float(after.running[0])
    assert n == pytest.approx(replica.in_flight_at(rate), rel=1e-3)
    assert float(after.finished[0]) == pytest.approx(rate * SECONDS, rel=1e-3)


def test_prompts_that_come_hold_up_what_is_there() -> None:
    # 40 in steps of 50 ms and nothing else: 8/s. With 20 prompts of 0.1 s 2 of the 5 s are gone.
    alone, beside = (batch(truth(0.1), 40.0, a).after(a * ONE) for a in (0.0, 20.0))
    assert float(beside.finished[0]) < 0.9 * float(alone.finished[0])
    # Where prompts are free, more in the batch only means that more end.
    alone, beside = (batch(truth(), 40.0, a).after(a * ONE) for a in (0.0, 20.0))
    assert float(beside.finished[0]) > float(alone.finished[0])


def test_prompts_beyond_the_token_budget_wait() -> None:
    # A step takes 10 ms, 10 sequences 10 ms, and the one prompt for which there are tokens 100 ms.
    replica = truth(0.1, max_num_batched_tokens=1010)
    after = batch(replica, 10.0, 300.0).after(300.0 * ONE)
    assert float(after.waiting[0]) == pytest.approx(300 - SECONDS / 0.120)


def test_a_full_batch_lets_others_wait() -> None:
    # 100 is the most at once, and they end 100 / (100 * 0.110) = 9.09 a second.
    after = batch(truth(), 100.0, 100.0, waiting=30.0).after(100.0 * ONE)
    assert float(after.running[0]) == pytest.approx(100.0)
    assert float(after.waiting[0]) == pytest.approx(30 + 100 - SECONDS / 0.11)


@pytest.mark.parametrize("prompt_seconds", [0.0, 0.05])
@pytest.mark.parametrize("window", [1.0, 20.0])
def test_the_share_that_leaves_is_that_of_what_is_then_in_flight(
    prompt_seconds: float, window: float
) -> None:
    replica = truth(prompt_seconds)
    made = batch(replica, 40.0, 60.0)
    first, total = 42.0 * ONE, made.after(60.0 * ONE).running
    assert float(total[0]) > 42.0
    share = made.leaving(60.0 * ONE, first, window * ONE, total)
    left = made.after(60.0 * (1 - share))
    assert float(share[0]) == pytest.approx((float(left.running[0]) - 42.0) / window, rel=1e-6)


def test_requests_alike_that_come_when_the_load_says_hardly_scatter() -> None:
    # What is left is when within the step they come, which is most where steps are long.
    seen, unseen = (
        float(batch(truth(), 40.0, 40.0, unseen=u, draw=1.0).after(40.0 * ONE).running[0])
        for u in (0.0, 1.0)
    )
    calm = float(batch(truth(), 40.0, 40.0).after(40.0 * ONE).running[0])
    assert abs(seen - calm) < 0.5 * abs(unseen - calm)


def test_n_scatters_as_a_birth_and_death_process_does() -> None:
    # 40 in flight end 8/s. One more ends 0.01 / (100 * 0.05^2) = 0.04/s more, and 8 arrive: the
    # variance of Poisson arrivals alone is 8 / (2 * 0.04) = 100 on a replica, 25 on four.
    replica, rng = truth(), np.random.default_rng(1)
    for serving, variance in ((1.0, 100.0), (4.0, 25.0)):
        n, seen = 40.0, []
        for draw in rng.standard_normal(5_000):
            made = batch(replica, n, 40.0, unseen=1.0, draw=float(draw), serving=serving)
            n = float(made.after(40.0 * ONE).running[0])
            seen.append(n)
        assert np.mean(seen) == pytest.approx(40.0, rel=0.1)
        assert np.var(seen) == pytest.approx(variance, rel=0.25)
