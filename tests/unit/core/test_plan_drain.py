"""Surplus: who is drained, when it goes, and what has to be certain before."""

from __future__ import annotations

import dataclasses

import pytest

from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.core.facts import Contention, PodFacts, PodPhase, PoolFacts, TargetKind
from spillway.core.plan import DRAINED_COST, IdleScrapes, PlanMemory, plan, release
from tests.unit.core.planning import (
    NOW,
    costs,
    draining,
    load,
    pending,
    planned,
    pod,
    pool,
    replicas,
    roles,
    spec,
    starting,
    target,
    warm,
)

IDLE = PlanMemory(idle={"d1": IdleScrapes(NOW, 3), "s-2": IdleScrapes(NOW, 3)})


def finished(name: str = "d1", **changes: object) -> PodFacts:
    return draining(
        name, **{"in_endpoints": False, "load": load(0.0), "deletion_cost": DRAINED_COST, **changes}
    )


def test_the_least_loaded_pod_is_drained_with_a_deadline() -> None:
    facts = pool(target(pod("a1", load=load(9)), pod("a2", load=load(2)), pod("a3", load=None)))
    actions = planned(facts, 2)
    assert roles(actions) == {"a2": "draining"}
    assert actions.roles[0].drain_deadline == NOW + 600
    assert [(p.pod.name, p.on) for p in actions.protections] == [("a2", True)]
    assert replicas(actions) == {}


def test_an_old_revision_goes_before_a_less_loaded_one() -> None:
    facts = pool(
        target(
            pod("old", revision="r1", load=load(9)),
            pod("new", revision="r2", load=load(0)),
            update_revision="r2",
        )
    )
    assert roles(planned(facts, 1)) == {"old": "draining"}


@pytest.mark.parametrize(("step", "gone"), [(1, 1), (2, 2), (9, 3)])
def test_no_more_than_max_step_down_begin_to_drain(step: int, gone: int) -> None:
    facts = pool(target(*(pod(f"a{i}") for i in range(4))), of=spec(maxStepDown=step))
    assert len(planned(facts, 1).roles) == gone


def test_surplus_warm_pods_are_drained_first() -> None:
    facts = pool(target(pod("a1", load=load(0)), pod("a2"), warm("w1")))
    assert roles(planned(facts, 1)) == {"w1": "draining"}


def test_serving_pods_stay_while_their_replacement_only_starts() -> None:
    unready = pod("a4", phase=PodPhase.UNREADY, phase_since=NOW - 10)
    facts = pool(target(pod("a1"), pod("a2"), starting("a3"), unready))
    assert roles(planned(facts, 2)) == {}


@pytest.mark.parametrize("change", [{"rolling_out": True}, {}])
def test_no_drain_begins_or_ends_during_a_rollout_or_while_held(change: dict[str, bool]) -> None:
    facts = pool(target(pod("a1"), pod("a2"), finished(), **change))
    actions = planned(facts, 1, memory=IDLE, hold=not change)
    assert roles(actions) == {}
    assert replicas(actions) == {}


def test_a_drained_pod_is_marked_first_and_removed_when_the_mark_is_seen() -> None:
    unmarked = planned(pool(target(pod("a1"), finished(deletion_cost=0))), 1, memory=IDLE)
    assert costs(unmarked) == {"d1": DRAINED_COST}
    assert replicas(unmarked) == {}
    marked = planned(pool(target(pod("a1"), finished())), 1, memory=IDLE)
    assert replicas(marked) == {"a": 1}
    assert marked.scales[0].reason is Reason.DRAINED


def ticks(pods: list[PodFacts]) -> list[dict[str, int]]:
    """Replicas written while the one pod besides a1 goes through the given states."""
    memory, written = PlanMemory(), []
    for index, state in enumerate(pods):
        facts = pool(target(pod("a1"), state))
        actions, memory = plan(facts, {"a": 1}, 0, False, memory, NOW + 15 * index)  # noqa: FBT003
        written.append(replicas(actions))
    return written


def test_three_idle_samples_after_leaving_the_endpoints_end_a_drain() -> None:
    idle = [finished(load=load(0, at=NOW + 15 * i)) for i in range(4)]
    assert ticks(idle[:3]) == [{}, {}, {"a": 1}]
    busy = finished(load=load(1, at=NOW + 15))
    assert ticks([idle[0], busy, idle[2], idle[3]]) == [{}, {}, {}, {}]


def test_one_sample_seen_three_times_is_one_sample() -> None:
    assert ticks([finished()] * 4) == [{}] * 4


