"""PrometheusSource against an API that answers well, badly, slowly and not at all."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from spillway.adapters.metrics import PrometheusAuth, PrometheusSource, missing_for
from spillway.adapters.metrics.queries import GATEWAY_SIGNALS, LENGTH_SIGNALS, PRICE_SIGNALS, Signal
from tests.unit.adapters.metrics.builders import NOW, labels, row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Handler = Callable[[web.Request, Signal], Awaitable[web.StreamResponse]]

GOOD: dict[Signal, list[dict[str, Any]]] = {
    Signal.RUNNING: [row(labels("a"), 2), row(labels("b"), 3)],
    Signal.WAITING: [row(labels("a"), 0), row(labels("b"), 1)],
    Signal.SAMPLED_AT: [row(labels("a"), NOW - 5), row(labels("b"), NOW - 6)],
    Signal.FINISHED: [row(labels("a"), 1.5), row(labels("b"), 2.5)],
    Signal.GPU_UTILIZATION: [row({"exported_namespace": "serving", "exported_pod": "a"}, 0.5)],
    Signal.GATEWAY_RATE: [
        row({"namespace": "serving", "pool": "llama", "destination": "local"}, 4)
    ],
    Signal.GATEWAY_SAMPLED_AT: [row({"namespace": "serving", "pool": "llama"}, NOW - 2)],
    Signal.GPU_PRICE: [row({"node": "n1"}, 2.75), row({"node": "cpu"}, 0), row({"node": "x"}, -1)],
}


def vector(rows: object, **more: object) -> dict[str, object]:
    return {"status": "success", "data": {"resultType": "vector", "result": rows}, **more}


class FakePrometheus:
    """The query API; ``misbehave`` replaces the good answer of some signals."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.misbehave: dict[Signal, Handler] = {}
        self.signals: dict[str, Signal] = {}
        self.url = ""
        self.past: object = {}

    async def query(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        signal = self.signals[request.query["query"]]
        if signal in self.misbehave:
            return await self.misbehave[signal](request, signal)
        return web.json_response(vector(GOOD.get(signal, [])))

    async def query_range(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return web.json_response(self.past)

    def answer(self, signal: Signal, body: object, status: int = 200) -> None:
        """Sends ``body`` instead: text as it is, anything else as JSON."""
        text = body if isinstance(body, str) else json.dumps(body)

        async def handler(_request: web.Request, _signal: Signal) -> web.StreamResponse:
            return web.Response(text=text, status=status, content_type="application/json")

        self.misbehave[signal] = handler

    def source(self, **settings: Any) -> PrometheusSource:
        source = PrometheusSource(self.url, **settings)
        self.signals |= {promql: signal for signal, promql in source.queries.items()}
        return source


@pytest.fixture
async def fake() -> AsyncIterator[FakePrometheus]:
    fake = FakePrometheus()
    app = web.Application()
    app.router.add_get("/prefix/api/v1/query", fake.query)
    app.router.add_get("/prefix/api/v1/query_range", fake.query_range)
    async with TestServer(app, host="127.0.0.1") as server:
        fake.url = f"http://127.0.0.1:{server.port}/prefix"
        yield fake


async def test_a_good_prometheus_gives_loads_and_gateways(fake: FakePrometheus) -> None:
    async with fake.source() as source:
        snapshot = await source.snapshot(NOW)
    assert snapshot.failures == ()
    assert snapshot.loads.keys() == {("serving", "a"), ("serving", "b")}
    load = snapshot.loads["serving", "a"]
    assert (load.running, load.finished_per_second, load.gpu_utilization) == (2.0, 1.5, 0.5)
    assert snapshot.loads["serving", "b"].gpu_utilization is None
    gateway = snapshot.gateways["serving", "llama"]
    assert gateway.arrivals_per_second == 4.0
    assert gateway.cloud_usd_total is None
    assert missing_for(snapshot, "serving", "m", ["a", "b"]) == ()
    assert {request.query["time"] for request in fake.requests} == {f"{NOW:.3f}"}


async def test_the_number_of_queries_does_not_grow_with_the_number_of_pods(
    fake: FakePrometheus,
) -> None:
    many = [f"pod-{number}" for number in range(500)]
    for signal, value in (
        (Signal.RUNNING, 1.0), (Signal.WAITING, 0.0), (Signal.SAMPLED_AT, NOW)
    ):  # fmt: skip
        fake.answer(signal, vector([row(labels(pod), value) for pod in many]))
    async with fake.source() as source:
        snapshot = await source.snapshot(NOW)
    assert len(snapshot.loads) == 500
    assert len(fake.requests) == len(Signal)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (vector(GOOD[Signal.RUNNING], warnings=["store-2: no connection"]), 200, "partial answer"),
        ({"status": "error", "error": "query timed out"}, 503, "503"),
        ({"status": "error", "error": "bad data"}, 200, "bad data"),
        ("upstream connect error", 500, "500"),
        ("<html>log in</html>", 200, "not JSON"),
        pytest.param("[" * 100_000, 200, "not JSON", id="nested too deeply"),
        ("", 200, "not JSON"),
        ([], 200, "not a success"),
        ({"status": "success"}, 200, "no instant vector"),
        (vector({}), 200, "no list of series"),
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, 200, "vector"),
    ],
)
async def test_a_wrong_answer_is_a_failure_that_says_why_and_no_load(
    fake: FakePrometheus, body: object, status: int, says: str
) -> None:
    fake.answer(Signal.RUNNING, body, status)
    async with fake.source() as source:
        snapshot = await source.snapshot(NOW)
        promql = source.queries[Signal.RUNNING]
    (failure,) = snapshot.failures
    assert (failure.signal, failure.query) == (Signal.RUNNING, promql)
    assert says in failure.error
    assert snapshot.loads == {}
    (missing,) = missing_for(snapshot, "serving", "m", ["a", "b"])
    assert (missing.query, missing.seen) == (promql, failure.error)


