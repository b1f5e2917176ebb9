from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spillway.api.inferencepool import (
    DecisionStatus,
    InferencePoolStatus,
    LeadTimeStatus,
    ReplicaStatus,
)
from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.core.decide import PoolMemory
from spillway.core.facts import PodPhase, TargetKind

from .pools import START, Pool, burst, load, pod, reasons, spec, variant

QUICK = {"persistence": "0s", "releaseWindow": "0s", "maxStepDown": 100}


def status(desired: int, *leads: float) -> InferencePoolStatus:
    return InferencePoolStatus(
        replicas=ReplicaStatus(desired=desired),
        lead_time=LeadTimeStatus(recent_seconds=list(leads)),
    )


def test_a_restart_goes_on_where_it_was() -> None:
    pool = Pool(rps=18.0, replicas=7, memory=PoolMemory.restored(status(7, 90.0, 100.0), START))
    first = pool.step()
    assert first.desired == 7
    assert first.lead_seconds == 100
    assert not first.changed


def test_a_restart_removes_nothing_before_its_own_window_has_passed() -> None:
    memory = PoolMemory.restored(status(7), START)
    pool = Pool(spec=spec(scaling={"releaseWindow": "5m"}), rps=8.0, replicas=7, memory=memory)
    assert {d.desired for d in pool.run(300)} == {7}
    assert pool.run(60)[-1].desired < 7


def test_a_restart_restores_what_was_on_its_way() -> None:
    """The decision for 5 was in the status; the write of spec.replicas had not happened."""
    pool = Pool(rps=40.0, replicas=2, memory=PoolMemory.restored(status(5), START))
    assert pool.step().desired == 5


def test_warm_and_draining_pods_are_not_counted_as_serving_after_a_restart() -> None:
    pool = Pool(rps=14.0, replicas=2, memory=PoolMemory.restored(status(2), START))
    idle = load(START, 0.0, running=0.0)
    pool.extra_pods = (
        pod("w", idle, role=Role.WARM),
        pod("d", idle, role=Role.DRAINING),
        pod("t", None, phase=PodPhase.TERMINATING),
    )
    pool.target_changes = {"spec_replicas": 4}
    assert pool.step().desired == 2


def test_a_restart_does_not_end_an_adoption() -> None:
    last = DecisionStatus(reasons=["Demand", "Adopting", "MaxReplicas"])
    memory = PoolMemory.restored(status(5).model_copy(update={"last_decision": last}), START)
    few = spec(replicas={"floor": 1, "max": 3}, scaling=QUICK)
    pool = Pool(spec=few, rps=8.0, replicas=5, memory=memory)
    assert all(decision.hold for decision in pool.run(540))
    assert not pool.run(300)[-1].hold
    assert pool.replicas == 1


def test_status_that_knows_nothing_restores_to_what_the_target_says() -> None:
    pool = Pool(rps=22.0, replicas=3, memory=PoolMemory.restored(InferencePoolStatus(), START))
    assert pool.step().desired == 3


def test_a_standby_that_begins_to_lead_goes_on_from_what_the_leader_asked_for() -> None:
    standby = Pool(rps=24.0, replicas=3)
    standby.run(600)
    # The leader has asked for 8, and decided on 9 before it died.
    standby.memory, standby.replicas = standby.memory.resumed(status(9), standby.now), 8
    first = standby.step()
    assert first.desired == 9
    assert first.forecast is not None
    assert first.forecast.mean == pytest.approx(24, rel=0.05)


def test_unreachable_targets_keep_the_number_and_say_why() -> None:
    # A tpot of 15 ms on a replica whose steps take 20 ms whatever they carry.
    pool = Pool(spec=spec(variants=[variant(rps=None)], latency={"tpot": "15ms"}), replicas=3)
    for i in range(400):
        batch = (1.0, 2.0, 30.0, 60.0)[i % 4]
        seconds = 0.020 + 0.0005 * batch
        pool.load_changes = {
            "running": batch,
            "running_mean": batch,
            "steps_per_second": 1 / seconds,
            "generation_tokens_per_second": batch / seconds,
            "finished_per_second": batch / seconds / 200,
            "prompt_tokens_per_second": batch / seconds * 5,
        }
        decision = pool.step()
    assert reasons(decision)[0] is Reason.TARGET_UNREACHABLE
    assert decision.capacity["gpu"].requests_per_second == 0
    assert decision.desired == decision.previous


def test_the_sentence_says_what_why_and_what_the_alternatives_cost() -> None:
    pool = Pool(spec=spec(burst=burst(), scaling=QUICK), rps=18.0, replicas=1)
    text = str(pool.run(600)[0])
    # 1 replica at $3.50; 18 requests per second at $0.00036 are $23.33 an hour.
    assert text.startswith("Replicas go from 1 to 2 (Demand): ")
    assert "now $3.50/h for GPUs and $0.00/h for the API" in text
    assert "all at the API $23.33/h" in text
    assert text.endswith(".")


def test_the_sentence_names_the_limit_and_what_was_wanted() -> None:
    pool = Pool(spec=spec(replicas={"floor": 1, "max": 3}), rps=95.0)
    text = str(pool.run(60)[-1])
    assert "Replicas stay at 3" in text
    assert "(MaxReplicas)" in text


def test_without_a_gpu_price_no_cost_is_invented() -> None:
    pool = Pool(spec=spec(variants=[variant(usd=None)]))
    decision = pool.step()
    assert decision.economics.gpu_per_hour is None
    assert "not known" in str(decision)


