"""WVA's saturation analyzer V2 on token counts worked out by hand.

Requests are 1,000 prompt and 200 output tokens, the KV cache holds 100,000 tokens: k1 is 80,000.
Derived k2: min(8192 x 200 / 1200, 256) = 256 requests at 1,100 tokens, 281,600; so k1 decides.
"""

from __future__ import annotations

import pytest

from spillway.sim.rivals.wva import Wva, WvaConfiguration, wva, wva_grid
from tests.unit.sim.rivals.hand import seen, told


def begun(*configurations: WvaConfiguration) -> Wva:
    scaler = Wva(configurations or [WvaConfiguration()])
    scaler.begin(told())
    return scaler


def test_steady_between_the_thresholds() -> None:
    # 4 x 62,000 of 4 x 80,000 tokens is 78 %: above 70, below 85.
    assert begun().decide(seen(0, ready=4, kv_usage=0.62)).replicas == [4]


def test_up_by_the_replicas_that_are_missing() -> None:
    # 4 x 80,000 / 0.85 = 376,471 tokens; 56,471 more than 320,000: one replica.
    assert begun().decide(seen(0, ready=4, kv_usage=0.8)).replicas == [5]


def test_replicas_that_start_are_supply() -> None:
    assert begun().decide(seen(0, ready=4, unready=1, kv_usage=0.8)).replicas == [5]


def test_down_by_what_is_spare_of_the_ready_ones() -> None:
    # 6 x 20,000 / 0.7 = 171,429 of 480,000 tokens: 308,571 spare, three replicas.
    assert begun().decide(seen(0, ready=6, kv_usage=0.2)).replicas == [3]


def test_waiting_requests_are_demand_with_prompt_and_answer() -> None:
    # Three wait on each: 4 x (60,000 + 3 x 1,200) / 0.85 = 299,294: enough. At 4 x 8: queue below.
    assert begun().decide(seen(0, ready=4, kv_usage=0.6, waiting=12)).replicas == [4]
    # 4 x (65,000 + 4 x 1,200) / 0.85 = 328,471: one more.
    assert begun().decide(seen(0, ready=4, kv_usage=0.65, waiting=16)).replicas == [5]


def test_what_a_request_weighs_is_measured() -> None:
    # Twice the tokens: 4 x (60,000 + 4 x 2,400) / 0.85 = 327,529 needs one more than 320,000.
    heavy = {
        "completions_per_second": 2.0,
        "prompt_tokens_per_second": 4000.0,
        "output_tokens_per_second": 800.0,
    }
    calm = seen(0, ready=4, kv_usage=0.6, waiting=16)
    assert begun().decide(calm).replicas == [4]
    assert begun().decide(seen(0, 1, ready=4, kv_usage=0.6, waiting=16, **heavy)).replicas == [5]


def test_a_queue_shows_what_compute_takes_and_is_remembered() -> None:
    scaler = begun()
    # Six wait on each of 4 that hold 40,000: k2 is 40,000. Demand 4 x (40,000 + 7,200) = 188,800;
    # / 0.85 = 222,118 less 160,000 is 1.55 replicas.
    assert scaler.decide(seen(0, ready=4, kv_usage=0.4, waiting=24)).replicas == [6]
    # Later without a queue: 38,000 x 6 / 0.85 = 268,235 less 240,000 needs one more.
    assert scaler.decide(seen(75, ready=6, kv_usage=0.38)).replicas == [7]


def test_the_last_minutes_peak_counts() -> None:
    scaler = begun()
    scaler.decide(seen(0, ready=4, kv_usage=0.62))
    assert scaler.decide(seen(45, ready=4, kv_usage=0.2)).replicas == [4]
    # 4 x 20,000 / 0.7 = 114,286 of 320,000: two to spare.
    assert scaler.decide(seen(60, ready=4, kv_usage=0.2)).replicas == [2]


def test_the_hpa_that_follows_ignores_a_tenth() -> None:
    # 20 x 70,000 / 0.85 = 1,647,059 less 1,600,000: one more, but 21 / 20 is within the tolerance.
    exact = WvaConfiguration(tolerance=0.0)
    scaler = begun(WvaConfiguration(), exact)
    assert list(scaler.decide(seen(0, 2, ready=20, kv_usage=0.7)).replicas) == [20, 21]


def test_no_report_is_no_answer() -> None:
    assert begun().decide(seen(0, unready=3, kv_usage=float("nan"))).replicas == [3]


def test_one_replica_stays() -> None:
    assert begun().decide(seen(0, ready=3, kv_usage=0.0)).replicas == [1]


def test_the_size_of_the_cache_must_be_known() -> None:
    with pytest.raises(ValueError, match="kv_capacity_tokens"):
        wva().begin(told(kv_capacity_tokens=None))


def test_history_of_k2_is_ten_replica_samples_long() -> None:
    scaler = begun()
    for n in range(5):
        scaler.decide(seen(n * 75.0, ready=2, kv_usage=0.4, waiting=20))
    # Five replicas at once push out half of the ten samples: the mean of k2 is 35,000.
    scaler.decide(seen(400, ready=5, kv_usage=0.3, waiting=50))
    # Demand 5 x 14,630 / 0.7 = 104,500: two to spare of 5 x 35,000, one if each took 30,000.
    assert scaler.decide(seen(475, ready=5, kv_usage=0.1463)).replicas == [3]
    # Demand 5 x 10,500 / 0.7 = 75,000: two to spare, three if each took 40,000.
    assert scaler.decide(seen(550, ready=5, kv_usage=0.105)).replicas == [3]


def test_the_grid_says_what_it_is() -> None:
    grid = wva_grid()
    assert len({grid.describe(k) for k in range(grid.configurations)}) == grid.configurations
