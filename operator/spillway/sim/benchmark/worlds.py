"""The worlds of the policy benchmark: loads, sizes, leads, prices, and how a world may drift.

Each load is cut in two: rivals are tuned on the first half, and everybody is scored on the second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.conditions import Api, Change, Conditions, LeadTime
from spillway.sim.truth import replica_truth

if TYPE_CHECKING:
    from spillway.sim.trace import Trace

SCALES: Final = (10, 40, 200)
"""Replicas that the mean load needs."""
LEADS_SECONDS: Final = (60.0, 180.0, 420.0)
DRIFT_SCALE: Final = 40
DRIFT_LEAD_SECONDS: Final = 180.0
#: Far above what any load of the benchmark needs at once.
_ROOM: Final = 20
_OUTAGE_SECONDS: Final = 1800.0
#: A rate limit that binds in a burst: this share of the mean load.
_LIMITED_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Price:
    """What the API charges.

    Attributes:
        name: For tables.
        input_usd_per_million: Of prompt tokens.
        output_usd_per_million: Of output tokens.
    """

    name: str
    input_usd_per_million: float
    output_usd_per_million: float


PRICES: Final = (Price("A", 0.30, 0.60), Price("B", 0.15, 0.30), Price("C", 0.05, 0.08))


@dataclass(frozen=True, slots=True)
class World:
    """A load and where it is served, but for the API's price.

    Attributes:
        trace: Name of the load.
        scale: Replicas that its mean needs.
        lead_seconds: Median start-up.
    """

    trace: str
    scale: int
    lead_seconds: float

    def __str__(self) -> str:
        """For progress."""
        return f"{self.trace}, {self.scale} replicas, lead {self.lead_seconds:g} s"


def scaled(trace: Trace, scale: int) -> Trace:
    """The load whose mean needs so many replicas of the default profile.

    Raises:
        ValueError: No rate meets the targets.
    """
    conditions = Conditions()
    truth = replica_truth(
        conditions.profile,
        trace.lengths,
        ttft_seconds=conditions.ttft_seconds,
        tpot_seconds=conditions.tpot_seconds,
        attainment=conditions.attainment,
        replicas=float(scale),
    )
    if truth.requests_per_second <= 0:
        msg = f"{trace.name} must have requests that a replica can serve in time, got none"
        raise ValueError(msg)
    return trace.scaled(scale * truth.requests_per_second / trace.mean_per_second)


def conditions_of(world: World, price: Price, seed: int) -> Conditions:
    """The world as everybody is told that it is."""
    return Conditions(
        max=_ROOM * world.scale,
        lead=LeadTime(world.lead_seconds),
        api=Api(
            input_usd_per_million=price.input_usd_per_million,
            output_usd_per_million=price.output_usd_per_million,
        ),
        seed=seed,
    )


DRIFTS: Final = (
    "capacity -20 %",
    "capacity +20 %",
    "prompts x2",
    "answers x2",
    "API price x0.5",
    "API price x2",
    "API rate limit",
    "API outage 30 min",
)
"""What may turn out different from what everybody was told, or change on the way."""


def drifted(conditions: Conditions, drift: str, trace: Trace) -> Conditions:
    """The world as it turns out.

    Capacity is off from the begin; the mix and prices change after a third of the time; the API is
    gone for the half hour with the highest load; its rate limit is a twentieth of the mean load.
    """
    if drift == "API rate limit":
        limit = 60 * _LIMITED_SHARE * trace.mean_per_second
        return replace(conditions, api=replace(conditions.api, requests_per_minute=limit))
    third = trace.seconds / 3
    busiest = _busiest_half_hour(trace)
    changes = {
        "capacity -20 %": Change(at=0.0, capacity_factor=0.8),
        "capacity +20 %": Change(at=0.0, capacity_factor=1.2),
        "prompts x2": Change(at=third, prompt_factor=2.0),
        "answers x2": Change(at=third, output_factor=2.0),
        "API price x0.5": Change(at=third, api_price_factor=0.5),
        "API price x2": Change(at=third, api_price_factor=2.0),
        "API outage 30 min": Change(at=busiest, until=busiest + _OUTAGE_SECONDS, api_down=True),
    }
    return replace(conditions, changes=(changes[drift],))


def _busiest_half_hour(trace: Trace) -> float:
    """When the half hour with the highest load begins, in seconds."""
    means = trace.rates(_OUTAGE_SECONDS)
    return float(np.argmax(means)) * _OUTAGE_SECONDS
