"""Facts about a pool, likely and unlikely, for any valid spec.

They are rolled by seeded dice, not drawn by Hypothesis: a pool's facts are hundreds of draws, and
drawing them cost ten times what the core itself takes. A failing seed is printed and reproduces.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, TypeVar

from spillway.api.names import Role
from spillway.core.facts import (
    Contention,
    GatewayLoad,
    GpuSupply,
    MissingData,
    PodFacts,
    PodPhase,
    PoolFacts,
    ReplicaLoad,
    TargetFacts,
    TargetKind,
)
from spillway.core.prices import GpuPrice, Offers, PriceSource, TokenPrice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.api.inferencepool import InferencePoolSpec

T = TypeVar("T")

AMOUNTS = (0.0, 0.0, 0.5, 3.0, 40.0, 1e6, 1e12)
#: Prices as a source may say them, absurd ones included.
USD = (0.0, -1.0, 1e-9, 0.2, 3.5, 3500.0, 1e300)


class Dice:
    """Rolls facts.

    Args:
        seed: The same seed, the same facts.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - a test's dice

    def one_of(self, choices: Sequence[T]) -> T:
        """One of these."""
        return self._random.choice(choices)

    def amount(self) -> float:
        """A load, a rate, a count."""
        return self.one_of(AMOUNTS) if self.chance(0.4) else self._random.uniform(0, 300)

    def maybe(self) -> float | None:
        """The same, or not known."""
        return self.amount() if self.chance(0.7) else None

    def chance(self, share: float) -> bool:
        """True in this share of the cases."""
        return self._random.random() < share

    def load(self, now: float) -> ReplicaLoad:
        """A sample of a replica; old ones and ones from the future among them."""
        return ReplicaLoad(
            sampled_at=now - self.one_of([0.0, 0.0, 10.0, 59.0, 300.0, -30.0, -3600.0]),
            running=self.amount(),
            waiting=self.amount() if self.chance(0.5) else 0.0,
            waiting_all=self.maybe(),
            kv_usage=self._random.random() if self.chance(0.7) else None,
            running_mean=self.maybe(),
            in_flight_change_per_second=self._random.uniform(-20, 20),
            finished_per_second=self.maybe(),
            prompt_tokens_per_second=self.maybe(),
            generation_tokens_per_second=self.maybe(),
            steps_per_second=self.maybe(),
            gpu_utilization=self._random.random() if self.chance(0.7) else None,
        )

    def pod(self, name: str, now: float) -> PodFacts:
        """A pod in any phase and role."""
        phase = PodPhase.READY if self.chance(0.5) else self.one_of(list(PodPhase))
        age = self.one_of([5.0, 100.0, 5000.0, -3600.0])
        return PodFacts(
            name=name,
            uid=name,
            resource_version="1",
            role=Role.SERVING if self.chance(0.6) else self.one_of(list(Role)),
            phase=phase,
            created_at=now - age,
            phase_since=now - age / 2,
            ready_at=now - age / 2 if phase is PodPhase.READY else None,
            drain_deadline=self.one_of([None, now - 1, now + 300]),
            deletion_cost=self.one_of([0, 0, -(2**31), 5]),
            in_endpoints=self.one_of([None, True, False]),
            load=self.load(now) if self.chance(0.8) else None,
            interrupted=self.chance(0.2),
        )

    def offers(self, spec: InferencePoolSpec) -> Offers:
        """What price sources say: nothing, something, nonsense."""
        if self.chance(0.3):
            return Offers(problems=("the catalog is gone",))
        providers = spec.burst.providers if spec.burst is not None else ()
        catalog = PriceSource.CATALOG
        return Offers(
            gpus={v.name: (GpuPrice(self.one_of(USD), catalog),) for v in spec.variants},
            apis={
                p.name: (TokenPrice(self.one_of(USD), self.one_of(USD), catalog),)
                for p in providers
            },
        )

    def pool_facts(self, spec: InferencePoolSpec, now: float) -> PoolFacts:
        """A pool with this spec, its targets in any state."""
        targets = {}
        for variant in spec.variants:
            names = [f"{variant.name}-{i}" for i in range(self.one_of([0, 1, 2, 4]))]
            targets[variant.name] = TargetFacts(
                kind=self.one_of(list(TargetKind)),
                exists=self.chance(0.9),
                spec_replicas=self.one_of([0, 1, 2, len(names), len(names), 15]),
                owned=self.chance(0.6),
                rolling_out=self.chance(0.2),
                contention=Contention("InferencePool", "other") if self.chance(0.1) else None,
                pods=tuple(self.pod(name, now) for name in names),
            )
        supply = GpuSupply(self.one_of([None, 0, 4]), self.chance(0.5))
        return PoolFacts(
            "ns",
            "pool",
            "u",
            1,
            now - 9000,
            spec,
            targets,
            GatewayLoad(now, self.amount(), self.amount()) if self.chance(0.5) else None,
            (MissingData("up", "nothing"),) if self.chance(0.3) else (),
            supply=dict.fromkeys(targets, supply) if self.chance(0.5) else {},
            offers=self.offers(spec),
        )
