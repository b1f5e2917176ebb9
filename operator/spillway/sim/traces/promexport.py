"""Range exports of Prometheus: the HTTP API's JSON, several of its answers in one file, or CSV.

JSON is what ``/api/v1/query_range`` answers: its series are added up and are requests per second.
An object of such answers by signal (`Signal`) says more; ``spillway backtest --save`` writes one.
CSV has a time (ISO 8601, or seconds or milliseconds since the epoch) in its first column and rates
in the others, named after signals or, where none is, all of requests (Grafana's export of a panel).
An empty cell is a missing sample. A raw counter (its name ends in ``_total``) is turned into rates.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from spillway.sim.traces.building import bins_of
from spillway.sim.traces.errors import TraceError, shown
from spillway.sim.traces.reading import first_line, lines, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from spillway.sim.traces.reading import Column

_TIME_NAMES: Final = frozenset({"time", "timestamp", "ts"})
_PER_SECOND: Final = "_per_second"
#: Seconds since the epoch reach this in the year 5138; milliseconds passed it in 1973.
_MILLISECONDS_FROM: Final = 1e11


class Signal(StrEnum):
    """What a series says; rates are per second."""

    REQUESTS = "requests"
    """Arrivals at the gateway, whoever answers them."""
    COMPLETIONS = "completions"
    """Requests that engines finished."""
    IN_FLIGHT_CHANGE = "in_flight_change"
    """Growth of the engines' running and waiting requests."""
    PROMPT_TOKENS = "prompt_tokens"
    OUTPUT_TOKENS = "output_tokens"
    CACHED_TOKENS = "cached_tokens"
    REPLICAS = "replicas"
    """Engines that were scraped: a number, not a rate."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Signals over time, at even steps.

    Attributes:
        begun: Of the first step, seconds since the epoch.
        step_seconds: From one to the next.
        values: A signal's rate in each step, NaN where there is no sample; shape (steps,).
    """

    begun: float
    step_seconds: float
    values: dict[Signal, NDArray[np.float64]]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(next(iter(self.values.values())))


#: Samples of one series: seconds since the epoch, and values.
Series = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


def is_csv(header: Sequence[str]) -> bool:
    """Whether a file with that header is such a CSV."""
    return len(header) > 1 and header[0].lower() in _TIME_NAMES


def read(path: Path) -> Grid:
    """An export in either format.

    Raises:
        TraceError: The file is neither.
    """
    return read_json(path) if first_line(path).startswith("{") else read_csv(path)


def read_csv(path: Path) -> Grid:
    """A CSV export.

    Raises:
        TraceError: The file is not such a one.
    """
    rows = table(path)
    if not is_csv(rows.header):
        expected = "a time in the first column and rates in the others"
        raise TraceError(path, expected, ", ".join(rows.header), line=1)
    at = _times(rows.column(rows.header[0]))
    named = {name: _signal(name) for name in rows.header[1:]}
    known = {name: signal for name, signal in named.items() if signal is not None}
    chosen = known or dict.fromkeys(named, Signal.REQUESTS)
    series: dict[Signal, list[Series]] = {}
    for name, signal in chosen.items():
        series.setdefault(signal, []).append((at, _rates(rows.column(name), signal)))
    return grid(path, series)


def _signal(name: str) -> Signal | None:
    name = name.strip().lower().removesuffix(_PER_SECOND)
    return next((signal for signal in Signal if signal == name), None)


def _times(column: Column) -> NDArray[np.float64]:
    try:
        float(column.cells[0])
    except ValueError:
        begun = column.moments()  # refuses what is no time
        first = datetime.fromisoformat(column.cells[0].strip())
        return begun + (first if first.tzinfo else first.replace(tzinfo=UTC)).timestamp()
    at = column.numbers()
    return at / 1000.0 if at[0] >= _MILLISECONDS_FROM else at


def _rates(column: Column, signal: Signal) -> NDArray[np.float64]:
    """The cells, NaN for empty ones."""
    values = np.full(len(column.cells), math.nan)
    for row, (cell, line) in enumerate(zip(column.cells, column.lines, strict=True)):
        if not cell.strip():
            continue
        try:
            value = float(cell)
        except ValueError:
            raise column.error(line, "a number or nothing", cell) from None
        # Prometheus writes NaN for a rate of nothing over nothing.
        if math.isinf(value) or (value < 0 and signal is not Signal.IN_FLIGHT_CHANGE):
            raise column.error(line, "a finite rate from 0 up", cell)
        values[row] = value
    return values


