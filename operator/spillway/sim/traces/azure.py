"""The Azure LLM inference traces of 2023 (single requests) and 2024 (counts).

https://github.com/Azure/AzurePublicDataset, CC-BY-4.0. 2023: Splitwise, ISCA 2024; 2024: DynamoLLM,
HPCA 2025. The requests of 2024 are too many to pass around, so they are also found as counts of
10 s, without tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from spillway.sim.trace import Lengths, Trace
from spillway.sim.traces.building import Gaps, fill, from_requests, on_grid, stem
from spillway.sim.traces.reading import has, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_DAY_SECONDS: Final = 86_400.0


def is_requests(header: Sequence[str]) -> bool:
    """Whether a file with that header has single requests."""
    return has(header, "TIMESTAMP", "ContextTokens", "GeneratedTokens")


def is_counts(header: Sequence[str]) -> bool:
    """Whether a file with that header has counts."""
    return list(header) == ["Time", "TIMESTAMP"]


def load_requests(path: Path) -> Trace:
    """One row a request: TIMESTAMP, ContextTokens, GeneratedTokens.

    Raises:
        TraceError: The file is not such a one.
    """
    rows = table(path)
    lengths = Lengths.of(
        rows.column("ContextTokens").whole(), rows.column("GeneratedTokens").whole()
    )
    source = f"Azure LLM inference trace, {len(lengths):,} single requests ({path.name})."
    return from_requests(path, source, rows.column("TIMESTAMP").moments(), lengths)


def load_counts(path: Path, lengths: Lengths, *, gaps: Gaps = Gaps.INTERPOLATE) -> Trace:
    """One row a bin: its time, and (in the column TIMESTAMP) how many requests arrived.

    Times are requests' times rounded to the bin, so a row is the middle of what it counts: the
    first covers half a bin, and so does one at the midnight that ends the recording.

    Args:
        path: The file.
        lengths: What lengths are drawn from, best those of the same service in 2023.
        gaps: What becomes of rows that are missing.

    Raises:
        TraceError: The file is not such a one.
    """
    rows = table(path)
    times = rows.column("Time")
    at = times.moments()
    width, number = on_grid(path, at, rows.lines, times.number)
    counts = rows.column("TIMESTAMP").numbers()
    covered = np.full(len(at), width)
    covered[0] = width / 2
    if at[-1] % _DAY_SECONDS == 0:
        covered[-1] = width / 2
    rates = np.zeros(int(number[-1]) + 1)
    rates[number] = counts / covered
    missing = np.ones(len(rates), dtype=bool)
    missing[number] = False
    source = (
        f"Azure LLM inference trace, requests per {width:g} s ({path.name}); single requests and "
        "their lengths are made up below that."
    )
    if missing.any():
        how = "interpolated" if gaps is Gaps.INTERPOLATE else "taken as no arrivals"
        source += f" {int(missing.sum()):,} of {len(rates):,} bins are missing and were {how}."
    return Trace(stem(path), source, width, fill(rates, missing, gaps), lengths)
