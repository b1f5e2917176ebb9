"""One step of one pool: decide, then plan. The operator, the simulator and `explain` run this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.core.decide import Decision, PoolMemory, decide
from spillway.core.plan import Plan, PlanMemory, plan
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spillway.api.inferencepool import InferencePoolStatus
    from spillway.core.facts import PoolFacts


@dataclass(frozen=True, slots=True)
class PoolState:
    """What the core remembers of a pool between steps."""

    deciding: PoolMemory
    planning: PlanMemory

    @classmethod
    def restored(
        cls, status: InferencePoolStatus, now: float, past: Iterable[tuple[float, float]] = ()
    ) -> PoolState:
        """State after a restart, from what the pool's status and its past arrivals still say."""
        return cls(PoolMemory.restored(status, now, past), PlanMemory())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step decided, what is to be done about it, and what to remember."""

    decision: Decision
    plan: Plan
    state: PoolState


def step(
    facts: PoolFacts,
    state: PoolState,
    now: float,
    *,
    read_only: bool,
    overflow_fraction: float,
    budget_left: bool,
) -> Outcome:
    """Decide how many replicas should serve and plan the way there.

    Args:
        facts: What is known of the pool.
        state: What the last step returned.
        now: Seconds since the epoch.
        read_only: The cluster-wide switch: nothing may be written.
        overflow_fraction: Share of arrivals that the published overflow value sends away, 0 to 1.
        budget_left: Whether burst may still spend.
    """
    decision, deciding = decide(
        facts,
        state.deciding,
        now,
        read_only=read_only,
        overflow_fraction=overflow_fraction,
        budget_left=budget_left,
    )
    actions, planning = plan(
        facts, decision.by_variant, decision.warm, decision.hold, state.planning, now
    )
    return Outcome(decision, actions, PoolState(deciding, planning))
