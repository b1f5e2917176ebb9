"""The product's core in the simulator: facts from what is seen, and what is asked from the plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from spillway.api.inferencepool import BurstDriver, Policy
from spillway.core.facts import PodPhase
from spillway.sim import fluid
from spillway.sim.conditions import Change
from spillway.sim.pod_table import PodTable
from spillway.sim.scaler import BurstActuator, Seen
from spillway.sim.setting import setting_of
from spillway.sim.spillway_scaler import SpillwayScaler, SpillwaySettings, pool_spec
from tests.unit.sim.worlds import trace, world


def seen(
    now: float, ready: int, unready: int = 0, pending: int = 0, requested: int | None = None
) -> Seen:
    def one(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([value])

    def count(value: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([value])

    return Seen(
        now=now,
        requested=count(ready + unready if requested is None else requested),
        ready=count(ready),
        unready=count(unready),
        arrivals_per_second=one(10.0),
        cloud_per_second=one(0.0),
        completions_per_second=one(10.0),
        running=one(40.0),
        waiting=one(8.0),
        kv_usage=one(0.4),
        gpu_utilization=one(0.9),
        attainment=one(1.0),
        unschedulable=count(pending),
        output_tokens_per_second=one(1000.0),
    )


def test_a_pod_is_created_when_it_was_asked_for_and_ready_when_it_was_seen_to_be() -> None:
    table = PodTable(15.0)
    table.seen(seen(0.0, 2), 1000.0)
    table.asked(3, 1000.0)
    starting = table.seen(seen(15.0, 2, 1), 1015.0)
    assert [pod.phase for pod in starting] == [PodPhase.READY] * 2 + [PodPhase.STARTING]
    assert starting[2].created_at == 1000.0
    table.asked(3, 1015.0)
    ready = table.seen(seen(60.0, 3), 1060.0)
    assert (ready[2].uid, ready[2].ready_at) == (starting[2].uid, 1060.0)
    assert ready[2].load is None  # The latest sample is of 15 s before.
    assert ready[0].load is not None


def test_every_replica_has_its_share_of_the_sums() -> None:
    (first, *_) = PodTable(15.0).seen(seen(0.0, 4), 1000.0)
    assert first.load is not None
    assert (first.load.running, first.load.waiting) == (10.0, 2.0)
    assert first.load.generation_tokens_per_second == 250.0
    assert first.load.prompt_tokens_per_second is None  # Not counted is not zero.
    assert first.load.sampled_at == 985.0


def test_replicas_that_find_no_gpu_are_unschedulable_until_they_do() -> None:
    table = PodTable(15.0)
    table.seen(seen(0.0, 1), 1000.0)
    table.asked(3, 1000.0)
    phases = [pod.phase for pod in table.seen(seen(15.0, 1, 2, pending=1), 1015.0)]
    assert phases == [PodPhase.READY, PodPhase.STARTING, PodPhase.UNSCHEDULABLE]
    phases = [pod.phase for pod in table.seen(seen(30.0, 1, 2), 1030.0)]
    assert phases == [PodPhase.READY, PodPhase.STARTING, PodPhase.STARTING]


def test_an_interruption_and_what_replaces_it_are_seen() -> None:
    table = PodTable(15.0)
    before = table.seen(seen(0.0, 3), 1000.0)
    table.asked(3, 1000.0)
    after = table.seen(seen(15.0, 2, 1), 1015.0)
    assert [pod.uid for pod in after[:2]] == [pod.uid for pod in before[:2]]
    assert after[2].phase is PodPhase.STARTING
    assert after[2].uid not in {pod.uid for pod in before}


def test_the_pool_is_what_a_user_who_knows_what_is_told_would_apply() -> None:
    told = replace(
        setting_of(trace([1.0]), world(floor=2, max=9), 5.0).told,
        actuator=BurstActuator.ADMISSION,
        api_requests_per_minute=600.0,
    )
    spec = pool_spec(told, SpillwaySettings(), 2.0)
    assert (spec.replicas.floor, spec.replicas.max) == (2, 9)
    assert spec.latency.ttft == 2.0
    assert spec.variants[0].capacity is not None
    assert spec.variants[0].capacity.requests_per_second == pytest.approx(
        told.requests_per_second, rel=1e-4
    )
    assert spec.burst is not None
    assert spec.burst.driver is BurstDriver.EDGE_ENVOY
    provider = spec.burst.providers[0]
    assert provider.price is not None
    assert float(provider.price.input_per_million) == pytest.approx(2 * 0.30)
    assert provider.limits.requests_per_minute == 600
    settings = SpillwaySettings(
        learn_capacity=True, spec={"policy": "Latency", "scaling": {"persistence": "60s"}}
    )
    changed = pool_spec(told, settings, 1.0)
    assert (changed.policy, changed.scaling.persistence) == (Policy.LATENCY, 60.0)
    assert changed.variants[0].capacity is None
    assert pool_spec(replace(told, actuator=BurstActuator.NONE), settings, 1.0).burst is None


def test_a_setting_that_the_api_refuses_is_refused() -> None:
    scaler = SpillwayScaler(SpillwaySettings(spec={"policy": "Cheapest"}))
    with pytest.raises(ValidationError, match="policy"):
        fluid.run(trace([1.0]), world(), scaler, BurstActuator.NONE)


@pytest.mark.slow
def test_it_follows_the_load_up_and_down_and_says_why() -> None:
    load = trace([10.0] * 10 + [60.0] * 25 + [10.0] * 25)
    conditions = world(max=20)
    attained = {}
    for actuator in (BurstActuator.ADMISSION, BurstActuator.FRACTION, BurstActuator.NONE):
        (result,) = fluid.run(load, conditions, SpillwayScaler(), actuator, record=0)
        line = result.timeline
        assert line is not None
        middle = line.ready[(line.at > 1500) & (line.at < 2100)]
        assert 6 <= middle.min() <= middle.max() <= 10  # 8.2 requests/s each.
        assert line.ready[-1] <= 3
        assert "req/s ahead" in line.notes[-1].reason or "forecast" in line.notes[-1].reason
        assert (result.cloud_requests > 0) is (actuator is not BurstActuator.NONE)
        attained[actuator] = result.attainment
    # What burst carries while replicas start is in time; without it a queue builds. (Admission
    # bounds what is in flight above what meets the target per token here: docs/design/simulation.)
    assert attained[BurstActuator.FRACTION] > attained[BurstActuator.NONE]


@pytest.mark.slow
def test_a_dear_api_makes_it_keep_more_replicas() -> None:
    load = trace([50.0 + 20 * (i % 7 == 3) for i in range(45)])
    replica_hours = []
    for factor in (0.02, 20.0):
        conditions = world(max=20, changes=(Change(at=0.0, api_price_factor=factor),))
        (result,) = fluid.run(load, conditions, SpillwayScaler(), BurstActuator.ADMISSION)
        replica_hours.append(result.replica_hours)
    assert replica_hours[0] < 0.5 * replica_hours[1]
