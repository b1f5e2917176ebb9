"""One frozen Spillway against tuned rivals and the clairvoyant optimum, on real traces.

Run: make bench-policy TRACE=FOLDER, or python bench/bench_policy.py --trace FOLDER [--quick]
The folder holds azure2023/, azure2024/ and servegen/ (public traces, see docs/benchmarks/); or
give one or more trace files of any format that `spillway simulate` reads.

Rivals are tuned on each trace's first half and scored on its second. Everything runs on the fluid
engine with the seed given. A full run takes hours of CPU; --quick shows the way in minutes, and
--journal FILE keeps finished jobs, so that a run of the same code and traces that was interrupted
goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from spillway.sim.benchmark import tables
from spillway.sim.benchmark.jobs import DRIFTERS, Job, RivalsJob, SpillwayJob
from spillway.sim.benchmark.journal import Journal, JournalError, fingerprint
from spillway.sim.benchmark.worlds import (
    DRIFT_LEAD_SECONDS,
    DRIFT_SCALE,
    DRIFTS,
    LEADS_SECONDS,
    PRICES,
    SCALES,
    Price,
    World,
)
from spillway.sim.traces import TraceError, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spillway.sim.benchmark.records import Record
    from spillway.sim.benchmark.tables import Rivalry, Spread
    from spillway.sim.trace import Trace

PROMISE = 0.95
DAY_SECONDS = 86_400.0
FOLDER = {
    "conv": ("azure2024/conv_10s_counts.csv.gz", "azure2023/AzureLLMInferenceTrace_conv.csv.gz"),
    "code": (
        "azure2024/code_10s_counts_first4days.csv.gz",
        "azure2023/AzureLLMInferenceTrace_code.csv.gz",
    ),
    # No lengths are published with these rates: a chat service's are taken.
    "m-mid": (
        "servegen/m-mid_total_rate_10min.csv",
        "azure2023/AzureLLMInferenceTrace_conv.csv.gz",
    ),
}


@dataclass(frozen=True)
class Plan:
    """What runs.

    Attributes:
        scales: Replicas that mean loads need.
        leads_seconds: Median start-ups.
        prices: The API's.
        drifts: Worlds that turn out different.
        days: Length of each half at most.
        learn_capacity: Spillway learns what a replica serves, or is told.
        seed: Of everything random.
        rivals: Run them too; else Spillway stands beside the optimum alone.
    """

    scales: tuple[int, ...]
    leads_seconds: tuple[float, ...]
    prices: tuple[Price, ...]
    drifts: tuple[str, ...]
    days: float
    learn_capacity: bool
    seed: int
    rivals: bool = True

    def jobs(self, traces: Sequence[str]) -> list[tuple[str, Job]]:
        """(trace, job) pairs, the longest first."""
        found: list[tuple[str, Job]] = []
        for name in traces:
            for scale in self.scales:
                for lead in self.leads_seconds:
                    found += [(name, job) for job in self._of(World(name, scale, lead))]
        return sorted(found, key=lambda pair: -_weight(pair[1]))

    def _of(self, world: World) -> list[Job]:
        drifting = (world.scale, world.lead_seconds) == (DRIFT_SCALE, DRIFT_LEAD_SECONDS)
        drifts = self.drifts if drifting else ()
        jobs: list[Job] = []
        if self.rivals:
            jobs += [
                RivalsJob(world, group, PROMISE, drifts=drifts, seed=self.seed)
                for group in _by_proportion(self.prices)
            ]
            jobs += [
                RivalsJob(world, (price,), PROMISE, burst=False, seed=self.seed)
                for price in self.prices[:1]
            ]
        for price in self.prices:
            for drift in ("", *drifts):
                jobs.append(
                    SpillwayJob(
                        world, price, drift, self.learn_capacity, not drift, PROMISE, self.seed
                    )
                )
        return jobs


def _by_proportion(prices: Sequence[Price]) -> list[tuple[Price, ...]]:
    """Prices with the same proportion of output to input: one run serves them all."""
    groups: dict[float, list[Price]] = {}
    for price in prices:
        proportion = round(price.output_usd_per_million / price.input_usd_per_million, 6)
        groups.setdefault(proportion, []).append(price)
    return [tuple(group) for group in groups.values()]


def _weight(job: Job) -> float:
    """Roughly how long it takes."""
    if isinstance(job, SpillwayJob):
        return 10 + job.world.scale / 4 + (20 if job.optimum else 0)
    return 30 + 20 * len(job.prices) + 3 * len(job.drifts)


def traces_of(paths: Sequence[Path]) -> dict[str, Trace]:
    """The traces by name.

    Raises:
        TraceError: A file is no trace.
        FileNotFoundError: A folder lacks a file of the benchmark.
    """
    found: dict[str, Trace] = {}
    for path in paths:
        if not path.is_dir():
            trace = load(path)
            found[trace.name] = trace
            continue
        for name, (rates, lengths) in FOLDER.items():
            found[name] = load(path / rates, lengths=load(path / lengths).lengths)
    return found


def cut(trace: Trace, days: float) -> Trace:
    """The trace about its middle, so that each half is so long at most."""
    middle, half = trace.seconds / 2, min(trace.seconds / 2, days * DAY_SECONDS)
    return trace.window(middle - half, middle + half)


def work(job: Job, trace: Trace) -> list[Record]:
    """Do a job; a function of the module, so that another process can."""
    return job.run(trace)


def run(
    plan: Plan,
    traces: dict[str, Trace],
    workers: int,
    console: Console,
    journal: Journal | None = None,
) -> list[Record]:
    """All jobs that the journal does not know, on as many processes."""
    jobs = plan.jobs(list(traces))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    records: list[Record] = []
    with (
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
        ProcessPoolExecutor(workers) as pool,
    ):
        task = progress.add_task("begins", total=len(jobs))
        futures = {}
        for name, job in jobs:
            known = None if journal is None else journal.records(job)
            if known is None:
                futures[pool.submit(work, job, traces[name])] = job
            else:
                records += known
                progress.advance(task)
        for future in as_completed(futures):
            records += future.result()
            if journal is not None:
                journal.add(futures[future], future.result())
            progress.update(task, advance=1, description=str(futures[future]))
    return _without_burst_at_every_price(records, plan.prices)


def _without_burst_at_every_price(records: list[Record], prices: Sequence[Price]) -> list[Record]:
    """Without burst the API's price has no part in it: one run stands for all prices."""
    alone = [r for r in records if not r.burst]
    more = [replace(r, price=price.name) for r in alone for price in prices[1:]]
    return records + more


