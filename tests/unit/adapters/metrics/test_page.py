"""Lines that a broken or odd engine may send."""

from __future__ import annotations

import pytest

from spillway.adapters.metrics import parse_page

RUNNING = 'vllm:num_requests_running{engine="0",model_name="m"} '
WAITING = 'vllm:num_requests_waiting{engine="0",model_name="m"} 1.0\n'


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "twelve", "", "1e999"])
def test_a_value_that_cannot_be_makes_the_signal_unknown_not_zero(value: str) -> None:
    assert parse_page(f"{RUNNING}{value}\n{WAITING}", at=0.0).running is None


def test_one_bad_rank_makes_the_sum_unknown() -> None:
    page = parse_page(
        'vllm:num_requests_running{engine="0"} 5\nvllm:num_requests_running{engine="1"} NaN\n',
        at=0.0,
    )
    assert page.running is None


def test_a_rank_without_a_queue_gauge_makes_the_queue_unknown() -> None:
    text = (
        'vllm:num_requests_running{engine="0"} 5\nvllm:num_requests_running{engine="1"} 6\n'
        'vllm:num_requests_waiting{engine="0"} 1\n'
    )
    page = parse_page(text, at=0.0)
    assert page.running == 11.0
    assert page.waiting is None
    assert page.idle is None


def test_a_page_without_engine_series_knows_nothing() -> None:
    page = parse_page("# HELP up up\nup 1\nDCGM_FI_DEV_GPU_UTIL 5\n", at=0.0)
    assert page.running is None
    assert page.kv_usage is None
    assert page.model_names == frozenset()


def test_names_that_only_begin_alike_are_other_series() -> None:
    text = (
        f"{RUNNING}2\n{WAITING}"
        'vllm:num_requests_running_created{engine="0",model_name="m"} 1.7e9\n'
        'vllm:prompt_tokens_created{engine="0",model_name="m"} 1.7e9\n'
    )
    page = parse_page(text, at=0.0)
    assert page.running == 2.0
    assert page.prompt_tokens is None


def test_labels_may_hold_braces_commas_and_escapes() -> None:
    text = 'vllm:num_requests_running{model_name="a},b=\\"c\\"\\\\\\n"} 7 1700000000000\r\n'
    page = parse_page(text, at=0.0)
    assert page.running == 7.0
    assert page.model_names == {'a},b="c"\\\n'}


def test_counters_without_total_are_read() -> None:
    text = f'{RUNNING}1\n{WAITING}vllm:generation_tokens{{engine="0",model_name="m"}} 9\n'
    assert parse_page(text, at=0.0).generation_tokens == 9.0


def test_the_same_series_twice_counts_once() -> None:
    assert parse_page(f"{RUNNING}4\n{RUNNING}4\n{WAITING}", at=0.0).running == 4.0


@pytest.mark.parametrize(
    ("running", "waiting", "idle"), [(0, 0, True), (1, 0, False), (0, 2, False)]
)
def test_idle_means_nothing_runs_and_nothing_waits(
    running: int,
    waiting: int,
    idle: bool,  # noqa: FBT001 - a table's column
) -> None:
    text = f"vllm:num_requests_running {running}\nvllm:num_requests_waiting {waiting}\n"
    assert parse_page(text, at=0.0).idle is idle


def test_a_deferred_request_keeps_a_pod_from_being_idle() -> None:
    text = (
        "vllm:num_requests_running 0\nvllm:num_requests_waiting 1\n"
        'vllm:num_requests_waiting_by_reason{reason="capacity"} 0\n'
        'vllm:num_requests_waiting_by_reason{reason="deferred"} 1\n'
    )
    page = parse_page(text, at=0.0)
    assert page.waiting == 0.0
    assert page.idle is False
