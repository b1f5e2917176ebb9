"""A step of the batches of a pool: prompts first, then decodes, for K worlds at once.

Requests that wait are taken into the batch as far as its token budget goes, and their prompts take
their time at once: the share rho = a E[w] / dt of a step of dt seconds in which a are taken in.
What is left goes to those that decode, n of them on a replica in steps of d(n) = c0 + (c1 + c2 X) n,
so dt (1 - rho) n / (E[O] d(n)) end. At a rate that lasts this is the r(n) of `spillway.sim.truth`;
after a change it is not: a surge of arrivals slows down what is there before there is more of it,
and when less arrives the batch empties faster than r(n) says.

Single lengths scatter, so that more or less ends in a step than on average: by the variance of the
prompts that are computed in it, and of the answers that end in it. The draw is the step's, so that
every world meets the same.

The step is taken implicitly, which has a closed form (a quadratic) and is stable for any length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.truth import ReplicaTruth

    Floats = NDArray[np.float64]

#: Stands for none in a division.
_NONE: Final = 1e-12
#: Most that the variance of the logarithm of a step's pace is taken to be: where less than a
#: request ends in a step the normal approximation means nothing.
_MOST_VARIANCE: Final = 1.0


class After(NamedTuple):
    """What is on a replica at the end of a step; shape (K,) each.

    Attributes:
        running: Requests in the batch.
        waiting: Requests whose prompts are not computed yet.
        finished: Requests that ended in the step.
    """

    running: Floats
    waiting: Floats
    finished: Floats


class Draw(NamedTuple):
    """How a step scatters.

    Attributes:
        normal: Of a standard normal distribution.
        unseen: Share of the variance of arrivals within the step that the load does not show.
    """

    normal: float
    unseen: float


class BatchStep:
    """A step that begins with so many on each replica, whatever arrives in it."""

    def __init__(
        self,
        truth: ReplicaTruth,
        seconds: float,
        running: Floats,
        waiting: Floats,
        serving: Floats,
        arriving: Floats,
        draw: Draw | None,
    ) -> None:
        """Set up.

        Args:
            truth: The replica.
            seconds: Length of the step.
            running: In the batch of a replica; shape (K,) like what follows.
            waiting: On a replica, not in the batch yet.
            serving: Ready replicas.
            arriving: What comes to a replica where nothing leaves.
            draw: How this step scatters; None: not at all.
        """
        self._truth, self._seconds = truth, seconds
        self._running, self._waiting = running, waiting
        self._base = truth.output_tokens * truth.base_seconds
        self._slope = max(_NONE, truth.output_tokens * truth.decode_seconds)
        # Prompts for which the decodes of a step leave tokens.
        room = np.maximum(0.0, truth.step_tokens - running) / max(
            _NONE, truth.prompt_tokens_computed
        )
        decode = truth.base_seconds + truth.decode_seconds * running
        self._most = seconds * room / (decode + truth.prompt_seconds * room)
        self._pace: Floats | float = 1.0
        if draw is not None:
            self._pace = self._scattered(np.minimum(waiting + arriving, self._most), serving, draw)

    def _scattered(self, admitted: Floats, serving: Floats, draw: Draw) -> Floats:
        """What ends in the step, over its mean."""
        truth, running = self._truth, self._running
        left = self._seconds - truth.prompt_seconds * admitted
        taken = self._base + self._slope * running
        # A request more on a replica ends so much more in the step.
        half = (0.5 * self._base) * left / (taken * taken)
        ended = np.maximum(left * running / taken, admitted)
        single = 1 / np.maximum(ended, _NONE) + truth.prompt_seconds / left
        variance = truth.work_variance * (1 + half) / (left * left)
        variance += single * single * (draw.unseen + half)
        variance = np.minimum(variance * admitted / serving, _MOST_VARIANCE)
        return np.asarray(np.exp(np.sqrt(variance) * draw.normal - variance / 2), dtype=np.float64)

    def after(self, arriving: Floats) -> After:
        """What is there at the end if so much has come to each replica."""
        truth = self._truth
        wanted = self._waiting + arriving
        admitted = np.minimum(wanted, self._most)
        offered = self._running + admitted
        left = (self._seconds - truth.prompt_seconds * admitted) * self._pace
        running = _root(self._slope, self._base + left - offered * self._slope, self._base * offered)
        if (running > truth.max_concurrency).any():
            full = running > truth.max_concurrency
            ended = self._seconds * truth.max_requests_per_second * self._pace
            # Those that end make room for as many.
            taken = np.clip(truth.max_concurrency - self._running + ended, 0.0, admitted)
            admitted = np.where(full, taken, admitted)
            offered = self._running + admitted
            running = np.where(full, np.maximum(0.0, offered - ended), running)
        return After(running, wanted - admitted, offered - running)

    def leaving(self, arriving: Floats, first: Floats, window: Floats, total: Floats) -> Floats:
        """The share of the arrivals that leaves where it rises from none to all within a window.

        Args:
            arriving: What comes to a replica where nothing leaves.
            first: Requests on a replica at which the first leave.
            window: So many more, and all do.
            total: Requests on a replica at the end of the step if nothing leaves.
        """
        truth = self._truth
        # The share that leaves is (n - first) / window, which is linear in n.
        slope = arriving / window
        prompts = truth.prompt_seconds * self._pace
        wanted = self._waiting + arriving
        stay = wanted + slope * first
        offered = self._running + stay
        left = self._seconds * self._pace - prompts * stay
        weight = 1 + slope
        n = _root(
            weight * self._slope + prompts * slope,
            weight * self._base + left - offered * self._slope,
            self._base * offered,
        )
        # Where requests have to wait for the batch, what leaves is missing from those that wait.
        waits = (n > truth.max_concurrency) | (stay - slope * n > self._most)
        n = np.where(waits, first + (total - first) / weight, n)
        return np.where(total > first, np.clip((n - first) / window, 0.0, 1.0), 0.0)


def _root(a: Floats | float, b: Floats, c: Floats) -> Floats:
    """The positive n with a n^2 + b n = c, for a above 0 and c from 0 up."""
    half = b / 2
    # In the form that does not cancel for either sign.
    root = np.sqrt(half * half + a * c) + np.abs(half)
    return np.asarray(np.where(half > 0, c / np.maximum(root, _NONE), root / a), dtype=np.float64)
