"""One run's outcome in the benchmark, and which of a rival's configurations are worth scoring."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.sim.benchmark.worlds import Price, World
    from spillway.sim.outcome import Result

#: Configurations of a rival that are scored: its frontier of cost and attainment, where it is above
#: the least attainment, thinned to so many.
_LEAST_ATTAINMENT: Final = 0.90
_MOST_CANDIDATES: Final = 12


@dataclass(frozen=True, slots=True)
class Record:
    """What one configuration came to on the half that is scored.

    Attributes:
        trace: Name of the load.
        scale: Replicas that its mean needs.
        lead_seconds: Median start-up.
        price: Name of the API's price.
        drift: How the world differs from what was told; "" where it does not.
        who: Name of the scaler, or "optimum".
        burst: Whether requests may leave.
        configuration: For a person.
        attainment: Share of all requests that met both targets.
        gpu_usd: Cost of replicas.
        api_usd: Cost of the API.
        cloud_share: Share of requests that left.
        requests: Requests that arrived.
        repair_usd: The least that one more request in time could have cost: the API's price of a
            mean one, or a replica's that is always full.
    """

    trace: str
    scale: int
    lead_seconds: float
    price: str
    drift: str
    who: str
    burst: bool
    configuration: str
    attainment: float
    gpu_usd: float
    api_usd: float
    cloud_share: float
    requests: float
    repair_usd: float

    @property
    def usd(self) -> float:
        """Total cost."""
        return self.gpu_usd + self.api_usd

    def usd_at(self, attainment: float) -> float:
        """Cost at an attainment at least as high: what falls short is bought where it is cheapest.

        That is the least it could have cost to keep the promise after all: just the requests that
        were late, known beforehand, at the API or on replicas that never idle.
        """
        return self.usd + max(0.0, attainment - self.attainment) * self.requests * self.repair_usd

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def record(
    world: World, price: Price, drift: str, result: Result, repair_usd: float, *, burst: bool
) -> Record:
    """A run's outcome."""
    requests = max(result.requests, 1e-9)
    return Record(
        trace=world.trace,
        scale=world.scale,
        lead_seconds=world.lead_seconds,
        price=price.name,
        drift=drift,
        who=result.scaler,
        burst=burst,
        configuration=result.configuration,
        attainment=result.attainment,
        gpu_usd=result.gpu_usd,
        api_usd=result.api_usd,
        cloud_share=result.cloud_requests / requests,
        requests=result.requests,
        repair_usd=repair_usd,
    )


def frontier(results: Sequence[Result]) -> list[int]:
    """Indices of the configurations that no cheaper one attains as much as, by cost.

    Where none attains enough, the one that attains most.
    """
    order = sorted(range(len(results)), key=lambda k: (results[k].usd, -results[k].attainment))
    found: list[int] = []
    best = -1.0
    for k in order:
        if results[k].attainment > best:
            best = results[k].attainment
            found.append(k)
    good = [k for k in found if results[k].attainment >= _LEAST_ATTAINMENT] or found[-1:]
    if len(good) <= _MOST_CANDIDATES:
        return good
    last = len(good) - 1
    return sorted({good[round(n * last / (_MOST_CANDIDATES - 1))] for n in range(_MOST_CANDIDATES)},
                  key=good.index)  # fmt: skip
