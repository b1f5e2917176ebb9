"""False alarms and caught loops of the guard on public traces.

Run: python bench/bench_guard.py --traces FOLDER

Every trace is watched from end to end without a loop. Then 100 loops a kind begin at random moments
(seeded) and make the tokens a minute five times what they are: *calls* are more requests of the
usual lengths, *contexts* are few requests of 100,000 tokens each. Caught is what is suspected
within five minutes of its begin.

The traces of counts hold no lengths: tokens of a window are drawn from the mean and variance of
Azure's trace of the matching service, so they are semi-synthetic.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spillway.api.guard import Guard
from spillway.core.forecast import LEVELS, ForecastMemory, update
from spillway.core.guard import Ceiling, GuardMemory, Traffic, observe
from spillway.sim.traces import Gaps, load

if TYPE_CHECKING:
    from numpy.typing import NDArray

TICK = 15.0
WINDOW_TICKS = 4
LOOPS = 100
TIMES = 5.0
CONTEXT_TOKENS = 100_000.0
CAUGHT_WITHIN_SECONDS = 300.0
LEAD = 135.0
SEED = 1
#: The declared ceiling on tokens a minute, as a share of the peak. Without one the guard begins at
#: what replicas.max serve, and leaves a loop below that to the budget.
CEILING_OF_PEAK = 1 / 6
P95 = LEVELS.index(0.95)

TRACES = (
    ("azure2024 conv", "azure2024/conv_10s_counts.csv.gz", "conv"),
    ("azure2024 code", "azure2024/code_10s_counts_first4days.csv.gz", "code"),
    ("servegen m-mid", "servegen/m-mid_total_rate_10min.csv", "conv"),
)


@dataclass(frozen=True)
class Load:
    """A trace as the guard sees it: means of a minute, one a tick."""

    tokens_per_minute: NDArray[np.float64]
    requests_per_second: NDArray[np.float64]


def minute_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over the last `WINDOW_TICKS`."""
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(0, ends - WINDOW_TICKS)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins), dtype=np.float64)


def load_of(folder: Path, path: str, service: str, rng: np.random.Generator) -> Load:
    """Requests and tokens of a trace."""
    trace = load(folder / path, gaps=Gaps.KEEP)
    lengths = load(folder / f"azure2023/AzureLLMInferenceTrace_{service}.csv.gz").lengths
    tokens = (lengths.prompt_tokens + lengths.output_tokens).astype(np.float64)
    counts = trace.rates(TICK) * TICK
    if trace.bin_seconds > TICK:
        counts = rng.poisson(counts).astype(np.float64)
    drawn = counts * tokens.mean() + np.sqrt(counts) * tokens.std() * rng.normal(size=len(counts))
    return Load(minute_means(np.maximum(0.0, drawn)) * 60 / TICK, minute_means(counts) / TICK)


@dataclass
class Watched:
    """The guard and the forecast on their way through a trace."""

    guard: GuardMemory
    forecasts: ForecastMemory

    def step(self, now: float, tokens: float, requests: float, ceiling: Ceiling) -> bool:
        """One tick; whether a runaway is suspected after it."""
        self.forecasts = update(
            self.forecasts, now, requests, lead_seconds=LEAD, hold_seconds=LEAD + TICK
        )
        traffic = Traffic(tokens, requests, stray=self.forecasts.band.stray)
        self.guard = observe(self.guard, Guard(), traffic, ceiling, now)
        return self.guard.suspicion is not None


def delay(
    begin: Watched, seen: Load, tick: int, ceiling: Ceiling, extra_tokens_per_request: float
) -> float:
    """Seconds from a loop's begin to its suspicion; infinite if it takes too long."""
    watched = Watched(begin.guard, begin.forecasts)
    for number in range(1, int(CAUGHT_WITHIN_SECONDS / TICK) + 1):
        at = tick + number
        if at >= len(seen.tokens_per_minute):
            break
        tokens, requests = seen.tokens_per_minute[at], seen.requests_per_second[at]
        # The loop fills the minute's window tick by tick.
        extra = (TIMES - 1) * tokens * min(1.0, number / WINDOW_TICKS)
        more = extra / 60 / extra_tokens_per_request
        if watched.step(at * TICK, float(tokens + extra), float(requests + more), ceiling):
            return number * TICK
    return float("inf")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--traces", type=Path, required=True, metavar="FOLDER")
    folder = parser.parse_args().traces
    print(f"{platform.machine()}, Python {platform.python_version()}\n")
    print("| trace | days | false alarms | calls caught | contexts caught | median delay, s |")
    print("|---|---|---|---|---|---|")
    for name, path, service in TRACES:
        rng = np.random.default_rng(SEED)
        seen = load_of(folder, path, service, rng)
        size = len(seen.tokens_per_minute)
        ceiling = Ceiling(CEILING_OF_PEAK * float(np.quantile(seen.tokens_per_minute, 0.999)))
        usual = float(seen.tokens_per_minute.sum() / seen.requests_per_second.sum() / 60)
        # An hour of past first, as in every pool; and where there is load to make a loop of.
        places = rng.choice(
            np.flatnonzero(seen.requests_per_second[:-20] > 0)[480:], LOOPS, replace=False
        )
        watched, alarms = Watched(GuardMemory(), ForecastMemory()), 0
        delays: dict[str, list[float]] = {"calls": [], "contexts": []}
        kinds = {"calls": usual, "contexts": CONTEXT_TOKENS}
        loops, suspected = set(places.tolist()), False
        for tick in range(size):
            tokens, requests = seen.tokens_per_minute[tick], seen.requests_per_second[tick]
            before, suspected = (
                suspected,
                watched.step(tick * TICK, float(tokens), float(requests), ceiling),
            )
            alarms += suspected and not before
            if tick in loops:
                for kind, each in kinds.items():
                    delays[kind].append(delay(watched, seen, tick, ceiling, each))
        caught = {kind: sum(np.isfinite(found)) for kind, found in delays.items()}
        median = np.median([d for found in delays.values() for d in found])
        print(
            f"| {name} | {size * TICK / 86_400:.0f} | {alarms} | {caught['calls']} of {LOOPS} "
            f"| {caught['contexts']} of {LOOPS} | {median:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
