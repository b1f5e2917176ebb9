from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.core.facts import PodPhase, RouteFacts

from .pools import Pool, burst, load, pod, reasons, spec, variant

AT_ONCE = {"persistence": "0s", "releaseWindow": "0s", "maxStepDown": 100}


def settled(**changes: Any) -> Pool:
    """A pool whose forecast has settled and whose timing limits are out of the way."""
    spec_changes = {"scaling": AT_ONCE, **changes.pop("spec", {})}
    pool = Pool(spec=spec(**spec_changes), **changes)
    pool.run(1200)
    return pool


# Cost: at $3.50 a replica and $12.96 for its work at the API, the last replica pays from 27 % use.


@pytest.mark.parametrize(("rps", "replicas"), [(12.0, 1), (14.0, 2), (22.0, 2), (24.0, 3)])
def test_cost_adds_a_replica_from_the_use_at_which_it_pays(rps: float, replicas: int) -> None:
    assert settled(spec={"burst": burst()}, rps=rps).step().desired == replicas


def test_cost_leaves_everything_to_an_api_that_is_cheaper_than_gpus_but_for_the_floor() -> None:
    decision = settled(spec={"burst": burst("0.01", "0.04")}, rps=100.0).step()
    assert decision.proposed == 0
    assert decision.desired == 1
    assert reasons(decision) == [Reason.DEMAND, Reason.FLOOR]


def test_cost_without_burst_sizes_for_the_attainment_quantile() -> None:
    decision = settled(rps=24.0).step()
    assert decision.desired == 3
    assert settled(rps=31.0).step().desired == 4


@pytest.mark.parametrize(
    ("changes", "budget_left", "why"),
    [
        ({"burst": burst(input_usd=None)}, True, "price"),
        ({"burst": burst(), "variants": [variant(usd=None)]}, True, "price"),
        ({"burst": burst()}, False, "budget"),
    ],
)
def test_cost_does_not_lean_on_burst_that_has_no_price_or_no_budget(
    changes: dict[str, Any], *, budget_left: bool, why: str
) -> None:
    pool = settled(spec=changes, rps=12.0, budget_left=budget_left)
    decision = pool.step()
    assert decision.desired == 2, "12 requests per second need two replicas of 10"
    assert why in decision.notes[0].message


def test_cost_does_not_lean_on_burst_that_its_route_can_not_carry() -> None:
    pool = settled(spec={"burst": burst()}, rps=12.0)
    carried = pool.step(replace(pool.facts(), route=RouteFacts()))
    assert carried.desired == 1
    lost = RouteFacts(Reason.ROUTE_NOT_FOUND, "there is no HTTPRoute")
    decision = pool.step(replace(pool.facts(), route=lost))
    assert decision.desired == 2, "12 requests per second need two replicas of 10"
    assert "burst is off because its route can't carry it" in decision.notes[0].message


def test_cost_does_not_lean_on_burst_whose_gateway_is_not_seen() -> None:
    pool = settled(spec={"burst": burst(driver="EdgeEnvoy")}, rps=12.0)
    lately = replace(pool.facts(), gateway_missing_since=pool.now - 60)
    assert pool.step(lately).desired == 1, "it may only have restarted"
    lost = replace(pool.facts(), gateway_missing_since=pool.now - 600)
    decision = pool.step(lost)
    assert decision.desired == 2
    assert "burst is off because its gateway is not seen" in decision.notes[0].message


def test_cost_ignores_a_busy_gpu_without_a_queue() -> None:
    pool = settled(spec={"burst": burst()}, rps=8.0, load_changes={"gpu_utilization": 0.95})
    assert {d.desired for d in pool.run(1800)} == {1}


def test_cost_works_off_a_queue() -> None:
    pool = settled(rps=18.0)
    assert pool.step().desired == 2
    # 2 replicas with 900 waiting each, kept for a minute at least: 30 requests per second more.
    pool.load_changes = {"waiting": 900.0}
    assert pool.step().desired == 5


def test_cost_keeps_here_what_the_api_may_not_take() -> None:
    limited = burst("0.01", "0.04", maxFraction="0.25")
    # The API is cheaper, but three quarters of 40 requests per second must stay: three replicas.
    assert settled(spec={"burst": limited}, rps=39.0).step().desired == 3


def test_cost_keeps_nothing_here_where_all_may_leave_whatever_the_attainment() -> None:
    promised = {"burst": burst("0.01", "0.04"), "latency": {"attainment": "0.9"}}
    pool = Pool(spec=spec(scaling=AT_ONCE, **promised))
    for pool.rps in (60.0, 140.0) * 20:
        pool.run(60)
    # Nine tenths lie between two levels of the forecast that are far apart.
    assert pool.step().proposed == 0


def test_latency_does_not_lean_on_burst() -> None:
    assert settled(spec={"burst": burst(), "policy": "Latency"}, rps=12.0).step().desired == 2


def test_latency_adds_at_once_what_cost_lets_burst_carry() -> None:
    pool = Pool(spec=spec(policy="Latency", burst=burst()), rps=10.0)
    pool.run(600)
    pool.rps = 60.0
    assert pool.run(90)[-1].desired > 2


# Utilization: the classic rule with its default figures.


def classic(**changes: Any) -> Pool:
    changes.setdefault("load_changes", {"gpu_utilization": 0.5})
    return Pool(spec=spec(policy="Utilization", replicas={"floor": 2, "max": 16}), **changes)


