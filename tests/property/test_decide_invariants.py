"""What must hold of a decision whatever the facts: each example is a short life of one pool."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spillway.api.inferencepool import InferencePoolSpec
from spillway.api.names import Role
from spillway.core.decide import Decision, PoolMemory, decide
from spillway.core.facts import (
    Contention,
    GatewayLoad,
    MissingData,
    PodFacts,
    PodPhase,
    PoolFacts,
    ReplicaLoad,
    TargetFacts,
    TargetKind,
)

START = 1_000_000.0
positive = st.floats(0, 300)
maybe = st.none() | positive


@st.composite
def specs(draw: st.DrawFn) -> InferencePoolSpec:
    floor = draw(st.integers(1, 4))
    maximum = draw(st.integers(floor, 12))
    variant: dict[str, Any] = {"name": "gpu", "targetRef": {"name": "gpu"}}
    if draw(st.booleans()):
        variant["price"] = {"perAcceleratorHour": "3.50"}
    if draw(st.booleans()):
        variant["capacity"] = {"requestsPerSecond": "5", "concurrency": 40}
    provider: dict[str, Any] = {"name": "api"}
    if draw(st.booleans()):
        provider["price"] = {"inputPerMillion": "0.20", "outputPerMillion": "0.80"}
    return InferencePoolSpec.model_validate(
        {
            "modelName": "m",
            "mode": draw(st.sampled_from(["Active", "Advise", "Paused"])),
            "policy": draw(st.sampled_from(["Cost", "Latency", "Utilization"])),
            "variants": [variant],
            "replicas": {"floor": floor, "max": maximum},
            "warmPool": {"size": draw(st.integers(0, maximum - floor) | st.just("auto"))},
            "scaling": draw(
                st.sampled_from(
                    [{}, {"persistence": "0s", "releaseWindow": "0s", "maxStepDown": 50}]
                )
            ),
            **({"burst": {"providers": [provider]}} if draw(st.booleans()) else {}),
        }
    )


@st.composite
def loads(draw: st.DrawFn, now: float) -> ReplicaLoad:
    return ReplicaLoad(
        sampled_at=now - draw(st.sampled_from([0.0, 10.0, 59.0, 300.0])),
        running=draw(positive),
        waiting=draw(st.just(0.0) | positive),
        kv_usage=draw(st.none() | st.floats(0, 1)),
        running_mean=draw(maybe),
        in_flight_change_per_second=draw(st.none() | st.floats(-20, 20)),
        finished_per_second=draw(maybe),
        prompt_tokens_per_second=draw(maybe),
        generation_tokens_per_second=draw(maybe),
        steps_per_second=draw(maybe),
        gpu_utilization=draw(st.none() | st.floats(0, 1)),
    )


@st.composite
def pods(draw: st.DrawFn, name: str, now: float) -> PodFacts:
    phase = draw(st.sampled_from([PodPhase.READY, PodPhase.READY, *PodPhase]))
    age = draw(st.sampled_from([5.0, 100.0, 400.0, 5000.0]))
    return PodFacts(
        name=name,
        uid=name,
        resource_version="1",
        role=draw(st.sampled_from([Role.SERVING, Role.SERVING, *Role])),
        phase=phase,
        created_at=now - age,
        phase_since=now - age / 2,
        ready_at=now - age / 2 if phase is PodPhase.READY else None,
        load=draw(st.none() | loads(now)),
    )


@st.composite
def pool_facts(draw: st.DrawFn, spec: InferencePoolSpec, now: float) -> PoolFacts:
    count = draw(st.integers(0, 5))
    target = TargetFacts(
        kind=draw(st.sampled_from(TargetKind)),
        exists=draw(st.sampled_from([True, True, True, False])),
        spec_replicas=draw(st.integers(0, 15)),
        owned=draw(st.booleans()),
        rolling_out=draw(st.sampled_from([False, False, False, True])),
        contention=draw(st.none() | st.just(Contention("HorizontalPodAutoscaler", "hpa"))),
        pods=tuple(draw(pods(f"p{i}", now)) for i in range(count)),
    )
    missing = (MissingData("up", "nothing"),) if draw(st.booleans()) else ()
    gateway = GatewayLoad(now, draw(positive)) if draw(st.booleans()) else None
    return PoolFacts("ns", "pool", "u", 1, START, spec, {"gpu": target}, gateway, missing)


@dataclass(frozen=True)
class Step:
    facts: PoolFacts
    decision: Decision
    memory_before: PoolMemory
    now: float
    read_only: bool
    overflow_fraction: float
    budget_left: bool


@st.composite
def lives(draw: st.DrawFn) -> list[Step]:
    """A pool's decisions over some ticks of arbitrary facts."""
    spec = draw(specs())
    memory, now, steps = PoolMemory.initial(), START, []
    for _ in range(draw(st.integers(1, 4))):
        facts = draw(pool_facts(spec, now))
        read_only, budget_left = draw(st.booleans()), draw(st.booleans())
        fraction = draw(st.sampled_from([0.0, 0.3, 1.0]))
        decision, after = decide(
            facts,
            memory,
            now,
            read_only=read_only,
            overflow_fraction=fraction,
            budget_left=budget_left,
        )
        steps.append(Step(facts, decision, memory, now, read_only, fraction, budget_left))
        memory, now = after, now + draw(st.sampled_from([15.0, 60.0, 700.0]))
    return steps


