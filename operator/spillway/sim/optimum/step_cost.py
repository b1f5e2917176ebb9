"""What a step costs with n replicas: the cheapest split between serving here, the API and lateness.

A step is served in one of two ways, and the cheaper one counts.

*In time.* A replica at load l (requests/s) answers L(l) of them late; the API is paid for the
share f of the load's GPU time that leaves, in the router's order. L and the cost c(f) are
convex, or taken by their lower convex hulls: replicas may be loaded unevenly. A request that
fails counts at the price `late_usd`. The cheapest split takes segments of the two in ascending
order of price. As n L(y/n) and x c(f) are homogeneous of degree one, so is their joint minimum:
n replicas and x requests/s cost x H(n/x), with one piecewise-linear convex H. So a table of a
few hundred points is exact for every n and every load.

*Given up.* A queue stands that is too long to be waited in: whatever arrives and does not leave
fails, and the replicas finish as much as they can, now or at another time when the load is given
up. Work put off costs `work_usd`, and what saturated replicas do is worth as much; so that over
a run all of it is done by someone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: What has no room in a schedule is answered late, at this many times the price of a failure.
_LAST_RESORT: Final = 1e3
#: The last requests of a sample say nothing of a mean.
_FEW: Final = 1e-3
#: Shares within rounding of the whole are the whole.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Regime:
    """What is true in a span of steps.

    Attributes:
        loads: Load of a replica, requests/s, from 0 ascending; shape (points,).
        late: Requests/s that are answered late at that load; shape (points,).
        freed: Share of the load's GPU time, from 0 ascending to what may leave; shape (cuts,).
        requests: Share of all requests that then leave; shape (cuts,).
        usd: What they cost for one request that arrives, in US dollars; shape (cuts,).
        failed_share: Share of requests sent to the API that miss the promise there.
        leave_per_second: Most requests per second that may leave; 0: the API is down.
    """

    loads: Floats
    late: Floats
    freed: Floats
    requests: Floats
    usd: Floats
    failed_share: float = 0.0
    leave_per_second: float = np.inf

    def __post_init__(self) -> None:
        """Refuse curves that can't be."""
        for name, group in (("loads", (self.loads, self.late)), ("freed", (self.freed,))):
            first = group[0]
            if len(first) < 1 + (name == "loads") or first[0] != 0 or np.any(np.diff(first) < 0):
                msg = f"{name} must ascend from 0, got {first}"
                raise ValueError(msg)
        if self.loads[-1] <= 0 or np.any(self.late < 0) or np.any(self.late > self.loads):
            msg = f"late must be from 0 to loads, and loads end above 0, got {self.late}"
            raise ValueError(msg)
        if self.freed[-1] > 1 + 1e-9 or not 0 <= self.failed_share <= 1:
            msg = f"shares must be from 0 to 1, got {self.freed[-1]} and {self.failed_share}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Prices:
    """Multipliers of the limits on a whole run, in US dollars.

    Attributes:
        late_usd: Of a request that fails; above 0.
        work_usd: Of the work of a request of the mean mix that is put off.
    """

    late_usd: float
    work_usd: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class StepTable:
    """H and its parts, piecewise linear in replicas per request/s, and what giving up costs.

    Attributes:
        ratio: Replicas per request/s that arrives, descending; with fewer than the last nothing is
            in time. Shape (points,) like what follows.
        value: H: US dollars for a request that arrives, failures included.
        api_usd: Of these, what the API charges.
        cloud: Requests that leave, for one that arrives.
        failed: Requests that fail, for one that arrives.
        given_up_usd: Given up, without replicas: US dollars for a request that arrives.
        given_up_failed: Requests that fail, for one that arrives.
        given_up_work: Work put off, in requests of the mean mix, for one that arrives.
        most_per_second: Requests/s that a saturated replica finishes.
        work_usd: What each of them is worth.
    """

    ratio: Floats
    value: Floats
    api_usd: Floats
    cloud: Floats
    failed: Floats
    given_up_usd: float
    given_up_failed: float
    given_up_work: float
    most_per_second: float
    work_usd: float

    def per_second(self, column: str, replicas: Floats, rates: Floats) -> Floats:
        """Rate of a column, served in time; replicas and requests/s broadcast."""
        values: Floats = getattr(self, column)
        found = rates * np.interp(
            replicas / np.maximum(rates, _ROUNDING), self.ratio[::-1], values[::-1]
        )
        return np.asarray(found, dtype=np.float64)

    def usd_per_second(self, replicas: Floats, rates: Floats) -> Floats:
        """The cheaper of both ways."""
        return np.minimum(self._in_time(replicas, rates), self._given_up(replicas, rates))

    def given_up(self, replicas: Floats, rates: Floats) -> NDArray[np.bool_]:
        """Whether giving up is the cheaper one."""
        return self._given_up(replicas, rates) < self._in_time(replicas, rates)

    def most_that_earn(self, usd_per_second: float) -> float:
        """Replicas per request/s beyond which one more saves no more than ``usd_per_second``."""
        saved, fewer = np.diff(self.value), -np.diff(self.ratio)
        earning = np.flatnonzero(saved > usd_per_second * fewer)
        return float(self.ratio[earning[0]]) if len(earning) else float(self.ratio[-1])

    def _in_time(self, replicas: Floats, rates: Floats) -> Floats:
        usd = self.per_second("value", replicas, rates)
        if self.ratio[-1] > 0:
            usd = np.where(replicas < self.ratio[-1] * rates * (1 - _ROUNDING), np.inf, usd)
        return usd

    def _given_up(self, replicas: Floats, rates: Floats) -> Floats:
        if self.given_up_usd == np.inf:
            return np.broadcast_to(np.inf, np.broadcast_shapes(replicas.shape, rates.shape))
        return self.given_up_usd * rates - self.work_usd * self.most_per_second * replicas


