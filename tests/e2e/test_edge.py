"""The edge: a real Envoy before replicas and clouds that answer HTTP and count what they get."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from spillway.edge.settings import EdgeSettings
from tests.e2e.rig.decider import Decider
from tests.e2e.rig.edge import Edge
from tests.e2e.rig.model_servers import ModelServer, Together
from tests.e2e.rig.names import NameServer
from tests.e2e.rig.processes import Custody, free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LOCAL: Final = "local"
WORKERS: Final = 2
REPLICAS: Final = ("127.10.0.1", "127.10.0.2")
#: A request that takes long enough for many to be in flight together.
BUSY_SECONDS: Final = 0.25


@pytest.fixture(scope="module")
def custody() -> Iterator[Custody]:
    with Custody() as made:
        yield made


@dataclass
class World:
    """Everything around one edge.

    Attributes:
        edges: The Envoys, the first one first.
        decider: Plays the operator.
        replicas: The pool's.
        clouds: The providers, ``a`` and ``b``.
        names: Who the replicas are.
        session: To the edge.
        problems: What clients saw that was no answer.
    """

    edges: list[Edge]
    decider: Decider
    replicas: list[ModelServer]
    clouds: list[ModelServer]
    names: NameServer
    session: aiohttp.ClientSession
    problems: list[str] = field(default_factory=list)

    async def ask(
        self, edge: int = 0, *, stream: bool = False, headers: dict[str, str] | None = None
    ) -> str:
        """Who answered; "" where nobody did, noted in ``problems``."""
        body = {
            "model": "m",
            "stream": stream,
            "messages": [{"role": "user", "content": "hello " * 20}],
            "user": "marked" if headers else "",
        }
        url = f"{self.edges[edge].url}/v1/chat/completions"
        try:
            async with self.session.post(url, json=body, headers=headers) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.problems.append(repr(error))
            return ""
        if answer.status != 200 or "usage" not in text:
            self.problems.append(f"{answer.status} {text[:100]}")
            return ""
        return answer.headers["x-spillway-served-by"]

    async def burst(self, count: int, **how: Any) -> Counter[str]:
        """So many at once; who answered."""
        return Counter(await asyncio.gather(*(self.ask(**how) for _ in range(count))))

    async def settle(self) -> None:
        """Let every worker fetch the present value."""
        await asyncio.sleep(1.05)
        for edge in range(len(self.edges)):
            await self.burst(12 * WORKERS, edge=edge)

    @property
    def peak(self) -> int:
        """Most requests at once on the replicas together."""
        return self.replicas[0].together.peak

    def reset(self) -> None:
        """Count anew."""
        for server in (*self.replicas, *self.clouds):
            server.answered = server.marks = server.refused = 0
            server.together.peak = server.together.in_flight

    async def page(self, edge: int = 0) -> dict[tuple[str, str], float]:
        """The metrics page: values by series and destination."""
        found: defaultdict[tuple[str, str], float] = defaultdict(float)
        async with self.session.get(self.edges[edge].metrics_url) as answer:
            text = await answer.text()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if "le" not in sample.labels:
                    assert sample.labels["namespace"] == "serving"
                    assert sample.labels["pool"] == "llama"
                    found[sample.name, sample.labels["destination"]] += sample.value
        return dict(found)


@asynccontextmanager
async def world(
    custody: Custody, name: str, edges: int = 1, *, keep_alive: bool = False, **settings: Any
) -> AsyncIterator[World]:
    port = free_ports(1)[0]
    together = Together()
    replicas = [
        await ModelServer(LOCAL, host, port, seconds=BUSY_SECONDS, together=together).start()
        for host in REPLICAS
    ]
    clouds = [await ModelServer(each).start() for each in "ab"]
    names = await NameServer().start()
    names.names = {"llama.serving": list(REPLICAS), "operator.spillway": ["127.0.0.1"]}
    decider = await Decider(clouds).start()
    document = {
        "pool": {"namespace": "serving", "name": "llama"},
        "replicas": {"address": "llama.serving", "port": port},
        "operator": {"address": "operator.spillway", "port": decider.port},
        "providers": [
            {"name": cloud.name, "address": "127.0.0.1", "port": cloud.port, "tls": False}
            for cloud in clouds
        ],
        "dnsResolver": names.address,
        "gateways": edges,
        **settings,
    }
    started = [
        Edge(custody, f"{name}-{number}", EdgeSettings.model_validate(document), workers=WORKERS)
        for number in range(edges)
    ]
    connector = aiohttp.TCPConnector(limit=0, force_close=not keep_alive)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        try:
            for edge in started:
                await asyncio.to_thread(edge.start)
            yield World(started, decider, replicas, clouds, names, session)
        finally:
            for edge in started:
                assert "][error]" not in edge.tail(200), edge.tail(20)
                edge.stop()
            await decider.stop()
            names.stop()
            for server in (*replicas, *clouds):
                await server.stop()


async def test_what_is_in_flight_stays_within_the_bound_and_the_rest_is_paid(
    custody: Custody,
) -> None:
    async with world(custody, "bound") as w:
        w.decider.say(in_flight=10)
        await w.settle()
        w.reset()
        answered: Counter[str] = Counter()
        for stream in (False, True, False):
            answered += await w.burst(120, stream=stream)
        assert w.problems == []
        assert w.peak <= 10 + WORKERS
        assert answered[LOCAL] >= 3 * 8, "the replicas were full meanwhile"
        assert answered["a"] == w.clouds[0].answered > 200
        balance = [replica.answered for replica in w.replicas]
        assert max(balance) <= 1.5 * min(balance)


async def test_several_edges_share_the_bound_and_the_allowance(custody: Custody) -> None:
    async with world(custody, "shared", edges=2) as w:
        w.decider.say(in_flight=12)
        for _ in range(3):
            await w.settle()
        w.reset()
        for _ in range(3):
            await asyncio.gather(w.burst(60, edge=0), w.burst(60, edge=1))
        assert w.peak <= 12 + 2 * WORKERS
        assert sum(replica.answered for replica in w.replicas) >= 3 * 8, "which were full meanwhile"
        assert await _count_spent(w, requests=30) == 30
        assert w.problems == []


async def _count_spent(w: World, requests: int) -> int:
    """Requests paid under a new version, with all workers of all edges at it."""
    # What an older one allows may be spent until a worker sees the newer.
    w.decider.say(in_flight=0, requests=0)
    await w.settle()
    before = sum(cloud.answered for cloud in w.clouds)
    w.decider.say(in_flight=0, requests=requests)
    for _ in range(8):
        for edge in range(len(w.edges)):
            await w.burst(20, edge=edge)
        await asyncio.sleep(0.3)
    return sum(cloud.answered for cloud in w.clouds) - before


async def test_ten_thousand_requests_under_full_overload_and_no_marked_one_leaves(
    custody: Custody, measured: dict[str, float]
) -> None:
    stays = {
        "headers": [{"name": "x-data-class", "values": ["restricted"]}, {"name": "x-spillway-stay"}]
    }
    async with world(custody, "marked", keep_alive=True, stays=stays) as w:
        w.decider.say(in_flight=4)
        for replica in w.replicas:
            replica.seconds = 0.005
        await w.settle()
        w.reset()
        answered: Counter[tuple[bool, str]] = Counter()
        marks: tuple[dict[str, str], ...] = (
            {"x-data-class": "restricted"},
            {"x-spillway-stay": "1"},
            {},
            {},
        )

        async def client() -> None:
            while answered.total() < 10_000:
                headers = marks[answered.total() % len(marks)]
                answered[bool(headers), await w.ask(headers=headers)] += 1

        began = time.monotonic()
        await asyncio.gather(*(client() for _ in range(48)))
        measured["10,000 mixed requests through the edge took"] = time.monotonic() - began
        assert w.problems == []
        assert answered[True, LOCAL] == sum(n for (mark, _), n in answered.items() if mark) > 3000
        assert answered[False, "a"] > 1000, "the others left meanwhile"
        assert w.clouds[0].marks == w.clouds[1].marks == 0


async def test_a_value_that_has_ended_keeps_all_local_and_a_dead_operator_stops_nothing(
    custody: Custody,
) -> None:
    async with world(custody, "lease") as w:
        assert await w.burst(40) == {LOCAL: 40}, "no value yet"
        w.decider.say(in_flight=2, seconds=8.0)
        ends = time.monotonic() + 8.0
        await w.settle()
        await w.decider.stop()
        assert (await w.burst(40))["a"] > 30, "the last value holds"
        await asyncio.sleep(max(0.0, ends - time.monotonic()))
        assert await w.burst(40) == {LOCAL: 40}, "and ends"
        await w.decider.start()
        w.decider.say(in_flight=2)
        await asyncio.sleep(8.5)
        await w.settle()
        assert (await w.burst(40))["a"] > 30, "back by itself"
        assert w.problems == []


async def test_the_allowance_is_spent_exactly_and_the_ledger_counts_what_the_cloud_counts(
    custody: Custody,
) -> None:
    async with world(custody, "allowance") as w:
        assert await _count_spent(w, requests=50) == 50
        for kind in (False, True):
            w.decider.say(in_flight=3, requests=1000)
            await w.settle()
            await w.burst(100, stream=kind)
        await asyncio.sleep(0.3)
        page = await w.page()
        cost = sum(cloud.usd for cloud in w.clouds)
        assert page["spillway_gateway_cost_usd_total", "cloud"] == pytest.approx(cost, abs=1e-4)
        assert page["spillway_gateway_requests_total", "cloud"] == sum(
            cloud.answered for cloud in w.clouds
        )
        tokens = sum(cloud.prompt_tokens for cloud in w.clouds)
        assert page["spillway_gateway_prompt_tokens_total", "cloud"] == tokens
        assert page["spillway_gateway_requests_total", LOCAL] == sum(
            replica.answered for replica in w.replicas
        )
        assert page["spillway_gateway_in_flight", LOCAL] == 0
        assert page["spillway_gateway_time_to_first_token_seconds_count", LOCAL] > 0


async def test_a_dead_replica_costs_a_retry_and_not_a_payment(custody: Custody) -> None:
    async with world(custody, "dead") as w:
        w.decider.say(in_flight=1000)
        await w.settle()
        await w.replicas[1].stop()
        w.reset()
        for _ in range(4):
            assert (await w.burst(25)) == {LOCAL: 25}
        assert w.problems == []
        assert w.replicas[0].answered == 100
        assert w.clouds[0].answered == 0


async def test_a_provider_that_is_full_hands_on_and_without_any_the_replicas_queue(
    custody: Custody,
) -> None:
    async with world(custody, "failing") as w:
        w.decider.say(in_flight=2)
        await w.settle()
        a, b = w.clouds
        a.status, a.headers = 429, {"Retry-After": "3"}
        w.reset()
        assert (await w.burst(40))["b"] > 30
        refused = a.refused
        for _ in range(3):
            await w.burst(40)
        assert a.refused - refused <= WORKERS, "left alone as long as it said"
        b.status = 503
        answered = await w.burst(40)
        assert answered == {LOCAL: 40}, "all providers down: the replicas queue"
        a.status, b.status = 200, 200
        await asyncio.sleep(6)
        assert (await w.burst(40))["a"] > 30
        assert w.problems == []
