"""Pools that share scarce GPUs of one kind: who gets how many replicas.

Floors come first, then priority, then dollars: within a priority the GPUs go where a replica is
worth most, which is where its absence would be regretted most. A replica's worth is what the API
would charge for the work it takes over (`spillway.core.economics`), so it falls from each replica
of a pool to the next. Where replicas are of equal size, giving each GPU to the largest worth that
is left is then exact (Fox 1966, "Discrete optimization via marginal analysis"); where they are not,
it is a knapsack with one choice a pool, solved over the GPUs.

A pool that has no API to lean on has nothing to compare with: its wants come before dollars.
"""

from __future__ import annotations

import heapq
import math
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Final

from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: A replica moves between pools only for this much more worth, so that pools of about equal value
#: don't pass it back and forth. Chosen: a move costs a start and a drain, some minutes of an hour.
MOVING_MARGIN: Final = 1.1


@dataclass(frozen=True, slots=True)
class Claim:
    """What one pool wants of the GPUs.

    Attributes:
        key: The pool, ``namespace/name``; unique.
        gpus_per_replica: Size of its replicas, at least 1.
        held: Replicas that it has there now.
        floor: Replicas that it must have, at most `most`.
        most: Replicas that it wants.
        priority: Higher ones are served before lower ones.
        worth: US dollars an hour that replicas 1 to `most` are worth, falling; None where the pool
            has no API to lean on and every replica up to `most` is needed.
    """

    key: str
    gpus_per_replica: int
    held: int
    floor: int
    most: int
    priority: int = 0
    worth: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a claim that says something impossible.

        Raises:
            ValueError: Naming the attribute.
        """
        if self.gpus_per_replica < 1:
            msg = f"gpus_per_replica of {self.key} must be at least 1, got {self.gpus_per_replica}"
            raise ValueError(msg)
        if not 0 <= self.floor <= self.most:
            msg = f"floor of {self.key} must be from 0 to most ({self.most}), got {self.floor}"
            raise ValueError(msg)
        if self.worth is not None and len(self.worth) != self.most:
            msg = f"worth of {self.key} must have {self.most} values, got {len(self.worth)}"
            raise ValueError(msg)

    def worth_of(self, replica: int) -> float:
        """US dollars an hour of the pool's replica number ``replica`` (from 1) in this contest.

        A replica that is there already counts for more, by what moving it would cost.
        """
        if self.worth is None:
            return 0.0
        margin = MOVING_MARGIN if replica <= self.held else 1.0
        return max(0.0, self.worth[replica - 1]) * margin


def share(claims: Iterable[Claim], gpus: int) -> dict[str, int]:
    """Replicas for each pool, by key, of ``gpus`` GPUs in all.

    Args:
        claims: One a pool, all for the same kind of GPU.
        gpus: GPUs that they may hold together, those that they hold now included.

    Returns:
        At most each claim's `most`; all of them where there is room for all.
    """
    ordered = sorted(claims, key=lambda claim: (-claim.priority, claim.key))
    given = dict.fromkeys((claim.key for claim in ordered), 0)
    left = gpus
    for claim in ordered:
        left = _give(given, claim, claim.floor, left)
    for _, tier in groupby(ordered, key=lambda claim: claim.priority):
        pools = list(tier)
        for claim in pools:
            if claim.worth is None:
                left = _give(given, claim, claim.most, left)
        priced = [claim for claim in pools if claim.worth is not None]
        for key, replicas in _by_worth(priced, given, left).items():
            given[key] += replicas
        left = gpus - sum(given[claim.key] * claim.gpus_per_replica for claim in ordered)
    return given


def _give(given: dict[str, int], claim: Claim, wanted: int, left: int) -> int:
    """Give the pool up to ``wanted`` replicas; returns the GPUs that are left."""
    more = min(max(0, wanted - given[claim.key]), left // claim.gpus_per_replica)
    given[claim.key] += more
    return left - more * claim.gpus_per_replica


def _by_worth(claims: Sequence[Claim], given: Mapping[str, int], gpus: int) -> dict[str, int]:
    """More replicas for each pool, of the largest worth together."""
    sizes = {claim.gpus_per_replica for claim in claims}
    open_claims = [claim for claim in claims if claim.most > given[claim.key]]
    wanted = sum((c.most - given[c.key]) * c.gpus_per_replica for c in open_claims)
    if wanted <= gpus:
        return {c.key: c.most - given[c.key] for c in open_claims}
    if len(sizes) == 1:
        return _greedy(open_claims, given, gpus // sizes.pop())
    return _knapsack(open_claims, given, gpus)


def _greedy(claims: Sequence[Claim], given: Mapping[str, int], replicas: int) -> dict[str, int]:
    """Each replica to the largest worth that is left; equal ones by the pool's key."""
    more = dict.fromkeys((claim.key for claim in claims), 0)
    heap = [(-c.worth_of(given[c.key] + 1), c.key, c) for c in claims]
    heapq.heapify(heap)
    while heap and replicas > 0:
        _, key, claim = heapq.heappop(heap)
        more[key] += 1
        replicas -= 1
        following = given[key] + more[key] + 1
        if following <= claim.most:
            heapq.heappush(heap, (-claim.worth_of(following), key, claim))
    return more


def _knapsack(claims: Sequence[Claim], given: Mapping[str, int], gpus: int) -> dict[str, int]:
    """The same for replicas of unequal size: best worth for each number of GPUs, pool by pool."""
    unit = math.gcd(*(claim.gpus_per_replica for claim in claims))
    room = gpus // unit
    best = [0.0] * (room + 1)
    choices: list[list[int]] = []
    for claim in claims:
        size = claim.gpus_per_replica // unit
        first = given[claim.key] + 1
        gains = [0.0, *accumulate(claim.worth_of(n) for n in range(first, claim.most + 1))]
        improved, choice = best.copy(), [0] * (room + 1)
        for replicas in range(1, min(len(gains) - 1, room // size) + 1):
            gain, taken = gains[replicas], replicas * size
            for used in range(taken, room + 1):
                value = best[used - taken] + gain
                if value > improved[used]:
                    improved[used], choice[used] = value, replicas
        best = improved
        choices.append(choice)
    more, used = {}, room
    for claim, choice in zip(reversed(claims), reversed(choices), strict=True):
        more[claim.key] = choice[used]
        used -= choice[used] * (claim.gpus_per_replica // unit)
    return more
