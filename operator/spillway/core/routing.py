"""How evenly a pool's router deals out requests, which decides how much of a replica can be used.

Behind a router that picks the replica with the fewest requests, N replicas share the ups and downs
of the arrivals and each sees an Nth of their variance. Behind one that picks at random each sees
all of it, and so serves less within the same promise. Nothing says which one a pool has, but it
shows: at random, requests in flight scatter between replicas by at least their mean times t / c0
(the diffusion of `spillway.core.throughput`), and behind a router that evens out they hardly do. N
of the capacity model is how often the former holds the latter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from spillway.api.names import Role
from spillway.core.facts import PodPhase
from spillway.core.samples import fresh_load
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spillway.core.facts import PodFacts

#: Ten minutes: a router does not change often, and a variance of a few replicas is noise.
_HALF_LIFE_SECONDS: Final = 600.0
#: Before anything is seen: a router that evens out somewhat, with the weight of a minute's samples
#: of a pool of five.
_ASSUMED_SCATTER: Final = 0.5
_ASSUMED_WEIGHT: Final = 16.0
#: With fewer requests each the scatter is that of whole numbers.
_LEAST_IN_FLIGHT: Final = 2.0
#: Beyond it nothing changes: the model was not simulated with more replicas than eight.
_MOST_POOLING: Final = 8.0
#: One replica with a mean of so many is idle for less than a thousandth of the time.
_NEVER_IDLE: Final = 7.0


@dataclass(frozen=True, slots=True)
class RoutingMemory:
    """How requests in flight scattered between replicas.

    Attributes:
        at: Time of the last sample.
        scatter: Sum of the scatter seen over that of a random router, weighed.
        weight: Sum of the weights: one for each replica but the first.
        replicas: Replicas that serve, mean of late.
    """

    at: float = 0.0
    scatter: float = _ASSUMED_SCATTER * _ASSUMED_WEIGHT
    weight: float = _ASSUMED_WEIGHT
    replicas: float = 1.0

    @property
    def pooling(self) -> float:
        """N: over how many replicas the arrivals are evened out, at least 1."""
        ratio = max(self.scatter / self.weight, 1 / _MOST_POOLING)
        return max(1.0, min(1 / ratio, self.replicas, _MOST_POOLING))


def observe(
    memory: RoutingMemory, pods: Iterable[PodFacts], stretch: float, now: float
) -> RoutingMemory:
    """Add how the replicas compare now.

    Args:
        memory: What was seen before.
        pods: The pool's.
        stretch: Mean step of a busy replica over the base of a step (t / c0).
        now: Seconds since the epoch.
    """
    counts = [
        load.in_flight
        for p in pods
        if p.role is Role.SERVING and p.phase is PodPhase.READY
        if (load := fresh_load(p, now)) is not None
    ]
    if not counts:
        return memory
    elapsed = min(max(0.0, now - memory.at), _HALF_LIFE_SECONDS) if memory.at else 0.0
    keep = 0.5 ** (elapsed / _HALF_LIFE_SECONDS)
    number = len(counts)
    # Capacity must not follow each replica that comes or goes, or their number would chase it.
    replicas = number + keep * (memory.replicas - number) if memory.at else float(number)
    mean = sum(counts) / number
    if number < 2 or mean < _LEAST_IN_FLIGHT:
        return RoutingMemory(now, memory.scatter, memory.weight, replicas)
    squares = sum((count - mean) ** 2 for count in counts)
    return RoutingMemory(
        now,
        keep * memory.scatter + squares / (mean * stretch),
        keep * memory.weight + number - 1,
        replicas,
    )


def idle_share(batch: float, pooling: float) -> float:
    """Share of the time that a replica has nothing to do, by its mean batch while it has.

    With m requests in flight on average, Poisson over as many replicas as the router evens out, it
    is E[max(0, 1 - n / N)] with n Poisson of mean m N: exp(-m) for one replica. The batch of the
    steps is m over the rest of the time.
    """
    if batch > _NEVER_IDLE:
        return 0.0
    replicas = max(1, round(pooling))
    idle = 0.0
    for _ in range(3):
        mean = batch * (1 - idle) * replicas
        term = math.exp(-mean)
        idle = 0.0
        for n in range(replicas):
            idle += term * (1 - n / replicas)
            term *= mean / (n + 1)
    return idle