async def test_a_warning_on_a_rate_leaves_the_gauges(fake: FakePrometheus) -> None:
    fake.answer(Signal.FINISHED, vector(GOOD[Signal.FINISHED], warnings=["partial response"]))
    async with fake.source() as source:
        snapshot = await source.snapshot(NOW)
    load = snapshot.loads["serving", "a"]
    assert load.running == 2.0
    assert load.finished_per_second is None
    assert missing_for(snapshot, "serving", "m", ["a"]) != ()


async def test_infos_are_not_warnings(fake: FakePrometheus) -> None:
    fake.answer(Signal.FINISHED, vector(GOOD[Signal.FINISHED], infos=["might not be a counter"]))
    async with fake.source() as source:
        snapshot = await source.snapshot(NOW)
    assert snapshot.loads["serving", "a"].finished_per_second == 1.5


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-3"])
async def test_an_impossible_value_takes_out_its_pod_alone(
    fake: FakePrometheus, value: str
) -> None:
    rows = [row(labels("a"), value), row(labels("b"), 3)]
    fake.answer(Signal.RUNNING, vector(rows))
    async with fake.source() as source:
        snapshot = await source.snapshot(NOW)
    assert snapshot.loads.keys() == {("serving", "b")}
    (missing,) = missing_for(snapshot, "serving", "m", ["a", "b"])
    assert missing.seen.startswith("1 of 2 pods (a)")


async def test_empty_answers_are_missing_data_not_zero(fake: FakePrometheus) -> None:
    for signal in Signal:
        fake.answer(signal, vector([]))
    async with fake.source() as source:
        snapshot = await source.snapshot(NOW)
    assert (snapshot.loads, snapshot.failures) == ({}, ())
    (missing,) = missing_for(snapshot, "serving", "m", ["a"])
    assert "no vLLM series at all" in missing.seen


async def test_a_duplicate_series_counts_once(fake: FakePrometheus) -> None:
    fake.answer(Signal.RUNNING, vector([row(labels("a"), 2), row(labels("a"), 2)]))
    async with fake.source() as source:
        snapshot = await source.snapshot(NOW)
    assert snapshot.loads["serving", "a"].running == 2.0