def percent(spread: Spread | None) -> str:
    """A change in percent with its range over worlds."""
    if spread is None:
        return "nobody kept up"
    mean, least, most = (100 * (value - 1) for value in (spread.mean, spread.least, spread.most))
    return f"{mean:+.1f} % [dim]({least:+.1f} to {most:+.1f}, {spread.worlds})[/]"


def factor(spread: Spread | None) -> str:
    """A multiple with its range over worlds."""
    if spread is None:
        return "-"
    return f"{spread.mean:.3f} [dim]({spread.least:.3f} to {spread.most:.3f})[/]"


def show(records: list[Record], plan: Plan, console: Console) -> None:
    """Print every table."""
    for equal in (True, False):
        title = "rivals at Spillway's attainment" if equal else f"rivals at {PROMISE:.0%}"
        console.print(_main_table(records, plan, title, equal=equal))
    for name, value_of in (
        ("trace", lambda record: record.trace),
        ("replicas", lambda record: str(record.scale)),
        ("lead", lambda record: f"{record.lead_seconds:g} s"),
    ):
        console.print(_split_table(records, plan, name, value_of))
    if plan.drifts:
        console.print(_drift_table(records, plan))


Other = Callable[["Rivalry"], "Record | None"]


def _optimum(each: Rivalry) -> Record | None:
    return each.optimum


def _without_burst(each: Rivalry) -> Record | None:
    return each.best_without_burst


def _with_burst(each: Rivalry) -> Record | None:
    return min(each.with_burst.values(), key=lambda r: r.usd, default=None)


def _named(name: str) -> Other:
    return lambda each: each.with_burst.get(name)


#: Rows of the main table: title, whom Spillway is compared with, and how the ratio is shown.
ROWS: tuple[tuple[str, Other, Callable[[Spread | None], str]], ...] = (
    ("cost over the optimum", _optimum, factor),
    ("against the best tuned rival without burst", _without_burst, percent),
    *((f"against tuned {name}, same burst", _named(name), percent) for name in DRIFTERS),
    ("against the best tuned rival, same burst", _with_burst, percent),
)


def _main_table(records: list[Record], plan: Plan, title: str, *, equal: bool) -> Table:
    table = Table(title=f"Spillway, frozen, on unseen halves: {title}")
    found = tables.rivalries(records, PROMISE, equal=equal)
    table.add_column("")
    for price in plan.prices:
        table.add_column(price.name)
    for row, other, shown in ROWS if plan.rivals else ROWS[:1]:
        table.add_row(
            row,
            *(
                shown(tables.ratios(at(found, price), other, PROMISE, equal=equal))
                for price in plan.prices
            ),
        )
    attained = [[r.spillway.attainment for r in at(found, price)] for price in plan.prices]
    table.add_row(
        "Spillway's attainment",
        *(f"{fmean(each):.4f} [dim](from {min(each):.4f})[/]" for each in attained),
    )
    return table


