"""Pods come, change roles and go; no request is lost except with a pod that dies."""

from __future__ import annotations

import pytest

from tests.e2e.rig.emulator.settings import Fault, RateSettings
from tests.unit.rig.builders import KEY, T0, World, value, view


def test_requests_go_to_ready_pods_that_the_service_selects() -> None:
    world = World(requests_per_second=3)
    world.observe(view("a"), view("warm", "warm"), view("new", ready=False))
    world.run(20)
    state = world.state()
    assert state["local_total"] == state["arrivals_total"] > 30
    assert state["pods"]["a"]["finished"] > 0
    assert state["pods"]["warm"]["finished"] == state["pods"]["warm"]["running"] == 0
    assert "new" not in state["pods"]
    assert state["arrivals_per_second"] == pytest.approx(3, abs=1.8)


def test_load_spreads_over_the_pods_in_service() -> None:
    world = World(requests_per_second=4)
    world.observe(view("a"), view("b"))
    world.run(30)
    counts = [pod["finished"] + pod["running"] for pod in world.state()["pods"].values()]
    assert min(counts) > 0.35 * sum(counts)


def test_a_service_without_pods_refuses() -> None:
    world = World(requests_per_second=5)
    world.run(10)
    state = world.state()
    assert state["refused_total"] == state["arrivals_total"] > 20
    assert state["attainment"]["overall"]["both"] == 0


def test_changing_roles_loses_nothing_and_a_demoted_pod_finishes_what_it_has() -> None:
    world = World(requests_per_second=4)
    world.observe(view("a"), view("b"))
    world.run(10)
    assert world.state()["pods"]["b"]["running"] > 0
    world.observe(view("a"), view("b", "draining"))
    got = world.state()["pods"]["b"]["finished"] + world.state()["pods"]["b"]["running"]
    world.run(60)
    b = world.state()["pods"]["b"]
    assert (b["running"], b["waiting"], b["finished"]) == (0, 0, got)
    world.observe(view("a"))
    world.observe(view("a"), view("c", "warm"))
    world.observe(view("a"), view("c"))
    world.run(20)
    state = world.state()
    assert state["lost_total"] == state["refused_total"] == 0
    assert state["local_total"] == state["finished_local_total"] + state["in_flight_local"]


def test_a_promoted_pod_logs_when_it_served_first() -> None:
    world = World(requests_per_second=5)
    world.observe(view("warm", "warm"))
    world.run(1)
    world.observe(view("warm"))
    world.run(5)
    events = {event["kind"]: event for event in world.fleet.events.all() if event["pod"] == "warm"}
    assert list(events) == ["pod_ready", "pod_serving", "pod_first_request"]
    assert events["pod_serving"]["time"] == T0 + 1
    first = world.state()["pods"]["warm"]["first_request_at"]
    assert first == events["pod_first_request"]["time"]
    assert events["pod_first_request"]["seconds_since_serving"] == pytest.approx(first - T0 - 1)


def test_requests_on_a_deleted_pod_are_lost_and_counted() -> None:
    world = World(requests_per_second=4)
    world.observe(view("a"), view("b"))
    world.run(10)
    had = world.state()["pods"]["b"]["running"]
    world.observe(view("a"))
    world.run(1)
    state = world.state()
    assert state["lost_total"] == had > 0
    assert list(state["pods"]) == ["a"]
    assert state["in_flight_local"] == state["pods"]["a"]["running"] + state["pods"]["a"]["waiting"]


def test_with_a_shutdown_grace_a_terminating_pod_finishes() -> None:
    world = World(requests_per_second=4, shutdown_grace_seconds=60)
    world.observe(view("a"), view("b"))
    world.run(10)
    world.observe(view("a"), view("b", terminating=True))
    assert not world.state()["pods"]["b"]["serving"]
    world.observe(view("a"))
    world.run(61)
    state = world.state()
    assert state["lost_total"] == 0
    assert list(state["pods"]) == ["a"]


def test_a_pod_of_the_same_name_is_a_new_engine() -> None:
    world = World(requests_per_second=2)
    world.observe(view("web-0"))
    world.run(20)
    world.observe(view("web-0", uid="another"))
    world.run(0.1)
    assert world.state()["pods"]["web-0"]["finished"] == 0


def test_a_new_rate_holds_from_now() -> None:
    world = World()
    world.observe(view("a"))
    world.run(5)
    assert world.state()["arrivals_total"] == 0
    ramp = [(0, 0), (10, 20)]
    world.fleet.set_rate(RateSettings.model_validate({"pool": KEY, "profile": ramp}))
    world.run(10)
    assert 60 < world.state()["arrivals_total"] < 140


def test_admit_bounds_what_is_in_flight_locally() -> None:
    world = World(requests_per_second=20, router="admit")
    world.observe(view("a"))
    world.pool.router.offer(value(admit={"inFlight": 8}), T0)
    peak = 0
    for _ in range(100):
        world.run(0.2, step=0.02)
        peak = max(peak, world.pool.local.in_flight)
    assert peak == 8
    assert world.pool.cloud.requests > 100
    assert world.pool.cloud.usd > 0
    world.run(40)  # The value has expired by now.
    before = world.pool.cloud.requests
    world.run(5)
    assert world.pool.cloud.requests == before


def test_cloud_requests_return_after_the_providers_latency() -> None:
    world = World(requests_per_second=5, router="fraction")
    world.pool.router.offer(value(fraction=1), T0)
    world.run(30)
    state = world.state()
    assert state["local_total"] == state["refused_total"] == 0
    assert state["finished_cloud_total"] + state["in_flight_cloud"] == state["cloud_total"] > 100
    assert state["attainment"]["overall"]["both"] == 1


def test_a_hung_engine_queues_with_an_idle_gpu_and_recovers() -> None:
    world = World(requests_per_second=3)
    world.observe(view("a"))
    world.run(20)
    assert world.state()["pods"]["a"]["gpu_utilization"] > 0.5
    world.pool.set_fault(Fault(hung=True), "a")
    world.run(20)
    a = world.state()["pods"]["a"]
    assert a["gpu_utilization"] == 0
    assert a["waiting"] > 30
    world.pool.set_fault(Fault(), "a")
    world.run(20)
    assert world.state()["pods"]["a"]["finished"] > a["finished"]


def test_a_pools_fault_reaches_pods_that_come_later() -> None:
    world = World()
    world.pool.set_fault(Fault(hung=True), None)
    world.observe(view("later"))
    assert world.state()["pods"]["later"]["fault"] == {"hung": True}


def test_pods_of_a_node_hold_different_gpus() -> None:
    world = World()
    world.observe(view("a", gpus=2), view("b", gpus=2), view("c", node="node-1"))
    held = {pod.view.name: pod.gpu_indices for _, pod in world.fleet.pods()}
    assert held == {"a": [0, 1], "b": [2, 3], "c": [0]}
    world.observe(view("b", gpus=2), view("c", node="node-1"))
    world.run(0.1)
    world.observe(view("b", gpus=2), view("c", node="node-1"), view("d", gpus=1))
    assert {pod.view.name: pod.gpu_indices for _, pod in world.fleet.pods()}["d"] == [0]


def test_overload_shows_in_attainment() -> None:
    world = World(requests_per_second=25)
    world.observe(view("a"))
    world.run(60, step=0.5)
    attainment = world.state()["attainment"]
    assert attainment["last_minute"]["both"] < 0.5
    assert world.state()["waiting"] + world.state()["running"] > 200
