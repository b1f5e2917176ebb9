"""What a policy answers, and the shape of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from spillway.api.reasons import Reason
from spillway.core.economics import MOST_REPLICAS, most_burst_per_second, replicas_for
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from spillway.core.forecast import Forecast
    from spillway.core.situation import Situation


@dataclass(frozen=True, slots=True)
class Proposal:
    """Serving replicas that a policy wants, and why.

    Attributes:
        desired: Number of serving replicas.
        reason: For machines.
        message: For a person; a sentence without its full stop.
    """

    desired: int
    reason: Reason
    message: str


class Policy(Protocol):
    """A policy: pure, and the same in the operator, the simulator and `explain`."""

    def __call__(self, situation: Situation, /) -> Proposal:
        """The number of serving replicas wanted in this situation."""
        ...


def load_to_serve(situation: Situation) -> tuple[Forecast, float] | Proposal:
    """The load to size for and what a replica serves of it; a proposal to stay where neither is.

    The load is the forecast plus today's queue spread over the time that a new replica is kept, so
    that a backlog is worked off and never built on.
    """
    present = situation.replicas
    forecast, demand = situation.forecast, situation.demand
    if forecast is None or demand is None:
        return Proposal(present, Reason.STEADY, "demand is not known, so the number stays")
    if situation.mu <= 0:
        latency = situation.spec.latency
        return Proposal(
            present,
            Reason.TARGET_UNREACHABLE,
            f"no batch size meets tpot {latency.tpot * 1000:.0f}ms and ttft {latency.ttft:g}s on "
            "these GPUs, so replicas can't be sized for them",
        )
    backlog = demand.queue / max(situation.release_window_seconds, 60.0)
    return forecast.shifted(backlog), situation.mu


def must_stay(situation: Situation, forecast: Forecast, mu: float) -> int:
    """Replicas for the load that maxFraction and the providers' rate limits keep here."""
    burst = situation.spec.burst
    if burst is None:
        return 0
    load = forecast.quantile(situation.spec.latency.attainment)
    leaving = most_burst_per_second(burst, situation.mix, load, situation.memory.prices)
    return replicas_for(load - leaving, mu, MOST_REPLICAS)


def sized(situation: Situation, desired: int, reason: Reason, message: str) -> Proposal:
    """The proposal, called steady where it is what is there already."""
    if desired == situation.replicas:
        reason = Reason.STEADY
    return Proposal(desired, reason, message)
