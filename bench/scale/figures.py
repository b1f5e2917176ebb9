"""The figures of one size, their goals, and the table."""

from __future__ import annotations

import itertools
import json
import math
import operator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Final

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured with one number of pools.

    Attributes:
        pools: How many.
        pods: In all.
        cold_start_seconds: From the start of the process to the end of the first pass over all.
        cold_status_seconds: From there until every pool's status was written (at the write limit).
        tick_p50_seconds: A pass of the slow loop in steady state, queries to Prometheus included.
        tick_p99_seconds: Of so few passes, the longest.
        ticks: How many passes there were.
        decision_mean_seconds: Of the core, a pool.
        decision_p99_seconds: Likewise.
        queries_a_tick: PromQL queries that Prometheus has answered, a pass.
        lag_p99_seconds: Of the event loop in steady state.
        lag_max_seconds: The bound below which all of it was.
        cold_lag_p99_seconds: Of the event loop during the cold start.
        cpu_share: Of one core in steady state, pods being replaced.
        churned: Pods that were replaced meanwhile.
        rss_mb: Resident memory at the end of it.
        peak_mb: The most up to then.
        writes_per_second: Mean in steady state.
        writes_peak_per_second: Over the ten seconds with the most.
        change_writes_per_second: Mean after a change of every pool's spec, until the last status.
        change_peak_per_second: Over the ten seconds with the most.
        change_seconds: From the first edit to the last status of the new spec.
        overflow_p50_seconds: From a shortage on the pages of a busy pool to the value over HTTP.
        overflow_max_seconds: The longest of them.
        overflow_cold_seconds: The longest likewise of usual pools, which are not read at each tick.
        sample_to_value_seconds: The longest from the sample that shows it (a bound of a histogram).
        leaderships: How often the operator has become the leader; more than 1: it lost its Lease.
        errors: Passes over pools and queries that failed.
        went_first: Whether the operator went before all others for its turn on a core.
        cores: That each program took in steady state, the largest first.
    """

    pools: int
    pods: int
    cold_start_seconds: float
    cold_status_seconds: float
    tick_p50_seconds: float
    tick_p99_seconds: float
    ticks: int
    decision_mean_seconds: float
    decision_p99_seconds: float
    queries_a_tick: float
    lag_p99_seconds: float
    lag_max_seconds: float
    cold_lag_p99_seconds: float
    cpu_share: float
    churned: int
    rss_mb: float
    peak_mb: float
    writes_per_second: float
    writes_peak_per_second: float
    change_writes_per_second: float
    change_peak_per_second: float
    change_seconds: float
    overflow_p50_seconds: float
    overflow_max_seconds: float
    overflow_cold_seconds: float
    sample_to_value_seconds: float
    leaderships: int
    errors: int
    went_first: bool
    cores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure with what it is to be.

    Attributes:
        what: For a person, with its unit.
        field: Of `Figures`.
        scale: From the field's unit to the one that is shown.
        digits: That are shown.
        below: The goal, in the unit that is shown; None where there is none.
    """

    what: str
    field: str
    scale: float = 1.0
    digits: int = 2
    below: float | None = None

    def value(self, figures: Figures) -> float:
        """In the unit that is shown."""
        return float(getattr(figures, self.field)) * self.scale

    def met(self, figures: Figures) -> bool | None:
        """Whether the goal is met; None without one, a figure that is not known misses it."""
        return None if self.below is None else self.value(figures) < self.below