def step_table(
    regime: Regime, prices: Prices, leave_share: float = 1.0, *, last_resort: bool = False
) -> StepTable:
    """H for a regime at these prices.

    Args:
        regime: What is true.
        prices: Multipliers.
        leave_share: Share of the requests that may leave, by the API's limits.
        last_resort: Answer late what has no room, rather than give up.
    """
    late_usd = prices.late_usd
    loads, late = _here(regime)
    cost = regime.usd + late_usd * regime.failed_share * regime.requests
    away = lower_hull(regime.freed, cost)
    most = float(np.interp(leave_share, regime.requests[away], regime.freed[away]))
    freed = np.unique(np.minimum(regime.freed[away], most))
    paid = np.interp(freed, regime.freed[away], regime.usd[away])
    gone = np.interp(freed, regime.freed[away], regime.requests[away])
    # Columns: load here, late here; share of the work freed, API dollars, left, without room.
    segments = np.zeros((len(loads) + len(freed) - 1, 6))
    segments[: len(loads) - 1, :2] = np.diff(np.stack((loads, late), axis=1), axis=0)
    segments[len(loads) - 1 : -1, 2:5] = np.diff(np.stack((freed, paid, gone), axis=1), axis=0)
    if last_resort and 1 - most > _ROUNDING:
        segments[-1, [2, 5]] = 1 - most
    else:
        segments = segments[:-1]
    total = _totals(segments, late_usd, regime.failed_share)
    ratio = np.maximum(0.0, 1.0 - total[:, 2]) / total[:, 0]
    if ratio[-1] < _ROUNDING:
        ratio[-1] = 0.0
    api_usd, cloud = total[:, 3], total[:, 4]
    failed = ratio * total[:, 1] + cloud * regime.failed_share + total[:, 5]
    # Given up: as much leaves as is cheaper than to fail and to be put off.
    fails = regime.failed_share * gone + (1 - gone)
    given_up = paid + late_usd * fails + prices.work_usd * (1 - freed)
    best = int(given_up.argmin())
    give_up_usd = np.inf if last_resort else float(given_up[best])
    return StepTable(
        ratio=ratio,
        value=api_usd + late_usd * failed,
        api_usd=api_usd,
        cloud=cloud,
        failed=failed,
        given_up_usd=give_up_usd,
        given_up_failed=float(fails[best]),
        given_up_work=float(1 - freed[best]),
        most_per_second=float(regime.loads[-1]),
        work_usd=prices.work_usd,
    )


def _totals(segments: Floats, late_usd: float, failed_share: float) -> Floats:
    """Sums of segments in ascending order of price, from the first on that uses a replica.

    Segments that cost nothing are all taken.
    """
    dollars = (
        late_usd * (segments[:, 1] + failed_share * segments[:, 4] + _LAST_RESORT * segments[:, 5])
        + segments[:, 3]
    )
    price = dollars / (segments[:, 0] + segments[:, 2])
    order = np.argsort(price, kind="stable")
    total = np.cumsum(segments[order], axis=0)
    free = int(np.count_nonzero(price <= 0.0))
    used = int(np.argmax(total[:, 0] > 0))
    return np.asarray(total[max(used, free - 1) :], dtype=np.float64)


@lru_cache(maxsize=64)
def _here(regime: Regime) -> tuple[Floats, Floats]:
    """Loads of a replica, and late requests of the mean mix at each, convex."""
    kept = lower_hull(regime.loads, regime.late)
    return regime.loads[kept], regime.late[kept] * _stay_per_work(regime)


def _stay_per_work(regime: Regime) -> float:
    """Fewest requests that stay for the work of a mean request that stays, whichever have left."""
    some = regime.freed < 1 - _FEW
    stay = (1.0 - regime.requests[some]) / (1.0 - regime.freed[some])
    return min(1.0, float(stay.min()))


def lower_hull(x: Floats, y: Floats) -> NDArray[np.int64]:
    """Indices of the vertices of the lower convex hull of points in ascending order of x."""
    step = np.diff(x)
    if (step > 0).all():
        slope = np.diff(y) / step
        if (np.diff(slope) > 0).all():
            return np.arange(len(x))
    kept: list[int] = []
    for point in range(len(x)):
        if kept and x[kept[-1]] == x[point]:
            if y[kept[-1]] <= y[point]:
                continue
            kept.pop()
        while len(kept) > 1:
            before, last = kept[-2], kept[-1]
            rise = (y[last] - y[before]) * (x[point] - x[before])
            if rise < (y[point] - y[before]) * (x[last] - x[before]):
                break
            kept.pop()
        kept.append(point)
    return np.array(kept, dtype=np.int64)
