"""Shortfall: un-drain, promote, start; and the warm pool behind it."""

from __future__ import annotations

import dataclasses

import pytest

from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.core.facts import Contention, PodPhase, TargetKind
from spillway.core.plan import DRAINED_COST, PlanMemory, Protect, RoleCounts, plan
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


def test_nothing_to_do_is_an_empty_plan() -> None:
    actions = planned(pool(target(pod("a1"), pod("a2"), warm("a3"))), 2, warm_size=1)
    assert (actions.roles, actions.costs, actions.scales, actions.notes) == ((), (), (), ())
    assert actions.counts == RoleCounts(serving=2, warm=1)


def test_returning_demand_undrains_before_it_promotes_and_promotes_before_it_starts() -> None:
    facts = pool(target(pod("a1"), draining("d1"), warm("w1"), warm("w2")))
    assert roles(planned(facts, 2)) == {"d1": "serving", "w1": "draining"}
    assert roles(planned(facts, 2, warm_size=2)) == {"d1": "serving"}
    three = planned(facts, 3, warm_size=2)
    assert roles(three) == {"d1": "serving", "w1": "serving"}
    assert replicas(three) == {"a": 5}
    assert [change.reason for change in three.roles] == [Reason.UNDRAINED, Reason.PROMOTED]


def test_an_undrained_pod_loses_its_deadline_its_deletion_cost_and_its_protection() -> None:
    back = draining("d1", deletion_cost=DRAINED_COST)
    actions = planned(pool(target(pod("a1"), back)), 2)
    assert actions.roles[0].drain_deadline is None
    assert costs(actions) == {"d1": None}
    assert actions.protections == (Protect(back, on=False),)


def test_promotion_prefers_the_revision_that_a_rollout_leads_to() -> None:
    facts = pool(
        target(
            pod("a1", revision="old"),
            warm("w-old", revision="old", created_at=NOW - 10),
            warm("w-new", revision="new", created_at=NOW - 500),
            update_revision="new",
            rolling_out=True,
        )
    )
    assert roles(planned(facts, 2, warm_size=2)) == {"w-new": "serving"}


def test_a_promotion_is_backfilled_and_the_new_pod_becomes_warm_before_it_is_ready() -> None:
    before = planned(pool(target(pod("a1"), warm("w1"))), 2, warm_size=1)
    assert roles(before) == {"w1": "serving"}
    assert replicas(before) == {"a": 3}
    assert before.scales[0].reason is Reason.WARM_BACKFILL

    after = planned(pool(target(pod("a1"), pod("w1"), starting("a3"))), 2, warm_size=1)
    assert roles(after) == {"a3": "warm"}
    assert after.protections == (Protect(after.roles[0].pod, on=True),)


def test_a_starting_pod_that_is_needed_is_not_marked_warm() -> None:
    facts = pool(target(pod("a1"), starting("a2"), starting("a3", created_at=NOW - 5)))
    assert roles(planned(facts, 2, warm_size=1)) == {"a3": "warm"}
    assert roles(planned(facts, 3, warm_size=1)) == {}


def test_a_pod_that_finds_no_node_covers_no_need() -> None:
    facts = pool(target(pod("a1"), pending("p1"), starting("a2")))
    assert roles(planned(facts, 2, warm_size=1)) == {"p1": "warm"}
    facts = pool(target(pod("a1"), pending("p1"), pending("p2")))
    assert roles(planned(facts, 2, warm_size=1)) == {}


def test_a_starting_warm_pod_serves_when_it_is_missed() -> None:
    facts = pool(target(pod("a1"), starting("w1", Role.WARM)))
    actions = planned(facts, 2, warm_size=1)
    assert roles(actions) == {"w1": "serving"}
    assert replicas(actions) == {"a": 3}


def test_only_an_idle_serving_pod_is_demoted() -> None:
    busy, idle, unknown = pod("busy"), pod("idle", load=load(0.0)), pod("unknown", load=None)
    assert roles(planned(pool(target(busy, idle)), 1, warm_size=1)) == {"idle": "warm"}
    # Where none is idle, one is drained first; it becomes warm when it has finished.
    assert roles(planned(pool(target(busy, unknown)), 1, warm_size=1)) == {"busy": "draining"}
    stale = pod("idle", load=load(0.0, at=NOW - 600))
    assert roles(planned(pool(target(busy, stale)), 1, warm_size=1)) == {"busy": "draining"}


def test_nothing_is_demoted_during_a_rollout_or_while_held() -> None:
    pods = (pod("busy"), pod("idle", load=load(0.0)))
    assert roles(planned(pool(target(*pods, rolling_out=True)), 1, warm_size=1)) == {}
    assert roles(planned(pool(target(*pods)), 1, warm_size=1, hold=True)) == {}


def test_while_held_capacity_still_grows() -> None:
    facts = pool(target(pod("a1"), draining("d1"), warm("w1")))
    actions = planned(facts, 4, warm_size=1, hold=True)
    assert roles(actions) == {"d1": "serving", "w1": "serving"}
    assert replicas(actions) == {"a": 5}


def test_warm_yields_to_serving_at_max() -> None:
    facts = pool(target(pod("a1"), pod("a2"), warm("w1")), of=spec(most=3))
    actions = planned(facts, 3, warm_size=1)
    assert roles(actions) == {"w1": "serving"}
    assert replicas(actions) == {}


