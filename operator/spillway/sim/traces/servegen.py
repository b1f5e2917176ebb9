"""ServeGen: total rates of Alibaba's production services, one row a window.

https://github.com/alibaba/ServeGen, Apache-2.0; arXiv:2505.09999.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spillway.sim.trace import Trace
from spillway.sim.traces.building import Gaps, fill, on_grid, stem
from spillway.sim.traces.errors import TraceError
from spillway.sim.traces.reading import has, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spillway.sim.trace import Lengths


def is_servegen(header: Sequence[str]) -> bool:
    """Whether a file with that header is such a table of rates."""
    return has(header, "t_s", "rps")


def load(path: Path, lengths: Lengths, *, gaps: Gaps = Gaps.INTERPOLATE) -> Trace:
    """One row a window: t_s (seconds) and rps (mean requests per second).

    Windows of zero look like outages of the recording: a service of a thousand requests a second
    does not fall silent for ten minutes by chance.

    Args:
        path: The file.
        lengths: What lengths are drawn from.
        gaps: What becomes of windows of zero, and of rows that are missing.

    Raises:
        TraceError: The file is not such a one.
    """
    rows = table(path)
    times = rows.column("t_s")
    width, number = on_grid(path, times.numbers(), rows.lines, times.number)
    rates = np.zeros(int(number[-1]) + 1)
    rates[number] = rows.column("rps").numbers()
    silent = rates == 0
    if silent.all():
        raise TraceError(path, "a rate above 0 in rps", "none")
    source = (
        f"ServeGen, mean rates per {width:g} s ({path.name}); single requests and their lengths "
        "are made up below that."
    )
    if silent.any():
        how = "interpolated" if gaps is Gaps.INTERPOLATE else "kept"
        source += f" {int(silent.sum()):,} of {len(rates):,} windows are silent and were {how}."
    return Trace(stem(path), source, width, fill(rates, silent, gaps), lengths)