def at(found: Sequence[Rivalry], price: Price) -> list[Rivalry]:
    """Those of one price."""
    return [each for each in found if each.spillway.price == price.name]


def _split_table(
    records: list[Record], plan: Plan, by: str, value_of: Callable[[Record], str]
) -> Table:
    table = Table(title=f"by {by}, at Spillway's attainment: optimum / keda-rate / keda-inflight")
    found = tables.rivalries(records, PROMISE, equal=True)
    table.add_column(by)
    for price in plan.prices:
        table.add_column(price.name)
    for value in dict.fromkeys(value_of(each.spillway) for each in found):
        some = [each for each in found if value_of(each.spillway) == value]
        cells = []
        for price in plan.prices:
            spreads = [
                tables.ratios(at(some, price), other, PROMISE, equal=True)
                for other in (_optimum, *map(_named, DRIFTERS))
            ]
            over = f"{spreads[0].mean:.3f}" if spreads[0] else "-"
            changes = [f"{100 * (s.mean - 1):+.1f} %" if s else "-" for s in spreads[1:]]
            cells.append(" / ".join([over, *changes]))
        table.add_row(value, *cells)
    return table


def _drift_table(records: list[Record], plan: Plan) -> Table:
    table = Table(
        title="Drift: against tuned rivals with the same burst, shortfalls bought "
        "(least attainment: Spillway, rival)"
    )
    table.add_column("")
    for price in plan.prices:
        for name in DRIFTERS:
            table.add_column(f"{price.name}: {name}")
    for drift in plan.drifts:
        cells = []
        for price in plan.prices:
            for name in DRIFTERS:
                spread = tables.drift_ratios(records, price.name, drift, name, PROMISE)
                ours = tables.drift_attainment(records, price.name, drift, tables.SPILLWAY)
                theirs = tables.drift_attainment(records, price.name, drift, name)
                cells.append(f"{percent(spread)} [dim]{ours:.3f}, {theirs:.3f}[/]")
        table.add_row(drift, *cells)
    return table


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", type=Path, nargs="+", required=True, help="folder or files")
    parser.add_argument("--only", nargs="+", help="traces to take, by name")
    parser.add_argument("--scales", type=int, nargs="+", default=SCALES)
    parser.add_argument("--leads", type=float, nargs="+", default=LEADS_SECONDS)
    parser.add_argument("--prices", nargs="+", choices=[p.name for p in PRICES], default=None)
    parser.add_argument("--days", type=float, default=float("inf"), help="of each half, at most")
    parser.add_argument("--no-drift", action="store_true")
    parser.add_argument("--no-rivals", action="store_true", help="Spillway and the optimum alone")
    parser.add_argument("--declared", action="store_true", help="capacity is told, not learned")
    parser.add_argument("--quick", action="store_true", help="one world a trace, a day a half")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--journal", type=Path, help="keep finished jobs there, and go on")
    parser.add_argument("--json", type=Path, help="write every record there")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark and print its tables."""
    asked = arguments(argv)
    console = Console()
    try:
        traces = traces_of(asked.trace)
    except (TraceError, OSError) as error:
        Console(stderr=True).print(f"--trace: {error}")
        return 2
    if asked.only:
        traces = {name: trace for name, trace in traces.items() if name in asked.only}
    plan = Plan(
        scales=(DRIFT_SCALE,) if asked.quick else tuple(asked.scales),
        leads_seconds=(DRIFT_LEAD_SECONDS,) if asked.quick else tuple(asked.leads),
        prices=tuple(p for p in PRICES if asked.prices is None or p.name in asked.prices),
        drifts=() if asked.no_drift else DRIFTS,
        days=min(asked.days, 1.0) if asked.quick else asked.days,
        learn_capacity=not asked.declared,
        seed=asked.seed,
        rivals=not asked.no_rivals,
    )
    begin = time.monotonic()
    traces = {name: cut(trace, plan.days) for name, trace in traces.items()}
    journal = None
    if asked.journal is not None:
        try:
            journal = Journal(asked.journal, fingerprint(traces))
        except (JournalError, OSError) as error:
            Console(stderr=True).print(f"--journal: {error}")
            return 2
    records = run(plan, traces, asked.workers, console, journal)
    show(records, plan, console)
    console.print(f"seed {plan.seed}, {asked.workers} processes, {time.monotonic() - begin:.0f} s")
    if asked.json:
        asked.json.write_text(json.dumps([each.as_json() for each in records], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
