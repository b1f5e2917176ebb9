"""A pool's gauges: the page is what the client library would write, and threads may meet on it."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from spillway.adapters.pool_gauge import PoolGauge

VALUES = st.floats() | st.integers(-(10**9), 10**9) | st.booleans()


def written_by_the_library(gauge: PoolGauge) -> str:
    registry = CollectorRegistry()
    registry.register(gauge)
    return generate_latest(registry).decode()


@given(
    series=st.lists(st.tuples(st.text(), st.text(), st.text(), VALUES), max_size=8),
)
def test_the_page_is_what_the_client_library_writes(
    series: list[tuple[str, str, str, float]],
) -> None:
    gauge = PoolGauge("spillway_cost_usd_per_hour", "Cost rate by kind.", ("kind",))
    for namespace, pool, kind, value in series:
        gauge.set((namespace, pool), value, kind)
    assert gauge.page() == written_by_the_library(gauge)


def test_a_value_is_of_one_series() -> None:
    gauge = PoolGauge("spillway_replicas", "Replicas by what they do.", ("role",))
    gauge.set(("a", "chat"), 1, "warm")
    gauge.set(("a", "chat"), 3, "serving")
    gauge.set(("b", "chat"), math.inf, "serving")
    gauge.set(("a", "chat"), 2, "warm")
    assert gauge.page().splitlines()[2:] == [
        'spillway_replicas{namespace="a",pool="chat",role="warm"} 2.0',
        'spillway_replicas{namespace="a",pool="chat",role="serving"} 3.0',
        'spillway_replicas{namespace="b",pool="chat",role="serving"} +Inf',
    ]


def test_what_is_removed_or_forgotten_is_gone_and_nothing_else() -> None:
    gauge = PoolGauge("spillway_replicas", "Replicas by what they do.", ("role",))
    for pool in ("chat", "code"):
        for role in ("warm", "serving"):
            gauge.set(("a", pool), 1, role)
    gauge.remove(("a", "chat"), "warm")
    gauge.remove(("a", "never"), "warm")
    gauge.forget(("a", "code"))
    gauge.forget(("a", "never"))
    assert gauge.page().splitlines()[2:] == [
        'spillway_replicas{namespace="a",pool="chat",role="serving"} 1.0'
    ]


@pytest.mark.parametrize("labels", [(), ("one", "two")])
def test_another_number_of_labels_is_refused(labels: tuple[str, ...]) -> None:
    gauge = PoolGauge("spillway_replicas", "Replicas by what they do.", ("role",))
    with pytest.raises(ValueError, match="zip"):
        gauge.set(("a", "chat"), 1, *labels)
    assert len(gauge.page().splitlines()) == 2


def test_pools_come_and_go_while_a_page_is_written() -> None:
    gauge = PoolGauge("spillway_queue_requests", "Requests that wait.")
    ended = threading.Event()

    def come_and_go() -> None:
        number = 0
        while not ended.is_set():
            gauge.set(("a", f"pool-{number}"), number)
            gauge.forget(("a", f"pool-{number - 50}"))
            number += 1

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        pages = [gauge.page() for _ in range(300)]
    finally:
        ended.set()
        thread.join()
    assert all(page.endswith("\n") for page in pages)