def test_max_counts_draining_pods_and_every_variant() -> None:
    hung = draining("d1", phase=PodPhase.UNREADY, phase_since=NOW - 10)
    one = planned(pool(target(pod("a1"), hung), of=spec(most=3)), 3)
    assert replicas(one) == {"a": 3}
    assert [note.reason for note in one.notes] == [Reason.MAX]

    two = pool(target(pod("a1")), target(pod("b1")), of=spec(most=3, variants=("a", "b")))
    actions, _ = plan(two, {"a": 1, "b": 2}, 5, False, PlanMemory(), NOW)  # noqa: FBT003
    assert replicas(actions) == {"b": 2}


def test_a_pod_that_stays_unready_is_replaced_and_one_that_restarts_is_not() -> None:
    restarting = pod("a2", phase=PodPhase.UNREADY, phase_since=NOW - 60)
    assert replicas(planned(pool(target(pod("a1"), restarting)), 2)) == {}
    lost = pod("a2", phase=PodPhase.UNREADY, phase_since=NOW - 900)
    actions = planned(pool(target(pod("a1"), lost)), 2)
    assert replicas(actions) == {"a": 3}
    assert roles(actions) == {"a2": "draining"}


def test_pending_pods_do_not_cascade() -> None:
    facts = pool(target(pod("a1"), pending("p1"), pending("p2")))
    assert replicas(planned(facts, 3)) == {}


def test_terminating_pods_count_for_nothing() -> None:
    gone = pod("a2", phase=PodPhase.TERMINATING)
    actions = planned(pool(target(pod("a1"), gone)), 2)
    assert replicas(actions) == {"a": 2}
    assert actions.counts == RoleCounts(serving=1)


def test_ownership_is_taken_at_the_same_value() -> None:
    facts = pool(target(pod("a1"), pod("a2"), owned=False))
    actions = planned(facts, 2)
    assert replicas(actions) == {"a": 2}
    assert actions.scales[0].reason is Reason.RECONCILED
    assert actions.scales[0].resource_version == "7"


def test_a_scale_by_hand_is_corrected_and_named() -> None:
    ours = pool(target(pod("a1"), pod("a2")))
    _, memory = plan(ours, {"a": 2}, 0, False, PlanMemory(), NOW)  # noqa: FBT003
    down = planned(pool(target(pod("a1"), owned=False, spec_replicas=1)), 2, memory=memory)
    assert [(s.replicas, s.reason) for s in down.scales] == [(2, Reason.FOREIGN_SCALE)]
    fresh = (pod("a1"), pod("a2"), starting("a3"), pending("a4"))
    up = planned(pool(target(*fresh, owned=False)), 2, memory=memory)
    assert [(s.replicas, s.reason) for s in up.scales] == [(2, Reason.FOREIGN_SCALE)]
    assert roles(up) == {}


def test_a_contested_target_is_not_scaled_but_still_serves() -> None:
    other = Contention("HorizontalPodAutoscaler", "hpa")
    facts = pool(target(pod("a1"), draining("d1"), owned=False, contention=other))
    actions = planned(facts, 4)
    assert replicas(actions) == {}
    assert roles(actions) == {"d1": "serving"}
    assert [note.reason for note in actions.notes] == [Reason.TARGET_CONTESTED]


def test_a_missing_target_is_a_note() -> None:
    facts = pool(dataclasses.replace(target(), exists=False))
    actions = planned(facts, 2)
    assert actions.scales == ()
    assert actions.notes[0].reason is Reason.TARGET_NOT_FOUND


def test_a_variant_without_a_decision_is_left_as_it_is() -> None:
    facts = pool(target(pod("a1"), pod("a2")))
    actions, _ = plan(facts, {}, 0, False, PlanMemory(), NOW)  # noqa: FBT003
    assert (actions.roles, actions.scales) == ((), ())


@pytest.mark.parametrize("size", [0, 1])
def test_an_ordinal_target_promotes_the_lowest_ordinal(size: int) -> None:
    facts = pool(
        target(
            pod("s-0", ordinal=0),
            warm("s-1", ordinal=1),
            warm("s-2", ordinal=2),
            kind=TargetKind.ORDINAL,
        )
    )
    expected = {"s-1": "serving"} | ({"s-2": "draining"} if size == 0 else {})
    assert roles(planned(facts, 2, warm_size=size)) == expected


def test_a_spot_replica_that_was_given_notice_is_replaced_at_once_and_finishes() -> None:
    noticed = pod("a2", interrupted=True)
    actions = planned(pool(target(pod("a1"), noticed, warm("w1"))), 2, warm_size=1)
    assert roles(actions) == {"w1": "serving", "a2": "draining"}
    assert replicas(actions) == {"a": 4}, "one more behind the promoted one"
    assert actions.counts.serving == 1, "it is lost already"


def test_the_last_replica_serves_to_its_nodes_end() -> None:
    actions = planned(pool(target(pod("a1", interrupted=True))), 1)
    assert roles(actions) == {}
    assert replicas(actions) == {"a": 2}


def test_when_it_has_gone_the_pod_that_comes_in_its_place_is_not_kept() -> None:
    facts = pool(target(pod("a1"), pod("w1"), warm("w2"), starting("a3")))
    assert replicas(planned(facts, 2, warm_size=1)) == {"a": 3}


def test_a_warm_replica_that_was_given_notice_is_not_promoted() -> None:
    facts = pool(target(pod("a1"), warm("w1", interrupted=True), warm("w2")))
    assert roles(planned(facts, 2)) == {"w2": "serving", "w1": "draining"}
