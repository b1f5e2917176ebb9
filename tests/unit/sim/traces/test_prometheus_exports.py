"""Exports of Prometheus: rates, what is missing, and what could not be seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spillway.sim.traces import Gaps, TraceError, load
from spillway.sim.traces.observed import Observed, observed
from spillway.sim.traces.promexport import Grid, Signal, from_answers, read_csv, read_json

PATH = Path("export.json")
T0 = 1_700_000_040


def answer(*series: tuple[dict[str, str], list[float | None]], step: int = 60) -> dict[str, Any]:
    """What /api/v1/query_range says; None is a step without a sample."""
    result = [
        {
            "metric": labels,
            "values": [
                [T0 + step * i, str(value)] for i, value in enumerate(values) if value is not None
            ],
        }
        for labels, values in series
    ]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def seen(answers: dict[Signal, Any], gaps: Gaps = Gaps.INTERPOLATE) -> Observed:
    return observed(PATH, from_answers(PATH, answers), gaps=gaps)


def test_series_are_added_up(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(answer(({"pod": "a"}, [1, 2, 3]), ({"pod": "b"}, [None, 4, 4]))))
    trace = load(path)
    assert trace.requests_per_second.tolist() == [1.0, 6.0, 7.0]
    assert trace.bin_seconds == 60


def test_a_raw_counter_becomes_rates_across_a_restart() -> None:
    counter = answer(({"__name__": "spillway_gateway_requests_total"}, [0, 60, 180, 30]))
    result = seen({Signal.REQUESTS: counter})
    assert result.trace.requests_per_second.tolist() == [1.0, 2.0, 0.5]


def test_without_a_gateway_arrivals_are_a_lower_bound() -> None:
    answers = {
        Signal.COMPLETIONS: answer(({}, [10, 10, 10])),
        Signal.IN_FLIGHT_CHANGE: answer(({}, [0, 2, -15])),
    }
    result = seen(answers)
    assert result.trace.requests_per_second.tolist() == [10.0, 12.0, 0.0]
    assert result.lower_bound
    assert result.unseen[0].startswith("LowerBound: no gateway counter was found")


@pytest.mark.parametrize(("gaps", "middle"), [(Gaps.INTERPOLATE, [2.0, 3.0]), (Gaps.KEEP, [0, 0])])
def test_missing_ranges_are_told(gaps: Gaps, middle: list[float]) -> None:
    values = [1.0, None, None, 4.0, None, 4.0, 4.0, 4.0]
    result = seen({Signal.REQUESTS: answer(({}, values))}, gaps)
    assert result.trace.requests_per_second[1:3].tolist() == middle
    (told,) = [sentence for sentence in result.unseen if sentence.startswith("Missing")]
    assert "2 ranges without samples, 37.5% of the time" in told
    assert "the longest is 2 min from 2023-11-14 22:15 UTC" in told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (0, 0, []),
        (60, 60, []),
        (5 * 86_400, 0, ["of the 5 days asked for nothing was recorded in 5 days at its begin"]),
        (600, 300, ["the 18 min asked for nothing was recorded in 10 min at its begin and 5 min"]),
    ],
)
def test_what_was_asked_for_and_never_recorded_is_told(
    before: float, after: float, told: list[str]
) -> None:
    grid = from_answers(PATH, {Signal.REQUESTS: answer(({}, [1.0, 2.0, 3.0, 4.0]))})
    result = observed(PATH, grid, asked=(T0 - before, T0 + 180 + after))
    found = [sentence for sentence in result.unseen if sentence.startswith("Missing")]
    assert len(found) == len(told)
    assert all(part in sentence for part, sentence in zip(told, found, strict=True))


def test_lengths_have_the_means_that_were_seen() -> None:
    answers = {
        Signal.REQUESTS: answer(({}, [20, 20])),
        Signal.COMPLETIONS: answer(({}, [10, 30])),
        Signal.PROMPT_TOKENS: answer(({}, [10_000, 60_000])),
        Signal.OUTPUT_TOKENS: answer(({}, [2_000, 6_000])),
        Signal.CACHED_TOKENS: answer(({}, [5_000, 30_000])),
    }
    result = seen(answers)
    lengths = result.trace.lengths
    # 70,000 prompt tokens and 8,000 answer tokens for 40 requests, half of the prompts cached.
    assert lengths.prompt_tokens.mean() == pytest.approx(1750, rel=0.03)
    assert lengths.output_tokens.mean() == pytest.approx(200, rel=0.03)
    share = lengths.cached_tokens.sum() / lengths.prompt_tokens.sum()
    assert share == pytest.approx(0.5, abs=0.01)
    assert not result.lower_bound
    assert any("means over time, not single requests" in sentence for sentence in result.unseen)


def test_lengths_that_were_not_seen_are_a_mix_and_told() -> None:
    result = seen({Signal.REQUESTS: answer(({}, [1, 1]))})
    assert any("no token counters were found" in sentence for sentence in result.unseen)


def test_only_tokens_are_no_load() -> None:
    with pytest.raises(TraceError, match="requests or completions, found only prompt_tokens"):
        seen({Signal.PROMPT_TOKENS: answer(({}, [1, 1]))})


def grid_of(tmp_path: Path, text: str) -> Grid:
    path = tmp_path / "export.csv"
    path.write_text(text, encoding="utf-8")
    return read_csv(path)


def test_csv_with_named_columns(tmp_path: Path) -> None:
    text = "time,requests_per_second,prompt_tokens,CPU\n1700000000,5,50,1\n1700000015,,60,1\n"
    grid = grid_of(tmp_path, text)
    assert grid.step_seconds == 15
    np.testing.assert_equal(grid.values[Signal.REQUESTS], [5.0, np.nan])
    assert grid.values[Signal.PROMPT_TOKENS].tolist() == [50.0, 60.0]
    assert set(grid.values) == {Signal.REQUESTS, Signal.PROMPT_TOKENS}


@pytest.mark.parametrize(
    "times", [("1700000000000", "1700000060000"), ("2023-11-14 22:13:20", "2023-11-14T22:14:20")]
)
def test_csv_of_a_panel_is_requests_by_series(tmp_path: Path, times: tuple[str, str]) -> None:
    grid = grid_of(tmp_path, f'"Time","pod a","pod b"\n{times[0]},1,2\n{times[1]},3,4\n')
    assert (grid.begun, grid.step_seconds) == (1_700_000_000, 60)
    assert grid.values[Signal.REQUESTS].tolist() == [3.0, 7.0]


def test_a_saved_export_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    answers = {"completions": answer(({}, [10, 10])), "in_flight_change": answer(({}, [0, -2]))}
    path.write_text(json.dumps(answers, indent=2))
    grid = read_json(path)
    assert grid.values[Signal.IN_FLIGHT_CHANGE].tolist() == [0.0, -2.0]
    assert load(path).requests_per_second.tolist() == [10.0, 8.0]
