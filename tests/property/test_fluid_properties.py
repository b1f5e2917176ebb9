"""What must hold for every run of the fluid engine, whatever the load, the world and the scaler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from spillway.sim import fluid
from spillway.sim.conditions import Api, Change, Conditions, LeadTime
from spillway.sim.scaler import Asked, BurstActuator, Seen, Told
from tests.unit.sim.worlds import BY_HAND, trace

CONFIGURATIONS = 3

shares = st.floats(0, 1)
apis = st.builds(
    Api,
    late_share=shares,
    error_share=shares,
    billed_error_share=shares,
    retries=st.integers(0, 3),
    requests_per_minute=st.sampled_from([float("inf"), 1.0, 500.0]),
    max_context_tokens=st.sampled_from([10, 2000]),
)
changes = st.builds(
    Change,
    at=st.floats(0, 600),
    until=st.floats(0, 900),
    capacity_factor=st.floats(0.5, 2),
    prompt_factor=st.floats(0.5, 2),
    output_factor=st.floats(0.5, 2),
    api_price_factor=st.floats(0, 3),
    api_down=st.booleans(),
    interrupted_replicas=st.integers(0, 5),
    schedulable=st.booleans(),
)
worlds = st.builds(
    Conditions,
    profile=st.just(BY_HAND),
    floor=st.integers(1, 3),
    max=st.integers(3, 8),
    lead=st.builds(LeadTime, st.floats(1, 300), st.floats(0, 0.5)),
    drain_seconds=st.floats(0, 60),
    metric_lag_seconds=st.floats(0, 60),
    api=apis,
    changes=st.lists(changes, max_size=3).map(tuple),
    burst_blind=st.booleans(),
)


class Erratic:
    """Asks for anything, each configuration for something else."""

    name = "erratic"
    configurations = CONFIGURATIONS
    period_seconds = 15.0

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def describe(self, configuration: int) -> str:
        return str(configuration)

    def begin(self, told: Told) -> None:
        self._told = told
        self._rng = np.random.default_rng(self._seed)

    def decide(self, seen: Seen) -> Asked:
        for name in ("arrivals_per_second", "running", "waiting", "completions_per_second"):
            values: Any = getattr(seen, name)
            assert values.shape == (CONFIGURATIONS,)
            assert (values >= -1e-9).all()
        assert (seen.kv_usage <= 1).all()
        rng = self._rng
        return Asked(
            rng.integers(0, 12, CONFIGURATIONS),
            rng.random(CONFIGURATIONS),
            rng.choice([0.0, 20.0, 300.0, np.inf], CONFIGURATIONS),
        )


@pytest.mark.slow
@settings(phases=[Phase.reuse, Phase.generate])
@given(
    rates=st.lists(st.sampled_from([0.0, 0.5, 8.0, 60.0]), min_size=1, max_size=12),
    conditions=worlds,
    actuator=st.sampled_from(BurstActuator),
    seed=st.integers(0, 1000),
)
def test_nothing_is_lost_made_up_or_free(
    rates: list[float], conditions: Conditions, actuator: BurstActuator, seed: int
) -> None:
    load = trace(rates)
    results = fluid.run(load, conditions, Erratic(seed), actuator, record=1)
    hours = load.seconds / 3600
    interrupted = any(c.interrupted_replicas or not c.schedulable for c in conditions.changes)
    for result in results:
        assert abs(result.requests - sum(rates) * 60) < 1e-6
        assert -1e-9 <= result.cloud_requests <= result.requests + 1e-6
        assert -1e-9 <= result.lost_requests <= result.cloud_requests + 1e-9
        assert 0 <= result.attained_requests <= result.requests - result.lost_requests + 1e-6
        assert result.api_usd >= 0
        if not interrupted:
            floor = conditions.floor * hours * conditions.gpu_usd_per_replica_hour
            assert result.gpu_usd >= floor - 1e-9
        if actuator is BurstActuator.NONE:
            assert result.cloud_requests == result.api_usd == 0
    line = results[1].timeline
    assert line is not None
    for values in (line.cloud_per_second, line.waiting, line.gpu_usd_per_hour, line.ready):
        assert (values >= -1e-9).all()
    assert (line.ready <= conditions.max).all()
