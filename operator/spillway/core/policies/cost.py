"""Policy Cost: each replica must earn what it costs against the price of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spillway.api.reasons import Reason
from spillway.core.economics import MOST_REPLICAS, replicas_by_marginal_rule
from spillway.core.peaks import with_peaks
from spillway.core.policies import latency
from spillway.core.policies.proposal import Proposal, load_to_serve, must_stay, sized
from spillway.core.reporting import gateway_lost
from spillway.core.values import replace

if TYPE_CHECKING:
    from spillway.core.situation import Situation


def propose(situation: Situation) -> Proposal:
    """The marginal rule where burst can take the rest; the attainment quantile where it can't.

    GPU utilisation has no part in it: a GPU at 95 % with an empty queue serves what it is asked.
    """
    g = situation.economics.gpu_per_replica_hour
    a = situation.economics.api_per_replica_hour
    if not situation.burst_usable or g is None or a is None:
        return _without_burst(situation)
    load = load_to_serve(situation)
    if isinstance(load, Proposal):
        return load
    forecast, mu = load
    share = situation.peak_share
    desired = replicas_by_marginal_rule(with_peaks(forecast, share), mu, g, a, MOST_REPLICAS)
    least = must_stay(situation, forecast, mu)
    if least > desired:
        message = (
            f"{forecast.mean:.3g} req/s ahead, and the API may take only a part of it: {least} "
            f"replicas at {mu:.3g} req/s serve the rest"
        )
        return sized(situation, least, Reason.ATTAINMENT, message)
    message = (
        f"{forecast.mean:.3g} req/s ahead (give or take {share:.0%} within a minute), "
        f"{mu:.3g} req/s a replica at ${g:.2f}/h, for which the API charges ${a:.2f}/h"
    )
    return sized(situation, desired, Reason.DEMAND, message)


def _without_burst(situation: Situation) -> Proposal:
    """As the Latency policy, and where burst was asked for, why it can't be counted on."""
    proposal = latency.propose(situation)
    if situation.spec.burst is None:
        return proposal
    money = situation.economics
    unpriced = money.gpu_per_replica_hour is None or money.api_per_request is None
    why = "a price is not known" if unpriced else "its budget is spent"
    if situation.memory.guard.suspicion is not None:
        why = "a runaway is suspected"
    if situation.facts.route is not None and situation.facts.route.problem is not None:
        why = "its route can't carry it"
    if gateway_lost(situation.facts, situation.now):
        why = "its gateway is not seen"
    return replace(proposal, message=f"{proposal.message}; burst is off because {why}")
