"""Builds pools for the planning tests: short, with the details that a test is about spelt out."""

from __future__ import annotations

from typing import Any

from spillway.api.inferencepool import InferencePoolSpec
from spillway.api.names import Role
from spillway.core.facts import (
    PodFacts,
    PodPhase,
    PoolFacts,
    ReplicaLoad,
    TargetFacts,
    TargetKind,
)
from spillway.core.plan import Plan, PlanMemory, plan

NOW = 1_800_000_000.0


def spec(
    most: int = 10, floor: int = 1, variants: tuple[str, ...] = ("a",), **scaling: Any
) -> InferencePoolSpec:
    return InferencePoolSpec.model_validate(
        {
            "modelName": "m",
            "variants": [{"name": v, "targetRef": {"name": v}} for v in variants],
            "replicas": {"floor": floor, "max": most},
            "scaling": scaling,
        }
    )


def load(in_flight: float, at: float = NOW) -> ReplicaLoad:
    return ReplicaLoad(sampled_at=at, running=in_flight, waiting=0.0, waiting_all=0.0)


def pod(name: str, role: Role = Role.SERVING, **changes: Any) -> PodFacts:
    facts: dict[str, Any] = {
        "name": name,
        "uid": name,
        "resource_version": "1",
        "role": role,
        "phase": PodPhase.READY,
        "created_at": NOW - 3600,
        "phase_since": NOW - 3000,
        "node": "node",
        "in_endpoints": role is Role.SERVING,
        "load": load(5.0),
    }
    return PodFacts(**{**facts, **changes})


def warm(name: str, **changes: Any) -> PodFacts:
    return pod(name, Role.WARM, **{"load": load(0.0), **changes})


def draining(name: str, **changes: Any) -> PodFacts:
    return pod(name, Role.DRAINING, **{"drain_deadline": NOW + 300, **changes})


def starting(name: str, role: Role = Role.SERVING, **changes: Any) -> PodFacts:
    early: dict[str, Any] = {"phase": PodPhase.STARTING, "created_at": NOW - 30, "load": None}
    return pod(name, role, **{**early, **changes})


def pending(name: str, role: Role = Role.SERVING, **changes: Any) -> PodFacts:
    return starting(name, role, **{"phase": PodPhase.UNSCHEDULABLE, "node": None, **changes})


def target(*pods: PodFacts, **changes: Any) -> TargetFacts:
    facts: dict[str, Any] = {
        "kind": TargetKind.DEPLOYMENT,
        "resource_version": "7",
        "spec_replicas": len([p for p in pods if p.phase is not PodPhase.TERMINATING]),
        "owned": True,
        "service_selects_role": True,
        "pods": pods,
    }
    return TargetFacts(**{**facts, **changes})


def pool(*targets: TargetFacts, of: InferencePoolSpec | None = None) -> PoolFacts:
    names = tuple("abcdefgh"[: len(targets)])
    return PoolFacts(
        namespace="ns",
        name="pool",
        uid="u",
        generation=1,
        created_at=NOW - 9000,
        spec=of or spec(variants=names),
        targets=dict(zip(names, targets, strict=True)),
    )


def planned(
    facts: PoolFacts,
    need: int,
    warm_size: int = 0,
    memory: PlanMemory | None = None,
    *,
    hold: bool = False,
) -> Plan:
    """The plan for the first variant alone, at NOW."""
    return plan(facts, {"a": need}, warm_size, hold, memory or PlanMemory(), NOW)[0]


def roles(actions: Plan) -> dict[str, str]:
    """Role changes by pod name."""
    return {change.pod.name: change.role.value for change in actions.roles}


def replicas(actions: Plan) -> dict[str, int]:
    """Writes to replicas by variant."""
    return {scale.variant: scale.replicas for scale in actions.scales}


def costs(actions: Plan) -> dict[str, int | None]:
    """Deletion costs by pod name."""
    return {change.pod.name: change.cost for change in actions.costs}