async def test_a_slow_prometheus_holds_neither_the_tick_nor_the_loop_nor_threads(
    fake: FakePrometheus,
) -> None:
    async def hang(_request: web.Request, _signal: Signal) -> web.StreamResponse:
        await asyncio.sleep(20)
        return web.Response()

    fake.misbehave = dict.fromkeys(Signal, hang)
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.02)
            beats += 1

    heart = asyncio.create_task(beat())
    source = fake.source(query_timeout_seconds=0.3, timeout_seconds=0.6)
    began = time.monotonic()
    snapshot = await source.snapshot(NOW)
    assert time.monotonic() - began < 2.0
    heart.cancel()
    assert beats >= 3, "the loop goes on; the machine may be busy"
    assert len(snapshot.failures) == len(Signal)
    assert {failure.error for failure in snapshot.failures} == {"Prometheus did not answer in time"}
    await source.close()
    until = time.monotonic() + 3.0
    while any(thread.name.startswith("prometheus") for thread in threading.enumerate()):
        assert time.monotonic() < until, "threads outlive their deadline"
        await asyncio.sleep(0.05)


async def test_an_answer_that_drips_ends_by_the_deadline(fake: FakePrometheus) -> None:
    async def drip(request: web.Request, _signal: Signal) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    fake.misbehave[Signal.STEPS] = drip
    async with fake.source(query_timeout_seconds=0.4) as source:
        began = time.monotonic()
        snapshot = await source.snapshot(NOW)
    assert time.monotonic() - began < 2.0
    assert [failure.signal for failure in snapshot.failures] == [Signal.STEPS]
    assert len(snapshot.loads) == 2


@pytest.mark.parametrize(("ahead", "replicas"), [(0, 2), (30, 2), (3600, 0), (-3600, 2)])
async def test_a_clock_that_is_ahead_makes_what_it_answers_older(
    fake: FakePrometheus, ahead: float, replicas: int
) -> None:
    """By the HTTP date. What comes from a clock that is behind shows its age by itself."""

    async def dated(_request: web.Request, signal: Signal) -> web.StreamResponse:
        date = formatdate(time.time() + ahead, usegmt=True)
        return web.json_response(vector(GOOD.get(signal, [])), headers={"Date": date})

    fake.misbehave = dict.fromkeys(Signal, dated)
    async with fake.source() as source:
        snapshot = await source.snapshot(NOW)
    assert len(snapshot.loads) == replicas
    assert bool(snapshot.gateways) is bool(replicas)
    if not replicas:
        missing = missing_for(snapshot, "serving", "llama", ["a"])
        assert "ahead of this machine's: check the clocks" in missing[0].seen


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 99 Nov 2026 12:00:00 GMT"])
async def test_an_answer_without_a_usable_date_tells_nothing_of_the_clock(
    fake: FakePrometheus, date: str
) -> None:
    async def dated(_request: web.Request, signal: Signal) -> web.StreamResponse:
        return web.json_response(vector(GOOD.get(signal, [])), headers={"Date": date})

    fake.misbehave = dict.fromkeys(Signal, dated)
    async with fake.source() as source:
        snapshot = await source.snapshot(NOW)
    assert len(snapshot.loads) == 2


async def test_one_slow_query_costs_only_itself(fake: FakePrometheus) -> None:
    async def hang(_request: web.Request, _signal: Signal) -> web.StreamResponse:
        await asyncio.sleep(20)
        return web.Response()

    fake.misbehave[Signal.GPU_UTILIZATION] = hang
    async with fake.source(query_timeout_seconds=0.4) as source:
        snapshot = await source.snapshot(NOW)
    assert len(snapshot.loads) == 2
    assert missing_for(snapshot, "serving", "m", ["a"]) == ()
    assert missing_for(snapshot, "serving", "m", ["a"], need_gpu=True) != ()


