"""From answers to loads: what is there, and what stays unknown."""

from __future__ import annotations

import pytest

from spillway.adapters.metrics.answers import Answer, read_answer
from spillway.adapters.metrics.freshness import Freshness
from spillway.adapters.metrics.queries import Query, Signal
from spillway.adapters.metrics.snapshot import EngineReadings, EngineTables, read_engines
from tests.unit.adapters.metrics.builders import NOW, answer, engine_answers, labels, row


def read(answers: dict[Signal, Answer], max_age_seconds: float = 60.0) -> EngineReadings:
    return read_engines(answers, Freshness(NOW, max_age_seconds))


def test_a_pod_with_gauges_alone_has_a_load_and_nothing_is_zero_for_want_of_data() -> None:
    readings = read(engine_answers("a"))
    load = readings.loads["serving", "a"]
    assert (load.running, load.waiting, load.sampled_at) == (2.0, 1.0, NOW - 5)
    assert load.gpu_utilization is None
    assert load.kv_usage is None
    assert load.finished_per_second is None
    assert readings.model_names["serving", "a"] == {"m"}


def test_ranks_are_summed_and_kv_usage_is_weighed_by_blocks() -> None:
    ranks = [labels(engine="0"), labels(engine="1")]
    readings = read(
        {
            Signal.RUNNING: answer((ranks[0], 3.0), (ranks[1], 4.0)),
            Signal.WAITING: answer((ranks[0], 0.0), (ranks[1], 2.0)),
            Signal.SAMPLED_AT: answer((ranks[0], NOW - 9), (ranks[1], NOW - 1)),
            Signal.KV_USAGE: answer((ranks[0], 0.9), (ranks[1], 0.3)),
            Signal.CACHE_BLOCKS: answer(
                (
                    {"namespace": "serving", "pod": "a", "engine": "0", "num_gpu_blocks": "20000"},
                    1.0,
                ),
                (
                    {"namespace": "serving", "pod": "a", "engine": "1", "num_gpu_blocks": "10000"},
                    1.0,
                ),
            ),
            Signal.STEPS: answer((ranks[0], 20.0), (ranks[1], 30.0)),
            Signal.FINISHED: answer((ranks[0], 1.0)),
        }
    )
    load = readings.loads["serving", "a"]
    assert (load.running, load.waiting) == (7.0, 2.0)
    assert load.sampled_at == NOW - 9
    assert load.kv_usage == pytest.approx(0.7)
    assert load.steps_per_second == 50.0
    assert load.engines == 2
    # One of two ranks is not the sum.
    assert load.finished_per_second is None


@pytest.mark.parametrize("blocks", ["None", "", "0", "-5", "1e9", "9" * 400])
def test_without_usable_block_counts_kv_usage_is_the_mean(blocks: str) -> None:
    ranks = [labels(engine="0"), labels(engine="1")]
    readings = read(
        {
            Signal.RUNNING: answer(*((rank, 1.0) for rank in ranks)),
            Signal.WAITING: answer(*((rank, 0.0) for rank in ranks)),
            Signal.SAMPLED_AT: answer(*((rank, NOW) for rank in ranks)),
            Signal.KV_USAGE: answer((ranks[0], 0.9), (ranks[1], 0.3)),
            Signal.CACHE_BLOCKS: answer((labels(engine="0", num_gpu_blocks=blocks), 1.0)),
        }
    )
    assert readings.loads["serving", "a"].kv_usage == pytest.approx(0.6)


def test_the_workload_s_own_labels_win_over_the_exporter_s() -> None:
    gpu = {
        "namespace": "gpu-operator",
        "pod": "dcgm-exporter-x",
        "exported_namespace": "serving",
        "exported_pod": "a",
    }
    readings = read(engine_answers("a", gpu_utilization=answer((gpu, 0.94))))
    assert readings.loads["serving", "a"].gpu_utilization == 0.94


def test_a_stale_sample_is_missing_and_says_how_old_it_is() -> None:
    readings = read(engine_answers("a", age=130.0))
    assert readings.loads == {}
    assert "130 s old" in readings.unusable["serving", "a"]
    assert readings.model_names["serving", "a"] == {"m"}


@pytest.mark.parametrize("missing", [Signal.WAITING, Signal.SAMPLED_AT])
def test_without_an_essential_signal_there_is_no_load(missing: Signal) -> None:
    answers = engine_answers("a")
    del answers[missing]
    readings = read(answers)
    assert readings.loads == {}
    assert missing.value in readings.unusable["serving", "a"]


