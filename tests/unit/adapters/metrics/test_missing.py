"""What a person is told when data are missing."""

from __future__ import annotations

from dataclasses import replace

from spillway.adapters.metrics import MetricsSnapshot, QueryFailure, missing_for
from spillway.adapters.metrics.freshness import Freshness
from spillway.adapters.metrics.queries import Signal, build_queries
from spillway.adapters.metrics.snapshot import read_engines
from spillway.core.facts import GatewayLoad
from tests.unit.adapters.metrics.builders import NOW, answer, engine_answers, labels

QUERIES = {query.signal: query.promql for query in build_queries()}


def snapshot(*pods: str, age: float = 5.0) -> MetricsSnapshot:
    readings = read_engines(engine_answers(*pods, age=age), Freshness(NOW, 60.0))
    return MetricsSnapshot(
        at=NOW,
        loads=readings.loads,
        model_names=readings.model_names,
        models_seen=readings.models_seen,
        unusable=readings.unusable,
        queries=QUERIES,
    )


def failure(signal: Signal) -> QueryFailure:
    return QueryFailure(signal, QUERIES[signal], "HTTP 503")


def test_nothing_is_missing_when_every_pod_reports_the_model() -> None:
    assert missing_for(snapshot("a", "b"), "serving", "m", ["a", "b"]) == ()


def test_a_pool_without_pods_misses_nothing() -> None:
    dead = MetricsSnapshot(at=NOW, failures=(failure(Signal.RUNNING),), queries=QUERIES)
    assert missing_for(dead, "serving", "m", []) == ()


def test_another_model_on_the_pods_is_named() -> None:
    (missing,) = missing_for(snapshot("a"), "serving", "wanted", ["a"])
    assert missing.query == QUERIES[Signal.RUNNING]
    assert "'wanted'" in missing.seen
    assert missing.seen.endswith(": m")


def test_no_series_names_the_models_seen_elsewhere() -> None:
    (missing,) = missing_for(snapshot("other"), "serving", "m", ["a"])
    assert missing.seen == "1 of 1 pods (a): no series; models seen anywhere: m"


def test_no_vllm_series_at_all() -> None:
    (missing,) = missing_for(snapshot(), "serving", "m", ["a"])
    assert "no vLLM series at all" in missing.seen


def test_the_same_pod_name_in_another_namespace_is_another_pod() -> None:
    assert missing_for(snapshot("a"), "elsewhere", "m", ["a"]) != ()


def test_stale_samples_are_one_entry_however_many_pods() -> None:
    pods = [f"pod-{number}" for number in range(50)]
    (missing,) = missing_for(snapshot(*pods, age=90.0), "serving", "m", pods)
    assert missing.seen.startswith("50 of 50 pods (pod-0, pod-1, pod-10 and 47 more): stale")
    assert "90 s old" in missing.seen


def test_a_failed_query_is_the_error_and_not_a_hundred_missing_pods() -> None:
    dead = replace(snapshot(), failures=(failure(Signal.RUNNING),))
    (missing,) = missing_for(dead, "serving", "m", ["a", "b"])
    assert (missing.query, missing.seen) == (QUERIES[Signal.RUNNING], "HTTP 503")


def test_gpu_data_are_missed_only_by_who_needs_them() -> None:
    assert missing_for(snapshot("a"), "serving", "m", ["a"]) == ()
    (missing,) = missing_for(snapshot("a"), "serving", "m", ["a"], need_gpu=True)
    assert missing.query == QUERIES[Signal.GPU_UTILIZATION]
    failed = replace(snapshot("a"), failures=(failure(Signal.GPU_UTILIZATION),))
    assert missing_for(failed, "serving", "m", ["a"]) == ()
    (missing,) = missing_for(failed, "serving", "m", ["a"], need_gpu=True)
    assert missing.seen == "HTTP 503"


def test_gateway_data_are_missed_only_where_a_gateway_ought_to_report() -> None:
    assert missing_for(snapshot("a"), "serving", "m", ["a"]) == ()
    (missing,) = missing_for(snapshot("a"), "serving", "m", ["a"], gateway_pool="llama")
    assert missing.seen == "no gateway reports this pool"
    stale = replace(snapshot("a"), unusable_gateways={("serving", "llama"): "stale: 99 s old"})
    (missing,) = missing_for(stale, "serving", "m", ["a"], gateway_pool="llama")
    assert missing.seen == "stale: 99 s old"
    present = {("serving", "llama"): GatewayLoad(NOW, 1.0)}
    reported = replace(snapshot("a"), gateways=present)
    assert missing_for(reported, "serving", "m", ["a"], gateway_pool="llama") == ()


def test_one_pod_of_many_without_its_queue_gauge_is_named() -> None:
    answers = engine_answers("a", "b")
    answers[Signal.WAITING] = answer((labels("a"), 0.0))
    readings = read_engines(answers, Freshness(NOW, 60.0))
    partial = replace(
        snapshot(),
        loads=readings.loads,
        unusable=readings.unusable,
        model_names=readings.model_names,
        models_seen=readings.models_seen,
    )
    (missing,) = missing_for(partial, "serving", "m", ["a", "b"])
    assert missing.seen.startswith("1 of 2 pods (b): waiting")
