"""Any trace's file, told by what is in it and not by its name."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from spillway.sim.traces import azure, burstgpt, mooncake, promexport, servegen
from spillway.sim.traces.building import Gaps
from spillway.sim.traces.errors import TraceError, shown
from spillway.sim.traces.lengths import named
from spillway.sim.traces.observed import observed
from spillway.sim.traces.reading import first_line

if TYPE_CHECKING:
    from pathlib import Path

    from spillway.sim.trace import Lengths, Trace

_ACCEPTED: Final = (
    "a trace: Azure 2023 (TIMESTAMP,ContextTokens,GeneratedTokens), Azure 2024 counts "
    "(Time,TIMESTAMP), BurstGPT (Timestamp,...,Request tokens,Response tokens,...), ServeGen rates "
    "(t_s,rps), Mooncake (JSON lines with timestamp, input_length, output_length) or a range "
    "export of Prometheus (JSON, or CSV with time in its first column)"
)
DEFAULT_MIX: Final = "chat"
"""Lengths of a trace that has none, where nothing else is asked for."""


def load(path: Path, *, lengths: Lengths | None = None, gaps: Gaps = Gaps.INTERPOLATE) -> Trace:
    """A trace of any of the formats, packed with gzip or not.

    Args:
        path: The file.
        lengths: For files that hold none; None: those of the mix `DEFAULT_MIX`, and
            `Trace.source` says so.
        gaps: What becomes of missing or silent times in files of rates.

    Raises:
        TraceError: It is of none of the formats, or not what its format says.
    """
    first = first_line(path)
    if first.startswith("{"):
        return _load_json(path, first, gaps)
    header = [name.strip() for name in next(csv.reader([first]), [])]
    if azure.is_requests(header):
        return azure.load_requests(path)
    if burstgpt.is_burstgpt(header):
        return burstgpt.load(path)
    if azure.is_counts(header):
        return _said(azure.load_counts(path, _or_default(lengths), gaps=gaps), lengths)
    if servegen.is_servegen(header):
        return _said(servegen.load(path, _or_default(lengths), gaps=gaps), lengths)
    if promexport.is_csv(header):
        return observed(path, promexport.read_csv(path), gaps=gaps).trace
    raise TraceError(path, _ACCEPTED, shown(first) if first else "an empty file", line=1)


def _load_json(path: Path, first: str, gaps: Gaps) -> Trace:
    """Mooncake has an object a line; an answer of Prometheus may be spread over many."""
    try:
        row = json.loads(first)
    except (json.JSONDecodeError, RecursionError):
        row = {}
    if mooncake.is_mooncake(row):
        return mooncake.load(path)
    return observed(path, promexport.read_json(path), gaps=gaps).trace


def _or_default(lengths: Lengths | None) -> Lengths:
    return named(DEFAULT_MIX) if lengths is None else lengths


def _said(trace: Trace, lengths: Lengths | None) -> Trace:
    if lengths is not None:
        return trace
    return replace(trace, source=f"{trace.source} Lengths are those of the mix {DEFAULT_MIX}.")
