"""How a plan is carried out: what is written, in which order, and what is told."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast

from spillway.adapters.kube.errors import Conflict, Forbidden, TargetUnsupported
from spillway.adapters.kube.pods import KEEP, PodChange
from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.controller.actuator import Actuator
from spillway.core.actions import DRAINED_COST, DeletionCost, Plan, Protect, RoleChange, ScaleTo
from spillway.core.facts import PodFacts, PodPhase, PoolFacts
from tests.unit.controller import fakes
from tests.unit.controller.fakes import Seams


def actuator(seams: Seams) -> Actuator:
    return Actuator(
        pods=cast("Any", seams.pods),
        scale=cast("Any", seams.scale),
        teller=seams.teller,
        watches=seams.watches,
        telemetry=seams.telemetry,
        may_write=seams.lease.is_leader,
    )


async def setting(*names: str) -> tuple[Seams, PoolFacts, dict[str, PodFacts]]:
    seams = Seams()
    fakes.put(seams.watches, fakes.deployment(), *map(fakes.pod, names))
    facts = await seams.world.facts(fakes.pool(), time.time())
    return seams, facts, {pod.name: pod for pod in facts.targets["gpu"].pods}


def promote(pod: PodFacts) -> RoleChange:
    return RoleChange("gpu", replace(pod, role=Role.WARM), Role.SERVING, Reason.PROMOTED)


SCALE = ScaleTo("gpu", 5, "7", Reason.SCALED)


async def test_roles_come_first_and_replicas_last() -> None:
    seams, facts, pods = await setting("a", "b", "c")
    fakes.put(seams.watches, fakes.pod("b", role=Role.WARM))
    plan = Plan(
        roles=(promote(pods["b"]),),
        costs=(DeletionCost("gpu", pods["a"], DRAINED_COST),),
        scales=(SCALE,),
    )
    assert await actuator(seams).carry_out(facts, plan, "d1") == ""
    written = [entry[:2] for entry in seams.journal.of("pod", "scale")]
    assert written == [("pod", "b"), ("pod", "a"), ("scale", "pool")]
    assert seams.journal.of("scale") == [("scale", "pool", 5, "7")]


async def test_all_marks_of_a_pod_are_one_patch() -> None:
    seams, facts, pods = await setting("a")
    fakes.put(seams.watches, fakes.pod("a", role=Role.WARM))
    plan = Plan(
        roles=(promote(pods["a"]),),
        costs=(DeletionCost("gpu", pods["a"], None),),
        protections=(Protect(pods["a"], on=False),),
    )
    await actuator(seams).carry_out(facts, plan, "d1")
    wanted = PodChange(
        role=Role.SERVING, drain_deadline=None, deletion_cost=0, do_not_disrupt=False
    )
    assert seams.journal.of("pod") == [("pod", "a", wanted)]


async def test_what_the_plan_leaves_alone_is_kept() -> None:
    seams, facts, pods = await setting("a")
    plan = Plan(costs=(DeletionCost("gpu", pods["a"], -5),))
    await actuator(seams).carry_out(facts, plan, "d1")
    ((_, _, change),) = seams.journal.of("pod")
    assert (change.role, change.drain_deadline, change.do_not_disrupt) == (KEEP, KEEP, KEEP)


async def test_changes_are_told_once_they_are_written() -> None:
    seams, facts, pods = await setting("a")
    fakes.put(seams.watches, fakes.pod("a", role=Role.WARM))
    plan = Plan(roles=(promote(pods["a"]),), scales=(SCALE,))
    await actuator(seams).carry_out(facts, plan, "d1")
    assert [entry[2:4] for entry in seams.journal.of("event")] == [
        ("Promoted", "a: warm to serving"),
        ("Scaled", "Deployment serving/pool: 2 to 5 replicas"),
    ]


async def test_taking_ownership_at_the_same_value_is_no_news() -> None:
    seams, facts, _ = await setting()
    plan = Plan(scales=(ScaleTo("gpu", 2, "7", Reason.RECONCILED),))
    await actuator(seams).carry_out(facts, plan, "d1")
    assert seams.journal.of("scale", "event") == [("scale", "pool", 2, "7")]


async def test_a_conflict_is_decided_anew_and_neither_a_problem_nor_news() -> None:
    seams, facts, pods = await setting("a")
    fakes.put(seams.watches, fakes.pod("a", role=Role.WARM))
    conflict = Conflict(409, "Conflict", "the object has been modified")
    seams.pods.failures["a"] = seams.scale.failures["pool"] = conflict
    plan = Plan(roles=(promote(pods["a"]),), scales=(SCALE,))
    assert await actuator(seams).carry_out(facts, plan, "d1") == ""
    assert seams.journal == []
    assert seams.metric("spillway_api_writes_total", kind="scale", result="conflict") == 1


async def test_a_refused_write_is_a_problem_and_the_others_are_done() -> None:
    seams, facts, pods = await setting(*"abcde")
    for name in "abcd":
        seams.pods.failures[name] = Forbidden(403, "Forbidden", f"may not patch pod {name}")
    costs = tuple(DeletionCost("gpu", pods[name], 1) for name in "abcde")
    problem = await actuator(seams).carry_out(facts, Plan(costs=costs, scales=(SCALE,)), "d1")
    assert problem == ("may not patch pod a; may not patch pod b; may not patch pod c; and 1 more")
    assert [entry[1] for entry in seams.journal.of("pod", "scale")] == ["e", "pool"]


async def test_after_an_unanswered_write_the_rest_waits_for_the_next_step() -> None:
    seams, facts, pods = await setting("a", "b")
    seams.pods.failures["a"] = fakes.unavailable("PATCH pod a got no answer")
    costs = tuple(DeletionCost("gpu", pods[name], 1) for name in "ab")
    problem = await actuator(seams).carry_out(facts, Plan(costs=costs, scales=(SCALE,)), "d1")
    assert problem == "PATCH pod a got no answer"
    assert seams.journal == []


async def test_a_target_without_a_scale_is_a_problem() -> None:
    seams, facts, _ = await setting()
    seams.scale.failures["pool"] = TargetUnsupported("Foo has no scale subresource")
    problem = await actuator(seams).carry_out(facts, Plan(scales=(SCALE,)), "d1")
    assert problem == "Foo has no scale subresource"


async def test_who_does_not_lead_writes_and_tells_nothing() -> None:
    seams, facts, pods = await setting("a")
    seams.lease.leads = False
    plan = Plan(roles=(promote(pods["a"]),), scales=(SCALE,))
    assert await actuator(seams).carry_out(facts, plan, "d1") == ""
    assert seams.journal == []


async def test_a_pod_that_has_changed_in_what_matters_is_left_alone() -> None:
    seams, facts, pods = await setting("a", "b", "c", "d")
    fakes.put(
        seams.watches,
        fakes.pod("a", resource_version="2", phase=PodPhase.UNREADY),
        fakes.pod("b", resource_version="2", uid="another"),
        fakes.pod("c", resource_version="2"),
    )
    fakes.drop(seams.watches, fakes.pod("d"))
    costs = tuple(DeletionCost("gpu", pods[name], 1) for name in "abcd")
    assert await actuator(seams).carry_out(facts, Plan(costs=costs), "d1") == ""
    assert [entry[1] for entry in seams.journal.of("pod")] == ["c"], "only its status is new"
