"""Fixed against autoscaled cost by the classic formula of cloud calculators.

    fixed       ceil(headroom * peak / capacity) instances all month
    autoscaled  headroom * mean / capacity instances on the mean, and one more that starts or stops

The same headroom is kept over what is needed either way. It is a formula of means: it knows neither
how the load moves nor how long an instance takes to start (`spillway simulate` does), and it leaves
out burst.
"""

from __future__ import annotations

import math
from typing import Final

from spillway.core.tco.costs import HOURS_PER_MONTH
from spillway.core.tco.load import require
from spillway.core.values import dataclass

#: Share kept over what is needed; with it the classic example (peak 200, mean 40, 100 requests per
#: second an instance) has the 3 instances that are commonly printed for it.
HEADROOM: Final = 1.3
#: An instance is billed while it starts and while it drains.
_MOVING: Final = 1.0


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """Result of the formula.

    Attributes:
        fixed_replicas: Instances for the peak.
        autoscaled_replicas: Instances on the mean.
        fixed_monthly: US dollars.
        autoscaled_monthly: US dollars.
    """

    fixed_replicas: int
    autoscaled_replicas: float
    fixed_monthly: float
    autoscaled_monthly: float

    @property
    def savings_fraction(self) -> float:
        """Share of the fixed cost that autoscaling saves."""
        return 1 - self.autoscaled_monthly / self.fixed_monthly


def classic(
    peak_rps: float,
    mean_rps: float,
    rps_per_replica: float,
    usd_per_replica_hour: float,
    *,
    headroom: float = HEADROOM,
    hours: float = HOURS_PER_MONTH,
) -> Autoscaling:
    """The module's formula.

    Args:
        peak_rps: Requests per second at the peak.
        mean_rps: Requests per second on the mean, at most the peak.
        rps_per_replica: What an instance serves.
        usd_per_replica_hour: Its price.
        headroom: Capacity over what is needed, at least 1.
        hours: Of the month.

    Raises:
        NotPlannableError: A figure is out of range.
    """
    require("peak requests per second", peak_rps, above=0)
    require("mean requests per second", mean_rps, least=0, most=peak_rps)
    require("requests per second of a replica", rps_per_replica, above=0)
    require("the price of a replica-hour", usd_per_replica_hour, above=0)
    require("headroom", headroom, least=1)
    require("hours of a month", hours, above=0, most=744)
    fixed = math.ceil(headroom * peak_rps / rps_per_replica - 1e-9)
    autoscaled = min(float(fixed), headroom * mean_rps / rps_per_replica + _MOVING)
    monthly = usd_per_replica_hour * hours
    return Autoscaling(fixed, autoscaled, fixed * monthly, autoscaled * monthly)
