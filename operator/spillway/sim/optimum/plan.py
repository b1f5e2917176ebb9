"""What a number of replicas over time costs whoever knows the load: a schedule that can be kept.

Every request is answered, here or by the API. Only where neither has room for it, a request waits
until there is, counts as failed, and its work as done at leisure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.optimum.bound import Tables, leave_shares
from spillway.sim.optimum.replica_plan import switching_usd
from spillway.sim.optimum.step_cost import Prices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.optimum.problem import Problem

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Halvings of the price of a failure's logarithm; between the last two prices the plan is mixed.
_BISECTIONS: Final = 16
#: The price of a failure is looked for between these multiples of an API request's.
_CHEAPEST: Final = 1e-4
_DEAREST: Final = 1e4


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A schedule; arrays have the shape (steps,).

    Attributes:
        replicas: That serve.
        cloud_per_second: Requests/s that leave.
        failed_per_second: Requests/s that miss the promise.
        api_usd_per_second: What the API charges.
        gpu_usd: Cost of replicas, starts and drains included.
        api_usd: Cost of the API.
        failed: Requests that miss the promise.
    """

    replicas: Ints
    cloud_per_second: Floats
    failed_per_second: Floats
    api_usd_per_second: Floats
    gpu_usd: float
    api_usd: float
    failed: float

    @property
    def usd(self) -> float:
        """Total cost."""
        return self.gpu_usd + self.api_usd


class Achievable:
    """Schedules for one load in one world."""

    def __init__(self, problem: Problem, rates: Floats, step_seconds: float) -> None:
        """Set up.

        Args:
            problem: The world.
            rates: Requests/s of each step.
            step_seconds: Length of a step.
        """
        self._problem = problem
        self._rates = rates
        self._step_seconds = step_seconds
        self.may_fail = (1 - problem.attainment) * float(rates.sum() * step_seconds)
        self._shares = leave_shares(problem.achievable, problem, rates, up=False)
        self._switching = problem.switching(step_seconds)

    def cheapest(self, replicas: Ints) -> Plan:
        """The cheapest way to serve with these replicas within the limit on failures.

        The fewest failures that are possible where the limit can't be kept.
        """
        usual = max(float(regime.usd[-1]) for regime in self._problem.achievable) or 1.0
        low, high = _CHEAPEST * usual, _DEAREST * usual
        kept, broken = self._served(replicas, high), self._served(replicas, low)
        if kept.failed >= self.may_fail:
            return kept
        if broken.failed <= self.may_fail:
            return broken
        for _ in range(_BISECTIONS):
            middle = float(np.sqrt(low * high))
            plan = self._served(replicas, middle)
            if plan.failed <= self.may_fail:
                high, kept = middle, plan
            else:
                low, broken = middle, plan
        return _mixed(kept, broken, (self.may_fail - kept.failed) / (broken.failed - kept.failed))

    def _served(self, replicas: Ints, late_usd: float) -> Plan:
        """Each step split in the cheapest way when a failure costs ``late_usd``."""
        tables = Tables(
            self._problem.achievable,
            Prices(late_usd),
            self._problem.regime_of_step,
            self._shares,
            last_resort=True,
        )
        cloud, failed, usd = (np.zeros(len(replicas)) for _ in range(3))
        for table, at in tables.groups(slice(0, len(replicas))):
            each, rates = replicas[at].astype(np.float64), self._rates[at]
            cloud[at] = table.per_second("cloud", each, rates)
            failed[at] = table.per_second("failed", each, rates)
            usd[at] = table.per_second("api_usd", each, rates)
        seconds = self._step_seconds
        gpu = self._problem.replica_usd(seconds) * float(replicas.sum())
        return Plan(
            replicas=replicas,
            cloud_per_second=cloud,
            failed_per_second=failed,
            api_usd_per_second=usd,
            gpu_usd=gpu + switching_usd(replicas, self._switching),
            api_usd=float(usd.sum()) * seconds,
            failed=float(failed.sum()) * seconds,
        )


def _mixed(one: Plan, other: Plan, share: float) -> Plan:
    """A share of every step's load is served as the other plan does; same replicas."""

    def between(a: Floats, b: Floats) -> Floats:
        return a + share * (b - a)

    return Plan(
        replicas=one.replicas,
        cloud_per_second=between(one.cloud_per_second, other.cloud_per_second),
        failed_per_second=between(one.failed_per_second, other.failed_per_second),
        api_usd_per_second=between(one.api_usd_per_second, other.api_usd_per_second),
        gpu_usd=one.gpu_usd,
        api_usd=one.api_usd + share * (other.api_usd - one.api_usd),
        failed=one.failed + share * (other.failed - one.failed),
    )
