"""Watching a pool for a while: what an outsider saw, look by look."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spillway.api.names import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.scenario import Scenario

INTERVAL_SECONDS = 0.25


@dataclass(frozen=True)
class Look:
    """A pool at one moment.

    Attributes:
        at: When (seconds since the epoch).
        replicas: spec.replicas of the Deployment.
        serving: Ready pods that serve.
        warm: Ready pods that are warm.
        draining: Pods that drain.
        pods: All pods that are not being deleted.
        waiting: Requests that wait on the engines.
        fraction: Share of the arrivals that the router's value sends away; 0 without a live one.
    """

    at: float
    replicas: int
    serving: int
    warm: int
    draining: int
    pods: int
    waiting: int
    fraction: float


def look(pool: Scenario) -> Look:
    """Look once."""
    traffic = pool.traffic()
    value = traffic["overflow"] or {}
    return Look(
        at=time.time(),
        replicas=pool.scale(),
        serving=len(pool.pods(Role.SERVING, ready=True)),
        warm=len(pool.pods(Role.WARM, ready=True)),
        draining=len(pool.pods(Role.DRAINING)),
        pods=len(pool.pods()),
        waiting=int(traffic["waiting"]),
        fraction=float(value["fraction"]) if value.get("live") else 0.0,
    )


def watch(
    pool: Scenario, description: str, until: Callable[[Look], object], timeout: float = 60.0
) -> list[Look]:
    """Look until something is seen; returns every look, the last one included.

    Raises:
        AssertionError: It was not seen in time.
    """
    looks = [look(pool)]
    while not until(looks[-1]):
        if looks[-1].at - looks[0].at > timeout:
            msg = f"not within {timeout:g} s: {description}; seen last: {looks[-1]}"
            raise AssertionError(msg)
        time.sleep(INTERVAL_SECONDS)
        looks.append(look(pool))
    return looks


def watch_for(pool: Scenario, seconds: float) -> list[Look]:
    """Look for so many seconds, to show what does not change meanwhile."""
    ends = time.time() + seconds
    return watch(pool, "the time is over", lambda seen: seen.at >= ends, timeout=seconds + 30)


def happened(pool: Scenario, kind: str) -> list[dict[str, Any]]:
    """The emulator's events of the pool of one kind, oldest first."""
    return [
        event
        for event in pool.rig.emulator.state()["events"]
        if event["pool"] == pool.key and event["kind"] == kind
    ]
