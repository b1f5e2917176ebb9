"""The demo's live view: a table in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tests.e2e.rig.page import clock
from tests.e2e.rig.recording import StepKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from tests.e2e.rig.recording import Moment, Phase, Recording, Step

_BARS: Final = "▁▂▃▄▅▆▇█"
_SPARK_SECONDS: Final = 120
_SPARK_WIDTH: Final = 40
_STEPS_SHOWN: Final = 6
#: As on the page: the same colour means the same thing everywhere.
_ROLES: Final = (
    ("serving", "●", "blue"),
    ("warm", "●", "magenta"),
    ("starting", "◌", "cyan"),
    ("draining", "●", "bright_black"),
)


def sparkline(values: Sequence[float], least: float = 0.0, width: int = _SPARK_WIDTH) -> str:
    """The values as bars, the latest on the right, each the mean of its share of them.

    Args:
        values: Oldest first; none is negative.
        least: What the highest bar stands for at least, so that little looks little.
        width: Most bars.
    """
    if not values:
        return ""
    size = max(1, -(-len(values) // width))
    means = [
        sum(part) / len(part)
        for part in (values[i : i + size] for i in range(0, len(values), size))
    ]
    top = max(least, *means)
    if top <= 0:
        return _BARS[0] * len(means)
    return "".join(_BARS[round((len(_BARS) - 1) * value / top)] for value in means)


def view(recording: Recording, seconds: float, *, note: str = "") -> RenderableType:
    """The live table.

    Args:
        recording: What was seen so far.
        seconds: How long the workload runs.
        note: Shown instead of the figures while there are none.
    """
    if not recording.moments:
        return Panel(note, title=recording.title)
    moment = recording.moments[-1]
    left = max(0.0, seconds - moment.at)
    phase = recording.phase(moment.at)
    return Panel(
        Group(
            _figures(recording, moment), Text(), _last_decision(recording), Text(), _log(recording)
        ),
        title=f"[bold]{recording.title}[/bold]",
        subtitle=f"{clock(moment.at)}, {phase}, {clock(left)} to go; Ctrl-C ends it",
        padding=(1, 2),
    )


def _figures(recording: Recording, moment: Moment) -> Table:
    recent = [m for m in recording.moments if m.at > moment.at - _SPARK_SECONDS]

    def spark(name: str, colour: str, least: float = 0.0) -> Text:
        return Text(sparkline([float(getattr(m, name)) for m in recent], least), style=colour)

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=12)
    table.add_column(min_width=36)
    table.add_column()
    table.add_row(
        "arrivals",
        f"{moment.arrivals_per_second:5.1f} req/s",
        spark("arrivals_per_second", "white"),
    )
    table.add_row(
        "own GPUs",
        f"{moment.local_per_second:5.1f} req/s of {moment.capacity_per_second:.0f} they can serve",
        spark("local_per_second", "blue", moment.arrivals_per_second),
    )
    table.add_row(
        "paid API",
        f"{moment.cloud_per_second:5.1f} req/s",
        spark("cloud_per_second", "yellow", moment.arrivals_per_second),
    )
    providers = ", ".join(f"{name} {count:,}" for name, count in moment.by_providers.items())
    table.add_row("answered", f"replicas {moment.by_replicas:,}, {providers}", "")
    table.add_row("overflow", f"{moment.overflow:5.0%}", spark("overflow", "yellow", 1.0))
    table.add_row("queue", f"{moment.queue:5.0f} requests", spark("queue", "red", 20.0))
    table.add_row("replicas", _dots(moment), Text(_counts(moment), style="dim"))
    table.add_row(
        "cost",
        f"${moment.gpu_per_hour + moment.api_per_hour:.2f}/h",
        Text(f"GPUs ${moment.gpu_per_hour:.2f}, API ${moment.api_per_hour:.2f}", style="dim"),
    )
    kept = "" if moment.in_time is None else f"{moment.in_time:5.1%} of the last minute"
    table.add_row("in time", kept, "")
    return table


def _dots(moment: Moment) -> Text:
    text = Text()
    for name, dot, colour in _ROLES:
        text.append((dot + " ") * getattr(moment, name), style=colour)
    return text


def _counts(moment: Moment) -> str:
    counts = ", ".join(f"{getattr(moment, name)} {name}" for name, _, _ in _ROLES)
    return f"{counts}; {moment.desired} to serve"


def _last_decision(recording: Recording) -> RenderableType:
    decisions = recording.decisions()
    if not decisions:
        return Text("no decision has changed anything yet", style="dim")
    last = decisions[-1]
    head = Text.assemble(
        ("last decision ", "dim"), (", ".join(last.reasons), "bold green"), f" at {clock(last.at)}"
    )
    return Group(head, Text(last.message))


def _log(recording: Recording) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right")
    table.add_column(style="green")
    table.add_column(overflow="ellipsis", no_wrap=True)
    latest = [step for step in recording.steps if step.kind is not StepKind.DECISION]
    for step in latest[-_STEPS_SHOWN:]:
        table.add_row(clock(step.at), ", ".join(step.reasons), step.message)
    return table


def line(recording: Recording) -> str:
    """The latest moment in one line, for where there is no terminal."""
    moment = recording.moments[-1]
    return (
        f"{clock(moment.at)} {recording.phase(moment.at):6} "
        f"{moment.arrivals_per_second:5.1f} req/s (GPUs {moment.local_per_second:.1f}, "
        f"API {moment.cloud_per_second:.1f}) | {_counts(moment)} | queue {moment.queue:.0f} | "
        f"overflow {moment.overflow:.0%} | ${moment.gpu_per_hour + moment.api_per_hour:.2f}/h"
    )


def phase_line(phase: Phase) -> str:
    """A part of the workload that began, in one line."""
    return f"{clock(phase.at)} {phase.name} begins"


def step_line(step: Step) -> str:
    """Something that the operator did in one line."""
    return f"{clock(step.at)}   {', '.join(step.reasons)}: {step.message}"
