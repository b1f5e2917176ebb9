"""Which variant gets a replica, which gives one up, and what bounds them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.core.capacity import Capacity
from spillway.core.facts import GpuSupply, PodFacts, PodPhase, PoolFacts, TargetFacts, TargetKind
from spillway.core.variants import accepted, allocate, most

from .pools import MU, START, Pool, burst, pod, spec, variant

if TYPE_CHECKING:
    from spillway.core.situation import Situation

CHEAP, DEAR, SPOT = "cheap", "dear", "spot"


def situation(
    present: dict[str, int],
    *,
    supply: dict[str, GpuSupply] | None = None,
    short: frozenset[str] = frozenset(),
    extra: dict[str, tuple[PodFacts, ...]] | None = None,
    variants: dict[str, dict[str, Any]] | None = None,
    capacity: dict[str, Capacity] | None = None,
    **changes: Any,
) -> Situation:
    """A pool with the variants in ``present``, cheapest first."""
    more = variants or {}
    sections = [{**variant(name), **more.get(name, {})} for name in present]
    pool_spec = spec(variants=sections, **changes)
    targets = {}
    for name, count in present.items():
        pods = tuple(pod(f"{name}-{i}", None) for i in range(count)) + (extra or {}).get(name, ())
        targets[name] = TargetFacts(TargetKind.DEPLOYMENT, spec_replicas=len(pods), pods=pods)
    facts = PoolFacts("ns", "pool", "u", 1, START, pool_spec, targets, supply=supply or {})
    stub = SimpleNamespace(
        spec=pool_spec,
        facts=facts,
        present=present,
        replicas=sum(present.values()),
        order=tuple(present),
        short=short,
        capacity=capacity or {},
    )
    return cast("Situation", stub)


def test_more_come_to_the_cheapest_and_the_dearest_go_first() -> None:
    pool = situation({CHEAP: 2, DEAR: 2})
    assert allocate(pool, 6) == {CHEAP: 4, DEAR: 2}
    assert allocate(pool, 3) == {CHEAP: 2, DEAR: 1}
    assert allocate(pool, 1) == {CHEAP: 1, DEAR: 0}


def test_a_variant_that_is_full_lets_the_next_one_have_it() -> None:
    pool = situation({CHEAP: 2, DEAR: 0}, variants={CHEAP: {"replicas": {"max": 3}}})
    assert allocate(pool, 5) == {CHEAP: 3, DEAR: 2}


def test_minimum_comes_first_and_goes_last() -> None:
    pool = situation({CHEAP: 1, DEAR: 0}, variants={DEAR: {"replicas": {"min": 2}}})
    assert allocate(pool, 4) == {CHEAP: 2, DEAR: 2}
    pool = situation({CHEAP: 3, DEAR: 2}, variants={DEAR: {"replicas": {"min": 2}}})
    assert allocate(pool, 3) == {CHEAP: 1, DEAR: 2}
    assert allocate(pool, 1) == {CHEAP: 0, DEAR: 1}


def test_a_variant_that_finds_no_gpus_is_asked_last() -> None:
    assert allocate(situation({CHEAP: 1, DEAR: 0}, short=frozenset({CHEAP})), 3) == {
        CHEAP: 1,
        DEAR: 2,
    }


def test_below_the_declared_quality_nothing_comes_and_goes_first() -> None:
    quality = {CHEAP: {"quality": "0.9"}}
    pool = situation({CHEAP: 1, DEAR: 1}, variants=quality, minQuality="0.95")
    assert allocate(pool, 3) == {CHEAP: 1, DEAR: 2}
    assert allocate(pool, 1) == {CHEAP: 0, DEAR: 1}


def test_with_no_variant_good_enough_the_pool_still_runs() -> None:
    pool = situation({CHEAP: 1}, variants={CHEAP: {"quality": "0.5"}}, minQuality="0.9")
    assert accepted(pool.spec) == {CHEAP}
    assert allocate(pool, 2) == {CHEAP: 2}


def test_the_floor_stands_on_gpus_that_stay_and_spot_takes_the_rest() -> None:
    kinds = {SPOT: {"capacityType": "Spot"}}
    floor = {"floor": 2, "max": 20}
    pool = situation({SPOT: 0, DEAR: 0}, variants=kinds, replicas=floor)
    assert allocate(pool, 5) == {SPOT: 3, DEAR: 2}
    pool = situation({SPOT: 3, DEAR: 2}, variants=kinds, replicas=floor)
    assert allocate(pool, 3) == {SPOT: 1, DEAR: 2}


def test_a_promise_below_a_second_is_not_kept_on_spot() -> None:
    kinds = {SPOT: {"capacityType": "Spot"}}
    pool = situation({SPOT: 0, DEAR: 1}, variants=kinds, latency={"ttft": "500ms"})
    assert allocate(pool, 4) == {SPOT: 0, DEAR: 4}
    alone = situation({SPOT: 1}, variants=kinds, latency={"ttft": "500ms"})
    assert allocate(alone, 2) == {SPOT: 2}


@pytest.mark.parametrize(
    "slow",
    [
        Capacity(0.0, 0.0, "Profile"),
        Capacity(5.0, 20.0, "Profile", unattainable_share=0.2),
    ],
    ids=["at any rate", "for one prompt in five"],
)
def test_what_is_too_slow_for_the_promise_gets_nothing_and_goes_first(slow: Capacity) -> None:
    capacity = {CHEAP: slow, DEAR: Capacity(10.0, 40.0, "Profile", unattainable_share=0.04)}
    pool = situation({CHEAP: 1, DEAR: 1}, capacity=capacity)
    assert allocate(pool, 3) == {CHEAP: 1, DEAR: 2}
    assert allocate(pool, 1) == {CHEAP: 0, DEAR: 1}
    alone = situation({CHEAP: 1}, capacity=capacity)
    assert allocate(alone, 2) == {CHEAP: 2}, "with nothing faster the pool still runs"


def test_quality_comes_before_speed() -> None:
    capacity = {CHEAP: Capacity(10.0, 40.0, "Profile"), DEAR: Capacity(0.0, 0.0, "Profile")}
    poor = {CHEAP: {"quality": "0.9"}}
    pool = situation({CHEAP: 1, DEAR: 1}, variants=poor, capacity=capacity, minQuality="0.95")
    assert allocate(pool, 3) == {CHEAP: 1, DEAR: 2}


def test_a_pool_is_sized_by_the_price_and_capacity_of_what_it_accepts() -> None:
    poor = {**variant("poor", usd="1.00", rps="5"), "quality": "0.9"}
    both = spec(variants=[poor, variant("good")], minQuality="0.95", burst=burst())
    pool = Pool(spec=both)
    targets = {
        "poor": TargetFacts(TargetKind.DEPLOYMENT, spec_replicas=0),
        "good": pool.facts().targets["poor"],
    }
    decision = pool.step(replace(pool.facts(), targets=targets))
    assert decision.mu == MU
    assert decision.economics.gpu_per_replica_hour == 3.5


def test_quota_bounds_what_is_asked_for_and_warm_replicas_need_none() -> None:
    supply = {CHEAP: GpuSupply(quota_left=1)}
    pool = situation({CHEAP: 2}, supply=supply)
    assert most(pool, 6)[:2] == (3, Reason.QUOTA)
    warm = (pod("w", None, role=Role.WARM),)
    assert most(situation({CHEAP: 2}, supply=supply, extra={CHEAP: warm}), 6)[0] == 4


def test_inventory_bounds_only_where_no_node_can_be_added() -> None:
    fixed = {CHEAP: GpuSupply(free=2, elastic=False)}
    pool = situation({CHEAP: 2}, supply=fixed)
    desired, reason, message = most(pool, 9)
    assert (desired, reason) == (4, Reason.GPU_INVENTORY)
    assert message == "no node has 1 free GPUs of type any"
    assert most(situation({CHEAP: 2}, supply={CHEAP: GpuSupply(free=0)}), 9)[0] == 9


def test_pods_that_wait_for_a_gpu_already_have_a_claim_on_it() -> None:
    waiting = (pod("p", None, phase=PodPhase.UNSCHEDULABLE),)
    supply = {CHEAP: GpuSupply(free=2, elastic=False)}
    assert most(situation({CHEAP: 2}, supply=supply, extra={CHEAP: waiting}), 9)[0] == 3


@given(
    st.dictionaries(st.sampled_from([CHEAP, DEAR, SPOT]), st.integers(0, 5), min_size=1),
    st.integers(0, 12),
    st.integers(0, 6),
)
def test_nothing_is_lost_and_nobody_goes_below_nothing(
    present: dict[str, int], desired: int, quota: int
) -> None:
    kinds = {SPOT: {"capacityType": "Spot"}} if SPOT in present else {}
    supply = {name: GpuSupply(quota_left=quota) for name in present}
    pool = situation(present, variants=kinds, supply=supply)
    by_variant = allocate(pool, desired)
    assert sum(by_variant.values()) == desired
    assert min(by_variant.values()) >= 0
    if desired > pool.replicas:
        assert most(pool, desired)[0] == min(desired, pool.replicas + quota)


@pytest.mark.parametrize("warm", [0, 1])
def test_what_there_is_room_for_is_never_less_than_what_is_there(warm: int) -> None:
    extra = {CHEAP: tuple(pod(f"w{i}", None, role=Role.WARM) for i in range(warm))}
    pool = situation({CHEAP: 3}, supply={CHEAP: GpuSupply(quota_left=0)}, extra=extra)
    assert most(pool, 5)[0] == 3 + warm
