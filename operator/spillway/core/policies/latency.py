"""Policy Latency: enough replicas for the promise, whatever the API would charge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.api.reasons import Reason
from spillway.core.economics import MOST_REPLICAS, replicas_by_quantile
from spillway.core.policies.proposal import Proposal, load_to_serve, sized

if TYPE_CHECKING:
    from spillway.core.situation import Situation


def propose(situation: Situation) -> Proposal:
    """Size for the attainment quantile of the forecast; burst, if any, is for surprises."""
    load = load_to_serve(situation)
    if isinstance(load, Proposal):
        return load
    forecast, mu = load
    attainment = situation.spec.latency.attainment
    desired = replicas_by_quantile(forecast, mu, attainment, MOST_REPLICAS)
    return sized(
        situation,
        desired,
        Reason.ATTAINMENT,
        f"{forecast.quantile(attainment):.3g} req/s at the {attainment:.0%} quantile of the "
        f"forecast, {mu:.3g} req/s a replica",
    )