async def test_a_dead_prometheus_is_all_failures_and_no_exception(unused_tcp_port: int) -> None:
    source = PrometheusSource(f"http://127.0.0.1:{unused_tcp_port}")
    snapshot = await source.snapshot(NOW)
    await source.close()
    assert (snapshot.loads, snapshot.gateways) == ({}, {})
    assert len(snapshot.failures) == len(Signal)
    assert "cannot reach Prometheus at 127.0.0.1" in snapshot.failures[0].error
    missing = missing_for(snapshot, "serving", "m", ["a"], need_gpu=True, gateway_pool="llama")
    assert len(missing) == len(set(Signal) - PRICE_SIGNALS - LENGTH_SIGNALS)
    assert sum(s in GATEWAY_SIGNALS for s in Signal) == 9


async def test_opencosts_prices_come_with_the_same_snapshot(fake: FakePrometheus) -> None:
    async with fake.source() as source:
        assert (await source.snapshot(NOW)).node_gpu_usd == {"n1": 2.75}
        fake.answer(Signal.GPU_PRICE, "upstream connect error", 500)
        without = await source.snapshot(NOW)
    assert without.node_gpu_usd == {}
    assert len(without.loads) == 2


async def test_it_recovers_by_itself(fake: FakePrometheus) -> None:
    fake.answer(Signal.RUNNING, "", 500)
    async with fake.source() as source:
        assert (await source.snapshot(NOW)).loads == {}
        fake.misbehave.clear()
        assert len((await source.snapshot(NOW)).loads) == 2


async def test_a_redirect_is_not_followed_with_the_token(
    fake: FakePrometheus, tmp_path: Path
) -> None:
    async def move(_request: web.Request, _signal: Signal) -> web.StreamResponse:
        raise web.HTTPFound(location=f"{fake.url}/api/v1/query?query=stolen")

    fake.misbehave = dict.fromkeys(Signal, move)
    token = tmp_path / "token"
    token.write_text("secret")
    source = fake.source(auth=PrometheusAuth(bearer_token_file=token))
    snapshot = await source.snapshot(NOW)
    await source.close()
    assert len(snapshot.failures) == len(Signal)
    assert all(request.query["query"] != "stolen" for request in fake.requests)
    assert all("secret" not in failure.error for failure in snapshot.failures)


