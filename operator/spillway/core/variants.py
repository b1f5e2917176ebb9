"""Which variant gets a replica and which gives one up.

More: the cheapest US dollars per unit of capacity that the pool accepts and that finds GPUs. Fewer:
the dearest. A variant gets nothing as long as another can be had if it is below the pool's quality,
on spot GPUs where the promise is below a second, or too slow for the promise (at any rate, or for
more of the prompts than it leaves room for). Spot GPUs may all be taken away at once, so the floor
stands on others wherever there are others.
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from spillway.api.inferencepool import CapacityType
from spillway.api.names import Role
from spillway.api.reasons import Reason
from spillway.core.facts import GpuSupply, PodPhase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.api.inferencepool import InferencePoolSpec, Latency, Variant
    from spillway.core.capacity import Capacity
    from spillway.core.facts import PoolFacts, TargetFacts
    from spillway.core.situation import Situation

#: A promise below a second leaves no time to serve elsewhere what an interruption cuts off.
SPOT_LEAST_TTFT_SECONDS: Final = 1.0
_UNKNOWN: Final = GpuSupply()
_NOTHING_KNOWN: Final[Mapping[str, Capacity]] = MappingProxyType({})


def accepted(
    spec: InferencePoolSpec, capacity: Mapping[str, Capacity] = _NOTHING_KNOWN
) -> frozenset[str]:
    """Variants that the pool's quality and latency promise accept; all where none is.

    Args:
        spec: The pool's spec.
        capacity: What a replica serves, by variant; what is not in it is taken to be fast enough.
    """
    if len(spec.variants) == 1:
        return frozenset((spec.variants[0].name,))
    names = frozenset(v.name for v in spec.variants if _acceptable(v, spec))
    names = names or frozenset(v.name for v in spec.variants)
    # Quality first: a slow answer is late, a bad one is wrong.
    fast = frozenset(n for n in names if _fast_enough(capacity.get(n), spec.latency))
    return fast or names


def _acceptable(variant: Variant, spec: InferencePoolSpec) -> bool:
    quality = 1.0 if variant.quality is None else variant.quality
    if spec.min_quality is not None and quality < spec.min_quality:
        return False
    spot = variant.capacity_type is CapacityType.SPOT
    return not (spot and spec.latency.ttft < SPOT_LEAST_TTFT_SECONDS)


def _fast_enough(capacity: Capacity | None, latency: Latency) -> bool:
    """Whether the promise can be kept on the variant at all; see `LatencyAttainable`."""
    if capacity is None:
        return True
    return not capacity.unreachable and capacity.unattainable_share <= 1 - latency.attainment


def usable(situation: Situation) -> tuple[str, ...]:
    """Variants whose target exists, cheapest first."""
    targets = situation.facts.targets
    return tuple(v for v in situation.order if v in targets and targets[v].exists)


def allocate(situation: Situation, desired: int) -> dict[str, int]:
    """Serving replicas by variant; they sum up to ``desired``.

    What no variant has room for is asked of the best one all the same: the floor is asked for
    whatever is known, and the pods that wait get the next GPU.
    """
    missing = desired - situation.replicas
    if missing == 0:
        return dict(situation.present)
    board = _Board(situation)
    for _ in range(missing):
        board.add()
    for _ in range(-missing):
        board.remove()
    return board.by_variant


def most(situation: Situation, desired: int) -> tuple[int, Reason, str]:
    """How many of ``desired`` replicas the variants have room for; and what bounds them.

    Replicas that are asked for already always count.
    """
    board = _Board(situation)
    while sum(board.by_variant.values()) < desired:
        if board.roomy() is None:
            break
        board.add()
    return sum(board.by_variant.values()), *board.bound()


class _Board:
    """Replicas by variant while they are moved one by one.

    Attributes:
        by_variant: Serving replicas asked for.
    """

    def __init__(self, situation: Situation) -> None:
        self._spec = situation.spec
        self._facts = situation.facts
        self._variants = {v.name: v for v in situation.spec.variants}
        chosen = accepted(situation.spec, situation.capacity)
        present = usable(situation) or situation.order
        # GPUs that can't be had now are asked for last.
        found = sorted(present, key=lambda name: name in situation.short)
        self._to_add = [n for n in found if n in chosen] or found
        self._to_remove = [*(n for n in situation.order if n in chosen)]
        self._to_remove += [n for n in situation.order if n not in chosen]
        self._free, self._quota = _free_gpus(self._facts), _quota_left(self._facts)
        self._promotable = {n: _warm(t) for n, t in self._facts.targets.items()}
        self.by_variant = dict(situation.present)

    def add(self) -> None:
        """One more replica, where there is room for it, else of the best variant."""
        name = self.roomy() or self._preferred()[0]
        self.by_variant[name] += 1
        if self._promotable.get(name, 0) > 0:
            self._promotable[name] -= 1
            return
        variant = self._variants[name]
        gpus, kind = variant.accelerator.per_replica, variant.accelerator.type
        if kind in self._free:
            self._free[kind] -= gpus
        if self._quota is not None:
            self._quota -= gpus

    def remove(self) -> None:
        """One replica less, of the dearest variant that may give one up."""
        having = [n for n in reversed(self._to_remove) if self.by_variant[n] > 0]
        if not having:
            return
        willing = [n for n in having if self._may_give(n)]
        self.by_variant[(willing or having)[0]] -= 1

    def roomy(self) -> str | None:
        """The first choice that has room; None where none has."""
        return next((name for name in self._preferred() if self._bound_of(name) is None), None)

    def bound(self) -> tuple[Reason, str]:
        """What keeps the first choice from having more."""
        name = self._preferred()[0]
        return self._bound_of(name) or (Reason.STEADY, "")

    def _preferred(self) -> list[str]:
        """Variants to add to: those below their minimum, then what the floor must stand on."""
        below = [n for n in self._to_add if self.by_variant[n] < self._variants[n].replicas.min]
        solid = [n for n in self._to_add if not self._spot(n)]
        on_solid = sum(count for n, count in self.by_variant.items() if not self._spot(n))
        if solid and on_solid < self._spec.replicas.floor:
            return [*below, *solid]
        return [*below, *self._to_add]

    def _may_give(self, name: str) -> bool:
        count = self.by_variant[name]
        if count <= self._variants[name].replicas.min:
            return False
        on_solid = sum(n for each, n in self.by_variant.items() if not self._spot(each))
        return self._spot(name) or on_solid > self._spec.replicas.floor or on_solid == self._total()

    def _total(self) -> int:
        return sum(self.by_variant.values())

    def _spot(self, name: str) -> bool:
        return self._variants[name].capacity_type is CapacityType.SPOT

    def _bound_of(self, name: str) -> tuple[Reason, str] | None:
        variant = self._variants[name]
        highest = variant.replicas.max
        if highest is not None and self.by_variant[name] >= highest:
            return Reason.VARIANT_MAX, f"variant {name} may have at most {highest} replicas"
        if self._promotable.get(name, 0) > 0:
            return None
        gpus, kind = variant.accelerator.per_replica, variant.accelerator.type
        if self._quota is not None and self._quota < gpus:
            return Reason.QUOTA, "the namespace's ResourceQuota leaves no GPU for another replica"
        if kind in self._free and self._free[kind] < gpus:
            return Reason.GPU_INVENTORY, f"no node has {gpus} free GPUs of type {kind or 'any'}"
        return None


def _free_gpus(facts: PoolFacts) -> dict[str | None, int]:
    """Free GPUs by type, where no node can be added, less what waits for them already."""
    free: dict[str | None, int] = {}
    for variant in facts.spec.variants:
        supply = facts.supply.get(variant.name, _UNKNOWN)
        if supply.free is None or supply.elastic:
            continue
        kind = variant.accelerator.type
        waiting = _waiting(facts.targets.get(variant.name)) * variant.accelerator.per_replica
        free[kind] = free.get(kind, supply.free) - waiting
    return free


def _quota_left(facts: PoolFacts) -> int | None:
    """GPUs that the quota leaves, less what pods that don't exist yet will take of it."""
    left = [s.quota_left for s in facts.supply.values() if s.quota_left is not None]
    if not left:
        return None
    coming = sum(
        _uncreated(facts.targets.get(v.name)) * v.accelerator.per_replica
        for v in facts.spec.variants
    )
    return min(left) - coming


def _warm(target: TargetFacts) -> int:
    """Warm replicas: each serves with one label, whatever GPUs are free."""
    return sum(p.role is Role.WARM and p.phase is not PodPhase.TERMINATING for p in target.pods)


def _uncreated(target: TargetFacts | None) -> int:
    if target is None or not target.exists:
        return 0
    there = sum(p.phase is not PodPhase.TERMINATING for p in target.pods)
    return max(0, target.spec_replicas - there)


def _waiting(target: TargetFacts | None) -> int:
    if target is None or not target.exists:
        return 0
    unscheduled = sum(p.phase is PodPhase.UNSCHEDULABLE for p in target.pods)
    return _uncreated(target) + unscheduled


def by_zone(facts: PoolFacts) -> Mapping[str, int]:
    """Replicas that serve or start, by zone; zones of the supply that have none count too."""
    zones = Counter(
        {zone: 0 for supply in facts.supply.values() for zone in supply.zones},
    )
    for target in facts.targets.values():
        for pod in target.pods:
            counted = pod.role is Role.SERVING and pod.phase is not PodPhase.TERMINATING
            if counted and pod.zone is not None and not pod.interrupted:
                zones[pod.zone] += 1
    return zones