quick = settings(deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(lives())
def test_a_decision_stays_within_floor_and_max_whatever_is_known(life: list[Step]) -> None:
    for step in life:
        bounds = step.facts.spec.replicas
        decision = step.decision
        assert bounds.floor <= decision.desired <= bounds.max
        assert sum(decision.by_variant.values()) == decision.desired
        assert min(decision.by_variant.values()) >= 0
        assert 0 <= decision.warm <= bounds.max - decision.desired
        assert str(decision)


@quick
@given(lives())
def test_what_is_missing_is_never_a_reason_to_remove(life: list[Step]) -> None:
    for step in life:
        serving = [
            p
            for p in step.facts.targets["gpu"].pods
            if p.role is Role.SERVING and p.phase is PodPhase.READY
        ]
        silent = [
            p
            for p in serving
            if step.now - p.phase_since > 60
            and (p.load is None or step.now - p.load.sampled_at > 60)
        ]
        unseen = step.facts.missing or silent or step.decision.demand is None
        if step.facts.spec.policy != "Utilization" and unseen:
            kept = min(step.decision.previous, step.facts.spec.replicas.max)
            assert step.decision.desired >= kept
            assert step.decision.hold


@quick
@given(lives())
def test_a_contested_target_and_a_pool_that_may_only_look_are_never_written(
    life: list[Step],
) -> None:
    for step in life:
        target = step.facts.targets["gpu"]
        if (
            not target.exists
            or target.contention is not None
            or step.read_only
            or step.facts.spec.mode != "Active"
        ):
            assert not step.decision.write


@quick
@given(lives())
def test_a_decision_follows_from_its_input_alone(life: list[Step]) -> None:
    for step in life:
        again, _ = decide(
            step.facts,
            step.memory_before,
            step.now,
            read_only=step.read_only,
            overflow_fraction=step.overflow_fraction,
            budget_left=step.budget_left,
        )
        assert again == step.decision


@quick
@given(lives(), st.floats(0, 50))
def test_more_arrivals_never_ask_for_fewer_replicas(life: list[Step], more: float) -> None:
    first = life[0]
    gateway = GatewayLoad(first.now, 10.0)
    higher = replace(gateway, arrivals_per_second=10.0 + more)
    desired = [
        decide(
            replace(first.facts, gateway=load),
            PoolMemory.initial(),
            first.now,
            read_only=False,
            overflow_fraction=0.0,
            budget_left=True,
        )[0].proposed
        for load in (gateway, higher)
    ]
    assert desired[0] <= desired[1]
