"""What the deciding half remembers of a pool between two steps."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from spillway.api.reasons import Reason
from spillway.core.capacity import CapacityMemory
from spillway.core.forecast import ForecastMemory, restore
from spillway.core.guard import GuardMemory
from spillway.core.guarding import restored as restored_guard
from spillway.core.leadtime import LeadTimeMemory
from spillway.core.peaks import Peaks
from spillway.core.price_status import restored as restored_prices
from spillway.core.prices import Prices
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spillway.api.inferencepool import InferencePoolStatus
    from spillway.core.history import Proposals


@dataclass(frozen=True, slots=True)
class UtilizationMemory:
    """Since when utilisation has been high or low without a break; None while it is not.

    Attributes:
        high_since: When it became high.
        low_since: When it became low.
        at: When it was last looked at.
    """

    high_since: float | None = None
    low_since: float | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """State of one pool's decisions. A value: each step returns the next one.

    Attributes:
        by_variant: Serving replicas asked for last.
        known: Variants whose target existed at the last step.
        restored_desired: Serving replicas that the status asked for before a restart; 0 if none.
        started_at: First step of this process.
        adopted_at: When a target was last taken over from somebody else.
        adopted: Serving replicas that somebody else had asked for then, by variant.
        proposals: What the policy proposed lately.
        increases: Times of the latest increases, oldest first.
        changed_at: When the pool was last asked for another number.
        forecasts: State of the forecasters.
        capacity: What was learned of the replicas.
        lead_times: What was measured of starts.
        utilization: Timers of the Utilization policy.
        prices: The prices that were decided by last.
        guard: The pool's past load, and what is suspected.
        peaks: How the load scatters within a minute.
    """

    by_variant: dict[str, int] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    restored_desired: int = 0
    started_at: float | None = None
    adopted_at: float | None = None
    adopted: dict[str, int] = field(default_factory=dict)
    proposals: Proposals = ()
    increases: tuple[float, ...] = ()
    changed_at: float | None = None
    forecasts: ForecastMemory = field(default_factory=ForecastMemory)
    capacity: CapacityMemory = field(default_factory=CapacityMemory)
    lead_times: LeadTimeMemory = field(default_factory=LeadTimeMemory)
    utilization: UtilizationMemory = field(default_factory=UtilizationMemory)
    prices: Prices = field(default_factory=Prices)
    guard: GuardMemory = field(default_factory=GuardMemory)
    peaks: Peaks = field(default_factory=Peaks)

    @classmethod
    def initial(cls) -> PoolMemory:
        """Memory of a pool that was never seen."""
        return cls()

    @classmethod
    def restored(
        cls, status: InferencePoolStatus, now: float, past: Iterable[tuple[float, float]] = ()
    ) -> PoolMemory:
        """Memory after a restart: lead times, the last desired number, what arrivals were before.

        The windows that a scale-down waits for begin anew at ``now``, because nobody watched in
        between; so a restart alone never removes a replica. Neither does it end an adoption.
        """
        return cls(
            restored_desired=max(0, status.replicas.desired),
            started_at=now,
            adopted_at=now if _adopts(status) else None,
            forecasts=restore(past),
            lead_times=LeadTimeMemory.restored(status.lead_time.recent_seconds),
            prices=restored_prices(status.prices, now),
            guard=restored_guard(status.guard, now),
        )

    def resumed(self, status: InferencePoolStatus, now: float) -> PoolMemory:
        """Memory of a standby that begins to lead, where ``status`` is the last leader's.

        What was learned stays. What was asked for is read from the targets and the status, and the
        windows begin anew, because it was the last leader's decisions that were carried out, not
        these.
        """
        return replace(
            self,
            by_variant={},
            known=frozenset(),
            restored_desired=max(0, status.replicas.desired),
            adopted_at=now if _adopts(status) else None,
            adopted={},
            proposals=(),
        )


def _adopts(status: InferencePoolStatus) -> bool:
    """Whether the last decision kept replicas because their target had just been taken over."""
    last = status.last_decision
    return last is not None and Reason.ADOPTING in last.reasons
