"""Policies: what a pool's number of replicas should be, before any limit.

A policy is a function of the situation alone. It says what it wants at once and in full; how fast
and whether that may happen is the business of `spillway.core.limits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.api.inferencepool import Policy as PolicyName
from spillway.core.policies import cost, latency, utilization

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.core.policies.proposal import Policy

POLICIES: Final[Mapping[PolicyName, Policy]] = {
    PolicyName.COST: cost.propose,
    PolicyName.LATENCY: latency.propose,
    PolicyName.UTILIZATION: utilization.propose,
}
