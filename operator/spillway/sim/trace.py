"""A recorded or made-up load: what arrived when, and how long prompts and answers were.

Times are seconds from the trace's begin. A trace is either per request (`Trace.requests`) or counts
a bin (`requests` is None); in the second case requests below the bin are made up (`sampled`), which
is said wherever such a result is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECONDS_PER_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Lengths:
    """Pairs of prompt and answer length, in tokens; each row is one request that was seen.

    Attributes:
        prompt_tokens: Shape (n,), at least 1 each.
        output_tokens: Shape (n,), at least 1 each.
        cached_tokens: Prompt tokens that a prefix cache answers; shape (n,), below `prompt_tokens`.
    """

    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    cached_tokens: NDArray[np.int64]

    @classmethod
    def of(cls, prompt: NDArray[np.int64], output: NDArray[np.int64]) -> Lengths:
        """Lengths without prefix hits."""
        return cls(prompt, output, np.zeros_like(prompt))

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.prompt_tokens)

    def take(self, rows: NDArray[np.int64] | slice) -> Lengths:
        """The rows, in that order."""
        return Lengths(self.prompt_tokens[rows], self.output_tokens[rows], self.cached_tokens[rows])


@dataclass(frozen=True, slots=True)
class Requests:
    """Single requests in order of arrival.

    Attributes:
        arrived_at: Seconds from the trace's begin, ascending; shape (n,).
        lengths: Their lengths, n rows.
        session: Number of the session a request belongs to; -1 where unknown; shape (n,).
    """

    arrived_at: NDArray[np.float64]
    lengths: Lengths
    session: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of requests."""
        return len(self.arrived_at)


@dataclass(frozen=True, slots=True)
class Trace:
    """An offered load.

    Attributes:
        name: Short name for tables.
        source: Where it is from and what of it is made up; a sentence for a person.
        bin_seconds: Width of a bin.
        requests_per_second: Mean rate of each bin; shape (bins,), never negative.
        lengths: What lengths are drawn from.
        requests: The single requests, where the trace has them.
    """

    name: str
    source: str
    bin_seconds: float
    requests_per_second: NDArray[np.float64]
    lengths: Lengths
    requests: Requests | None = None

    @property
    def seconds(self) -> float:
        """Length of the trace."""
        return self.bin_seconds * len(self.requests_per_second)

    @property
    def mean_per_second(self) -> float:
        """Mean rate over the trace."""
        return float(self.requests_per_second.mean())

    def rates(self, step_seconds: float) -> NDArray[np.float64]:
        """Mean requests per second of each step; shape (ceil(seconds / step_seconds),).

        A step that spans bins gets their mean, a step within a bin the bin's rate.
        """
        edges = np.arange(len(self.requests_per_second) + 1) * self.bin_seconds
        total = np.concatenate(([0.0], np.cumsum(self.requests_per_second * self.bin_seconds)))
        steps = int(np.ceil(self.seconds / step_seconds - 1e-9))
        at = np.minimum(np.arange(steps + 1) * step_seconds, self.seconds)
        spans = np.diff(at)
        return np.asarray(np.diff(np.interp(at, edges, total)) / spans, dtype=np.float64)

    def scaled(self, factor: float) -> Trace:
        """The same shape at ``factor`` times the rate, as counts.

        Raises:
            ValueError: ``factor`` is not above 0.
        """
        if not 0 < factor < float("inf"):
            msg = f"factor must be a number above 0, got {factor}"
            raise ValueError(msg)
        return replace(self, requests_per_second=self.requests_per_second * factor, requests=None)

    def window(self, start: float, end: float) -> Trace:
        """The part from ``start`` to ``end``, which are rounded down to bins.

        Raises:
            ValueError: Nothing lies between them.
        """
        first, last = int(start // self.bin_seconds), int(end // self.bin_seconds)
        rates = self.requests_per_second[first:last]
        if len(rates) == 0:
            msg = f"the window must hold a bin of {self.bin_seconds:g} s, got {start:g} to {end:g}"
            raise ValueError(msg)
        return replace(
            self, requests_per_second=rates, requests=self._requests_between(first, last)
        )

    def halves(self) -> tuple[Trace, Trace]:
        """The first half, to tune on, and the second, to score on."""
        middle = self.bin_seconds * (len(self.requests_per_second) // 2)
        return self.window(0.0, middle), self.window(middle, self.seconds)

    def sampled(self, seed: int) -> Requests:
        """Single requests: those of the trace, or Poisson arrivals of each bin's rate.

        Made-up ones lie uniformly within their bin and draw whole rows of `lengths`, so that prompt
        and answer keep their dependence.
        """
        if self.requests is not None:
            return self.requests
        rng = np.random.default_rng(seed)
        counts = rng.poisson(self.requests_per_second * self.bin_seconds)
        bins = np.repeat(np.arange(len(counts)), counts)
        arrived = np.sort((bins + rng.random(len(bins))) * self.bin_seconds)
        rows = rng.integers(len(self.lengths), size=len(bins))
        return Requests(arrived, self.lengths.take(rows), np.full(len(bins), -1))

    def _requests_between(self, first: int, last: int) -> Requests | None:
        if self.requests is None:
            return None
        start, end = first * self.bin_seconds, last * self.bin_seconds
        low, high = np.searchsorted(self.requests.arrived_at, (start, end))
        part = slice(int(low), int(high))
        return Requests(
            self.requests.arrived_at[part] - start,
            self.requests.lengths.take(part),
            self.requests.session[part],
        )