def test_a_series_that_two_jobs_bring_counts_once() -> None:
    twice = labels(exported_namespace="serving", exported_pod="a")
    answers = engine_answers("a")
    answers[Signal.RUNNING].samples.append((twice, 3.0))
    assert read(answers).loads["serving", "a"].running == 3.0


def test_a_series_that_names_no_pod_is_only_a_model_seen() -> None:
    answers = engine_answers("a")
    answers[Signal.RUNNING].samples.append(({"model_name": "elsewhere"}, 1.0))
    readings = read(answers)
    assert readings.loads.keys() == {("serving", "a")}
    assert readings.models_seen == {"m", "elsewhere"}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "x", None])
def test_an_impossible_value_of_an_essential_signal_makes_the_pod_unusable(
    value: str | None,
) -> None:
    query = Query(Signal.RUNNING, "running")
    answers = engine_answers("a", "b")
    answers[Signal.RUNNING] = read_answer([row(labels("a"), value), row(labels("b"), 1)], query)
    readings = read(answers)
    assert readings.loads.keys() == {("serving", "b")}
    assert readings.unusable.keys() == {("serving", "a")}


@pytest.mark.parametrize(
    "malformed",
    [
        None,
        {},
        {"metric": {}, "value": []},
        {"metric": {}, "values": [[0, "1"]]},
        {"metric": {"pod": 1}, "value": [0, "1"]},
        {"metric": [], "value": [0, "1"]},
        {"metric": {}, "value": {"1": "1"}},
    ],
)
def test_malformed_rows_are_rejected_and_the_rest_is_read(malformed: object) -> None:
    rows = [malformed, row(labels(), 1.0)]
    result = read_answer(rows, Query(Signal.RUNNING, "running"))
    assert result.samples == [(labels(), 1.0)]
    assert len(result.rejected) == 1


def test_deferred_requests_are_no_queue_but_they_are_there() -> None:
    answers = engine_answers("a", waiting_all=answer((labels("a"), 3.0)))
    load = read_engines(answers, Freshness(NOW, 60.0)).loads["serving", "a"]
    assert (load.waiting, load.waiting_all) == (1.0, 3.0)
    without = read_engines(engine_answers("a"), Freshness(NOW, 60.0))
    assert without.loads["serving", "a"].waiting_all is None, "not known is not none"


def test_a_sample_from_the_future_is_none_and_the_clocks_are_named() -> None:
    found = read_engines(engine_answers("a", age=-3600.0), Freshness(NOW, 60.0))
    assert found.loads == {}
    assert found.unusable["serving", "a"] == (
        "the last sample is 3600 s in the future: check the clocks"
    )


def test_what_looks_fresh_is_stale_where_prometheus_clock_is_ahead() -> None:
    """Asked about a moment that is past to Prometheus, it answers with what was fresh then."""
    answers = engine_answers("a", age=5.0)
    near = read_engines(answers, Freshness(NOW, 60.0, ahead_seconds=50.0))
    assert near.loads
    far = read_engines(answers, Freshness(NOW, 60.0, ahead_seconds=3600.0))
    assert not far.loads
    assert far.unusable["serving", "a"] == (
        "stale: the last sample is 3605 s old (limit 60 s); Prometheus' clock is 3600 s ahead of "
        "this machine's: check the clocks"
    )


def test_an_answer_that_came_after_its_deadline_is_not_read_though_it_was_taken_over() -> None:
    tables = EngineTables()
    answers = {signal: tables.take(signal, a) for signal, a in engine_answers("a").items()}
    assert answers[Signal.RUNNING].samples == [], "its labels are let go of"
    del answers[Signal.WAITING]
    assert "waiting" in tables.read(answers, Freshness(NOW, 60.0)).unusable["serving", "a"]
    del answers[Signal.RUNNING]
    readings = tables.read(answers, Freshness(NOW, 60.0))
    assert (readings.loads, readings.models_seen) == ({}, frozenset())


def test_what_a_rejected_row_says_is_kept_when_the_samples_are_taken_over() -> None:
    query = Query(Signal.RUNNING, "running")
    answers = engine_answers("a", "b")
    answers[Signal.RUNNING] = read_answer([row(labels("a"), "NaN"), row(labels("b"), 1)], query)
    tables = EngineTables()
    left = {signal: tables.take(signal, answer) for signal, answer in answers.items()}
    assert tables.read(left, Freshness(NOW, 60.0)).unusable["serving", "a"] == "running: value nan"
