"""KEDA's three metrics on loads worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spillway.sim.rivals import keda
from tests.unit.sim.rivals.hand import seen, told

if TYPE_CHECKING:
    from spillway.sim.rivals.hpa import Hpa


def test_rate_counts_what_arrives_whoever_serves_it() -> None:
    scaler = keda.on_rate()
    scaler.begin(told())
    # 80 % of 2/s a replica: 20 / 1.6 = 12.5, and the first step may double five.
    load = {"arrivals_per_second": 20.0, "cloud_per_second": 12.0}
    assert scaler.decide(seen(0, 1, ready=5, **load)).replicas == [10]
    assert scaler.decide(seen(15, 1, ready=5, unready=5, **load)).replicas == [13]


def test_in_flight_counts_running_and_waiting() -> None:
    scaler = keda.on_in_flight()
    scaler.begin(told())
    # 80 % of 20 a replica: 90 / 16 = 5.6.
    assert scaler.decide(seen(0, ready=4, running=80.0, waiting=10.0)).replicas == [6]


def test_waiting_sees_nothing_until_a_queue_stands() -> None:
    scaler = keda.on_waiting()
    scaler.begin(told(floor=2))
    assert scaler.decide(seen(0, ready=4, running=240.0)).replicas == [4]
    assert scaler.decide(seen(15, ready=4, running=240.0, waiting=20.0)).replicas == [8]


@pytest.mark.parametrize("made", [keda.on_waiting(), keda.on_rate(), keda.on_in_flight()])
def test_a_threshold_follows_what_a_replica_is_told_to_serve(made: Hpa) -> None:
    made.begin(told(requests_per_second=4.0, concurrency=40.0))
    busy = {"arrivals_per_second": 19.2, "running": 192.0, "waiting": 12.0}
    wanted = {"keda-rate": 6, "keda-inflight": 7, "keda-waiting": 6}  # 19.2/3.2, 204/32, 12/2
    assert made.decide(seen(0, 1, ready=4, **busy)).replicas == [wanted[made.name]]
