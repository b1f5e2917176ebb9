"""The cheapest plan where the limits on a whole run are replaced by prices: a lower bound.

For every choice of the prices the least cost, less what the limits are worth at them, is at most
the cost of any schedule that keeps the limits (weak duality). The limits are:

* at most (1 - attainment) of the requests fail: price `Prices.late_usd`;
* work that is put off is done at some time: price `Prices.work_usd`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.optimum.replica_plan import cheapest_plan
from spillway.sim.optimum.step_cost import step_table
from spillway.sim.trace import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from spillway.sim.optimum.problem import Problem
    from spillway.sim.optimum.step_cost import Prices, Regime, StepTable

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Elements of a piece of the cost matrix: 2 MB of doubles stay in a core's cache.
_PIECE: Final = 250_000
#: The API's limits are taken in so many shares of the requests.
_SHARES: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class Relaxed:
    """A minimum at given prices.

    Attributes:
        usd_lower: The bound.
        replicas: Of each step.
        failed: Requests that fail.
        put_off: Work put off less work taken in, in requests of the mean mix.
    """

    usd_lower: float
    replicas: Ints
    failed: float
    put_off: float


class Tables:
    """The table of each step: by regime and by how much of its load may leave."""

    def __init__(
        self,
        regimes: tuple[Regime, ...],
        prices: Prices,
        regime_of_step: Ints,
        shares: Ints,
        *,
        last_resort: bool = False,
    ) -> None:
        """Make them.

        Args:
            regimes: What is true when.
            prices: Multipliers.
            regime_of_step: Index into ``regimes``; shape (steps,).
            shares: Share of the requests that may leave, in `_SHARES`ths; shape (steps,).
            last_resort: As of `step_table`.
        """
        key = regime_of_step * (_SHARES + 1) + shares
        kinds, self._kind = np.unique(key, return_inverse=True)
        self.all = [
            step_table(
                regimes[int(k) // (_SHARES + 1)],
                prices,
                int(k) % (_SHARES + 1) / _SHARES,
                last_resort=last_resort,
            )
            for k in kinds
        ]

    def groups(self, piece: slice) -> Iterator[tuple[StepTable, Ints]]:
        """The tables in use in a span of steps, each with its steps."""
        kind = self._kind[piece]
        for number in np.unique(kind):
            yield self.all[int(number)], np.flatnonzero(kind == number) + (piece.start or 0)


def leave_shares(regimes: tuple[Regime, ...], problem: Problem, rates: Floats, *, up: bool) -> Ints:
    """Share of each step's requests that may leave by the API's limits, in `_SHARES`ths.

    Rounded ``up`` for a bound, else down for a plan.
    """
    most = np.array([regime.leave_per_second for regime in regimes])[problem.regime_of_step]
    share = np.ones(len(rates))
    short = most < rates
    share[short] = most[short] / rates[short]
    share[most == 0] = 0.0
    rounded = np.ceil(share * _SHARES) if up else np.floor(share * _SHARES)
    return rounded.astype(np.int64)


class Relaxation:
    """One load in one world, with the limits on the whole run replaced by prices."""

    def __init__(
        self, problem: Problem, rates: Floats, step_seconds: float, *, achievable: bool = False
    ) -> None:
        """Set up.

        Args:
            problem: The world.
            rates: Requests/s of each step.
            step_seconds: Length of a step.
            achievable: Only what a schedule can count on: a minimum then is no bound, but a
                schedule to try.
        """
        self.may_fail = (1 - problem.attainment) * float(rates.sum() * step_seconds)
        self._problem = problem
        self._rates = rates
        self._step_seconds = step_seconds
        self._achievable = achievable
        self._regimes = problem.achievable if achievable else problem.regimes
        self._shares = leave_shares(self._regimes, problem, rates, up=not achievable)
        self._switching = problem.switching(step_seconds)

    def at(self, prices: Prices) -> Relaxed:
        """The minimum at these prices."""
        tables = Tables(
            self._regimes,
            prices,
            self._problem.regime_of_step,
            self._shares,
            last_resort=self._achievable,
        )
        usd, plan = cheapest_plan(self._costs(tables), self._switching)
        failed, put_off = 0.0, 0.0
        for table, at in tables.groups(slice(0, len(plan))):
            replicas, rates = plan[at].astype(np.float64), self._rates[at]
            given_up = table.given_up(replicas, rates)
            late = table.per_second("failed", replicas, rates)
            late[given_up] = rates[given_up] * table.given_up_failed
            failed += float(late.sum())
            work = rates * table.given_up_work - replicas * table.most_per_second
            put_off += float(work[given_up].sum())
        seconds = self._step_seconds
        return Relaxed(
            usd - prices.late_usd * self.may_fail, plan, failed * seconds, put_off * seconds
        )

    def _levels(self, tables: Tables) -> int:
        """Most replicas that a cheapest plan can have: those that earn their price at the peak."""
        problem = self._problem
        price = problem.gpu_usd_per_replica_hour / SECONDS_PER_HOUR
        ratio = max(table.most_that_earn(price) for table in tables.all)
        most = int(np.ceil(ratio * float(self._rates.max(initial=0.0)))) + 1
        least = max(int(problem.floor.max(initial=0)), problem.initial or 0, 1)
        return min(problem.max, max(most, least))

    def _costs(self, tables: Tables) -> Iterator[Floats]:
        """The cost of each step with each number of replicas, for `cheapest_plan`."""
        replicas = np.arange(self._levels(tables) + 1, dtype=np.float64)
        replica_usd = self._problem.replica_usd(self._step_seconds)
        rows = max(1, _PIECE // len(replicas))
        for begin in range(0, len(self._rates), rows):
            piece = slice(begin, min(begin + rows, len(self._rates)))
            cost = np.empty((piece.stop - begin, len(replicas)))
            for table, at in tables.groups(piece):
                cost[at - begin] = table.usd_per_second(replicas[None, :], self._rates[at, None])
            cost *= self._step_seconds
            cost += replica_usd * replicas
            cost[replicas[None, :] < self._problem.floor[piece, None]] = np.inf
            yield cost
