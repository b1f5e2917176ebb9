"""The optimum of a load: the prices with the highest bound, and the cheapest plan near them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.optimum.bound import Relaxation
from spillway.sim.optimum.plan import Achievable
from spillway.sim.optimum.step_cost import Prices
from spillway.sim.trace import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.optimum.bound import Relaxed
    from spillway.sim.optimum.plan import Plan
    from spillway.sim.optimum.problem import Problem

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: A failure is priced between these multiples of an API request, or of a request on a replica.
_LATE: Final = (1e-3, 1e4)
#: Halvings of the two prices' logarithms in each round. The bound holds at any price; more halvings
#: moved it by less than 1e-4 on a week of public traces.
_LATE_STEPS: Final = (12, 5)
_WORK_STEPS: Final = (5, 4)
#: A later round looks for the price of a failure within this factor of the last one.
_NEAR: Final = 8.0
#: Plans worked out in full: those met at the prices around the best ones.
_TRIED: Final = 4
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Optimum:
    """The clairvoyant optimum; arrays have the shape (steps,).

    Attributes:
        usd_lower: No schedule costs less that meets the promise as often.
        usd_plan: What this schedule costs that does.
        rates: Requests/s that arrive.
        replicas: Of it, serving.
        cloud_per_second: Of it, requests/s that the API answers.
        failed_per_second: Of it, requests/s that miss the promise.
        api_usd_per_second: Of it, what the API charges.
        gpu_usd: Of its cost, replicas, starts and drains included.
        api_usd: Of its cost, the API.
        requests: Requests that arrive.
        attainment: Share of them that meet the promise; below the one asked for only where no
            schedule reaches it. The bound is for that attainment, then.
        late_usd: What one more failure would save: the price of attainment.
        step_seconds: Length of a step.
    """

    usd_lower: float
    usd_plan: float
    rates: Floats
    replicas: Ints
    cloud_per_second: Floats
    failed_per_second: Floats
    api_usd_per_second: Floats
    gpu_usd: float
    api_usd: float
    requests: float
    attainment: float
    late_usd: float
    step_seconds: float

    @property
    def gap(self) -> float:
        """How far the plan is above the bound, as a share of the bound."""
        return self.usd_plan / self.usd_lower - 1 if self.usd_lower > 0 else 0.0


def optimum(trace_rates: Floats, step_seconds: float, problem: Problem) -> Optimum:
    """The optimum of a load in a world.

    Args:
        trace_rates: Requests/s of each step; shape (steps,). The bound is one for schedules that
            change at the begin of a step, and for loads that are even within one: take the engine's
            own step to compare with its runs.
        step_seconds: Length of a step.
        problem: The world, of as many steps.

    Raises:
        ValueError: The load and the world differ in steps, or a rate is no number from 0 up.
    """
    rates = np.asarray(trace_rates, dtype=np.float64)
    if len(rates) != len(problem.regime_of_step) or len(rates) == 0:
        msg = (
            f"trace_rates must have the problem's {len(problem.regime_of_step)} steps and at least "
            f"one, got {len(rates)}"
        )
        raise ValueError(msg)
    if not (np.isfinite(rates).all() and (rates >= 0).all()):
        msg = f"trace_rates must be numbers from 0 up, got {rates.min()} to {rates.max()}"
        raise ValueError(msg)
    if not 0 < step_seconds < np.inf:
        msg = f"step_seconds must be a number above 0, got {step_seconds}"
        raise ValueError(msg)
    bound = _Search(problem, rates, step_seconds, achievable=False)
    bound.run()
    schedule = _Search(problem, rates, step_seconds, achievable=True)
    schedule.run()
    plan = _cheapest(Achievable(problem, rates, step_seconds), schedule.promising())
    requests = float(rates.sum() * step_seconds)
    return Optimum(
        usd_lower=max(0.0, bound.lower),
        usd_plan=plan.usd,
        rates=rates,
        replicas=plan.replicas,
        cloud_per_second=plan.cloud_per_second,
        failed_per_second=plan.failed_per_second,
        api_usd_per_second=plan.api_usd_per_second,
        gpu_usd=plan.gpu_usd,
        api_usd=plan.api_usd,
        requests=requests,
        attainment=1 - plan.failed / requests if requests else 1.0,
        late_usd=bound.prices.late_usd,
        step_seconds=step_seconds,
    )


def _cheapest(schedules: Achievable, candidates: list[Ints]) -> Plan:
    """The cheapest that keeps the limit on failures, or the one that comes closest to it."""
    limit = schedules.may_fail * (1 + _ROUNDING)
    plans = [schedules.cheapest(replicas) for replicas in candidates]
    return min(plans, key=lambda plan: (max(plan.failed, limit), plan.usd))


class _Search:
    """Looks for the prices with the highest bound, or with the cheapest schedule.

    Attributes:
        lower: Highest bound so far.
        prices: Where it is.
    """

    def __init__(
        self, problem: Problem, rates: Floats, step_seconds: float, *, achievable: bool
    ) -> None:
        self._relaxation = Relaxation(problem, rates, step_seconds, achievable=achievable)
        fastest = max(float(regime.loads[-1]) for regime in problem.regimes)
        here = problem.gpu_usd_per_replica_hour / SECONDS_PER_HOUR / fastest
        away = max(float(regime.usd[-1]) for regime in problem.regimes)
        self._unit = max(here, away) or 1.0
        self._dearest_work_usd = here
        self.prices = Prices(self._unit)
        self.lower = -np.inf
        self._met: dict[bytes, Relaxed] = {}

    def run(self) -> None:
        """Search."""
        low, high = (factor * self._unit for factor in _LATE)
        most = self._at(Prices(high))
        # Where not even the dearest failures get few enough, the fewest there can be are the limit.
        limit = self._relaxation.may_fail = max(self._relaxation.may_fail, most.failed)
        self.lower = most.usd_lower if limit > most.failed else -np.inf
        self._search_late(low, high, _LATE_STEPS[0])
        for steps in _WORK_STEPS:
            if not self._search_work(steps):
                break
            near = self.prices.late_usd
            self._search_late(near / _NEAR, near * _NEAR, _LATE_STEPS[1])

    def promising(self) -> list[Ints]:
        """Replicas of the steps, of the plans with the highest bounds."""
        ranked = sorted(self._met.values(), key=lambda met: -met.usd_lower)
        return [met.replicas for met in ranked[:_TRIED]]

    def _at(self, prices: Prices) -> Relaxed:
        """The minimum at these prices."""
        relaxed = self._relaxation.at(prices)
        if relaxed.usd_lower > self.lower:
            self.lower, self.prices = relaxed.usd_lower, prices
        self._met[relaxed.replicas.tobytes()] = relaxed
        return relaxed

    def _search_late(self, low: float, high: float, steps: int) -> None:
        """Bisect: the bound rises with the price as long as too many fail."""
        work_usd = self.prices.work_usd
        for _ in range(steps):
            middle = float(np.sqrt(low * high))
            if self._at(Prices(middle, work_usd)).failed > self._relaxation.may_fail:
                low = middle
            else:
                high = middle

    def _search_work(self, steps: int) -> bool:
        """Likewise for work put off, while more is than is done; False: it is done for free."""
        late_usd, low, high = self.prices.late_usd, 0.0, self._dearest_work_usd
        if self._at(Prices(late_usd)).put_off <= 0:
            return False
        for _ in range(steps):
            middle = (low + high) / 2
            if self._at(Prices(late_usd, middle)).put_off > 0:
                low = middle
            else:
                high = middle
        return True
