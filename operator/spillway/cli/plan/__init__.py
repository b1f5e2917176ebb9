"""``spillway plan``: what serving a load costs, before a cluster is there. One module a topic."""

from __future__ import annotations

from typing import ClassVar, Final

import typer

from spillway.cli import manual
from spillway.cli.lazy import Entry, LazyGroup

#: Name and where it is.
_TOPICS: Final = (
    ("tco", "cost:tco"),
    ("crossover", "cost:crossover"),
    ("rightsizing", "rightsizing:rightsizing"),
    ("autoscaling", "autoscaling:autoscaling"),
    ("agents", "requests:agents"),
    ("rag", "requests:rag"),
    ("levers", "requests:levers"),
    ("prices", "prices:prices"),
)


class _Topics(LazyGroup):
    entries: ClassVar = {
        name: Entry(
            f"{__name__}.{target}",
            manual.SUMMARIES[f"plan {name}"],
            manual.epilog(f"plan {name}"),
        )
        for name, target in _TOPICS
    }


app = typer.Typer(
    name="plan",
    cls=_Topics,
    help=manual.SUMMARIES["plan"],
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    """Nothing that is common to all topics needs doing."""