#: The project's goals hold for 1,000 pools of 10 pods on one core (docs/design/0007-scale.md).
GOALS: Final = (
    Goal("cold start to the first complete pass, s", "cold_start_seconds", digits=1),
    Goal("... to every status, s (writes limited)", "cold_status_seconds", digits=1),
    Goal("pass p50, s", "tick_p50_seconds"),
    Goal("pass p99, s", "tick_p99_seconds", below=2.0),
    Goal("decision, mean, ms a pool", "decision_mean_seconds", scale=1000, below=1.0),
    Goal("decision, p99, ms a pool", "decision_p99_seconds", scale=1000),
    Goal("PromQL queries a pass", "queries_a_tick", digits=1),
    Goal("event-loop lag p99, ms", "lag_p99_seconds", scale=1000, digits=0, below=100),
    Goal("event-loop lag, all below, ms", "lag_max_seconds", scale=1000, digits=0),
    Goal("event-loop lag p99, cold start, ms", "cold_lag_p99_seconds", scale=1000, digits=0),
    Goal("CPU, % of a core, 100 pods/min replaced", "cpu_share", scale=100, digits=1, below=25),
    Goal("resident memory, MB", "rss_mb", digits=0, below=400),
    Goal("... its peak, MB", "peak_mb", digits=0),
    Goal("API writes/s, steady", "writes_per_second", below=20),
    Goal("... most in 10 s", "writes_peak_per_second", digits=1, below=20),
    Goal("API writes/s, every spec edited", "change_writes_per_second", digits=1, below=20.5),
    Goal("... most in 10 s", "change_peak_per_second", digits=1),
    Goal("... until every status is new, s", "change_seconds", digits=1),
    Goal("overflow of a busy pool, p50, s", "overflow_p50_seconds"),
    Goal("overflow of a busy pool, longest, s", "overflow_max_seconds", below=1.0),
    Goal("... from its sample, all below, s", "sample_to_value_seconds", below=1.01),
    Goal("overflow of a quiet pool, longest, s", "overflow_cold_seconds", digits=1),
    Goal("leaderships", "leaderships", digits=0, below=1.5),
    Goal("failed passes and queries", "errors", digits=0, below=0.5),
)
#: What must not grow faster than the pools do.
_GROWS: Final = ("tick_p50_seconds", "cpu_share", "cold_start_seconds")


def table(sizes: Sequence[Figures]) -> Table:
    """A row a figure, a column a size, with the goal and whether the largest size meets it."""
    sizes = sorted(sizes, key=operator.attrgetter("pools"))
    made = Table(title="Spillway at scale")
    made.add_column("")
    for figures in sizes:
        made.add_column(f"{figures.pools} pools,\n{figures.pods} pods", justify="right")
    made.add_column("goal", justify="right")
    made.add_column(f"met at {sizes[-1].pools}")
    for goal in GOALS:
        shown = [_shown(goal.value(figures), goal.digits) for figures in sizes]
        met = goal.met(sizes[-1])
        said = "" if met is None else ("yes" if met else "NO")
        limit = "" if goal.below is None else f"< {goal.below:g}"
        made.add_row(goal.what, *shown, limit, said)
    return made


def growth(sizes: Sequence[Figures]) -> list[str]:
    """How each figure has grown between sizes, beside the growth of the pools."""
    sizes = sorted(sizes, key=operator.attrgetter("pools"))
    lines = []
    for small, large in itertools.pairwise(sizes):
        times = large.pools / small.pools
        for goal in (goal for goal in GOALS if goal.field in _GROWS):
            before, after = goal.value(small), goal.value(large)
            grown = after / before if before > 0 else math.nan
            said = "linear or better" if grown <= times else "WORSE THAN LINEAR"
            lines.append(
                f"{small.pools} to {large.pools} pools (x{times:g}): "
                f"{goal.what} x{grown:.1f}, {said}"
            )
    return lines


def cores(sizes: Sequence[Figures]) -> list[str]:
    """Who took how much of the machine that all of them shared."""
    return [
        f"{size.pools} pools, cores in steady state: "
        + ", ".join(f"{program} {share:.2f}" for program, share in size.cores.items())
        + ("; the operator went first" if size.went_first else "")
        for size in sorted(sizes, key=operator.attrgetter("pools"))
    ]


def _shown(value: float, digits: int) -> str:
    return "?" if math.isnan(value) else f"{value:.{digits}f}"


def load(path: Path) -> dict[int, Figures]:
    """Figures of earlier runs by number of pools; of another version of this file, none."""
    if not path.exists():
        return {}
    names = {field.name for field in fields(Figures)}
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {row["pools"]: Figures(**row) for row in rows if set(row) == names}


def save(path: Path, known: Mapping[int, Figures]) -> None:
    """Write figures as `load` reads them."""
    rows = [asdict(known[pools]) for pools in sorted(known)]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def missed(figures: Figures) -> list[str]:
    """Goals that are missed, for a person."""
    tests: list[tuple[Goal, Callable[[Figures], bool | None]]] = [(g, g.met) for g in GOALS]
    return [goal.what for goal, met in tests if met(figures) is False]
