"""Ways to size a fixed fleet, from the sources' rules to the optimum, and what each costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.core.economics import (
    MOST_REPLICAS,
    SECONDS_PER_HOUR,
    replicas_by_marginal_rule,
    replicas_by_quantile,
)
from spillway.core.tco.costs import PLANNED_UTILIZATION, api_alone, fixed_fleet, following_fleet

if TYPE_CHECKING:
    from spillway.core.tco.costs import ApiTerms, Bill, OwnTerms
    from spillway.core.tco.load import Load


def compare(load: Load, own: OwnTerms, api: ApiTerms) -> tuple[Bill, ...]:
    """The ways to serve a load, a month's bill each.

    - the API alone;
    - GPUs for the 95th percentile at 85 %: the usual static provisioning (what is above it bursts
      here, so that each way serves every request);
    - GPUs for the median at 85 % and burst: the rule of thumb of hybrid serving;
    - GPUs for the quantile 1 - g/a: the newsvendor's answer, which takes a partly used last replica
      for a full one;
    - the marginal rule: the cheapest fixed number, exactly;
    - the cheapest number at each rate: the bound of all autoscaling.
    """
    mu, g = own.rps_per_replica, own.usd_per_replica_hour
    a = api.usd_per_attempt(load.mix) * mu * SECONDS_PER_HOUR
    forecast = load.forecast
    p95 = own.replicas_for(load.quantile(0.95))
    p50 = own.replicas_for(load.quantile(0.5))
    level = max(0.0, 1 - g / a) if a > 0 else 0.0
    newsvendor = replicas_by_quantile(forecast, mu, level, MOST_REPLICAS) if level > 0 else 0
    best = replicas_by_marginal_rule(forecast, mu, g, a, MOST_REPLICAS)
    percent = f"{PLANNED_UTILIZATION:.0%}"
    return (
        api_alone(load, api),
        fixed_fleet(f"GPUs for p95 at {percent}", p95, load, own, api),
        fixed_fleet(f"GPUs for p50 at {percent}", p50, load, own, api),
        fixed_fleet("GPUs for quantile 1-g/a", newsvendor, load, own, api),
        fixed_fleet("marginal rule, fixed", best, load, own, api),
        following_fleet("marginal rule, following", load, own, api),
    )
