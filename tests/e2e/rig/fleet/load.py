"""What a fleet's engines would report: loads that hang together, without an engine behind them.

A step of an engine takes ``BASE + PER_SEQUENCE * running`` seconds, so a rate of requests, what
runs, tokens and steps fit each other, and the operator learns from them as it would from vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

BASE_SECONDS: Final = 0.008
PER_SEQUENCE_SECONDS: Final = 0.00012
PROMPT_TOKENS: Final = 1000.0
CACHED_TOKENS: Final = 300.0
OUTPUT_TOKENS: Final = 200.0
#: The engine's ``max_num_seqs``.
MOST_RUNNING: Final = 256
#: Every so many-th pool is above half of what its replicas take, and is watched at each fast tick.
BUSY_EVERY: Final = 100
#: Requests a second that come in at each pod of a usual pool (a range), of a busy one, and of one
#: with a shortage: more than an engine ever takes.
USUAL: Final = (6.0, 20.0)
BUSY: Final = 28.0
SHORT: Final = 60.0
#: How long a queue is in a shortage, a pod.
QUEUE: Final = 200.0


@dataclass(frozen=True, slots=True)
class EngineState:
    """One engine at rest under a constant rate.

    Attributes:
        arrivals_per_second: What comes in.
        per_second: Requests that it finishes.
        running: Requests in the batch.
        waiting: Requests that wait.
    """

    arrivals_per_second: float
    per_second: float
    running: float
    waiting: float

    @property
    def step_seconds(self) -> float:
        """How long a step takes."""
        return BASE_SECONDS + PER_SEQUENCE_SECONDS * self.running


def engine_at(arrivals_per_second: float) -> EngineState:
    """The state in which what comes in and what is finished are the same, or the engine is full."""
    most = MOST_RUNNING / (OUTPUT_TOKENS * (BASE_SECONDS + PER_SEQUENCE_SECONDS * MOST_RUNNING))
    if arrivals_per_second >= most:
        return EngineState(arrivals_per_second, most, MOST_RUNNING, QUEUE)
    slope = OUTPUT_TOKENS * arrivals_per_second
    running = slope * BASE_SECONDS / (1.0 - slope * PER_SEQUENCE_SECONDS)
    return EngineState(arrivals_per_second, arrivals_per_second, running, 0.0)


def usual_rate(pool: int) -> float:
    """The rate of a pool by its number: spread evenly, and one in `BUSY_EVERY` is busy."""
    if pool % BUSY_EVERY == BUSY_EVERY - 1:
        return BUSY
    low, high = USUAL
    return low + (high - low) * (pool * 37 % 100) / 100


@dataclass(slots=True)
class PoolLoad:
    """The load of a pool's pods, and the sums that counters are made of.

    Attributes:
        state: Of each pod.
        since: When that began (seconds since the epoch).
    """

    state: EngineState
    since: float
    _finished: float = field(default=0.0)
    _arrived: float = field(default=0.0)
    _steps: float = field(default=0.0)

    def change(self, state: EngineState, now: float) -> None:
        """Have another load from now on; counters go on from where they are."""
        self._finished, self._arrived, self._steps = self.totals(now)
        self.state, self.since = state, now

    def totals(self, now: float) -> tuple[float, float, float]:
        """Requests finished and arrived, and steps, a pod since the beginning."""
        seconds = max(0.0, now - self.since)
        return (
            self._finished + self.state.per_second * seconds,
            self._arrived + self.state.arrivals_per_second * seconds,
            self._steps + seconds / self.state.step_seconds,
        )
