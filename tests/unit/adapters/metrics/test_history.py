from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.adapters.metrics.history import ArrivalHistory, read_history
from spillway.adapters.metrics.queries import build_history_query
from spillway.adapters.metrics.transport import AnswerError

VALUES = [[0.0, "1"], [300.0, "2.5"], [600.0, "-0.1"], [900.0, "NaN"], [1200.0, "4"]]


def test_series_are_told_apart_by_pool_and_by_model_and_their_first_sample_is_left_out() -> None:
    found = read_history(
        [
            {"metric": {"namespace": "ns", "pool": "a"}, "values": VALUES},
            {"metric": {"exported_namespace": "ns", "model_name": "m"}, "values": VALUES[:2]},
            {"metric": {"pool": "nowhere"}, "values": VALUES},
        ]
    )
    assert found == ArrivalHistory(
        gateways={("ns", "a"): ((300.0, 2.5), (600.0, 0.0), (1200.0, 4.0))},
        engines={("ns", "m"): ((300.0, 2.5),)},
    )


def test_what_is_no_list_is_an_error() -> None:
    with pytest.raises(AnswerError, match="no list"):
        read_history({"pool": "a"})


@given(
    st.recursive(
        st.none() | st.floats() | st.text() | st.integers(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["metric", "values", "pool", "namespace"]), inner)
        ),
        max_leaves=12,
    ).map(lambda rows: [rows])
)
def test_whatever_prometheus_sends_is_read_or_left_out(rows: list[object]) -> None:
    assert isinstance(read_history(rows), ArrivalHistory)


def test_one_query_asks_for_all_pools_with_the_operators_own_matchers() -> None:
    query = build_history_query(step_seconds=300, matchers={"cluster": "a"})
    assert query.count('cluster="a"') == query.count("[300000ms]") == 5
    assert "spillway_gateway_requests_total" in query
