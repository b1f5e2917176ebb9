"""From what a file holds to a `Trace`: bins of single requests, and bins that are missing."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.trace import Lengths, Requests, Trace
from spillway.sim.traces.errors import TraceError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BIN_SECONDS: Final = 5.0
"""Width of the bins of single requests and of made-up load: the step of the fluid engine."""
#: Three years of them; a longer span is a wrong unit, and would not fit in memory.
_MOST_BINS: Final = 20_000_000


class Gaps(StrEnum):
    """What becomes of a time without data, or of a silence that looks like an outage."""

    INTERPOLATE = "interpolate"
    """A straight line between its neighbours: the load as it would have been."""
    KEEP = "keep"
    """No arrivals: the load as it was recorded."""


def fill(rates: NDArray[np.float64], missing: NDArray[np.bool_], gaps: Gaps) -> NDArray[np.float64]:
    """The rates with their missing bins as asked; at either end the nearest known rate goes on.

    Args:
        rates: Shape (bins,).
        missing: Which of them are not known; at least one is known.
        gaps: What to do with them.
    """
    if gaps is Gaps.KEEP:
        return np.where(missing, 0.0, rates)
    at = np.arange(len(rates))
    return np.where(missing, np.interp(at, at[~missing], rates[~missing]), rates)


def from_requests(
    path: Path,
    source: str,
    arrived_at: NDArray[np.float64],
    lengths: Lengths,
    session: NDArray[np.int64] | None = None,
) -> Trace:
    """A trace of single requests, begun at the first of them.

    Requests without a prompt or an answer failed where they were recorded; they are left out, and
    `Trace.source` says how many. The order of the file does not matter.

    Raises:
        TraceError: None is left.
    """
    session = np.full(len(arrived_at), -1) if session is None else session
    good = (lengths.prompt_tokens > 0) & (lengths.output_tokens > 0)
    if not good.any():
        raise TraceError(path, "at least one request with a prompt and an answer", "none")
    order = np.argsort(arrived_at, kind="stable")
    order = order[good[order]]
    at = arrived_at[order] - arrived_at[order[0]]
    bins = bins_of(path, float(at[-1]), BIN_SECONDS)
    counts = np.bincount((at // BIN_SECONDS).astype(np.int64), minlength=bins)
    failed = len(good) - int(good.sum())
    if failed:
        source += f" {failed:,} of {len(good):,} failed where they were recorded and are left out."
    return Trace(
        name=stem(path),
        source=source,
        bin_seconds=BIN_SECONDS,
        requests_per_second=counts / BIN_SECONDS,
        lengths=lengths.take(order),
        requests=Requests(at, lengths.take(order), session[order]),
    )


def bins_of(path: Path, span_seconds: float, width_seconds: float) -> int:
    """Number of bins from the first to the one that begins ``span_seconds`` later.

    Raises:
        TraceError: They are too many to hold.
    """
    if span_seconds / width_seconds >= _MOST_BINS:
        most = _MOST_BINS * width_seconds
        found = f"{span_seconds:g} s; are the times in another unit?"
        raise TraceError(path, f"times within {most:g} s of each other", found)
    return int(span_seconds // width_seconds) + 1


def stem(path: Path) -> str:
    """A file's name without its endings."""
    return path.name.split(".")[0] or path.name


def on_grid(
    path: Path, at: NDArray[np.float64], lines: list[int], column: int
) -> tuple[float, NDArray[np.int64]]:
    """Width of the bins, and the number of the bin that each row is.

    Args:
        path: The file.
        at: Begin of each row's bin, seconds; at least one.
        lines: The line of each row.
        column: The column of ``at``, from 1.

    Raises:
        TraceError: Fewer than two rows, or times that don't ascend by multiples of one step.
    """
    if len(at) < 2:
        raise TraceError(path, "at least two rows", "one")
    gaps = np.diff(at)
    if (gaps <= 0).any():
        row = int(np.argmax(gaps <= 0)) + 1
        expected = "times that ascend"
        found = f"{-gaps[row - 1]:g} s back" if gaps[row - 1] else "the same time again"
        raise TraceError(path, expected, found, line=lines[row], column=column)
    width = float(gaps.min())
    bins_of(path, float(at[-1] - at[0]), width)
    number = (at - at[0]) / width
    bad = np.abs(number - np.round(number)) > 0.01
    if bad.any():
        row = int(np.argmax(bad))
        raise TraceError(
            path, f"times that are multiples of {width:g} s after the first",
            f"{at[row] - at[0]:g} s", line=lines[row], column=column,
        )  # fmt: skip
    return width, np.round(number).astype(np.int64)
