"""What the demo saw, second by second, and the figures that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Moment:
    """A pool at one moment, as an outsider sees it.

    Attributes:
        at: Seconds since the demo's workload began.
        arrivals_per_second: Requests that arrived, mean of the last seconds.
        local_per_second: Of these, sent to the pool's GPUs.
        cloud_per_second: Of these, sent to the paid API.
        capacity_per_second: What the serving replicas can serve, by Spillway's estimate.
        serving: Replicas that are Ready and in the Service.
        warm: Replicas that are Ready and idle outside of it.
        starting: Replicas on the way to Ready.
        draining: Replicas that finish their requests.
        desired: Serving replicas that Spillway asks for.
        queue: Requests waiting on the replicas.
        overflow: Share of the requests that left, mean of the last seconds, 0 to 1.
        gpu_per_hour: US dollars an hour for the GPUs held now.
        api_per_hour: US dollars an hour at the API, at the present rate.
        in_time: Share of the last minute's requests that met both latency targets; None before the
            first answer.
        by_replicas: Requests that replicas have answered since the workload began.
        by_providers: Requests that each provider has answered since then.
    """

    at: float
    arrivals_per_second: float
    local_per_second: float
    cloud_per_second: float
    capacity_per_second: float
    serving: int
    warm: int
    starting: int
    draining: int
    desired: int
    queue: float
    overflow: float
    gpu_per_hour: float
    api_per_hour: float
    in_time: float | None = None
    by_replicas: int = 0
    by_providers: Mapping[str, int] = field(default_factory=dict)


class StepKind(StrEnum):
    """What the operator did."""

    DECISION = "decision"
    """It asks for another number of replicas."""
    SCALED = "scaled"
    """It set the target's replicas."""
    ROLE = "role"
    """It gave a pod another role."""
    OVERFLOW = "overflow"
    """Overflow began or ended."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the operator did, from its log.

    Attributes:
        at: Seconds since the demo's workload began.
        kind: What.
        reasons: The reason first, then the limits that had a say.
        message: For a person.
        desired: Of a decision: serving replicas asked for.
        pod: Of a change of role: whose.
        decision: Identifier of the decision behind it; "" where there is none.
    """

    at: float
    kind: StepKind
    reasons: tuple[str, ...]
    message: str
    desired: int | None = None
    pod: str = ""
    decision: str = ""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the workload.

    Attributes:
        at: When it begins, in seconds since the workload began.
        name: What happens in it.
    """

    at: float
    name: str


@dataclass(slots=True)
class Recording:
    """Everything that the page and the summary are made of.

    Attributes:
        title: What was recorded.
        phases: Parts of the workload, in order.
        moments: One a second, in order.
        steps: What the operator did, in order.
    """

    title: str
    phases: tuple[Phase, ...] = ()
    moments: list[Moment] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def seconds(self) -> float:
        """Length of the recording."""
        return self.moments[-1].at - self.moments[0].at if self.moments else 0.0

    def integral(self, name: str) -> float:
        """A field's integral over time (trapezoids); in units of the field times seconds."""
        areas = (
            (b.at - a.at) * (getattr(a, name) + getattr(b, name)) / 2
            for a, b in pairwise(self.moments)
        )
        return float(sum(areas))

    def peak(self, name: str) -> float:
        """A field's largest value; 0 where nothing was recorded."""
        return max((float(getattr(moment, name)) for moment in self.moments), default=0.0)

    def phase(self, at: float) -> str:
        """The name of the phase at a moment."""
        return next((p.name for p in reversed(self.phases) if p.at <= at), "")

    def begun(self) -> tuple[Phase, ...]:
        """The phases that had begun at the last moment, those too short for a moment included."""
        return tuple(p for p in self.phases if self.moments and p.at <= self.moments[-1].at)

    def decisions(self) -> list[Step]:
        """The decisions that changed the number of replicas."""
        return [step for step in self.steps if step.kind is StepKind.DECISION]
