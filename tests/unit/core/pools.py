"""Builders of pools for the tests of the deciding half: plain, with every figure in sight.

A replica of the default pool serves 10 requests per second (declared) of 1,000 prompt and 200
output tokens and costs $3.50 an hour; the API charges $0.36 for a thousand such requests at
$0.20/$0.80 a million tokens, so $12.96 for what a replica serves in an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spillway.api.inferencepool import InferencePoolSpec
from spillway.api.names import Role
from spillway.core.decide import Decision, PoolMemory, decide
from spillway.core.facts import (
    GatewayLoad,
    MissingData,
    PodFacts,
    PodPhase,
    PoolFacts,
    ReplicaLoad,
    TargetFacts,
    TargetKind,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from spillway.api.reasons import Reason

START = 1_000_000.0
TICK = 15.0
MU = 10.0


def spec(**changes: Any) -> InferencePoolSpec:
    """The default pool's spec with top-level fields replaced."""
    return InferencePoolSpec.model_validate(
        {
            "modelName": "m",
            "variants": [variant()],
            "replicas": {"floor": 1, "max": 20},
            **changes,
        }
    )


def variant(name: str = "gpu", usd: str | None = "3.50", rps: str | None = "10") -> dict[str, Any]:
    """A variant of the spec; ``usd`` and ``rps`` None leave price and capacity out."""
    found: dict[str, Any] = {"name": name, "targetRef": {"name": name}}
    if usd is not None:
        found["price"] = {"perAcceleratorHour": usd}
    if rps is not None:
        found["capacity"] = {"requestsPerSecond": rps, "concurrency": 40}
    return found


def burst(
    input_usd: str | None = "0.20", output_usd: str = "0.80", **changes: Any
) -> dict[str, Any]:
    """A burst section with one provider."""
    provider: dict[str, Any] = {"name": "api"}
    if input_usd is not None:
        provider["price"] = {"inputPerMillion": input_usd, "outputPerMillion": output_usd}
    provider.update(changes.pop("provider", {}))
    return {"providers": [provider], **changes}


def load(now: float, rps: float = 5.0, **changes: Any) -> ReplicaLoad:
    """A steady replica: what arrives is finished, 1,000 prompt and 200 output tokens each."""
    values: dict[str, Any] = {
        "sampled_at": now,
        "running": 5.0,
        "waiting": 0.0,
        "waiting_all": 0.0,
        "running_mean": 5.0,
        "in_flight_change_per_second": 0.0,
        "finished_per_second": rps,
        "prompt_tokens_per_second": 1000.0 * rps,
        "generation_tokens_per_second": 200.0 * rps,
        "gpu_utilization": 0.5,
    }
    return ReplicaLoad(**(values | changes))


def pod(
    name: str,
    sample: ReplicaLoad | None,
    *,
    role: Role = Role.SERVING,
    phase: PodPhase = PodPhase.READY,
    since: float = START - 7200,
    ready_at: float | None = START - 7080,
) -> PodFacts:
    """A pod that came into its phase at ``since``; by default long ready."""
    return PodFacts(
        name=name,
        uid=name,
        resource_version="1",
        role=role,
        phase=phase,
        created_at=min(since, START - 7200),
        phase_since=since,
        ready_at=ready_at if phase is PodPhase.READY else None,
        load=sample,
    )


@dataclass
class Pool:
    """A pool whose cluster obeys at once: each step leaves as many ready pods as were asked for."""

    spec: InferencePoolSpec = field(default_factory=spec)
    replicas: int = 2
    rps: float = 10.0
    owned: bool = True
    memory: PoolMemory = field(default_factory=PoolMemory.initial)
    now: float = START
    read_only: bool = False
    overflow_fraction: float = 0.0
    budget_left: bool = True
    missing: tuple[MissingData, ...] = ()
    gateway: bool = True
    cloud_rps: float = 0.0
    load_changes: dict[str, Any] = field(default_factory=dict)
    extra_pods: tuple[PodFacts, ...] = ()
    target_changes: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> PoolFacts:
        """What is observed now."""
        each = self.rps / max(1, self.replicas)
        pods = tuple(
            pod(f"p{i}", load(self.now, each, **self.load_changes)) for i in range(self.replicas)
        )
        target: dict[str, Any] = {
            "kind": TargetKind.DEPLOYMENT,
            "spec_replicas": self.replicas + len(self.extra_pods),
            "owned": self.owned,
            "pods": pods + self.extra_pods,
        }
        return PoolFacts(
            namespace="ns",
            name="pool",
            uid="u",
            generation=1,
            created_at=START - 7200,
            spec=self.spec,
            targets={self.spec.variants[0].name: TargetFacts(**(target | self.target_changes))},
            gateway=GatewayLoad(self.now, self.rps, self.cloud_rps) if self.gateway else None,
            missing=self.missing,
        )

    def step(self, facts: PoolFacts | None = None) -> Decision:
        """Decide at ``now``; the clock then moves one tick and the cluster obeys."""
        decision, self.memory = decide(
            self.facts() if facts is None else facts,
            self.memory,
            self.now,
            read_only=self.read_only,
            overflow_fraction=self.overflow_fraction,
            budget_left=self.budget_left,
        )
        self.now += TICK
        if decision.write and not (decision.hold and decision.desired < self.replicas):
            self.replicas = decision.desired
        return decision

    def run(self, seconds: float, rps_at: Callable[[float], float] | None = None) -> list[Decision]:
        """Step for a while; ``rps_at`` gives the arrivals at seconds since the call."""
        begin, decisions = self.now, []
        while self.now - begin < seconds:
            if rps_at is not None:
                self.rps = rps_at(self.now - begin)
            decisions.append(self.step())
        return decisions


def reasons(decision: Decision) -> list[Reason]:
    """Reasons of a decision, the policy's first."""
    return [note.reason for note in decision.notes]
