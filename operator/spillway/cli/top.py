"""``spillway top``: load, replicas, overflow and cost of every pool, from their status."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spillway.adapters.kube.paths import resource_path
from spillway.api.names import API_VERSION, KIND, PLURAL
from spillway.cli.connecting import (
    AsJson,
    Context,
    Kubeconfig,
    Namespace,
    ask,
    namespace_of,
)
from spillway.cli.errors import fail
from spillway.cli.exit_codes import ExitCode
from spillway.cli.top_rows import SORTS, Row, in_order, row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from spillway.adapters.kube.client import Cluster

_UNKNOWN: Final = "-"
#: Columns that belong to the pool's name and are read from the left.
_TEXTS: Final = frozenset({"NAMESPACE", "POOL", "LIMIT", "READY"})
_HEADS: Final = (
    "NAMESPACE", "POOL", "REQ/S", "CAPACITY", "USE", "QUEUE", "SERVING", "WARM", "START",
    "DRAIN", "OVERFLOW", "$/H", "SAVED/H", "BUDGET", "LIMIT", "READY",
)  # fmt: skip
#: A narrow terminal wraps a line rather than cut a figure off.
_WIDEST: Final = 1000


def top(
    namespace: Namespace = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Pools of all namespaces.")
    ] = False,
    sort: Annotated[
        str | None, typer.Option(help=f"The most first, by {', '.join(SORTS)}. (default: name)")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C; with --json a line a look.")
    ] = False,
    interval: Annotated[
        float, typer.Option(help="Seconds between looks of --watch.", min=0.5, max=3600)
    ] = 5.0,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Show what every pool carries, holds, sends away and costs, as its status last said.

    USE is arrivals over capacity. SERVING is how many serve of how many should. SAVED/H compares
    with the cheaper of serving all of the load on GPUs and all of it at the API; it can be
    negative. BUDGET is spent of the tightest period. LIMIT is what had the last word on replicas.
    """
    if sort is not None and sort not in SORTS:
        fail(f"--sort must be one of {', '.join(SORTS)}, got {sort!r}", ExitCode.USAGE)
    if namespace is not None and all_namespaces:
        fail("give --namespace or --all-namespaces, not both", ExitCode.USAGE)
    scope = None if all_namespaces else namespace or namespace_of(kubeconfig, context)

    def look() -> list[Row]:
        return in_order(ask(lambda cluster: _rows(cluster, scope), kubeconfig, context), sort)

    if watch:
        _watch(look, interval, scope, as_json=as_json)
    elif as_json:
        Console(soft_wrap=True).print_json(_json(look()))
    else:
        _print(Console(), look(), scope)


async def _rows(cluster: Cluster, namespace: str | None) -> list[Row]:
    path = resource_path(API_VERSION, PLURAL, namespace)
    return [row_of(raw) async for page in cluster.list_pages(path) for raw in page.items]


def _watch(
    look: Callable[[], list[Row]], interval: float, scope: str | None, *, as_json: bool
) -> None:
    console = Console()
    try:
        if as_json or not console.is_terminal:
            while True:
                rows = look()
                if as_json:
                    # A line each, so that a script reads them as they come.
                    sys.stdout.write(f"{json.dumps(json.loads(_json(rows)))}\n")
                    sys.stdout.flush()
                else:
                    _print(console, rows, scope)
                time.sleep(interval)
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                rows = look()
                stamp = f"{datetime.now(UTC):%H:%M:%S} UTC, every {interval:g} s; Ctrl-C ends"
                live.update(Group(Text(stamp, style="dim"), _table(rows, scope)), refresh=True)
                time.sleep(interval)
    except KeyboardInterrupt:
        raise typer.Exit(int(ExitCode.OK)) from None


def _print(console: Console, rows: Sequence[Row], scope: str | None) -> None:
    table = _table(rows, scope)
    if isinstance(table, Table):
        width = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
        Console(width=max(console.width, width), soft_wrap=True).print(table)
    else:
        console.print(table)


def _table(rows: Sequence[Row], scope: str | None) -> RenderableType:
    if not rows:
        where = "in any namespace" if scope is None else f"in namespace {scope}"
        return Text(f"no {KIND} {where}")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for head in _HEADS:
        table.add_column(head, justify="left" if head in _TEXTS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    if len(rows) > 1:
        table.add_row(*_totals(rows), style="bold")
    return table


def _cells(row: Row) -> tuple[str | Text, ...]:
    use, overflow = row.utilization, row.overflow
    return (
        row.namespace,
        row.name,
        _figure(row.requests_per_second),
        _figure(row.capacity),
        Text(_share(use), style="yellow" if use is not None and use > 1 else ""),
        _figure(row.queue),
        Text(f"{row.serving}/{row.desired}", style="" if row.serving >= row.desired else "yellow"),
        str(row.warm),
        str(row.starting),
        str(row.draining),
        Text(_share(overflow), style="cyan" if overflow else ""),
        _usd(row.usd_per_hour),
        _usd(row.saved_per_hour),
        _share(row.budget_spent),
        row.limit,
        _ready(row),
    )


def _ready(row: Row) -> Text:
    word = {True: "True", False: "False", None: "Unknown"}[row.ready]
    text = f"{word} {row.trouble}".strip()
    return Text(text, style={True: "green", False: "red", None: "yellow"}[row.ready])


def _totals(rows: Sequence[Row]) -> tuple[str, ...]:
    def total(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    figures = {
        "POOL": f"{len(rows)} pools",
        "REQ/S": _figure(total([row.requests_per_second for row in rows])),
        "SERVING": f"{sum(row.serving for row in rows)}/{sum(row.desired for row in rows)}",
        "WARM": str(sum(row.warm for row in rows)),
        "START": str(sum(row.starting for row in rows)),
        "DRAIN": str(sum(row.draining for row in rows)),
        "$/H": _usd(total([row.usd_per_hour for row in rows])),
        "SAVED/H": _usd(total([row.saved_per_hour for row in rows])),
    }
    return tuple(figures.get(head, "") for head in _HEADS)


def _figure(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.0%}"


def _usd(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:,.2f}"


def _json(rows: Sequence[Row]) -> str:
    return json.dumps({"pools": [{**asdict(r), "utilization": r.utilization} for r in rows]})
