"""Which pods and samples count: one definition of *fresh* and of *ready to serve* for all rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spillway.api.names import Role
from spillway.core.facts import PodPhase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spillway.core.facts import PodFacts, PoolFacts, ReplicaLoad

#: Four slow ticks of 15 s: one lost scrape is noise, a minute without samples is an outage. This is
#: how long the core goes on believing facts that it was given. Which samples get into the facts is
#: decided once, where they are made, by the operator's setting; that may be shorter, never longer.
MAX_SAMPLE_AGE_SECONDS: Final = 60.0


def is_fresh(sampled_at: float, now: float) -> bool:
    """Whether a sample is young enough to be believed.

    One from the future is not: after the clock was set back it would stay young for as long.
    """
    return abs(now - sampled_at) <= MAX_SAMPLE_AGE_SECONDS


def fresh_load(pod: PodFacts, now: float) -> ReplicaLoad | None:
    """The pod's load, or None where none is known or the sample is too old."""
    load = pod.load
    if load is None or abs(now - load.sampled_at) > MAX_SAMPLE_AGE_SECONDS:
        return None
    return load


def pods_of(facts: PoolFacts) -> Iterator[PodFacts]:
    """All pods of all targets that exist, terminating ones included."""
    for target in facts.targets.values():
        if target.exists:
            yield from target.pods


def owes_sample(pod: PodFacts, now: float) -> bool:
    """Whether the replica has been Ready for so long that a sample of it ought to be there.

    One that became Ready within the last minute owes none yet: its first scrape is to come, and
    calling that an outage would make every scale-up look like one.
    """
    return now - pod.phase_since > MAX_SAMPLE_AGE_SECONDS


def reporting(pods: Iterable[PodFacts], now: float) -> tuple[list[ReplicaLoad], int]:
    """Fresh loads of the ready serving replicas, and how many replicas ought to have one."""
    loads = []
    owing = 0
    for pod in pods:
        if pod.role is not Role.SERVING or pod.phase is not PodPhase.READY:
            continue
        load = fresh_load(pod, now)
        if load is not None:
            loads.append(load)
            owing += 1
        elif owes_sample(pod, now):
            owing += 1
    return loads, owing
