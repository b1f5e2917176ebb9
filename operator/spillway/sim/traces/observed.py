"""From what Prometheus saw to an offered load, and in words what it did not see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.trace import SECONDS_PER_HOUR, Lengths, Trace
from spillway.sim.traces.building import Gaps, fill, stem
from spillway.sim.traces.errors import TraceError
from spillway.sim.traces.lengths import drawn, named
from spillway.sim.traces.promexport import Grid, Signal
from spillway.sim.workload import MIXES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_ROWS: Final = 20_000
#: The mix whose spread lengths get where only their means are known.
_SPREAD: Final = "chat"


@dataclass(frozen=True, slots=True)
class Observed:
    """A load as Prometheus saw it.

    Attributes:
        trace: It.
        begun: Seconds since the epoch.
        lower_bound: Arrivals are inferred from completions: what was turned away or aborted is
            not in them, and under saturation they read as capacity.
        unseen: What could not be seen, a sentence each.
        replica_hours: Of the engines that were seen; None where they were not counted.
    """

    trace: Trace
    begun: float
    lower_bound: bool
    unseen: tuple[str, ...]
    replica_hours: float | None = None


def observed(
    path: Path,
    grid: Grid,
    *,
    mix: str | None = None,
    gaps: Gaps = Gaps.INTERPOLATE,
    asked: tuple[float, float] | None = None,
) -> Observed:
    """The load.

    Args:
        path: Where it is from, for its name and messages.
        grid: What Prometheus answered.
        mix: Lengths to take instead of what was seen; one of `lengths.MIX_NAMES`.
        gaps: What becomes of times without samples.
        asked: First and last moment that was asked for, seconds since the epoch; None: not known.

    Raises:
        TraceError: Neither requests nor completions were seen.
        ValueError: There is no such mix.
    """
    unseen: list[str] = []
    rates, lower_bound = _arrivals(path, grid, unseen)
    missing = np.isnan(rates)
    if missing.all():
        raise TraceError(path, "requests or completions", "no sample of either")
    if asked is not None:
        unseen += _outside(grid, *asked)
    if missing.any():
        unseen.append(_holes(grid, missing, gaps))
    lengths = named(mix) if mix is not None else _lengths(grid, unseen)
    if mix is not None:
        unseen.append(f"Lengths are those of the mix {mix}, as asked.")
    trace = Trace(
        name=stem(path),
        source=f"Prometheus, mean rates per {grid.step_seconds:g} s ({path.name}).",
        bin_seconds=grid.step_seconds,
        requests_per_second=fill(rates, missing, gaps),
        lengths=lengths,
    )
    hours = _replica_hours(grid, unseen)
    return Observed(trace, grid.begun, lower_bound, tuple(unseen), hours)


def _replica_hours(grid: Grid, unseen: list[str]) -> float | None:
    """What ran, a gap taken as its neighbours."""
    counts = grid.values.get(Signal.REPLICAS)
    if counts is None or np.isnan(counts).all():
        unseen.append("Replicas: none were counted, so what the load really cost is not known.")
        return None
    filled = fill(counts, np.isnan(counts), Gaps.INTERPOLATE)
    return float(filled.sum()) * grid.step_seconds / SECONDS_PER_HOUR


def _arrivals(path: Path, grid: Grid, unseen: list[str]) -> tuple[NDArray[np.float64], bool]:
    """Requests per second, NaN where not known, and whether they are a lower bound."""
    if Signal.REQUESTS in grid.values:
        return grid.values[Signal.REQUESTS], False
    if Signal.COMPLETIONS not in grid.values:
        found = ", ".join(grid.values) or "nothing"
        raise TraceError(path, "a series of requests or completions", f"only {found}")
    rates = grid.values[Signal.COMPLETIONS]
    change = grid.values.get(Signal.IN_FLIGHT_CHANGE)
    how = "completions"
    if change is not None:
        rates = rates + np.nan_to_num(change)
        how = "completions and the change of requests in flight"
    unseen.append(
        f"LowerBound: no gateway counter was found, so arrivals are inferred from {how}; what was "
        "aborted, refused or sent to an API is not in them, and a saturated engine hides demand."
    )
    return np.maximum(rates, 0.0), True


def _holes(grid: Grid, missing: NDArray[np.bool_], gaps: Gaps) -> str:
    """How much is missing, where most of it is, and what was made of it."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], missing.astype(np.int8), [0]))))
    begins, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - begins))
    when = datetime.fromtimestamp(grid.begun + float(begins[longest]) * grid.step_seconds, UTC)
    how = "interpolated" if gaps is Gaps.INTERPOLATE else "taken as no arrivals"
    return (
        f"Missing: {len(begins)} range{'s' if len(begins) > 1 else ''} without samples, "
        f"{missing.mean():.1%} of the time, {how}; the longest is "
        f"{_duration((ends - begins)[longest] * grid.step_seconds)} from {when:%Y-%m-%d %H:%M} UTC."
    )


