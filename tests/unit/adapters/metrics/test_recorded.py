"""Ranges in pieces that Prometheus will answer, put together again by series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from spillway.adapters.metrics.recorded import PrometheusRecord, RecordError, Whose, expressions

if TYPE_CHECKING:
    from datetime import datetime


class Pieces:
    """Stands for prometheus-api-client: one value a piece, and how many points it was asked for."""

    def __init__(self) -> None:
        self.points: list[int] = []

    def custom_query_range(
        self, _query: str, *, start_time: datetime, end_time: datetime, step: str, **_rest: Any
    ) -> list[Any]:
        start, end = start_time.timestamp(), end_time.timestamp()
        self.points.append(int((end - start) / float(step)) + 1)
        return [{"metric": {"a": "1"}, "values": [[start, "1"]]}]


def test_a_long_range_is_asked_in_pieces_without_a_gap_or_an_overlap() -> None:
    record, pieces = PrometheusRecord("http://prometheus:9090"), Pieces()
    record._connect = pieces
    answer = record.ask("up", 0.0, 24_999.0 * 15, 15.0)
    assert pieces.points == [10_000, 10_000, 5_000]
    (row,) = answer["data"]["result"]
    assert [at for at, _ in row["values"]] == [0.0, 150_000.0, 300_000.0]


def test_an_answer_that_is_no_list_is_refused() -> None:
    record = PrometheusRecord("http://prometheus:9090")

    class Nothing:
        def custom_query_range(self, *_args: object, **_rest: object) -> None:
            return None

    record._connect = Nothing()
    with pytest.raises(RecordError, match="no list of series"):
        record.ask("up", 0.0, 60.0, 15.0)


def test_engines_are_matched_by_model_and_gateways_by_pool() -> None:
    found = expressions(Whose("m", "serving", "chat", {"cluster": "a"}), 60.0)
    for name in ("completions", "in_flight_change", "prompt_tokens", "output_tokens", "replicas"):
        assert 'cluster="a",namespace="serving",model_name="m"' in found[name]
        assert "pool=" not in found[name]
    assert 'cluster="a",namespace="serving",pool="chat"' in found["requests"]
    assert "[60000ms]" in found["completions"]
    # Steps longer than a minute leave nothing between two windows.
    assert "[300000ms]" in expressions(Whose("m"), 300.0)["completions"]
