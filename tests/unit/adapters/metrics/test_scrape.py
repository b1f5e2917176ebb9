"""Direct scrapes against pods that answer, dawdle, lie and redirect."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from spillway.adapters.metrics import (
    EnginePage,
    EngineScraper,
    ScrapeError,
    ScrapeFailure,
    ScrapeTarget,
    scrape,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GOOD = "vllm:num_requests_running 3\nvllm:num_requests_waiting 1\n"


class Pods:
    """A server that plays all pods; a pod's name says how it behaves."""

    def __init__(self) -> None:
        self.at_once = 0
        self.most_at_once = 0

    async def page(self, request: web.Request) -> web.StreamResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._behave(request)
        finally:
            self.at_once -= 1

    async def _behave(self, request: web.Request) -> web.StreamResponse:
        match request.match_info["pod"].split("-")[0]:
            case "slow":
                await asyncio.sleep(30)
            case "brief":
                await asyncio.sleep(0.02)
            case "drip":
                response = web.StreamResponse()
                await response.prepare(request)
                for _ in range(100):
                    await response.write(b"# drip\n")
                    await asyncio.sleep(0.05)
                return response
            case "moved":
                raise web.HTTPFound(location="/elsewhere")
            case "broken":
                return web.Response(status=500, text=GOOD)
            case "huge":
                return web.Response(text="# filler\n" * 200_000)
            case "gzip":
                return web.Response(body=b"not gzip", headers={"Content-Encoding": "gzip"})
            case "other":
                return web.Response(text="up 1\n")
            case _:
                pass
        return web.Response(text=GOOD)


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture
async def template(pods: Pods) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/pods/{namespace}/{pod}/metrics", pods.page)
    async with TestServer(app, host="127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.port}/pods/{{namespace}}/{{pod}}/metrics"


def target(pod: str, **more: object) -> ScrapeTarget:
    return ScrapeTarget(uid=pod, namespace="serving", pod=pod, ip="10.0.0.1", **more)  # type: ignore[arg-type]


async def test_a_good_pod_is_read_and_stamped(template: str) -> None:
    async with EngineScraper(url_template=template, clock=lambda: 77.0) as scraper:
        results = await scraper.scrape([target("good")])
    page = results["good"]
    assert isinstance(page, EnginePage)
    assert (page.at, page.running, page.waiting) == (77.0, 3.0, 1.0)


@pytest.mark.parametrize(
    ("pod", "failure"),
    [
        ("slow", ScrapeFailure.TIMEOUT),
        ("drip", ScrapeFailure.TIMEOUT),
        ("moved", ScrapeFailure.STATUS),
        ("broken", ScrapeFailure.STATUS),
        ("huge", ScrapeFailure.TOO_LARGE),
        ("gzip", ScrapeFailure.UNREACHABLE),
        ("other", ScrapeFailure.NOT_AN_ENGINE),
    ],
)
async def test_a_bad_pod_is_an_error_and_holds_nobody_up(
    template: str, pod: str, failure: ScrapeFailure
) -> None:
    # Only what is to end by the deadline has a short one: a busy machine is slow with the others.
    seconds = 0.6 if failure is ScrapeFailure.TIMEOUT else 10.0
    scraper = EngineScraper(url_template=template, request_seconds=seconds, max_bytes=1_000_000)
    async with scraper:
        results = await asyncio.wait_for(scraper.scrape([target(pod), target("good")]), 10)
    error = results[pod]
    assert isinstance(error, ScrapeError)
    assert error.failure is failure
    assert error.message
    assert isinstance(results["good"], EnginePage)


async def test_many_slow_pods_end_by_the_deadline_for_all(template: str) -> None:
    scraper = EngineScraper(
        url_template=template, request_seconds=5.0, total_seconds=0.3, concurrency=2
    )
    async with scraper:
        began = time.monotonic()
        results = await scraper.scrape([target(f"slow-{n}") for n in range(20)])
        assert time.monotonic() - began < 2.0
    assert len(results) == 20
    assert all(
        isinstance(result, ScrapeError) and result.failure is ScrapeFailure.TIMEOUT
        for result in results.values()
    )


async def test_no_more_pages_at_once_than_allowed(template: str, pods: Pods) -> None:
    async with EngineScraper(url_template=template, concurrency=3) as scraper:
        results = await scraper.scrape([target(f"brief-{n}") for n in range(15)])
    assert all(isinstance(result, EnginePage) for result in results.values())
    assert pods.most_at_once == 3


async def test_beyond_the_budget_the_least_urgent_are_skipped_and_said_so(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(scrape, "time", SimpleNamespace(monotonic=lambda: now))
    async with EngineScraper(url_template=template, pages_per_second=5.0) as scraper:
        results = await scraper.scrape([target(f"good-{n}") for n in range(8)])
        read = [uid for uid, result in results.items() if isinstance(result, EnginePage)]
        assert sorted(read) == [f"good-{n}" for n in range(5)]
        skipped = results["good-7"]
        assert isinstance(skipped, ScrapeError)
        assert skipped.failure is ScrapeFailure.SKIPPED
        assert "5 pages/s" in skipped.message
        now += 0.45
        again = await scraper.scrape([target(f"good-{n}") for n in range(8)])
    assert sum(isinstance(result, EnginePage) for result in again.values()) == 2


async def test_a_pod_that_is_not_there_is_unreachable(unused_tcp_port: int) -> None:
    async with EngineScraper() as scraper:
        results = await scraper.scrape(
            [ScrapeTarget("a", "serving", "a", "127.0.0.1", unused_tcp_port)]
        )
    error = results["a"]
    assert isinstance(error, ScrapeError)
    assert error.failure is ScrapeFailure.UNREACHABLE


@pytest.mark.parametrize(
    "bad",
    [
        ScrapeTarget("a", "n", "p", "10.0.0.1", 8000, "@evil.example/metrics"),
        ScrapeTarget("a", "n", "p", "evil.example", 8000),
        ScrapeTarget("a", "n", "p", "", 8000),
        ScrapeTarget("a", "n", "p", "10.0.0.1", 0),
        ScrapeTarget("a", "n", "p", "10.0.0.1", 70000),
    ],
)
async def test_a_target_that_would_lead_elsewhere_is_not_asked(bad: ScrapeTarget) -> None:
    async with EngineScraper() as scraper:
        results = await scraper.scrape([bad])
    error = results["a"]
    assert isinstance(error, ScrapeError)
    assert error.failure is ScrapeFailure.INVALID_TARGET


def test_an_ipv6_address_is_bracketed() -> None:
    assert EngineScraper()._url(ScrapeTarget("a", "n", "p", "fd00::1")) == (
        "http://[fd00::1]:8000/metrics"
    )


@pytest.mark.parametrize(
    "template", ["", "{ip}", "ftp://{ip}/", "http://{host}/", "http://{ip", "http:///x"]
)
def test_a_template_that_is_no_address_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="scrape url template"):
        EngineScraper(url_template=template)


async def test_the_same_pod_twice_is_read_once(template: str) -> None:
    async with EngineScraper(url_template=template, pages_per_second=1.0) as scraper:
        results = await scraper.scrape([target("good"), target("good")])
    assert isinstance(results["good"], EnginePage)
