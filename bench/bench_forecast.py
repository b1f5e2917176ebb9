"""Coverage, loss and cost of the forecasts on public traces.

Run: python bench/bench_forecast.py --traces FOLDER [--first-halves]

FOLDER holds azure2024/, servegen/ and azure2023/ as docs/benchmarks/forecast.md lists them. The
parameters of `spillway.core.forecast` were chosen on the first halves of the azure2024 and servegen
traces; the second halves are scored here, after the forecaster has run through the first (the
azure2023 traces are an hour long: scored from their 15th minute, from a cold start). They are the
same for all traces. `--first-halves` scores the halves that choices are made on, from their fifth
part on.

What is scored is what the operator uses: each 15 s the distribution of the mean of a minute, at the
begin, the middle and the end of the decision window. Its loss is that of the quantiles by which
costs are weighed, its coverage that of the band that is promised (`spillway.core.band`). Files of
rates (servegen) are replayed as Poisson arrivals of each window's rate, so they are semi-synthetic
below ten minutes.

Hours of a day are few and their minutes alike, so even a band without a fault would not cover 90 %
of each. What it would come to is simulated (`by_chance`) and printed beside what was found.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

import bench_decide
import numpy as np

from spillway.core.forecast import BAND, LEVELS, ForecastMemory, forecast, update
from spillway.core.forecasters import MEMBERS, Forecaster
from spillway.sim.traces import Gaps, load

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spillway.sim.trace import Trace

    Floats = NDArray[np.float64]

TICK = 15.0
#: Observations are means of a minute, as the operator's rate window gives them.
WINDOW_TICKS = 4
HOUR = 3600.0
SEED = 1
#: What each hour of the day is to be covered by.
HOURLY_GOAL = (0.80, 0.97)
SURROGATES = 500
#: Of a first half, what is run before forecasts are scored.
WARM_UP = 0.2


@dataclass(frozen=True)
class Case:
    """A trace and what of it is scored.

    Attributes:
        name: For the table.
        path: Below the folder of traces.
        lead_seconds: Default lead of a pool, and of one whose weights come from afar.
        scored_from: Share of the trace before the first scored forecast.
    """

    name: str
    path: str
    lead_seconds: float
    scored_from: float = 0.5


CASES = tuple(
    Case(f"{name}, {lead:.0f} s", path, lead + TICK)
    for lead in (120.0, 420.0)
    for name, path in (
        ("azure2024 conv", "azure2024/conv_10s_counts.csv.gz"),
        ("azure2024 code", "azure2024/code_10s_counts_first4days.csv.gz"),
        ("servegen m-mid", "servegen/m-mid_total_rate_10min.csv"),
    )
) + tuple(
    Case(f"azure2023 {name}, 120 s", f"azure2023/AzureLLMInferenceTrace_{name}.csv.gz", 135.0, 0.25)
    for name in ("conv", "code")
)


@dataclass(frozen=True)
class Chance:
    """What a band that is right, but for chance, comes to by hour of the day.

    Attributes:
        low: The lowest hour is above it in 19 of 20 cases.
        high: The highest hour is below it in 19 of 20 cases.
        all_within: Share of cases in which every hour is within `HOURLY_GOAL`.
    """

    low: float
    high: float
    all_within: float


@dataclass(frozen=True)
class Score:
    """What a forecaster came to on a trace.

    Attributes:
        coverage: Share of the observations inside the 90 % band.
        terciles: The same where load was low, middling and high.
        hours: The same, lowest and highest hour of the day.
        chance: What a band without a fault would come to; None where there is no whole day.
        loss: Mean pinball loss over all levels, requests per second.
        steered_loss: The same of the quantiles of which the band is a part.
        microseconds: CPU time of an update and a forecast, mean.
    """

    coverage: float
    terciles: tuple[float, ...]
    hours: tuple[float, float]
    chance: Chance | None
    loss: float
    steered_loss: float
    microseconds: float


def observations(trace: Trace) -> NDArray[np.float64]:
    """Means of the last minute, one a tick; Poisson counts where the trace only has rates."""
    rates = trace.rates(TICK)
    if trace.bin_seconds > TICK:
        rates = np.random.default_rng(SEED).poisson(rates * TICK) / TICK
    ends = np.arange(1, len(rates) + 1)
    begins = np.maximum(0, ends - WINDOW_TICKS)
    sums = np.concatenate(([0.0], np.cumsum(rates)))
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins), dtype=np.float64)


def positions(came: Floats, said: Floats) -> Floats:
    """Where each value lies among its quantiles, by number; beyond them as far as the last two."""
    gaps = np.maximum(np.diff(said, axis=1), 1e-9)
    piece = np.clip((came[:, None] > said).sum(axis=1) - 1, 0, gaps.shape[1] - 1)
    rows = np.arange(len(came))
    return np.asarray(piece + (came - said[rows, piece]) / gaps[rows, piece], dtype=np.float64)


def by_chance(where: list[Floats], hours: list[NDArray[np.int64]]) -> Chance | None:
    """Coverage by hour of a band without a fault whose misses hang together as these do.

    `where` each value lay, one series a place of the decision window, is turned into normal scores:
    so calibrated as can be. Their spectra with random phases, the same for all places (Prichard and
    Theiler, "Generating surrogate data for time series with several simultaneously measured
    variables", Phys. Rev. Lett. 73, 1994), are series that hang together likewise and know no hour.

    Args:
        where: `positions`, a series a place, in order of time.
        hours: The hour of the day of each.
    """
    size = min(map(len, where))
    hour = np.concatenate([each[:size] for each in hours])
    counts = np.bincount(hour, minlength=24)
    if not counts.all():
        return None
    normal = np.array([NormalDist().inv_cdf((i + 0.5) / size) for i in range(size)])
    spectra = [np.fft.rfft(normal[np.argsort(np.argsort(each[:size]))]) for each in where]
    edge = NormalDist().inv_cdf(BAND[1])
    rng = np.random.default_rng(SEED)
    lowest, highest = [], []
    for _ in range(SURROGATES):
        turned = np.exp(2j * np.pi * rng.random(size // 2 + 1))
        inside = np.concatenate([np.abs(np.fft.irfft(s * turned, size)) <= edge for s in spectra])
        shares = np.bincount(hour, weights=inside, minlength=24) / counts
        lowest.append(float(shares.min()))
        highest.append(float(shares.max()))
    within = (np.array(lowest) >= HOURLY_GOAL[0]) & (np.array(highest) <= HOURLY_GOAL[1])
    low, high = np.quantile(lowest, 0.05), np.quantile(highest, 0.95)
    return Chance(float(low), float(high), float(within.mean()))


def pinball(came: Floats, said: Floats) -> Floats:
    """Loss of each forecast, mean over `LEVELS`."""
    levels, error = np.array(LEVELS), came[:, None] - said
    return np.asarray(np.maximum(levels * error, (levels - 1) * error).mean(axis=1))


def score(values: NDArray[np.float64], case: Case, members: tuple[Forecaster, ...]) -> Score:
    """Run the forecaster over the trace and compare."""
    lead, hold = case.lead_seconds, case.lead_seconds + TICK
    memory = replace(ForecastMemory(), members=members)
    quantiles = np.zeros((len(values), len(LEVELS)))
    covering = np.zeros_like(quantiles)
    begun = time.process_time()
    for tick, value in enumerate(values.tolist()):
        now = tick * TICK
        memory = update(memory, now, value, lead_seconds=lead, hold_seconds=hold)
        made = forecast(memory, lead, hold, now)
        if made is not None:
            quantiles[tick] = [v for _, v in made.quantiles]
            covering[tick] = [v for _, v in made.covering]
    cpu = (time.process_time() - begun) / len(values)
    first = int(case.scored_from * len(values))
    inside, losses, steered, hours, loads, where = [], [], [], [], [], []
    for place in (lead, lead + hold / 2, lead + hold):
        ahead = round(place / TICK)
        rows = np.arange(first, len(values) - ahead)
        came, said = values[rows + ahead], covering[rows]
        low, high = (said[:, LEVELS.index(level)] for level in BAND)
        inside.append((came >= low - 1e-9) & (came <= high + 1e-9))
        losses.append(pinball(came, quantiles[rows]))
        steered.append(pinball(came, said))
        hours.append((rows * TICK // HOUR % 24).astype(int))
        loads.append(values[rows])
        where.append(positions(came, said))
    hit, hour, now_load = (np.concatenate(part) for part in (inside, hours, loads))
    edges = np.quantile(now_load, (1 / 3, 2 / 3))
    tercile = np.searchsorted(edges, now_load)
    by_hour = [float(hit[hour == h].mean()) for h in np.unique(hour)]
    return Score(
        float(hit.mean()),
        tuple(
            float(hit[tercile == t].mean()) if (tercile == t).any() else np.nan for t in range(3)
        ),
        (min(by_hour), max(by_hour)),
        by_chance(where, hours),
        float(np.concatenate(losses).mean()),
        float(np.concatenate(steered).mean()),
        cpu * 1e6,
    )


def first_half(values: Floats, case: Case) -> tuple[Floats, Case]:
    """What choices are made on."""
    return values[: len(values) // 2], replace(case, scored_from=WARM_UP)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--traces", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--first-halves", action="store_true", help="score what is chosen on")
    asked = parser.parse_args()
    folder = asked.traces
    print(f"{platform.machine()}, Python {platform.python_version()}\n")
    print(
        "| trace, lead | coverage | by load tercile | by hour | by chance alone (all within "
        f"{HOURLY_GOAL[0]:.2f} to {HOURLY_GOAL[1]:.2f}) | loss / last value's | loss / level's "
        "| loss / steered quantiles' | us |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    costs = []
    # The azure2023 traces are too short to have a half that choices are made on.
    for listed in (c for c in CASES if not asked.first_halves or c.scored_from == 0.5):
        case, values = listed, observations(load(folder / listed.path, gaps=Gaps.KEEP))
        if asked.first_halves:
            values, case = first_half(values, case)
        blend = score(values, case, tuple(MEMBERS.values()))
        last, level = (score(values, case, (MEMBERS[n],) * len(MEMBERS)) for n in ("last", "level"))
        terciles = " / ".join(f"{share:.3f}" for share in blend.terciles)
        hours = f"{blend.hours[0]:.3f} to {blend.hours[1]:.3f}"
        due = blend.chance
        chance = due and f"{due.low:.3f} to {due.high:.3f} ({due.all_within:.0%})"
        print(
            f"| {case.name} | {blend.coverage:.3f} | {terciles} | {hours} | {chance or ''} "
            f"| {blend.loss / last.loss:.3f} | {blend.loss / level.loss:.3f} "
            f"| {blend.loss / blend.steered_loss:.3f} | {blend.microseconds:.0f} |",
            flush=True,
        )
        costs.append(blend.microseconds)
    print(
        f"\nupdate and forecast: {statistics.median(costs):.0f} us of CPU, {min(costs):.0f} to "
        f"{max(costs):.0f} (goal: below 200)"
    )
    print(f"core's memory of a pool: {bench_decide.memory_bytes() / 1000:.0f} kB (goal: below 200)")


if __name__ == "__main__":
    main()
