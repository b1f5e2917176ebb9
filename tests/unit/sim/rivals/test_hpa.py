"""The HPA's arithmetic on cases worked out by hand, and the scaler made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from spillway.sim.rivals import hpa
from spillway.sim.rivals.hpa import (
    GpuUtilization,
    Hpa,
    HpaConfiguration,
    Pods,
    Tolerances,
    replicas_by_external_metric,
    replicas_by_pods_metric,
)
from spillway.sim.scaler import BurstActuator
from tests.unit.sim.rivals.hand import seen, told

if TYPE_CHECKING:
    from numpy.typing import NDArray


def of(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def pods(
    ready: float, pending: float = 0, missing: float = 0, current: float | None = None
) -> Pods:
    total = ready + pending + missing if current is None else current
    return Pods(of(total), of(ready), of(pending), of(missing))


@pytest.mark.parametrize(
    ("mean", "ready", "pending", "missing", "expected"),
    [
        (90, 4, 0, 0, 6),  # 90 / 70 x 4 = 5.14
        (76, 4, 0, 0, 4),  # 1.086: within a tenth
        (77, 4, 0, 0, 4),  # 1.1 is still within
        (78, 4, 0, 0, 5),
        (63, 4, 0, 0, 4),  # 0.9 is still within
        (35, 4, 0, 0, 2),
        (90, 4, 4, 0, 8),  # pending ones use nothing: 45 / 70 turns the direction, so nothing
        (100, 4, 1, 0, 6),  # 80 / 70 x 5 = 5.71
        (35, 4, 4, 0, 2),  # on the way down pending ones don't count
        (35, 4, 0, 2, 4),  # pods without a metric use the target: (4 x 35 + 2 x 70) / 70 = 4
        (95, 4, 0, 1, 5),  # on the way up they use nothing: 76 / 70 is within the tolerance
        (70, 4, 0, 2, 6),
    ],
)
def test_pods_metric(mean: float, ready: int, pending: int, missing: int, expected: int) -> None:
    got = replicas_by_pods_metric(of(mean * 1000), of(70_000), pods(ready, pending, missing))
    assert got == [expected]


def test_a_pods_metric_that_no_pod_has_asks_for_nothing() -> None:
    assert np.isnan(replicas_by_pods_metric(of(np.nan), of(70_000), pods(0, 3)))


def test_an_answer_against_the_direction_is_no_answer() -> None:
    # spec.replicas is 12 already and 4 pods are there: 8 would be fewer, though the ratio is 2.
    few = pods(4, 0, 1, current=12)
    assert replicas_by_pods_metric(of(140_000), of(70_000), few) == [12]


@pytest.mark.parametrize(
    ("total", "there", "expected"),
    [
        (10, 4, 5),  # 10 / 2
        (8.8, 4, 4),  # 8.8 / (2 x 4) = 1.1 is within
        (8.9, 4, 5),
        (7.2, 4, 4),
        (7.1, 4, 4),  # 0.89, but 3.55 is rounded up
        (5, 4, 3),
        (0, 4, 0),
    ],
)
def test_external_metric(total: float, there: int, expected: int) -> None:
    for split in (pods(there), pods(1, there - 1)):
        got = replicas_by_external_metric(of(total * 1000), of(2000), split)
        assert got == [expected]


def test_a_tolerance_of_its_own_in_each_direction() -> None:
    own = Tolerances(down=of(0.5, 0.0), up=of(0.0, 0.5))
    there = Pods(*(of(4, 4), of(4, 4), of(0, 0), of(0, 0)))
    target = of(2000, 2000)
    assert list(replicas_by_external_metric(of(8100, 8100), target, there, own)) == [5, 4]
    assert list(replicas_by_external_metric(of(5000, 5000), target, there, own)) == [4, 3]


def test_utilization_scales_up_at_once_and_down_after_five_minutes() -> None:
    scaler = hpa.on_utilization()
    scaler.begin(told())
    assert scaler.decide(seen(0, ready=4, gpu_utilization=0.9)).replicas == [6]
    # Two are starting: (4 x 90 + 0) / 70 = 5.14 is 6, as asked for already.
    assert scaler.decide(seen(15, ready=4, unready=2, gpu_utilization=0.9)).replicas == [6]
    for now in range(30, 315, 15):
        assert scaler.decide(seen(now, ready=6, gpu_utilization=0.3)).replicas == [6]
    assert scaler.decide(seen(315, ready=6, gpu_utilization=0.3)).replicas == [3]


def test_the_pools_bounds_are_minimum_and_maximum() -> None:
    scaler = Hpa("x", GpuUtilization(), [HpaConfiguration(70.0, floor=3, max=5)])
    scaler.begin(told(floor=2, max=100))
    assert scaler.decide(seen(0, ready=4, gpu_utilization=1.0)).replicas == [5]
    assert scaler.decide(seen(15, ready=2, gpu_utilization=0.1)).replicas == [3]


def test_on_queue_counts_pods_that_start() -> None:
    scaler = hpa.on_queue()
    scaler.begin(told())
    assert scaler.decide(seen(0, ready=2, waiting=9)).replicas == [4]  # 4.5, but 4 is the limit
    # With four there, 9 waiting are 5 at two each.
    assert scaler.decide(seen(15, ready=2, unready=2, waiting=9)).replicas == [5]


def test_configurations_are_independent_and_say_what_they_are() -> None:
    grid = hpa.on_utilization_grid()
    grid.begin(told())
    got = grid.decide(seen(0, grid.configurations, ready=10, gpu_utilization=0.7))
    by_text = {grid.describe(k): got.replicas[k] for k in range(grid.configurations)}
    assert len(by_text) == grid.configurations
    assert by_text["target 40, up after 0 s, down after 0 s, tolerance 0.1"] == 18
    assert by_text["target 70, up after 0 s, down after 0 s, tolerance 0"] == 10
    assert by_text["target 95, up after 0 s, down after 0 s, tolerance 0.1"] == 8
    assert by_text["target 95, up after 0 s, down after 300 s, tolerance 0.1"] == 10


def test_burst_is_the_cores_own_bound() -> None:
    scaler = hpa.on_utilization()
    scaler.begin(told(actuator=BurstActuator.ADMISSION))
    # B* a replica: the engine takes more than that into its batch, and slows down.
    assert scaler.decide(seen(0, ready=3, gpu_utilization=0.5)).admit_in_flight == [60]
    assert scaler.decide(seen(15, ready=1, gpu_utilization=0.5)).admit_in_flight == [20]


def test_burst_is_the_cores_own_fraction() -> None:
    scaler = hpa.on_utilization()
    scaler.begin(told(actuator=BurstActuator.FRACTION))
    busy = {"ready": 2, "gpu_utilization": 0.7, "arrivals_per_second": 10.0, "running": 40.0}
    # Two replicas take 4 of 10 a second.
    assert scaler.decide(seen(0, 1, **busy)).fraction == pytest.approx([0.6])
    calm = busy | {"arrivals_per_second": 1.0, "running": 5.0}
    assert scaler.decide(seen(60, 1, **calm)).fraction == [0]


def test_without_burst_nothing_leaves() -> None:
    scaler = hpa.on_utilization()
    scaler.begin(told())
    asked = scaler.decide(seen(0, ready=3, gpu_utilization=0.9, arrivals_per_second=99.0))
    assert asked.fraction == [0]
    assert np.isinf(asked.admit_in_flight).all()


def test_a_scaler_must_begin() -> None:
    with pytest.raises(RuntimeError, match="begin"):
        hpa.on_queue().decide(seen(ready=1))
