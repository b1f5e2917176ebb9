"""What a simulated run came to: dollars beside the promise kept, and the way there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Note:
    """A decision that changed something.

    Attributes:
        at: Seconds from the trace's begin.
        replicas_before: spec.replicas before it.
        replicas: spec.replicas after it.
        reason: For a person.
    """

    at: float
    replicas_before: int
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run over time, of one configuration; every array has the shape (steps,).

    Attributes:
        at: Begin of each step, seconds from the trace's begin.
        arrivals_per_second: Offered.
        cloud_per_second: Of these, answered by the API.
        capacity_per_second: What the ready replicas really serve within the targets.
        ready: Replicas that serve.
        unready: Replicas on their way.
        waiting: Requests that wait here.
        attainment: Share of the step's requests within the targets; NaN where none arrived.
        gpu_usd_per_hour: Cost rate of all replicas that are billed.
        api_usd_per_hour: Cost rate of the API.
        notes: Decisions, in order.
    """

    at: NDArray[np.float64]
    arrivals_per_second: NDArray[np.float64]
    cloud_per_second: NDArray[np.float64]
    capacity_per_second: NDArray[np.float64]
    ready: NDArray[np.float64]
    unready: NDArray[np.float64]
    waiting: NDArray[np.float64]
    attainment: NDArray[np.float64]
    gpu_usd_per_hour: NDArray[np.float64]
    api_usd_per_hour: NDArray[np.float64]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """One configuration's run.

    Attributes:
        scaler: Name of the scaler.
        configuration: Its parameters, for a person.
        seconds: Length of the run.
        requests: Requests that arrived.
        cloud_requests: Of these, sent to the API.
        lost_requests: Never answered (the API's errors and limits).
        attained_requests: Met both targets, wherever they were answered.
        gpu_usd: Cost of replicas, boot and drain included.
        api_usd: Cost of the API, billed failures included.
        replica_hours: Billed.
        scale_actions: Changes of spec.replicas.
        ttft_seconds: Percentile (50, 95, 99) to seconds; empty where the engine knows none.
        tpot_seconds: Likewise.
        timeline: None unless it was asked for.
    """

    scaler: str
    configuration: str
    seconds: float
    requests: float
    cloud_requests: float
    lost_requests: float
    attained_requests: float
    gpu_usd: float
    api_usd: float
    replica_hours: float
    scale_actions: int
    ttft_seconds: dict[int, float]
    tpot_seconds: dict[int, float]
    timeline: Timeline | None = None

    @property
    def usd(self) -> float:
        """Total cost."""
        return self.gpu_usd + self.api_usd

    @property
    def attainment(self) -> float:
        """Share of all requests that met both targets; 1 where none arrived."""
        return self.attained_requests / self.requests if self.requests else 1.0
