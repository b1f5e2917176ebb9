"""Does the runs of a study, several at once, and shows what came of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.sim.study import SPILLWAY, Study, gather, work

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from spillway.sim.conditions import Conditions
    from spillway.sim.study import Entry, Job
    from spillway.sim.trace import Trace


def require_folder(report: Path | None) -> None:
    """End before minutes of work whose report could not be written."""
    if report is not None and not report.parent.is_dir():
        fail(f"--report: no folder {report.parent}", ExitCode.USAGE)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def study(
    trace: Trace, conditions: Conditions, jobs: Sequence[Job], *, processes: int, quiet: bool
) -> Study:
    """Do the runs and put them together.

    Args:
        trace: The load; fixed sizes are chosen for it.
        conditions: The world.
        jobs: From `spillway.sim.study.plan`.
        processes: How many runs at once.
        quiet: Show no progress.
    """
    processes = min(processes, len(jobs))
    if processes <= 1:
        runs = ((job, work(job, trace, trace)) for job in jobs)
        return gather(trace, conditions, _shown(runs, len(jobs), quiet=quiet))
    # Forked before there is a thread of the progress bar, whose lock a child could inherit held;
    # a spawned one would load the whole command anew. Ctrl-C reaches them too: they end without a
    # word and leave the telling to this process.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_end_silently) as pool:
        waiting = {pool.submit(work, job, trace, trace): job for job in jobs}
        runs = ((waiting[future], future.result()) for future in as_completed(waiting))
        try:
            return gather(trace, conditions, _shown(runs, len(jobs), quiet=quiet))
        except BrokenProcessPool:
            fail("a replay was killed, perhaps for want of memory; try --jobs 1", ExitCode.FAILED)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_silently() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


Run = tuple["Job", tuple["Entry", ...]]


def _shown(runs: Iterator[Run], total: int, *, quiet: bool) -> list[Run]:
    """The runs, each told as it ends."""
    done: list[Run] = []
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("replaying", total=total)
        for job, entries in runs:
            done.append((job, entries))
            progress.update(task, advance=1, description=f"done: {job.title}"[:60])
    return done


def show(found: Study, remarks: Sequence[str]) -> None:
    """The table, on stdout."""
    console = Console(soft_wrap=True)
    world, trace = found.conditions, found.trace
    hours = trace.seconds / 3600
    console.print(
        f"{trace.name}: {hours:.3g} h, {trace.mean_per_second:.1f} requests/s on average, worth "
        f"{trace.mean_per_second / found.requests_per_second:.1f} replicas {world.profile.name} "
        f"at ${world.gpu_usd_per_replica_hour:g}/h; API ${world.api.input_usd_per_million:g}/"
        f"{world.api.output_usd_per_million:g} per million tokens",
        highlight=False,
    )
    for remark in (trace.source, *remarks):
        console.print(remark, style="dim", markup=False, highlight=False)
    console.print(_table(found))
    for line in _verdict(found):
        console.print(line, markup=False, highlight=False)


def deliver(
    found: Study, title: str, remarks: Sequence[str], *, report: Path | None, as_json: bool
) -> None:
    """Print a study, and write its report where one was asked for."""
    if as_json:
        typer.echo(document(found, remarks))
    else:
        show(found, remarks)
    if report is not None:
        _write_report(report, found, title, remarks)


def _write_report(path: Path, found: Study, title: str, remarks: Sequence[str]) -> None:
    from spillway.sim.report.report import render

    try:
        path.write_text(render(found, title=title, remarks=remarks), encoding="utf-8")
    except OSError as error:
        fail(f"{path}: {error.strerror}; name a file that can be written", ExitCode.USAGE)
    Console(stderr=True, soft_wrap=True).print(f"wrote {path}", highlight=False, markup=False)


#: They fit into 80 characters; JSON and the report have more.
_COLUMNS: Final = ("$ total", "/ optimum", "$ GPUs", "$ API", "attained", "to API")


def _table(found: Study) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("scaler", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    best = [found.optimum] if found.optimum is not None else []
    for entry in (*found.entries, *best):
        result, over = entry.result, found.over_optimum(entry)
        kept = found.keeps(entry)
        table.add_row(
            entry.label,
            f"{result.usd:,.2f}",
            "" if over is None else f"{over:.3f}",
            f"{result.gpu_usd:,.2f}",
            f"{result.api_usd:,.2f}",
            Text(f"{result.attainment:.2%}", style="" if kept else "red"),
            f"{result.cloud_requests / max(result.requests, 1e-9):.2%}",
            style="bold" if entry.name == SPILLWAY else "" if kept else "dim",
        )
    return table


def _verdict(found: Study) -> list[str]:
    """What to take from it, in a sentence or two."""
    ours, target = found.spillway, f"{found.conditions.attainment:.0%}"
    lines = []
    if not found.keeps(ours):
        lines.append(f"Spillway misses its promise of {target} here.")
    rival = found.best_without_burst
    if rival is not None:
        change = ours.result.usd / rival.result.usd - 1
        lines.append(
            f"Spillway costs {abs(change):.1%} {'less' if change < 0 else 'more'} than "
            f"{rival.label}, the cheapest of these that keeps {target} on its own GPUs."
        )
    if found.schedule is not None:
        usd = found.schedule.result.usd
        lines.append(
            f"The optimum is a lower bound for {target}; a schedule for ${usd:,.2f} was found."
        )
    return lines


def document(found: Study, remarks: Sequence[str]) -> str:
    """Everything but the way there."""
    world, trace = found.conditions, found.trace
    best = found.optimum
    everything: dict[str, Any] = {
        "trace": {
            "name": trace.name,
            "source": trace.source,
            "seconds": trace.seconds,
            "meanRequestsPerSecond": trace.mean_per_second,
        },
        "conditions": {
            "profile": world.profile.name,
            "requestsPerSecondPerReplica": found.requests_per_second,
            "gpuUsdPerReplicaHour": world.gpu_usd_per_replica_hour,
            "apiInputUsdPerMillion": world.api.input_usd_per_million,
            "apiOutputUsdPerMillion": world.api.output_usd_per_million,
            "leadSeconds": world.lead.median_seconds,
            "floor": world.floor,
            "max": world.max,
            "ttftSeconds": world.ttft_seconds,
            "tpotSeconds": world.tpot_seconds,
            "attainment": world.attainment,
            "seed": world.seed,
        },
        "entries": [_entry(entry, found.over_optimum(entry)) for entry in found.entries],
        "optimum": None if best is None else _entry(best, 1.0),
        "schedule": None if found.schedule is None else _entry(found.schedule, None),
        "frontier": [_entry(entry, found.over_optimum(entry)) for entry in found.frontier],
        "byLeadSeconds": _worlds(found.by_lead),
        "byApiPriceFactor": _worlds(found.by_api_price),
        "remarks": list(remarks),
    }
    return json.dumps(everything, indent=2)


def _worlds(worlds: dict[float, tuple[Entry, ...]]) -> dict[str, Any]:
    return {f"{at:g}": [_entry(entry, None) for entry in entries] for at, entries in worlds.items()}


def _entry(entry: Entry, over: float | None) -> dict[str, Any]:
    result = entry.result
    return {
        "name": entry.name,
        "burst": entry.bursts,
        "configuration": result.configuration,
        "usd": round(result.usd, 4),
        "gpuUsd": round(result.gpu_usd, 4),
        "apiUsd": round(result.api_usd, 4),
        "overOptimum": None if over is None else round(over, 5),
        "attainment": round(result.attainment, 6),
        "requests": round(result.requests, 3),
        "cloudRequests": round(result.cloud_requests, 3),
        "lostRequests": round(result.lost_requests, 3),
        "replicaHours": round(result.replica_hours, 4),
        "scaleActions": result.scale_actions,
    }
