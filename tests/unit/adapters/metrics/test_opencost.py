from __future__ import annotations

from spillway.adapters.metrics.answers import Answer
from spillway.adapters.metrics.missing import missing_for
from spillway.adapters.metrics.opencost import node_gpu_prices
from spillway.adapters.metrics.queries import Signal, build_queries
from spillway.adapters.metrics.snapshot import MetricsSnapshot, QueryFailure


def test_a_nodes_price_is_found_whichever_label_names_it() -> None:
    samples = [
        ({"node": "a"}, 2.5),
        ({"node": "prometheus-side", "exported_node": "b"}, 3.5),
        ({"node": "a"}, 2.4),
        ({"instance": "c"}, 9.0),
    ]
    assert node_gpu_prices(Answer(samples=samples)) == {"a": 2.5, "b": 3.5}


def test_a_node_without_gpus_has_no_price() -> None:
    assert node_gpu_prices(Answer(samples=[({"node": "cpu"}, 0.0)])) == {}
    assert node_gpu_prices(None) == {}


def test_all_nodes_are_one_query_with_the_clusters_label() -> None:
    (query,) = (
        q for q in build_queries(matchers={"cluster": "eu"}) if q.signal is Signal.GPU_PRICE
    )
    assert query.promql == 'max by (node,exported_node) (node_gpu_hourly_cost{cluster="eu"})'
    assert query.lowest == 0


def test_prices_that_fail_hold_no_replicas() -> None:
    failed = MetricsSnapshot(at=0.0, failures=(QueryFailure(Signal.GPU_PRICE, "q", "timeout"),))
    said = missing_for(failed, "ns", "m", ["pod"])
    assert all("timeout" not in each.seen for each in said)