def test_utilization_doubles_above_60_percent_for_60_seconds() -> None:
    pool = classic(load_changes={"gpu_utilization": 0.61})
    decisions = pool.run(75)
    assert [d.desired for d in decisions] == [2, 2, 2, 2, 4]
    assert reasons(decisions[-1]) == [Reason.UTILIZATION_HIGH]


def test_utilization_doubles_again_only_after_another_60_seconds() -> None:
    pool = classic(load_changes={"gpu_utilization": 0.9})
    assert [d.desired for d in pool.run(180)] == [2] * 4 + [4] * 5 + [8] * 3


def test_a_break_starts_the_60_seconds_anew() -> None:
    pool = classic(load_changes={"gpu_utilization": 0.9})
    pool.run(45)
    pool.load_changes = {"gpu_utilization": 0.5}
    pool.step()
    pool.load_changes = {"gpu_utilization": 0.9}
    assert {d.desired for d in pool.run(60)} == {2}


def test_utilization_waits_for_replicas_that_are_on_their_way() -> None:
    pool = classic(load_changes={"gpu_utilization": 0.9})
    pool.extra_pods = (pod("new", None, phase=PodPhase.STARTING, since=pool.now),)
    assert {d.desired for d in pool.run(120)} == {2 + 1}, "the pod that starts was asked for"
    # The lead time is over and the pod is late: the clock of 60 s runs.
    assert max(d.desired for d in pool.run(90)) == 6


def test_utilization_removes_one_below_30_percent_for_ten_minutes_and_not_below_two() -> None:
    pool = classic(load_changes={"gpu_utilization": 0.2}, replicas=4)
    decisions = pool.run(600 * 4)
    falls = [i for i, d in enumerate(decisions) if d.changed]
    assert [decisions[i].desired for i in falls] == [3, 2]
    assert [i * 15 for i in falls] == [600, 1215], (
        "ten minutes each, the second's from a tick later"
    )
    assert decisions[-1].desired == 2


def test_nothing_goes_while_one_request_waits() -> None:
    pool = classic(load_changes={"gpu_utilization": 0.05, "waiting": 0.5, "running": 0.0})
    pool.replicas = 4
    assert {d.desired for d in pool.run(1200)} == {4}


def test_a_long_queue_counts_as_high_whatever_the_gpus_say() -> None:
    pool = classic(load_changes={"gpu_utilization": 0.4, "waiting": 5.0})
    decision = pool.run(75)[-1]
    assert decision.desired == 4
    assert reasons(decision) == [Reason.QUEUE_LONG]


def test_high_gpus_with_an_empty_queue_follow_the_classic_rule() -> None:
    pool = classic(load_changes={"gpu_utilization": 0.95, "waiting": 0.0})
    assert pool.run(75)[-1].desired == 4


def test_idle_gpus_with_a_long_queue_are_a_hung_engine_and_nothing_goes() -> None:
    pool = classic(load_changes={"gpu_utilization": 0.02, "waiting": 30.0}, replicas=4)
    decisions = pool.run(1200)
    assert min(d.desired for d in decisions) == 4
    assert all(d.hung and d.hold for d in decisions)
    assert all(Reason.HUNG_ENGINE in reasons(d) for d in decisions)


STILL = {
    "gpu_utilization": 0.0,
    "waiting": 0.0,
    "running": 8.0,
    "running_mean": 8.0,
    "steps_per_second": 0.0,
    "generation_tokens_per_second": 0.0,
    "finished_per_second": 0.0,
}


def test_running_requests_without_a_step_hang_although_nothing_queues() -> None:
    pool = classic(load_changes=STILL, replicas=4)
    decisions = pool.run(1200)
    assert min(d.desired for d in decisions) == 4
    assert all(d.hung and d.hold for d in decisions)


@pytest.mark.parametrize(
    "alive",
    [
        {"running": 0.0, "running_mean": 0.0},
        {"running_mean": 1.0},
        {"running_mean": None},
        {"gpu_utilization": 0.9},
        {"gpu_utilization": None},
        {"steps_per_second": 0.1},
        {"steps_per_second": None},
        {"generation_tokens_per_second": 0.1},
        {"generation_tokens_per_second": None},
        {"finished_per_second": 0.1},
        {"sampled_at": 0.0},
    ],
    ids=str,
)
def test_an_engine_that_may_be_alive_does_not_hang(alive: dict[str, float | None]) -> None:
    pool = classic(load_changes={**STILL, **alive}, replicas=4)
    assert not pool.run(30)[-1].hung


def test_a_replica_that_has_just_got_its_first_requests_does_not_hang() -> None:
    flooded = {"gpu_utilization": 0.0, "waiting": 30.0, "running": 60.0, "running_mean": 4.0}
    pool = classic(load_changes=flooded, replicas=4)
    assert not pool.run(30)[-1].hung


def test_without_gpu_metrics_the_queue_alone_may_add_but_nothing_goes() -> None:
    pool = classic(load_changes={"gpu_utilization": None}, replicas=4)
    assert {d.desired for d in pool.run(1200)} == {4}
    pool.load_changes = {"gpu_utilization": None, "waiting": 10.0}
    assert pool.run(75)[-1].desired == 8


def test_a_warm_replica_is_no_idle_replica() -> None:
    pool = classic(load_changes={"gpu_utilization": 0.5}, replicas=4)
    idle = load(pool.now, 0.0, gpu_utilization=0.0, running=0.0)
    pool.extra_pods = tuple(pod(f"w{i}", idle, role=Role.WARM) for i in range(4))
    assert {d.desired for d in pool.run(1200)} == {4}
