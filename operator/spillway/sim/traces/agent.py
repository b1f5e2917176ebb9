"""Agents: sessions that call the model in a loop and send all they have said and read each time.

The mean prompt (8,596 tokens), answer (182) and share of prefix hits (59 %) are those of the "tool
and agent" trace in Mooncake (FAST 2025, table 1); the defaults of `AgentLoop` are chosen so that
sessions of 15 to 30 calls come to them. What no source gives is marked as assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from spillway.sim.trace import Lengths, Requests

if TYPE_CHECKING:
    from numpy.typing import NDArray

Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True, slots=True)
class AgentLoop:
    """How a session goes.

    Attributes:
        calls: Fewest and most calls of a session, each number as likely.
        first_prompt_tokens: Median of the first prompt: instructions, tools, task (assumed).
        first_prompt_sigma: Standard deviation of its logarithm (assumed).
        output_tokens: Mean answer.
        output_sigma: Standard deviation of its logarithm; a chat's.
        result_tokens: Mean of what a tool answers, which the next prompt carries on.
        pause_seconds: Mean time from one call to the next: the answer and the tool (assumed).
        held: Probability that a call finds its session's context in the prefix cache.
        max_context_tokens: A session ends before it gets longer.
    """

    calls: tuple[int, int] = (15, 30)
    first_prompt_tokens: float = 2000.0
    first_prompt_sigma: float = 0.3
    output_tokens: float = 182.0
    output_sigma: float = 0.68
    result_tokens: float = 396.0
    pause_seconds: float = 12.0
    held: float = 0.625
    max_context_tokens: int = 128_000

    @property
    def mean_calls(self) -> int:
        """Mean number of calls of a session, rounded up."""
        return (sum(self.calls) + 1) // 2

    @property
    def longest_seconds(self) -> float:
        """What hardly any session outlasts: its most calls at twice the mean pause."""
        return 2 * self.calls[1] * self.pause_seconds


def sessions(loop: AgentLoop, begun: NDArray[np.float64], rng: np.random.Generator) -> Requests:
    """The calls of all sessions in order of arrival, numbered by session.

    Args:
        loop: How each goes.
        begun: When each begins, seconds; shape (sessions,).
        rng: Randomness.
    """
    calls = rng.integers(loop.calls[0], loop.calls[1] + 1, len(begun))
    session = np.repeat(np.arange(len(begun)), calls)
    first = np.repeat(np.cumsum(calls) - calls, calls)
    n = len(session)
    output = _lognormal(rng, loop.output_tokens, loop.output_sigma, n)
    result = _lognormal(rng, loop.result_tokens, loop.output_sigma, n)
    start = rng.lognormal(np.log(loop.first_prompt_tokens), loop.first_prompt_sigma, len(begun))
    # What a call adds to the next one's prompt, summed up to but not including the call itself.
    grown = _before(output + result, first)
    prompt = np.repeat(np.round(start).astype(np.int64), calls) + grown
    seen = _previous(prompt + output, first)
    cached = np.where(rng.random(n) < loop.held, np.minimum(seen, prompt - 1), 0)
    pauses = rng.exponential(loop.pause_seconds, n)
    at = np.repeat(begun, calls) + _before(pauses, first)
    fits = np.flatnonzero(prompt <= loop.max_context_tokens)
    order = fits[np.argsort(at[fits], kind="stable")]
    return Requests(at[order], Lengths(prompt, output, cached).take(order), session[order])


def _lognormal(rng: np.random.Generator, mean: float, sigma: float, size: int) -> NDArray[np.int64]:
    values = rng.lognormal(np.log(mean) - sigma * sigma / 2, sigma, size)
    return np.maximum(1, np.round(values)).astype(np.int64)


def _before(values: NDArray[Number], first: NDArray[np.int64]) -> NDArray[Number]:
    """Sum of a session's values before each call; ``first`` is the row where its session begins."""
    total = np.concatenate((np.zeros(1, dtype=values.dtype), np.cumsum(values)[:-1]))
    return np.asarray(total - total[first], dtype=values.dtype)


def _previous(values: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value of a session's call before each call; 0 for the first."""
    rows = np.arange(len(values))
    return np.where(rows == first, 0, values[rows - 1])
