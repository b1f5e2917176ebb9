"""What is remembered of a pool's route between two fast ticks: our last write, and who else writes.

A foreign edit is told from our own by the weights: the structure is anybody's, the weights of the
pool's rule are ours. Set back once, they may have been a slip; set back three times within five
minutes, somebody (Git, another controller) means it, and two writers would only take turns.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spillway.core.route import Route, RouteProblem

#: So many weights of ours that somebody else has changed within this time are a contest, and for as
#: long the route is then left alone.
CONTEST_RESETS: Final = 3
CONTEST_SECONDS: Final = 300.0
#: The share that left is remembered this long: longer than any rate window.
_REMEMBERED_SECONDS: Final = 1000.0


@dataclass(slots=True)
class Steering:
    """One pool's route.

    Attributes:
        uid: Of the pool.
        route: The route as our last write left it; None before one.
        decided_on: resourceVersion that it was decided on.
        weights: What our last write set; None before one, and once they are known to be gone.
        resets: When (monotonic seconds) somebody else's weights were found.
        lowered_at: When (monotonic seconds) the cloud share was last lowered.
        hold_until: Until then (monotonic seconds) nothing is written.
        contested_until: Until then (monotonic seconds) somebody else has the weights.
        shares: (seconds since the epoch, confirmed cloud share or None) whenever it changed, oldest
            first.
        problem: What stands in the way; None while nothing does.
    """

    uid: str
    route: Route | None = None
    decided_on: str = ""
    weights: Mapping[str, int] | None = None
    resets: deque[float] = field(default_factory=deque)
    lowered_at: float = float("-inf")
    hold_until: float = float("-inf")
    contested_until: float = float("-inf")
    shares: deque[tuple[float, float | None]] = field(default_factory=deque)
    problem: RouteProblem | None = None

    def newest(self, seen: Route) -> Route:
        """The route as it is known to be: the watch shows our own write a moment later."""
        own = self.route
        if own is None or own.uid != seen.uid or seen.resource_version != self.decided_on:
            return seen
        return own

    def note_share(self, share: float | None, now: float) -> None:
        """Remember the share that leaves from ``now`` on; None where it is not known."""
        shares = self.shares
        if not shares or shares[-1][1] != share:
            shares.append((now, share))
        while len(shares) > 1 and shares[1][0] < now - _REMEMBERED_SECONDS:
            shares.popleft()

    def mean_share(self, since: float, now: float) -> float | None:
        """Mean of the share that left between two times; None where it was not known throughout."""
        if not self.shares or self.shares[0][0] > since:
            return None
        total, until = 0.0, now
        for at, share in reversed(self.shares):
            if share is None:
                return None
            total += share * (until - max(at, since))
            until = max(at, since)
            if at <= since:
                break
        return total / max(now - since, 1e-9)

    def changed_by_others(self, route: Route, present: Mapping[str, int]) -> bool:
        """Whether the route, in a later version than our write's, has other weights than that."""
        return (
            self.weights is not None
            and self.route is not None
            and route.resource_version != self.route.resource_version
            and dict(self.weights) != dict(present)
        )

    def count_reset(self, now: float) -> int:
        """Count a foreign edit at a monotonic time; how many there were within `CONTEST_SECONDS`.

        The last of `CONTEST_RESETS` makes it a contest.
        """
        self.weights = None
        self.resets.append(now)
        while self.resets[0] < now - CONTEST_SECONDS:
            self.resets.popleft()
        times = len(self.resets)
        if times >= CONTEST_RESETS:
            self.contested_until = now + CONTEST_SECONDS
            self.resets.clear()
        return times
