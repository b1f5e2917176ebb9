"""What may and may not be in a query."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from spillway.adapters.metrics.queries import Signal, build_queries, matcher


def test_each_signal_has_exactly_one_query() -> None:
    assert [query.signal for query in build_queries()] == list(Signal)


def test_matchers_get_into_every_selector() -> None:
    for query in build_queries(matchers={"cluster": "eu-1"}):
        selectors = query.promql.count("vllm:") + query.promql.count("DCGM_")
        selectors += query.promql.count("spillway_gateway_") + query.promql.count("node_gpu_")
        assert query.promql.count('cluster="eu-1"') == selectors


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ('a"} or vector(1) or up{x="', r'"a\"} or vector(1) or up{x=\""'),
        ("back\\slash", r'"back\\slash"'),
        ("new\nline", r'"new\nline"'),
        ("größe 🚀", '"größe 🚀"'),
    ],
)
def test_a_matcher_cannot_break_out_of_its_quotes(value: str, quoted: str) -> None:
    assert matcher("cluster", value) == f"cluster={quoted}"


@pytest.mark.parametrize("label", ["", "1a", "a-b", 'a="b",c', "a b", "ä"])
def test_a_matcher_on_no_label_name_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="is not a label name"):
        matcher(label, "x")


def test_a_matcher_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match="not valid Unicode"):
        matcher("cluster", "\ud800")


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_window_that_is_no_duration_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="rate_window_seconds"):
        build_queries(rate_window_seconds=seconds)
    with pytest.raises(ValueError, match="max_age_seconds"):
        build_queries(max_age_seconds=seconds)


def test_queries_fit_into_the_url_of_a_get() -> None:
    # 8 kB is what proxies commonly accept as a request line.
    assert max(len(quote(query.promql)) for query in build_queries()) < 6000
