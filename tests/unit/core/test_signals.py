"""What a missing signal holds back, and what it does not."""

from __future__ import annotations

from spillway.api.reasons import Reason
from spillway.core.facts import MissingData
from tests.unit.core import pools
from tests.unit.core.pools import reasons


def test_without_dcgm_a_cost_pool_still_gives_replicas_back() -> None:
    pool = pools.Pool(replicas=5, rps=10.0, load_changes={"gpu_utilization": None})
    pool.run(1800)
    assert pool.replicas < 5


def test_without_dcgm_a_utilization_pool_still_answers_a_queue_and_removes_nothing() -> None:
    spec = pools.spec(policy="Utilization")
    pool = pools.Pool(spec=spec, replicas=2, load_changes={"gpu_utilization": None})
    pool.missing = (MissingData("DCGM_FI_DEV_GPU_UTIL", "no fresh GPU series"),)
    pool.run(1200)
    assert pool.replicas == 2
    pool.load_changes["waiting"] = 50.0
    decisions = pool.run(120)
    assert pool.replicas == 4
    assert Reason.QUEUE_LONG in {reason for d in decisions for reason in reasons(d)}


def test_without_prometheus_the_pods_own_pages_are_enough_to_add_replicas() -> None:
    """No gateway, no GPU series, no token rates: completions and what is in flight."""
    pool = pools.Pool(
        replicas=2,
        rps=60.0,
        gateway=False,
        load_changes={
            "gpu_utilization": None,
            "prompt_tokens_per_second": None,
            "generation_tokens_per_second": None,
        },
    )
    pool.run(300)
    assert pool.replicas >= 6