async def test_token_and_tenant_are_sent_and_a_rotated_token_is_picked_up(
    fake: FakePrometheus, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    auth = PrometheusAuth(bearer_token_file=token, headers={"X-Scope-OrgID": "team-a"})
    async with fake.source(auth=auth) as source:
        for secret in ("first", "second"):
            token.write_text(f"{secret}\n")
            fake.requests.clear()
            await source.snapshot(NOW)
            sent = {
                (request.headers["Authorization"], request.headers["X-Scope-OrgID"])
                for request in fake.requests
            }
            assert sent == {(f"Bearer {secret}", "team-a")}
        token.unlink()
        # A minute later lengths are asked for again as well.
        snapshot = await source.snapshot(NOW + 60)
    assert len(snapshot.failures) == len(Signal)
    assert str(token) in snapshot.failures[0].error


PROMPT_BUCKETS = vector(
    [
        row({"namespace": "serving", "model_name": "m", "le": le}, rate)
        for le, rate in (("1000", 1), ("2000", 3), ("+Inf", 4))
    ]
)


async def test_lengths_are_asked_for_once_a_minute_and_known_in_between(
    fake: FakePrometheus,
) -> None:
    fake.answer(Signal.PROMPT_LENGTHS, PROMPT_BUCKETS)
    async with fake.source() as source:
        asked, known = [], []
        for later in (0, 15, 45, 60, 30):
            fake.requests.clear()
            snapshot = await source.snapshot(NOW + later)
            asked.append(len(fake.requests))
            known.append(snapshot.lengths["serving", "m"].prompt_p50)
    everything = len(Signal)
    few = everything - 2
    # The last is of a clock that was set back.
    assert asked == [everything, few, few, everything, everything]
    assert known == [pytest.approx(1000 * 2**0.5)] * 5


async def test_lengths_that_are_not_there_yet_are_asked_for_again(fake: FakePrometheus) -> None:
    async with fake.source() as source:
        for later in (0, 15):
            fake.requests.clear()
            snapshot = await source.snapshot(NOW + later)
            assert len(fake.requests) == len(Signal)
    assert snapshot.lengths == {}


async def test_lengths_that_could_not_be_read_wait_their_turn_and_the_old_ones_stand(
    fake: FakePrometheus,
) -> None:
    fake.answer(Signal.PROMPT_LENGTHS, PROMPT_BUCKETS)
    async with fake.source() as source:
        before = (await source.snapshot(NOW)).lengths
        for signal in LENGTH_SIGNALS:
            fake.answer(signal, "no", status=500)
        asked = []
        for later in (60, 75, 120):
            fake.requests.clear()
            snapshot = await source.snapshot(NOW + later)
            asked.append(len(fake.requests))
            assert snapshot.lengths == before
    assert asked == [len(Signal), len(Signal) - len(LENGTH_SIGNALS), len(Signal)]


async def test_no_pool_lacks_lengths(fake: FakePrometheus) -> None:
    for signal in LENGTH_SIGNALS:
        fake.answer(signal, "no", status=500)
    async with fake.source() as source:
        snapshot = await source.snapshot(NOW)
    assert {failure.signal for failure in snapshot.failures} == LENGTH_SIGNALS
    assert missing_for(snapshot, "serving", "m", ["a", "b"]) == ()


async def test_basic_authentication(fake: FakePrometheus, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("pass")
    auth = PrometheusAuth(username="user", password_file=password)
    async with fake.source(auth=auth) as source:
        await source.snapshot(NOW)
    expected = "Basic " + base64.b64encode(b"user:pass").decode()
    assert {request.headers["Authorization"] for request in fake.requests} == {expected}


async def test_a_missing_ca_is_a_failure_with_its_path(tmp_path: Path) -> None:
    auth = PrometheusAuth(ca_file=tmp_path / "ca.pem")
    source = PrometheusSource("https://127.0.0.1:9", auth=auth)
    snapshot = await source.snapshot(NOW)
    await source.close()
    assert "ca.pem" in snapshot.failures[0].error


@pytest.mark.parametrize("url", ["", "prometheus:9090", "ftp://x", "http://", "http://x?a=b"])
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="prometheus url"):
        PrometheusSource(url)


@pytest.mark.parametrize(
    "settings",
    [
        {"username": "a"},
        {"bearer_token_file": "t", "username": "a", "password_file": "p"},
        {"client_certificate_file": "c"},
        {"headers": {"X": "a\r\nY: b"}},
        {"ca_file": "c", "insecure_skip_verify": True},
    ],
)
def test_contradictory_credentials_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Prometheus auth"):
        PrometheusAuth(**settings)


async def test_the_past_of_all_pools_is_one_range_query(fake: FakePrometheus) -> None:
    values = [[NOW - 600, "3"], [NOW - 300, "4"], [NOW, "5"]]
    rows = [{"metric": {"namespace": "serving", "pool": "llama"}, "values": values}]
    fake.past = {"status": "success", "data": {"resultType": "matrix", "result": rows}}
    async with fake.source() as source:
        history = await source.history(NOW)
    assert history.failure == ""
    assert history.gateways == {("serving", "llama"): ((NOW - 300, 4.0), (NOW, 5.0))}
    (request,) = fake.requests
    assert float(request.query["end"]) - float(request.query["start"]) == 2 * 86_400
    assert request.query["step"] == "300"


@pytest.mark.parametrize(
    ("past", "says"),
    [
        (vector([]), "no range vector"),
        ({"status": "error", "error": "too many samples"}, "too many samples"),
        ({"status": "success", "warnings": ["a store is gone"], "data": {}}, "partial answer"),
    ],
)
async def test_a_past_that_can_not_be_used_is_none_and_says_why(
    fake: FakePrometheus, past: object, says: str
) -> None:
    fake.past = past
    async with fake.source() as source:
        history = await source.history(NOW)
    assert (history.gateways, history.engines) == ({}, {})
    assert says in history.failure