def test_a_missing_sample_never_means_drained() -> None:
    assert ticks([finished(load=None)] * 6) == [{}] * 6


@pytest.mark.parametrize("listed", [True, None])
def test_a_pod_that_may_still_be_in_the_endpoints_is_not_drained(*, listed: bool | None) -> None:
    states = [finished(load=load(0, at=NOW + 15 * i), in_endpoints=listed) for i in range(6)]
    assert ticks(states) == [{}] * 6


def test_the_deadline_ends_a_drain_whatever_runs() -> None:
    late = finished(load=load(7), drain_deadline=NOW - 1)
    actions = planned(pool(target(pod("a1"), late)), 1)
    assert replicas(actions) == {"a": 1}
    assert actions.scales[0].reason is Reason.DRAIN_DEADLINE
    early = finished(load=load(7), drain_deadline=NOW + 1)
    assert replicas(planned(pool(target(pod("a1"), early)), 1)) == {}


def test_a_draining_pod_without_a_deadline_gets_one() -> None:
    actions = planned(pool(target(pod("a1"), draining("d1", drain_deadline=None))), 1)
    assert [(c.pod.name, c.role, c.drain_deadline) for c in actions.roles] == [
        ("d1", Role.DRAINING, NOW + 600)
    ]


@pytest.mark.parametrize(
    "other",
    [
        starting("x", Role.WARM),
        pending("x", Role.WARM),
        pod("x", phase=PodPhase.UNREADY, phase_since=NOW - 10),
        # A mark left on a pod that is busy again would make it the victim.
        draining("x", deletion_cost=DRAINED_COST),
    ],
)
def test_replicas_stay_while_another_pod_would_be_the_victim(other: PodFacts) -> None:
    facts = pool(target(pod("a1"), other, finished()))
    warm_size = 1 if other.role is Role.WARM else 0
    assert replicas(planned(facts, 1, warm_size, memory=IDLE)) == {}


def test_a_pod_that_starts_is_cancelled_for_one_that_can_serve_at_once() -> None:
    actions = planned(pool(target(pod("a1"), starting("x"), finished())), 2, memory=IDLE)
    assert roles(actions) == {"d1": "serving"}
    assert replicas(actions) == {"a": 2}


def test_replicas_are_not_lowered_twice_for_one_pod() -> None:
    """The write was done, and the pod is still seen: spec.replicas is below the pods already."""
    facts = pool(target(pod("a1"), pod("a2"), finished(), spec_replicas=2))
    assert replicas(planned(facts, 2, memory=IDLE)) == {}


def test_a_drained_pod_becomes_warm_where_one_is_missing() -> None:
    actions = planned(pool(target(pod("a1"), finished())), 1, warm_size=1, memory=IDLE)
    assert roles(actions) == {"d1": "warm"}
    assert costs(actions) == {"d1": None}
    assert replicas(actions) == {}


def test_a_pod_past_its_deadline_never_becomes_warm() -> None:
    late = finished(load=load(7), drain_deadline=NOW - 1)
    actions = planned(pool(target(pod("a1"), late)), 1, warm_size=1)
    assert roles(actions) == {}


def test_pods_that_are_not_wanted_any_more_are_cancelled_before_they_serve() -> None:
    facts = pool(target(pod("a1"), pod("a2"), pending("p1"), pending("p2")))
    actions = planned(facts, 2)
    assert replicas(actions) == {"a": 2}
    assert roles(actions) == {}
    assert replicas(planned(facts, 3)) == {"a": 3}
    assert replicas(planned(facts, 2, hold=True)) == {}


def test_beside_an_unready_pod_only_unassigned_ones_are_cancelled() -> None:
    unready = pod("a2", phase=PodPhase.UNREADY, phase_since=NOW - 10)
    facts = pool(target(pod("a1"), unready, starting("s1"), pending("p1")))
    assert replicas(planned(facts, 2)) == {"a": 3}


def stateful(*pods: PodFacts) -> PoolFacts:
    numbered = [dataclasses.replace(p, ordinal=int(p.name[2:])) for p in pods]
    return pool(target(*numbered, kind=TargetKind.ORDINAL))


def test_an_ordinal_target_drains_its_highest_ordinal_however_loaded() -> None:
    facts = stateful(pod("s-0", load=load(0)), pod("s-1", load=load(0)), pod("s-2", load=load(9)))
    assert roles(planned(facts, 2)) == {"s-2": "draining"}


