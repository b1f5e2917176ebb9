"""Prometheus' samples and pods' own pages, joined."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from spillway.adapters.metrics import ScrapeError, ScrapeFailure
from spillway.adapters.metrics.queries import Signal
from spillway.core.facts import GatewayLoad
from tests.unit.controller import fakes
from tests.unit.controller.fakes import Seams

if TYPE_CHECKING:
    from spillway.core.facts import ReplicaLoad

METRICS = fakes.pool().spec.metrics


async def read(seams: Seams, *pods: Any, **options: Any) -> set[str]:
    return await seams.observer.read_pods([(pod, METRICS) for pod in pods], **options)


def seen(seams: Seams, name: str = "a") -> ReplicaLoad:
    load = seams.observer.load(fakes.pod(name), time.time())
    assert load is not None
    return load


async def test_a_newer_page_brings_the_gauges_and_prometheus_keeps_the_rates() -> None:
    seams, now = Seams(), time.time()
    seams.prometheus.put("a", running=9.0, waiting=5.0, sampled_at=now - 10)
    seams.scraper.pages["a"] = fakes.page(running=1.0, waiting=0.0, waiting_all=2.0, at=now)
    await seams.observer.ask_prometheus()
    await read(seams, fakes.pod("a"))
    load = seen(seams)
    assert (load.running, load.waiting, load.waiting_all) == (1.0, 0.0, 2.0)
    assert load.sampled_at == now
    assert (load.finished_per_second, load.gpu_utilization) == (2.0, 0.5)


async def test_an_older_page_changes_nothing() -> None:
    seams, now = Seams(), time.time()
    seams.prometheus.put("a", running=9.0, sampled_at=now)
    seams.scraper.pages["a"] = fakes.page(running=1.0, at=now - 20)
    await seams.observer.ask_prometheus()
    await read(seams, fakes.pod("a"))
    assert seen(seams).running == 9.0


async def test_a_pod_that_nobody_knows_has_no_load() -> None:
    assert Seams().observer.load(fakes.pod("a"), time.time()) is None


async def test_pods_that_are_gone_are_forgotten() -> None:
    seams = Seams()
    seams.scraper.pages["a"] = fakes.page()
    await read(seams, fakes.pod("a"))
    seams.observer.retain([])
    assert seams.observer.direct("uid-a", time.time()) is None


async def test_a_pod_that_hangs_holds_up_no_other_and_its_late_page_still_counts() -> None:
    seams = Seams()
    seams.scraper.pages = {"a": fakes.page(running=3.0), "b": fakes.page(running=4.0)}
    late = seams.scraper.hangs["b"] = asyncio.Event()
    answered = await read(seams, fakes.pod("a"), fakes.pod("b"), patience_seconds=0.05)
    assert answered == {"uid-a"}
    await read(seams, fakes.pod("a"), fakes.pod("b"), patience_seconds=0.05)
    assert seams.scraper.asked == [["a", "b"], ["a"]], "what is under way is not asked twice"
    late.set()
    await asyncio.sleep(0.01)
    assert seen(seams, "b").running == 4.0
    await read(seams, fakes.pod("a"), fakes.pod("b"))
    assert seams.scraper.asked[-1] == ["a", "b"]
    await seams.observer.close()


async def test_what_is_still_awaited_ends_with_the_observer() -> None:
    seams = Seams()
    seams.scraper.hangs["a"] = asyncio.Event()
    await read(seams, fakes.pod("a"), patience_seconds=0.01)
    await seams.observer.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_pods_without_an_address_are_not_asked() -> None:
    seams = Seams()
    assert await read(seams, fakes.pod("a", ip=None)) == set()
    assert seams.scraper.asked == []


async def test_pages_beyond_the_budget_are_counted() -> None:
    seams = Seams()
    skipped = ScrapeError(ScrapeFailure.SKIPPED, "budget")
    refused = ScrapeError(ScrapeFailure.UNREACHABLE, "refused")
    seams.scraper.pages = {"a": skipped, "b": skipped, "c": refused}
    await read(seams, *map(fakes.pod, "abc"))
    assert seams.metric("spillway_scrapes_skipped_total") == 2


async def test_what_was_fresh_when_it_was_asked_for_becomes_too_old() -> None:
    """The operator's setting decides, at each look and not only when Prometheus answers."""
    seams = Seams()
    seams.prometheus.put("a")
    at = time.time()
    gateways = {(fakes.NAMESPACE, "pool"): GatewayLoad(at, 4.0)}
    seams.prometheus.more = {"gateways": gateways}
    await seams.observer.ask_prometheus()
    for later, known in ((59.0, True), (62.0, False)):
        assert (seams.observer.load(fakes.pod("a"), at + later) is not None) is known
        gateway = seams.observer.gateway(fakes.NAMESPACE, "pool", at + later)
        assert (gateway is not None) is known


async def test_a_pool_that_comes_back_waits_for_its_gateway_anew() -> None:
    seams = Seams()
    observer = seams.observer
    assert observer.gateway_missing_since(fakes.NAMESPACE, "pool", 100.0) == 100.0
    assert observer.gateway_missing_since(fakes.NAMESPACE, "pool", 300.0) == 100.0
    observer.forget(fakes.NAMESPACE, "pool")
    assert observer.gateway_missing_since(fakes.NAMESPACE, "pool", 400.0) == 400.0


async def test_answers_that_nobody_foresaw_are_missing_data_and_not_a_crash() -> None:
    seams = Seams()
    seams.prometheus.put("a")
    seams.prometheus.queries = {Signal.RUNNING: "vllm:num_requests_running"}
    seams.prometheus.failure = KeyError("metric")
    await seams.observer.ask_prometheus()
    assert seams.observer.snapshot.loads == {}
    (failure,) = seams.observer.snapshot.failures
    assert (failure.query, failure.error) == ("vllm:num_requests_running", "KeyError('metric')")
    assert seams.metric("spillway_prometheus_query_failures_total") == 1
