"""What policies proposed lately, so that limits can ask what has *lasted*."""

from __future__ import annotations

from typing import Final, TypeAlias

#: Pairs (time, replicas proposed), oldest first; each holds until the next.
Proposals: TypeAlias = tuple[tuple[float, int], ...]

#: Without a proposal for this long nobody knows what would have been proposed: six slow ticks.
MAX_GAP_SECONDS: Final = 90.0


def appended(history: Proposals, at: float, replicas: int, keep_seconds: float) -> Proposals:
    """The history with one more proposal, cut to what the longest window needs.

    One entry from before the window stays: it says what held when the window began. After a gap,
    or a clock that was set back, the history begins anew.
    """
    if history and not 0 <= at - history[-1][0] <= MAX_GAP_SECONDS:
        history = ()
    first = 0
    while first + 1 < len(history) and history[first + 1][0] <= at - keep_seconds:
        first += 1
    return (*history[first:], (at, replicas))


def within(history: Proposals, window_seconds: float, now: float) -> list[int] | None:
    """Every number of replicas proposed during the window, or None if it was not all watched."""
    start = now - window_seconds
    if not history or history[0][0] > start:
        return None
    held = [replicas for at, replicas in history if at > start]
    before = [replicas for at, replicas in history if at <= start]
    return [before[-1], *held]