def read_json(path: Path) -> Grid:
    """The HTTP API's answer, or several by signal.

    Raises:
        TraceError: The file is not such a one.
    """
    text = "".join(lines(path))
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise TraceError(path, "JSON", error.msg, line=error.lineno, column=error.colno) from error
    except RecursionError as error:
        raise TraceError(path, "JSON", "nested too deeply") from error
    if not isinstance(document, dict):
        raise TraceError(path, "a JSON object", shown(document), line=1, column=1)
    answers = {name: document[name] for name in Signal if name in document}
    return from_answers(path, answers or {Signal.REQUESTS: document})


def from_answers(path: Path, answers: Mapping[Signal, Any]) -> Grid:
    """Answers of ``/api/v1/query_range`` by signal, not trusted.

    Args:
        path: Where they are from, for messages.
        answers: The bodies.

    Raises:
        TraceError: One is no matrix, or none holds a sample.
    """
    series = {
        signal: [_samples(path, signal, row) for row in _rows(path, signal, answer)]
        for signal, answer in answers.items()
    }
    return grid(path, series)


def _rows(path: Path, signal: Signal, answer: Any) -> list[Any]:
    expected = f"an answer of /api/v1/query_range for {signal} (status success, a matrix)"
    if not isinstance(answer, dict) or answer.get("status") != "success":
        found = answer.get("error", answer) if isinstance(answer, dict) else answer
        raise TraceError(path, expected, shown(found))
    data = answer.get("data")
    if not isinstance(data, dict) or data.get("resultType") != "matrix":
        kind = data.get("resultType") if isinstance(data, dict) else data
        raise TraceError(path, expected, shown(kind))
    rows = data.get("result")
    if not isinstance(rows, list):
        raise TraceError(path, expected, shown(rows))
    return rows


def _samples(path: Path, signal: Signal, row: Any) -> Series:
    """One series of a matrix; what is no finite number is left out."""
    try:
        labels, pairs = row["metric"], row["values"]
        samples = np.array([(float(at), float(value)) for at, value in pairs]).reshape(-1, 2)
        name = str(labels.get("__name__", ""))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        expected = f"series of {signal} with metric and values [[seconds, number], ...]"
        raise TraceError(path, expected, shown(row)) from error
    samples = samples[np.isfinite(samples).all(axis=1)]
    at, values = samples[:, 0], samples[:, 1]
    if signal is not Signal.IN_FLIGHT_CHANGE and len(values) and values.min() < 0:
        worst = int(values.argmin())
        found = f"{values[worst]:g} at {_moment(at[worst])}"
        raise TraceError(path, f"rates of {signal} from 0 up", found)
    return _rates_of_counter(at, values) if name.endswith("_total") else (at, values)


def _rates_of_counter(at: NDArray[np.float64], values: NDArray[np.float64]) -> Series:
    """Mean growth up to each sample but the first; a counter that fell began again at 0."""
    if len(at) < 2:
        return at[:0], values[:0]
    grown = np.where(np.diff(values) < 0, values[1:], np.diff(values))
    return at[1:], grown / np.maximum(np.diff(at), 1e-9)


def grid(path: Path, series: Mapping[Signal, Iterable[Series]]) -> Grid:
    """Series added up by signal on one grid of time.

    Raises:
        TraceError: No samples, or times that don't fit a grid.
    """
    kept = {signal: [one for one in many if len(one[0])] for signal, many in series.items()}
    kept = {signal: many for signal, many in kept.items() if many}
    if not kept:
        raise TraceError(path, "samples", "none: the query matched nothing in that time")
    times = np.unique(np.concatenate([at for many in kept.values() for at, _ in many]))
    if len(times) < 2:
        raise TraceError(path, "samples at two times at least", "one")
    step = float(np.diff(times).min())
    bins_of(path, float(times[-1] - times[0]), step)
    number = np.round((times - times[0]) / step)
    off = np.abs(times - times[0] - number * step)
    if off.max() > 0.01 * step:
        worst = int(off.argmax())
        found = f"one at {_moment(times[worst])}, {off[worst]:g} s beside it"
        raise TraceError(path, f"samples every {step:g} s", found)
    size = int(number[-1]) + 1
    return Grid(
        float(times[0]),
        step,
        {signal: _added(many, times[0], step, size) for signal, many in kept.items()},
    )


def _moment(seconds: float) -> str:
    """A sample's place for messages: as exports write it, seconds since the epoch."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def _added(many: list[Series], begun: float, step: float, size: int) -> NDArray[np.float64]:
    """The sum of the series in each step; NaN where none has a sample."""
    total, seen = np.zeros(size), np.zeros(size, dtype=bool)
    for at, values in many:
        known = ~np.isnan(values)
        number = np.round((at[known] - begun) / step).astype(np.int64)
        np.add.at(total, number, values[known])
        seen[number] = True
    return np.where(seen, total, math.nan)
