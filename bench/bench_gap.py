"""Where Spillway's gap to the clairvoyant optimum comes from, one rule at a time.

Run: make bench-gap TRACE=FOLDER, or python bench/bench_gap.py --trace FOLDER [--days 1]
The folder is that of bench_policy.py. Each row is the same world with one thing about Spillway made
perfect, or taken away, and stands over the optimum at the attainment that it then reached.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
from bench_policy import cut, traces_of
from rich.console import Console
from rich.table import Table

from spillway.core import admission, decide, fast, overflow
from spillway.core.forecast import LEVELS, Forecast
from spillway.core.peaks import Peaks
from spillway.sim.benchmark.jobs import MEMORY_SECONDS, SpillwayJob
from spillway.sim.benchmark.worlds import (
    DRIFT_LEAD_SECONDS,
    DRIFT_SCALE,
    PRICES,
    World,
    scaled,
)
from spillway.sim.spillway_scaler import EPOCH
from spillway.sim.traces import TraceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spillway.core.admission import OverflowInputs
    from spillway.core.forecast import ForecastMemory
    from spillway.sim.trace import Trace

MINUTE_SECONDS = 60.0
FINE_SECONDS = 5.0

Change = AbstractContextManager[object]


def perfect_forecast(trace: Trace, scale: int) -> Change:
    """The quantiles of what minutes of the decision window really will be."""
    whole = scaled(trace, scale)
    past, present = whole.halves()
    begin = past.seconds - min(MEMORY_SECONDS, whole.seconds - present.seconds)
    rates = whole.rates(FINE_SECONDS)
    width = round(MINUTE_SECONDS / FINE_SECONDS)
    minutes = np.convolve(rates, np.ones(width) / width, mode="valid")

    def known(
        _memory: ForecastMemory, lead_seconds: float, hold_seconds: float, now: float
    ) -> Forecast:
        first = int((begin + now - EPOCH + lead_seconds) / FINE_SECONDS)
        first = min(first, len(minutes) - 1)
        window = minutes[first : first + max(1, round(hold_seconds / FINE_SECONDS))]
        values = np.quantile(window, LEVELS)
        return Forecast(
            at=now,
            horizon_seconds=lead_seconds + hold_seconds / 2,
            mean=float(window.mean()),
            quantiles=tuple(zip(LEVELS, values.tolist(), strict=True)),
        )

    return patch.object(decide.forecasts, "forecast", known)


def bound_times(factor: float) -> Change:
    """Replicas are taken to hold so many times the requests that they can."""
    own = admission.admitted_in_flight

    def more(inputs: OverflowInputs) -> float | None:
        admitted = own(inputs)
        return None if admitted is None else factor * admitted

    stack = ExitStack()
    for module in (admission, overflow, fast):
        stack.enter_context(patch.object(module, "admitted_in_flight", more))
    return stack


#: Rows: title, and what is changed while a world of the trace and of that scale runs.
ROWS: tuple[tuple[str, Callable[[Trace, int], Change]], ...] = (
    ("as it is", lambda _trace, _scale: nullcontext()),
    ("perfect forecast", perfect_forecast),
    (
        "no peaks within the minute",
        lambda _trace, _scale: patch.object(Peaks, "share", lambda _self, _stay: 0.0),
    ),
    (
        "two minutes before burst is relieved",
        lambda _trace, _scale: patch.object(decide, "_persistence_seconds", lambda *_: 120.0),
    ),
    ("admission bound x 1.2", lambda _trace, _scale: bound_times(1.2)),
    ("admission bound x 1.4", lambda _trace, _scale: bound_times(1.4)),
)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", type=Path, nargs="+", required=True, help="folder or files")
    parser.add_argument("--only", nargs="+", help="traces to take, by name")
    parser.add_argument("--scale", type=int, default=DRIFT_SCALE, help="replicas")
    parser.add_argument("--lead", type=float, default=DRIFT_LEAD_SECONDS, help="seconds")
    parser.add_argument("--price", choices=[p.name for p in PRICES], default=PRICES[0].name)
    parser.add_argument("--days", type=float, default=0.5, help="of the half that is scored")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run each row on each trace and print what it costs over the optimum."""
    asked = arguments(argv)
    console = Console()
    try:
        traces = traces_of(asked.trace)
    except (TraceError, OSError) as error:
        Console(stderr=True).print(f"--trace: {error}")
        return 2
    price = next(p for p in PRICES if p.name == asked.price)
    chosen = [name for name in traces if not asked.only or name in asked.only]
    table = Table(
        title=f"Over the optimum (attained; GPU $, API $): {asked.scale} replicas, lead "
        f"{asked.lead:g} s, price {price.name}, {asked.days:g} days of the second half"
    )
    for column in ("", *chosen):
        table.add_column(column)
    for title, change in ROWS:
        cells = []
        for name in chosen:
            trace = cut(traces[name], asked.days)
            job = SpillwayJob(World(name, asked.scale, asked.lead), price)
            with change(trace, asked.scale):
                ours, *bounds = job.run(trace)
            best = min(bounds, key=lambda r: abs(r.attainment - ours.attainment))
            cells.append(
                f"{ours.usd / best.usd:.3f} ({ours.attainment:.4f}; {ours.gpu_usd:.0f}, "
                f"{ours.api_usd:.0f})"
            )
        table.add_row(title, *cells)
        console.print(f"{title}: {', '.join(cells)}", style="dim")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
