"""What a status and its conditions are made of, beside the facts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from spillway.core.ledger import runs_out_at
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.core.facts import PoolFacts
    from spillway.core.ledger import PoolLedger
    from spillway.core.overflow import OverflowValue
    from spillway.core.pool import Outcome

#: Steps in which the end of a budget is foretold.
_OUTLOOK_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Report:
    """Inputs of a status, beside the facts.

    Attributes:
        outcome: What the last step decided.
        overflow: The published overflow value; None before the first.
        ledger: Spend; None where the pool may not burst, or where it can't be read.
        read_only: The cluster-wide switch.
        problem: A write that failed; "" where all went well.
        ungranted: Burst needs a new grant, and the ledger that it goes into can't be stored.
    """

    outcome: Outcome
    overflow: OverflowValue | None
    ledger: PoolLedger | None
    read_only: bool = False
    problem: str = ""
    ungranted: bool = False

    def budget_ends_at(self, facts: PoolFacts, now: float) -> float | None:
        """When the budget is spent at the present rate; None if each period ends before.

        Rounded up to ten minutes, so that noise is no write.
        """
        burst, rate = facts.spec.burst, self.outcome.decision.economics.api_per_hour
        if burst is None or self.ledger is None or not rate:
            return None
        ends_at = runs_out_at(self.ledger, burst.budget, rate, now)
        if ends_at is None:
            return None
        return math.ceil(ends_at / _OUTLOOK_SECONDS) * _OUTLOOK_SECONDS