def _outside(grid: Grid, first: float, last: float) -> list[str]:
    """What was asked for before the first and after the last sample: older than the store."""
    end = grid.begun + (grid.steps - 1) * grid.step_seconds
    parts = [
        f"{_duration(seconds)} at its {where}"
        for seconds, where in ((grid.begun - first, "begin"), (last - end, "end"))
        if seconds > grid.step_seconds
    ]
    if not parts:
        return []
    asked = _duration(last - first)
    return [f"Missing: of the {asked} asked for nothing was recorded in {' and '.join(parts)}."]


def _duration(seconds: float) -> str:
    """Two or three figures."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * SECONDS_PER_HOUR:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * SECONDS_PER_HOUR:
        return f"{seconds / SECONDS_PER_HOUR:.3g} h"
    return f"{seconds / (24 * SECONDS_PER_HOUR):.3g} days"


def _lengths(grid: Grid, unseen: list[str]) -> Lengths:
    """Lengths with the means that were seen in each step and the spread of a mix."""
    requests = grid.values.get(Signal.COMPLETIONS, grid.values.get(Signal.REQUESTS))
    prompts = grid.values.get(Signal.PROMPT_TOKENS)
    outputs = grid.values.get(Signal.OUTPUT_TOKENS)
    known = np.zeros(grid.steps, dtype=bool)
    if requests is not None and prompts is not None and outputs is not None:
        known = (requests > 0) & (prompts >= requests) & (outputs >= requests)
    if not known.any():
        unseen.append(f"Lengths: no token counters were found; those of the mix {_SPREAD} stand.")
        return named(_SPREAD)
    unseen.append(
        "Lengths: counters give their means over time, not single requests; their spread around "
        f"them is that of the mix {_SPREAD}."
    )
    if Signal.COMPLETIONS not in grid.values:
        unseen.append(
            "Lengths: tokens are divided by the gateway's requests, for completions were not "
            "found; the tokens of requests that went to an API are not in them."
        )
    return _shaped(grid, known, requests, prompts, outputs)  # type: ignore[arg-type]


def _shaped(
    grid: Grid,
    known: NDArray[np.bool_],
    requests: NDArray[np.float64],
    prompts: NDArray[np.float64],
    outputs: NDArray[np.float64],
) -> Lengths:
    """Rows of the mix, each scaled to the means of a step drawn by its number of requests."""
    rng = np.random.default_rng(0)
    shape = drawn(MIXES[_SPREAD], rng, _ROWS)
    steps = np.flatnonzero(known)
    step = rng.choice(steps, _ROWS, p=requests[steps] / requests[steps].sum())
    prompt = _scaled(shape.prompt_tokens, prompts[step] / requests[step])
    output = _scaled(shape.output_tokens, outputs[step] / requests[step])
    hits = grid.values.get(Signal.CACHED_TOKENS)
    share = np.zeros(_ROWS) if hits is None else np.nan_to_num(hits[step] / prompts[step])
    cached = np.minimum(prompt - 1, (prompt * np.clip(share, 0.0, 1.0)).astype(np.int64))
    return Lengths(prompt, output, cached)


def _scaled(values: NDArray[np.int64], means: NDArray[np.float64]) -> NDArray[np.int64]:
    scaled = np.round(values * means / values.mean())
    return np.asarray(np.maximum(1, scaled), dtype=np.int64)
