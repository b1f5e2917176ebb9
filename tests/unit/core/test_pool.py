"""One step: the decision, the plan that follows from it, and what is remembered."""

from __future__ import annotations

from spillway.api.inferencepool import InferencePoolStatus, LeadTimeStatus, ReplicaStatus
from spillway.core.pool import PoolState, step
from tests.unit.core import pools

NOW = pools.START


def test_a_step_plans_what_it_decides() -> None:
    pool = pools.Pool(rps=60.0, target_changes={"service_selects_role": True})
    facts = pool.facts()
    state = PoolState.restored(InferencePoolStatus(), NOW)
    outcome = step(facts, state, NOW, read_only=False, overflow_fraction=0.0, budget_left=True)
    (scale,) = outcome.plan.scales
    assert outcome.decision.desired > 2
    assert scale.replicas == outcome.decision.desired
    assert outcome.state.deciding.by_variant == outcome.decision.by_variant


def test_the_same_step_twice_is_the_same() -> None:
    facts = pools.Pool(rps=35.0).facts()
    state = PoolState.restored(InferencePoolStatus(), NOW)
    outcomes = [
        step(facts, state, NOW, read_only=False, overflow_fraction=0.2, budget_left=True)
        for _ in range(2)
    ]
    assert outcomes[0] == outcomes[1]


def test_a_restart_keeps_what_was_on_its_way_and_what_was_measured() -> None:
    status = InferencePoolStatus(
        replicas=ReplicaStatus(desired=6), lead_time=LeadTimeStatus(recent_seconds=[80, 100])
    )
    pool = pools.Pool(rps=1.0)
    state = PoolState.restored(status, NOW)
    outcome = step(
        pool.facts(), state, NOW, read_only=False, overflow_fraction=0.0, budget_left=True
    )
    assert outcome.decision.desired == 6, "a restart alone never removes a replica"
    assert outcome.decision.lead_seconds == 100