def test_cost_rates_count_every_pod_that_holds_gpus_and_what_leaves() -> None:
    pool = Pool(spec=spec(burst=burst()), rps=18.0)
    facts = pool.facts()
    assert facts.gateway is not None
    pool.extra_pods = (
        pod("w", load(START, 0.0), role=Role.WARM),
        pod("u", None, phase=PodPhase.UNSCHEDULABLE, since=START),
    )
    leaving = replace(pool.facts(), gateway=replace(facts.gateway, cloud_per_second=5.0))
    money = pool.step(leaving).economics
    assert money.gpu_per_hour == pytest.approx(3 * 3.5)
    assert money.api_per_hour == pytest.approx(5 * 0.00036 * 3600)
    assert money.all_api_per_hour == pytest.approx(18 * 0.00036 * 3600)


def test_what_leaves_follows_from_the_split_where_no_gateway_counts() -> None:
    pool = Pool(spec=spec(burst=burst()), rps=15.0, gateway=False, overflow_fraction=0.25)
    # 15 requests per second are three quarters; the fourth is 5.
    assert pool.step().economics.api_per_hour == pytest.approx(5 * 0.00036 * 3600)


@pytest.mark.slow
def test_a_quiet_night_does_not_change_what_a_request_costs() -> None:
    bounds = {"floor": 2, "max": 2}
    long = {"generation_tokens_per_second": 4000.0}
    pool = Pool(spec=spec(burst=burst(), replicas=bounds), rps=10.0, load_changes=long)
    busy = pool.run(1800)[-1].economics.api_per_request
    pool.load_changes = {"running": 0.0}
    quiet = pool.run(6 * 3600, lambda _: 0.0)[-1].economics.api_per_request
    # 5 requests per second and replica: 1,000 prompt and 800 output tokens each.
    assert busy == quiet == pytest.approx((1000 * 0.20 + 800 * 0.80) / 1e6)


# Warm pool


@pytest.mark.parametrize(("rps", "desired", "warm"), [(5.0, 1, 3), (24.0, 3, 1), (90.0, 4, 0)])
def test_warm_replicas_come_on_top_and_give_way_to_serving_ones_at_max(
    rps: float, desired: int, warm: int
) -> None:
    bounds = {"floor": 1, "max": 4}
    pool = Pool(spec=spec(replicas=bounds, warmPool={"size": 3}), rps=rps, replicas=1)
    decision = pool.run(60)[-1]
    assert (decision.desired, decision.warm) == (desired, warm)


def test_a_target_that_knows_no_roles_has_no_warm_pool() -> None:
    pool = Pool(spec=spec(warmPool={"size": 2}), target_changes={"kind": TargetKind.OTHER})
    assert pool.step().warm == 0


@pytest.mark.slow
def test_auto_keeps_one_warm_while_cold_starts_cost_more_than_holding_it() -> None:
    auto: dict[str, Any] = {"burst": burst(), "warmPool": {"size": "auto"}, "scaling": QUICK}
    pool = Pool(spec=spec(**auto), rps=8.0, replicas=1)
    quiet = pool.run(3600)[-1]
    assert quiet.warm == 0
    # Up every 6 minutes: 10 an hour * 120 s * $12.96 = $4.32 an hour > $3.50.
    busy = pool.run(6 * 3600, lambda at: 35.0 if at % 360 < 180 else 5.0)[-1]
    assert busy.warm == 1


def test_auto_without_burst_keeps_one() -> None:
    assert Pool(spec=spec(warmPool={"size": "auto"})).step().warm == 1


# Variants


def two_variants(pool: Pool, big: int, small: int, **changes: Any) -> Any:
    facts = pool.facts()
    target = facts.targets["big"]
    ready = {
        "big": tuple(pod(f"b{i}", load(pool.now, pool.rps / (big + small))) for i in range(big)),
        "small": tuple(
            pod(f"s{i}", load(pool.now, pool.rps / (big + small))) for i in range(small)
        ),
    }
    targets = {
        name: replace(target, pods=found, spec_replicas=len(found)) for name, found in ready.items()
    }
    if "short" in changes:
        waits = pod("w", None, phase=PodPhase.UNSCHEDULABLE, since=pool.now - 900)
        name = changes["short"]
        pods = (*targets[name].pods, waits)
        targets[name] = replace(targets[name], pods=pods, spec_replicas=len(pods))
    return replace(facts, targets=targets)


# big: $4 for 10 requests per second; small: $3 for 5.
VARIANTS = [variant("small", "3", "5"), variant("big", "4", "10")]


def varied(**changes: Any) -> Pool:
    return Pool(spec=spec(variants=VARIANTS[::-1], scaling=QUICK), **changes)


def test_the_cheapest_capacity_is_added_first_and_the_dearest_goes_first() -> None:
    pool = varied(rps=24.0)
    more = pool.step(two_variants(pool, big=1, small=1))
    assert more.by_variant["small"] == 1
    assert more.by_variant["big"] > 1
    assert sum(more.by_variant.values()) == more.desired

    pool = varied(rps=8.0)
    for _ in range(3):
        fewer = pool.step(two_variants(pool, big=2, small=2))
    assert fewer.by_variant["small"] == 0
    assert fewer.by_variant["big"] >= 1


def test_a_shortage_of_one_kind_of_gpu_leaves_the_other() -> None:
    pool = varied(rps=24.0)
    decision = pool.step(two_variants(pool, big=1, small=1, short="big"))
    assert decision.shortage
    assert decision.by_variant["big"] == 2, "the one that waits was asked for before"
    assert decision.by_variant["small"] > 1


def test_the_same_input_gives_the_same_decision_and_another_time_another_id() -> None:
    one, other = Pool(), Pool()
    assert one.step() == other.step()
    assert one.step().id != Pool().step().id
