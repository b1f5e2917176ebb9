"""A pool's situation: the facts and all that follows from them, as policies and limits need it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from spillway.api.inferencepool import Policy
from spillway.core.demand import MIN_REPORTING_SHARE
from spillway.core.facts import PodPhase
from spillway.core.samples import fresh_load, pods_of, reporting
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.api.inferencepool import InferencePoolSpec
    from spillway.core.capacity import Capacity
    from spillway.core.demand import DemandEstimate
    from spillway.core.economics import Economics
    from spillway.core.facts import PoolFacts, ReplicaLoad
    from spillway.core.forecast import Forecast
    from spillway.core.memory import PoolMemory
    from spillway.core.schedules import Scheduled
    from spillway.core.tokenmix import TokenMix

#: A replica that decodes keeps its GPU well above half by DCGM's gauge; at a tenth, with requests
#: in the batch and more waiting, it computes nothing.
HUNG_GPU_UTILIZATION: Final = 0.1
#: Engine and GPU are sampled at different moments, so a replica that has just got its first
#: requests looks hung: only requests that were there for about half of the rate window count.
_HUNG_LASTING: Final = 0.5


class Data(StrEnum):
    """How much of what the policy needs is known."""

    MISSING = "missing"
    """Too little to decide on."""
    PARTIAL = "partial"
    """Enough to add replicas, not enough to remove one."""
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a policy or a limit may look at.

    Attributes:
        facts: What was observed.
        now: Seconds since the epoch.
        memory: The pool's memory, with this step's observations.
        present: Serving replicas asked for so far, by variant.
        order: Variant names, cheapest US dollars per unit of capacity first.
        demand: Load now; None if unknown.
        forecast: Load when a new replica could serve; None before the first observation.
        capacity: By variant.
        mu: Requests per second of one more replica behind the pool's one Service.
        mix: Mix of the requests.
        economics: Prices and cost rates.
        lead_seconds: Measured time from creation to Ready.
        release_window_seconds: How long a replica must be superfluous before it goes.
        persistence_seconds: How long demand must last before what burst carries is added for.
        scheduled: What declared schedules ask for at least.
        burst_usable: Burst is enabled, all needed prices are known and budget is left.
        overflow_fraction: Share of arrivals that may be leaving.
        data: How much is known.
        short: Variants with pods that no node takes.
        hung: Pods whose requests get nowhere while their GPUs idle.
    """

    facts: PoolFacts
    now: float
    memory: PoolMemory
    present: dict[str, int]
    order: tuple[str, ...]
    demand: DemandEstimate | None
    forecast: Forecast | None
    capacity: dict[str, Capacity]
    mu: float
    mix: TokenMix
    economics: Economics
    lead_seconds: float
    release_window_seconds: float
    persistence_seconds: float
    scheduled: Scheduled
    burst_usable: bool
    overflow_fraction: float
    data: Data
    short: frozenset[str]
    hung: tuple[str, ...]

    @property
    def spec(self) -> InferencePoolSpec:
        """The pool's spec."""
        return self.facts.spec

    @property
    def peak_share(self) -> float:
        """Scatter within a minute that replicas feel, over the load; see `spillway.core.peaks`."""
        capacity = self.capacity[self.order[0]]
        if capacity.requests_per_second <= 0:
            return 0.0
        return self.memory.peaks.share(capacity.concurrency / capacity.requests_per_second)

    @property
    def replicas(self) -> int:
        """Serving replicas asked for so far."""
        return sum(self.present.values())


def data_of(facts: PoolFacts, demand: DemandEstimate | None, now: float) -> Data:
    """How much of what the pool's policy needs is known.

    Any signal that observation lists as missing makes the data partial at best: removing a replica
    on half of the picture is the mistake that can't be afforded.
    """
    loads, owing = reporting(pods_of(facts), now)
    by_utilization = facts.spec.policy is Policy.UTILIZATION
    if by_utilization and (not loads or len(loads) < MIN_REPORTING_SHARE * owing):
        return Data.MISSING
    if not by_utilization and demand is None:
        return Data.MISSING
    silent = not loads or len(loads) < owing
    if by_utilization:
        silent = silent or any(load.gpu_utilization is None for load in loads)
    return Data.PARTIAL if silent or facts.missing else Data.COMPLETE


def short_variants(facts: PoolFacts, now: float) -> frozenset[str]:
    """Variants with a pod that could not be placed for longer than a node usually takes to come."""
    return frozenset(
        name
        for name, target in facts.targets.items()
        if target.exists
        and any(
            p.phase is PodPhase.UNSCHEDULABLE and now - p.phase_since > facts.node_lead_seconds
            for p in target.pods
        )
    )


def hung_pods(facts: PoolFacts, now: float) -> tuple[str, ...]:
    """Pods with running requests whose GPUs compute next to nothing.

    Either requests queue behind them as well, or the engine makes no step and no token.
    """
    long = facts.spec.utilization.queue_per_replica
    return tuple(
        pod.name
        for pod in pods_of(facts)
        if (load := fresh_load(pod, now)) is not None
        and load.running > 0
        and (load.running_mean is None or load.running_mean >= _HUNG_LASTING * load.running)
        and load.gpu_utilization is not None
        and load.gpu_utilization < HUNG_GPU_UTILIZATION
        and (load.waiting > long or _stands_still(load))
    )


def _stands_still(load: ReplicaLoad) -> bool:
    """Whether the engine did nothing for the whole rate window with requests in its batch.

    Each counter must say so: a single one that stands still may only be one that is not kept.
    """
    return (
        load.running_mean is not None
        and load.steps_per_second == 0
        and load.generation_tokens_per_second == 0
        and load.finished_per_second == 0
    )