def test_an_ordinal_target_loses_a_replica_only_when_the_highest_is_drained() -> None:
    top = stateful(pod("s-0"), pod("s-1"), finished("s-2", deletion_cost=0))
    assert replicas(planned(top, 2, memory=IDLE)) == {"a": 2}
    assert costs(planned(top, 2, memory=IDLE)) == {}


def test_a_draining_ordinal_below_a_serving_one_serves_again() -> None:
    facts = stateful(pod("s-0"), finished("s-1"), pod("s-2"))
    assert roles(planned(facts, 2)) == {"s-1": "serving", "s-2": "draining"}


def test_a_warm_pod_below_the_highest_ordinal_takes_its_place() -> None:
    facts = stateful(pod("s-0"), warm("s-1"), pod("s-2"))
    assert roles(planned(facts, 2)) == {"s-1": "serving"}


def test_a_drained_ordinal_below_a_warm_one_takes_its_place() -> None:
    facts = stateful(pod("s-0"), pod("s-1"), finished("s-2"), warm("s-3"))
    actions = planned(facts, 2, warm_size=1, memory=IDLE)
    assert roles(actions) == {"s-2": "warm", "s-3": "draining"}


def test_an_ordinal_target_with_a_gap_is_not_cancelled_from_below() -> None:
    facts = stateful(pod("s-0"), pod("s-2"))
    held = dataclasses.replace(facts.targets["a"], spec_replicas=3)
    assert replicas(planned(pool(held), 2)) == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"service_selects_role": None}, Reason.NO_SERVICE),
        ({"service_selects_role": False}, Reason.SERVICE_IGNORES_ROLE),
        ({"role_in_selector": True}, Reason.ROLE_IN_SELECTOR),
        ({"kind": TargetKind.OTHER}, Reason.UNSUPPORTED_TARGET),
        ({"kind": TargetKind.ORDINAL}, Reason.UNSUPPORTED_TARGET),
    ],
)
def test_without_roles_only_replicas_move(change: dict[str, object], reason: Reason) -> None:
    facts = pool(target(*(pod(f"a{i}", load=load(i)) for i in range(4)), **change))
    up = planned(facts, 6, warm_size=1)
    assert replicas(up) == {"a": 6}
    assert [n.reason for n in up.notes] == [reason, Reason.WARM_DISABLED]
    down = planned(facts, 1)
    assert down.roles == ()
    if facts.targets["a"].kind is TargetKind.DEPLOYMENT:
        assert costs(down) == {"a0": DRAINED_COST}
        assert replicas(down) == {}
    else:
        assert replicas(down) == {"a": 3}
    assert replicas(planned(facts, 1, hold=True)) == {}


def test_without_roles_the_hinted_pod_goes_at_the_next_tick() -> None:
    hinted = pod("a0", deletion_cost=DRAINED_COST)
    facts = pool(target(hinted, pod("a1"), service_selects_role=False))
    assert replicas(planned(facts, 1)) == {"a": 1}
    back = planned(facts, 2)
    assert (replicas(back), costs(back)) == ({}, {"a0": None})


def test_pods_serve_again_when_the_service_no_longer_selects_roles() -> None:
    facts = pool(target(pod("a1"), warm("w1"), service_selects_role=False))
    assert roles(planned(facts, 2)) == {"w1": "serving"}


def test_release_lets_every_pod_serve_and_moves_no_replica() -> None:
    facts = pool(
        target(
            pod("a1", deletion_cost=5),
            warm("w1"),
            starting("w2", Role.WARM),
            finished(),
            pod("gone", Role.WARM, phase=PodPhase.TERMINATING),
        )
    )
    actions = release(facts)
    assert roles(actions) == {"w1": "serving", "w2": "serving", "d1": "serving"}
    assert all(change.drain_deadline is None for change in actions.roles)
    # A cost that a user set on a serving pod stays.
    assert costs(actions) == {"d1": None}
    assert {p.pod.name: p.on for p in actions.protections} == {
        "w1": False,
        "w2": False,
        "d1": False,
    }
    assert actions.scales == ()


def test_release_leaves_the_roles_of_a_pool_that_goes_on_alone() -> None:
    contested = target(pod("a1"), warm("w1"), contention=Contention("InferencePool", "older"))
    assert release(pool(contested)).roles == ()
    contested = target(pod("a1"), warm("w1"), contention=Contention("HorizontalPodAutoscaler", "h"))
    assert roles(release(pool(contested))) == {"w1": "serving"}
