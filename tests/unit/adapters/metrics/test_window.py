"""Rates from successive pages, checked by hand."""

from __future__ import annotations

import pytest

from spillway.adapters.metrics import CounterWindow, EnginePage


def page(at: float, *, finished: float = 0.0, running: float = 4.0, engines: int = 1) -> EnginePage:
    return EnginePage(
        at=at,
        running=running,
        waiting=1.0,
        waiting_all=2.0,
        finished=finished,
        steps=finished * 10,
        engines=engines,
    )


def test_one_page_gives_gauges_and_no_rates() -> None:
    window = CounterWindow()
    window.observe("a", page(100.0))
    load = window.load("a", now=101.0)
    assert load is not None
    assert (load.sampled_at, load.running, load.waiting) == (100.0, 4.0, 1.0)
    assert load.finished_per_second is None
    assert load.running_mean is None


def test_rates_over_the_window() -> None:
    window = CounterWindow(window_seconds=60.0)
    for second in range(121):
        window.observe("a", page(float(second), finished=2.0 * second, running=second))
    load = window.load("a", now=120.0)
    assert load is not None
    assert load.finished_per_second == pytest.approx(2.0)
    assert load.steps_per_second == pytest.approx(20.0)
    assert load.in_flight_change_per_second == pytest.approx(1.0)
    assert load.running_mean == pytest.approx(90.0, abs=4.0)
    assert load.prompt_tokens_per_second is None


def test_a_rate_forgets_what_is_older_than_the_window() -> None:
    window = CounterWindow(window_seconds=60.0)
    for second in range(0, 301, 5):
        window.observe("a", page(float(second), finished=1000.0 if second >= 60 else 0.0))
    load = window.load("a", now=300.0)
    assert load is not None
    assert load.finished_per_second == 0.0


@pytest.mark.parametrize("after", [page(40.0, finished=1.0), page(40.0, finished=200.0, engines=2)])
def test_after_a_restart_rates_begin_anew(after: EnginePage) -> None:
    window = CounterWindow(window_seconds=60.0)
    for second in range(0, 40, 5):
        window.observe("a", page(float(second), finished=100.0 + second))
    window.observe("a", after)
    load = window.load("a", now=40.0)
    assert load is not None
    assert load.finished_per_second is None


def test_a_gap_longer_than_the_window_is_not_bridged() -> None:
    window = CounterWindow(window_seconds=60.0)
    window.observe("a", page(0.0, finished=0.0))
    window.observe("a", page(600.0, finished=600.0))
    load = window.load("a", now=600.0)
    assert load is not None
    assert load.finished_per_second is None


def test_a_stale_page_is_no_load() -> None:
    window = CounterWindow(max_age_seconds=10.0)
    window.observe("a", page(100.0))
    assert window.load("a", now=110.0) is not None
    assert window.load("a", now=110.1) is None
    assert window.load("never seen", now=110.0) is None


def test_a_page_that_is_not_newer_is_ignored() -> None:
    window = CounterWindow()
    window.observe("a", page(100.0, running=4.0))
    window.observe("a", page(99.0, running=9.0))
    load = window.load("a", now=100.0)
    assert load is not None
    assert load.running == 4.0


def test_a_page_without_gauges_is_no_load() -> None:
    window = CounterWindow()
    window.observe("a", EnginePage(at=100.0))
    assert window.load("a", now=100.0) is None


def test_memory_does_not_grow_with_the_number_of_pages() -> None:
    window = CounterWindow(window_seconds=60.0)
    for tenth in range(5000):
        window.observe("a", page(tenth / 10, finished=tenth))
    assert len(window._pods["a"].kept) <= 14


def test_gone_pods_are_forgotten() -> None:
    window = CounterWindow()
    for uid in "abc":
        window.observe(uid, page(1.0))
    window.retain(["b"])
    assert len(window) == 1
    assert window.load("a", now=1.0) is None
    assert window.load("b", now=1.0) is not None


def test_after_the_clock_was_set_back_pages_count_again() -> None:
    window = CounterWindow()
    window.observe("a", page(10_000.0, running=9.0))
    window.observe("a", page(9_999.0, running=8.0))
    load = window.load("a", now=10_001.0)
    assert load is not None
    assert load.running == 9.0, "a little older: the other loop was faster"
    assert window.load("a", now=6_400.0) is None, "from the future"
    window.observe("a", page(6_400.0, running=2.0))
    load = window.load("a", now=6_401.0)
    assert load is not None
    assert load.running == 2.0
