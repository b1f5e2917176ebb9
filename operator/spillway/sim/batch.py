"""A step of the batches of a pool: prompts first, then decodes, for K worlds at once.

Requests that wait are taken into the batch as far as its token budget goes, and their prompts take
their time at once: the share rho = a E[w] / dt of a step of dt seconds in which a are taken in.
What is left goes to those that decode, n of them on a replica in steps of
d(n) = c0 + (c1 + c2 X) n, so dt (1 - rho) n / (E[O] d(n)) end. At a rate that lasts this is the
r(n) of `spillway.sim.truth`; after a change it is not: a surge of arrivals slows down what is there
before there is more of it, and when less arrives the batch empties faster than r(n) says.

Single requests scatter, so that more or less ends in a step than on average. Near a state that
lasts n is then an Ornstein-Uhlenbeck process. It returns at theta = (1 - rho) c0 / (E[O] d^2) and
is moved by a request more by 1 + r E[w] / (1 - rho), and by a second of work more by r / (1 - rho):
with the variance of the work of those that come, by which single lengths differ, and with that of
the moments at which they come, as far as the load does not show it. An implicit step of
x = theta dt damps what comes within it by 1 / (1 + x); the variance is raised by 1 + x / 2 for what
that takes off too much, so that n scatters in the end as the process does. The draw is the step's,
so that every world meets the same.

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
#: -zeta(1/2) / sqrt(2 pi).
_OVERSHOOT: Final = 0.5826


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


class Batch:
    """Replicas of K pools: what is on one of each, and what a step makes of it."""

    def __init__(self, truth: ReplicaTruth, seconds: float, unseen: float | None) -> None:
        """Set up.

        Args:
            truth: The replica.
            seconds: Length of a step.
            unseen: Share of the variance of a step's arrivals that the load does not show; None:
                nothing scatters.
        """
        self._truth, self._seconds, self._unseen = truth, seconds, unseen
        self._base = truth.output_tokens * truth.base_seconds
        self._slope = max(_NONE, truth.output_tokens * truth.decode_seconds)
        # Prompts that a step has room for, and how many fewer for each request that decodes.
        self._room = truth.step_tokens / max(_NONE, truth.prompt_tokens_computed)
        self._taken = 1 / max(_NONE, truth.prompt_tokens_computed)
        self._always = float(self._most_admitted(np.array([truth.max_concurrency]))[0])
        self._running = self._waiting = self._wanted = self._most = np.zeros(0)
        self._pace: Floats | float = 1.0

    def begin(
        self, running: Floats, waiting: Floats, serving: Floats, arriving: Floats, draw: float
    ) -> None:
        """Begin a step.

        Args:
            running: In the batch of a replica; shape (K,) like what follows.
            waiting: On a replica, not in the batch yet.
            serving: Ready replicas.
            arriving: What comes to a replica where nothing leaves.
            draw: The step's, of a standard normal distribution.
        """
        self._running, self._waiting = running, waiting
        self._wanted = wanted = waiting + arriving
        if float(wanted.max()) > self._always or float(running.max()) > self._truth.max_concurrency:
            self._most = self._most_admitted(running)
            wanted = np.minimum(wanted, self._most)
        else:
            self._most = wanted
        if self._unseen is not None:
            self._pace = self._scattered(wanted, serving, draw, self._unseen)

    def _most_admitted(self, running: Floats) -> Floats:
        """Requests for which the decodes of the step's batches leave tokens."""
        truth = self._truth
        room = np.maximum(0.0, self._room - self._taken * running)
        decode = truth.base_seconds + truth.decode_seconds * running
        return np.asarray(self._seconds * room / (decode + truth.prompt_seconds * room))

    def _scattered(self, admitted: Floats, serving: Floats, draw: float, unseen: float) -> Floats:
        """What ends in the step, over its mean; in place, because it is a good part of a step."""
        truth, running = self._truth, self._running
        left = self._seconds - truth.prompt_seconds * admitted
        taken = self._base + self._slope * running
        # Half of: a request more on a replica ends so much more in the step.
        half = left / taken
        half /= taken
        half *= 0.5 * self._base
        # Seconds of the batch that a request takes by being there: those until one ends, and those
        # of its prompt.
        variance = taken / np.maximum(running, _NONE)
        variance += truth.prompt_seconds
        variance *= variance
        variance *= half + unseen
        half += 1.0
        half *= truth.work_variance
        variance += half
        left *= left
        left *= serving
        variance *= admitted
        variance /= left
        np.minimum(variance, _MOST_VARIANCE, out=variance)
        pace = np.sqrt(variance)
        pace *= draw
        variance *= 0.5
        pace -= variance
        return np.asarray(np.exp(pace, out=pace))

    def after(self, arriving: Floats) -> After:
        """What is there at the end if so much has come to each replica."""
        truth = self._truth
        wanted = self._waiting + arriving
        admitted = np.minimum(wanted, self._most)
        offered = self._running + admitted
        left = (self._seconds - truth.prompt_seconds * admitted) * self._pace
        slope = self._base + left - offered * self._slope
        running = _root(self._slope, slope, self._base * offered)
        if (running > truth.max_concurrency).any():
            full = running > truth.max_concurrency
            ended = self._seconds * truth.max_requests_per_second * self._pace
            # Those that end make room for as many.
            taken = np.clip(truth.max_concurrency - self._running + ended, 0.0, admitted)
            admitted = np.where(full, taken, admitted)
            offered = self._running + admitted
            running = np.where(full, np.maximum(0.0, offered - ended), running)
        return After(running, wanted - admitted, offered - running)

    def excursion(self, serving: Floats) -> Floats:
        """How far n, seen at the ends of steps alone, passes a bound that holds at all times.

        A walk that is looked at now and then is kept below a bound as a steady one is by a bound
        that is lower by 0.5826 standard deviations of a step (Broadie, Glasserman and Kou 1997).
        """
        truth, running = self._truth, self._running
        if self._unseen is None:
            return np.zeros_like(running)
        admitted = np.minimum(self._wanted, self._most)
        left = self._seconds - truth.prompt_seconds * admitted
        taken = self._base + self._slope * running
        each = truth.prompt_seconds + taken / np.maximum(running, _NONE)
        variance = (truth.work_variance + each * each) * admitted / serving
        ends = left * self._base / (taken * taken)
        return np.asarray(_OVERSHOOT * np.sqrt(variance) * running / (taken * (1 + ends)))

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
