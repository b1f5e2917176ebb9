"""What the optimum is asked: prices, capacity and limits, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spillway.sim.optimum.replica_plan import Switching
from spillway.sim.trace import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.optimum.step_cost import Regime

    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A world in which a load is to be served; arrays have the shape (steps,).

    Attributes:
        regimes: What is true of a replica and of the API, as favourable as it can be for whoever is
            compared with the bound.
        achievable: The same for the plan, one for each regime: what a schedule can count on.
        regime_of_step: Index into both.
        gpu_usd_per_replica_hour: Price of a replica.
        lead_seconds: Time from creation to Ready; billed.
        drain_seconds: Time for which a removed replica is billed.
        attainment: Share of all requests that must meet the promise, above 0 and at most 1.
        max: Most replicas.
        floor: Fewest replicas; 0 where nobody could hold one.
        vanishing: Replicas lost at the begin of a step.
        may_start: Whether a replica can become ready in the step.
        initial: Replicas before the first step; None: any number, at no cost.
    """

    regimes: tuple[Regime, ...]
    achievable: tuple[Regime, ...]
    regime_of_step: Ints
    gpu_usd_per_replica_hour: float
    lead_seconds: float
    drain_seconds: float
    attainment: float
    max: int
    floor: Ints
    vanishing: Ints
    may_start: NDArray[np.bool_]
    initial: int | None = None

    def __post_init__(self) -> None:
        """Refuse what has no answer."""
        for name in ("gpu_usd_per_replica_hour", "lead_seconds", "drain_seconds"):
            if not 0 <= getattr(self, name) < np.inf:
                msg = f"{name} must be a number from 0 up, got {getattr(self, name)}"
                raise ValueError(msg)
        if not 0 < self.attainment <= 1:
            msg = f"attainment must be above 0 and at most 1, got {self.attainment}"
            raise ValueError(msg)
        if not self.regimes or len(self.regimes) != len(self.achievable):
            msg = (
                f"achievable must have one entry for each of the {len(self.regimes)} regimes (at "
                f"least one), got {len(self.achievable)}"
            )
            raise ValueError(msg)
        steps = len(self.regime_of_step)
        for name in ("floor", "vanishing", "may_start"):
            if len(getattr(self, name)) != steps:
                msg = f"{name} must have {steps} steps, got {len(getattr(self, name))}"
                raise ValueError(msg)
        if self.max < 1 or (steps and self.floor.max() > self.max):
            msg = f"max must be at least 1 and the floor, got {self.max}"
            raise ValueError(msg)

    @classmethod
    def steady(
        cls,
        regime: Regime,
        steps: int,
        *,
        gpu_usd_per_replica_hour: float,
        attainment: float,
        lead_seconds: float = 0.0,
        drain_seconds: float = 0.0,
        max_replicas: int = 1000,
        floor: int = 0,
        initial: int | None = None,
    ) -> Problem:
        """A world in which nothing but the load changes."""
        none = np.zeros(steps, dtype=np.int64)
        return cls(
            regimes=(regime,),
            achievable=(regime,),
            regime_of_step=none.copy(),
            gpu_usd_per_replica_hour=gpu_usd_per_replica_hour,
            lead_seconds=lead_seconds,
            drain_seconds=drain_seconds,
            attainment=attainment,
            max=max_replicas,
            floor=none + floor,
            vanishing=none.copy(),
            may_start=np.ones(steps, dtype=np.bool_),
            initial=initial,
        )

    def replica_usd(self, step_seconds: float) -> float:
        """What a replica costs in a step."""
        return self.gpu_usd_per_replica_hour * step_seconds / SECONDS_PER_HOUR

    def switching(self, step_seconds: float) -> Switching:
        """What changes cost; a drain is billed until the run ends at the latest."""
        usd_per_second = self.gpu_usd_per_replica_hour / SECONDS_PER_HOUR
        steps = len(self.regime_of_step)
        left = (steps - np.arange(steps)) * step_seconds
        return Switching(
            up_usd=np.where(self.may_start, self.lead_seconds * usd_per_second, np.inf),
            down_usd=np.minimum(self.drain_seconds, left) * usd_per_second,
            vanishing=self.vanishing,
            initial=self.initial,
        )
