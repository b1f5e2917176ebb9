"""LiteLLM's real proxy with Spillway's callback, between model servers that count what they get."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from spillway.api.inferencepool import Budget
from spillway.core.ledger import Period, PoolLedger, reserve, settle
from tests.e2e.rig.decider import Decider
from tests.e2e.rig.litellm import MASTER_KEY, LiteLLM, deployment
from tests.e2e.rig.model_servers import ModelServer
from tests.e2e.rig.processes import Custody
from tests.unit.chart_values import LITELLM
from tools.helm import render

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

pytestmark = pytest.mark.long

LOCAL: Final = "local"
CLOUDS: Final = ("a", "b")
#: How often the callback asks for the value here, and how long one it can't refresh is used.
REFRESH_SECONDS: Final = 0.5
MAX_AGE_SECONDS: Final = 6.0
#: The proxy answers 10 to 90 requests a second, by what else the machine does: as many as fit in
#: two minutes. The Router itself makes 10,000 choices in test_litellm.py.
MIXED_SECONDS: Final = 120.0
MOST_REQUESTS: Final = 10_000
FEWEST_REQUESTS: Final = 300
MARKS: Final = "header:x-data-class=restricted,key:hr-bot,team:legal,model:llama-private"
#: Requests by kind of mark: header, key, team, model alias.
MARKED: Final[dict[str, dict[str, str]]] = {
    "header": {"x-data-class": "restricted"},
    "own header": {"x-spillway-stay": "1"},
    "key": {"Authorization": "Bearer sk-key-hr-bot"},
    "team": {"Authorization": "Bearer sk-team-legal"},
    "model": {},
}


@pytest.fixture(scope="module")
def custody() -> Iterator[Custody]:
    with Custody() as made:
        yield made


@dataclass
class World:
    """Everything around one proxy.

    Attributes:
        proxy: LiteLLM.
        decider: Plays the operator.
        local: The pool's own.
        clouds: The providers, ``a`` and ``b``.
        session: To the proxy.
        problems: What clients saw that was no answer.
    """

    proxy: LiteLLM
    decider: Decider
    local: ModelServer
    clouds: list[ModelServer]
    session: aiohttp.ClientSession
    problems: list[str] = field(default_factory=list)

    async def ask(
        self,
        *,
        stream: bool = False,
        headers: dict[str, str] | None = None,
        model: str = "llama",
        marked: bool = False,
        words: int = 20,
    ) -> str:
        """Who answered; "" where nobody did, noted in ``problems``."""
        body = {
            "model": model,
            "stream": stream,
            "messages": [{"role": "user", "content": ("marked " if marked else "hello ") * words}],
        }
        sent = {"Authorization": "Bearer sk-any-one"} | (headers or {})
        url = f"{self.proxy.url}/v1/chat/completions"
        try:
            async with self.session.post(url, json=body, headers=sent) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.problems.append(repr(error))
            return ""
        if answer.status != 200 or "word" not in text:
            self.problems.append(f"{answer.status} {text[:300]}")
            return ""
        address = answer.headers["x-litellm-model-api-base"]
        servers = (self.local, *self.clouds)
        return next(each.name for each in servers if f":{each.port}/" in address)

    async def burst(self, count: int, **how: Any) -> Counter[str]:
        """So many at once; who answered."""
        return Counter(await asyncio.gather(*(self.ask(**how) for _ in range(count))))

    async def settle(self) -> None:
        """Let the proxy fetch the present value, and what has ended be accounted."""
        await asyncio.sleep(4 * REFRESH_SECONDS)

    @property
    def paid(self) -> int:
        """Requests that the clouds answered."""
        return sum(cloud.answered for cloud in self.clouds)

    def reset(self) -> None:
        """Count anew."""
        for server in (self.local, *self.clouds):
            server.answered = server.marks = server.refused = server.prompt_tokens = 0
            server.usd = 0.0
            server.together.peak = server.together.in_flight

    async def until(
        self, reached: Callable[[dict[tuple[str, str], float]], bool], seconds: float = 20.0
    ) -> dict[tuple[str, str], float]:
        """The page as soon as something is so; LiteLLM tells of an end after the answer."""
        ends = time.monotonic() + seconds
        while not reached(page := await self.page()):
            assert time.monotonic() < ends, dict(page)
            await asyncio.sleep(0.2)
        return page

    async def accounted(self) -> dict[tuple[str, str], float]:
        """The page when all that was paid is in it."""
        return await self.until(
            lambda page: (
                page["completion_tokens_total", "cloud"]
                >= sum(cloud.answered * cloud.completion_tokens for cloud in self.clouds)
            )
        )

    @property
    def under_way(self) -> tuple[int, int]:
        """Requests at the replicas and at the clouds, as these count them."""
        return self.local.together.in_flight, sum(c.together.in_flight for c in self.clouds)

    def refused_replicas_only(self) -> bool:
        """Whether nobody saw another error than that of replicas that don't answer."""
        return all(problem.startswith("503") for problem in self.problems)

    async def page(self) -> dict[tuple[str, str], float]:
        """The callback's series: values by name and destination."""
        found: defaultdict[tuple[str, str], float] = defaultdict(float)
        async with self.session.get(f"{self.proxy.url}/metrics/") as answer:
            text = await answer.text()
        assert answer.status == 200, text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith("spillway_gateway_"):
                    name = sample.name.removeprefix("spillway_gateway_")
                    found[name, sample.labels.get("destination", "")] += sample.value
        return found


@asynccontextmanager
async def world(
    custody: Custody, name: str, settings: Mapping[str, Any] | None = None, **router: Any
) -> AsyncIterator[World]:
    """A proxy with one local and two paid deployments, and nothing known of a value yet."""
    local = await ModelServer(LOCAL).start()
    clouds = [await ModelServer(each).start() for each in CLOUDS]
    decider = await Decider(clouds).start()
    prices: list[dict[str, Any]] = [
        {
            "input_cost_per_token": cloud.input_usd_per_million / 1e6,
            "output_cost_per_token": cloud.output_usd_per_million / 1e6,
        }
        for cloud in clouds
    ]
    config = {
        "model_list": [
            deployment("llama", f"http://127.0.0.1:{local.port}"),
            *(
                deployment("llama", f"http://127.0.0.1:{cloud.port}", cloud.name, **price)
                for cloud, price in zip(clouds, prices, strict=True)
            ),
        ],
        "litellm_settings": {
            "callbacks": ["litellm_callback.handler", "prometheus"],
            "require_auth_for_metrics_endpoint": False,
            **(settings or {}),
        },
        "router_settings": {
            "num_retries": 2,
            "model_group_alias": {"llama-private": "llama"},
            **router,
        },
    }
    proxy = LiteLLM(
        custody,
        name,
        config,
        {
            "SPILLWAY_URL": f"http://127.0.0.1:{decider.port}",
            "SPILLWAY_REFRESH_SECONDS": str(REFRESH_SECONDS),
            "SPILLWAY_MAX_AGE_SECONDS": str(MAX_AGE_SECONDS),
            "SPILLWAY_STAY": MARKS,
        },
    )
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        try:
            await asyncio.to_thread(proxy.start, ready_timeout=120)
            yield World(proxy, decider, local, clouds, session)
        finally:
            await asyncio.to_thread(proxy.stop)
            await decider.stop()
            for server in (local, *clouds):
                await server.stop()


async def test_under_full_overload_no_marked_request_leaves_while_replicas_answer_and_while_not(
    custody: Custody, measured: dict[str, float]
) -> None:
    async with world(custody, "marked") as w:
        w.decider.say(in_flight=2)
        await w.ask()
        await w.settle()
        w.reset()
        kinds = ["", *MARKED, "", ""]
        asked: Counter[str] = Counter()
        answered: Counter[tuple[bool, str]] = Counter()
        began = time.monotonic()

        async def client() -> None:
            while asked.total() < MOST_REQUESTS and time.monotonic() - began < MIXED_SECONDS:
                kind = kinds[asked.total() % len(kinds)]
                asked[kind] += 1
                model = "llama-private" if kind == "model" else "llama"
                who = await w.ask(
                    headers=MARKED.get(kind),
                    model=model,
                    stream=asked.total() % 3 == 0,
                    marked=bool(kind),
                )
                answered[bool(kind), who] += 1

        async def replicas_that_fail_now_and_then() -> None:
            while time.monotonic() - began < MIXED_SECONDS:
                await asyncio.sleep(MIXED_SECONDS / 6)
                w.local.status = 503 if w.local.status == 200 else 200

        failing = asyncio.create_task(replicas_that_fail_now_and_then())
        await asyncio.gather(*(client() for _ in range(24)))
        failing.cancel()
        measured[f"{asked.total()} mixed requests through LiteLLM's proxy took"] = (
            time.monotonic() - began
        )
        assert asked.total() >= FEWEST_REQUESTS
        assert w.clouds[0].marks == w.clouds[1].marks == 0
        assert set(answered) <= {
            (True, LOCAL),
            (True, ""),
            (False, LOCAL),
            (False, "a"),
            (False, ""),
        }
        assert answered[True, LOCAL] > asked.total() / 10, "marked ones are served"
        assert answered[True, ""] > 0, "and get an error while no replica answers"
        assert answered[False, "a"] == w.clouds[0].answered > asked.total() / 10, "others left"
        assert w.refused_replicas_only()


async def test_the_ledger_counts_the_tokens_and_dollars_that_the_cloud_counts(
    custody: Custody,
) -> None:
    async with world(custody, "ledger") as w:
        w.decider.say(in_flight=0, requests=0)
        await w.ask()
        await w.settle()
        ledger = settle(PoolLedger.empty("UTC", time.time()), 0.0, 0.0, time.time())
        ledger, allowance = reserve(ledger, 1.0, 200, Budget(per_day=Decimal(5)), time.time())
        w.decider.say(in_flight=0, requests=allowance.requests, usd=allowance.usd)
        await w.settle()
        w.reset()
        for number in range(60):
            # The tokens of a page's worth, whole or as a stream.
            await asyncio.gather(
                *(w.ask(stream=bool((number + each) % 2), words=1 + 7 * number) for each in (0, 1))
            )
        assert w.problems == []
        assert w.paid == 120
        page = await w.accounted()
        assert page["requests_total", "cloud"] == 120
        assert page["prompt_tokens_total", "cloud"] == sum(c.prompt_tokens for c in w.clouds)
        outputs = sum(c.answered * c.completion_tokens for c in w.clouds)
        assert page["completion_tokens_total", "cloud"] == outputs
        cost = sum(cloud.usd for cloud in w.clouds)
        assert page["cost_usd_total", "cloud"] == pytest.approx(cost, rel=1e-6)
        settled = settle(
            ledger, page["requests_total", "cloud"], page["cost_usd_total", "cloud"], time.time()
        )
        assert float(settled.spent[Period.DAY].usd) == pytest.approx(cost, abs=1e-5)
        assert page["in_flight", "cloud"] == page["in_flight", "local"] == 0


async def test_the_allowance_is_never_passed_also_while_the_replicas_cool_down(
    custody: Custody,
) -> None:
    async with world(custody, "allowance", cooldown_time=30, allowed_fails=0) as w:
        w.decider.say(in_flight=2, requests=0)
        await w.ask()
        await w.settle()
        w.reset()
        w.decider.say(in_flight=2, requests=30)
        await w.settle()
        for _ in range(3):
            await w.burst(30)
        assert w.paid == 30, "all of it, and no more"
        assert w.problems == []
        w.local.status = 503
        w.decider.say(in_flight=1000, requests=20)
        await w.settle()
        w.reset()
        for _ in range(4):
            await w.burst(20)
        assert 15 <= w.paid <= 20, "what no replica takes may leave, within the allowance"
        assert len(w.problems) >= 80 - 20
        # Its own end is told as an error of the replicas.
        assert all(problem.startswith("503") for problem in w.problems)
        w.local.status = 200
        w.problems.clear()
        assert await w.burst(10) == {LOCAL: 10}, "tried at once, though LiteLLM lets them cool down"
        assert w.problems == []


async def test_a_client_that_hangs_up_gives_its_place_back(custody: Custody) -> None:
    async with world(custody, "hangup") as w:
        w.decider.say(in_flight=4)
        await w.ask()
        await w.settle()
        w.reset()
        for stream, seconds in ((True, 60.0), (False, 12.0)):
            for server in (w.local, *w.clouds):
                server.seconds = seconds
            requests = [asyncio.create_task(w.ask(stream=stream)) for _ in range(7)]
            await w.until(lambda _: w.under_way == (4, 3))
            page = await w.page()
            assert (page["in_flight", "local"], page["in_flight", "cloud"]) == (4, 3)
            # Streams are on their way to the client by now.
            await asyncio.sleep(3)
            for request in requests:
                request.cancel()
            # LiteLLM hangs up on a stream's server, and waits for a whole answer all the same.
            # Either way a place is free when the replica's is.
            await w.until(lambda p: p["in_flight", "local"] + p["in_flight", "cloud"] == 0)
            await w.until(lambda _: w.under_way == (0, 0), seconds=5)
        for server in (w.local, *w.clouds):
            server.seconds = 0.5
        assert (await w.burst(8))[LOCAL] == 4, "the places are there again"


async def test_a_value_that_ends_or_grows_old_keeps_all_local(custody: Custody) -> None:
    async with world(custody, "stale") as w:
        assert await w.burst(10) == {LOCAL: 10}, "no value yet"
        w.decider.say(in_flight=0)
        await w.settle()
        assert await w.burst(10) == {"a": 10}
        await w.decider.stop()
        assert (await w.burst(10))["a"] > 0, "the last value holds"
        await asyncio.sleep(MAX_AGE_SECONDS + 1)
        assert await w.burst(10) == {LOCAL: 10}, "and is too old, though it has not ended"
        await w.decider.start()
        await w.settle()
        assert await w.burst(10) == {"a": 10}, "back by itself"
        w.decider.say(in_flight=0, seconds=5.0)
        ends = time.monotonic() + 5.0
        await asyncio.sleep(max(0.0, ends - time.monotonic()) + 0.5)
        assert await w.burst(10) == {LOCAL: 10}, "it has ended"
        assert w.problems == []


async def test_what_a_cache_answers_is_no_arrival_and_is_told(custody: Custody) -> None:
    # LiteLLM's cache in memory, which compares requests as they are: the semantic one is the same
    # code around another comparison.
    async with world(custody, "cache", {"cache": True, "cache_params": {"type": "local"}}) as w:
        assert [await w.ask() for _ in range(4)] == [LOCAL] * 4
        assert w.local.answered == 1
        page = await w.until(lambda p: p["cache_hits_total", ""] == 3)
        each = w.local.prompt_tokens + w.local.completion_tokens
        assert page["cache_saved_tokens_total", ""] == 3 * each
        assert page["requests_total", LOCAL] == 1
        assert page["in_flight", LOCAL] == 0


async def test_it_starts_with_the_configuration_that_the_chart_renders(custody: Custody) -> None:
    """With all that the chart can do but the semantic cache, which needs a Redis with search."""
    small, large = await ModelServer("small").start(), await ModelServer("large").start()
    cloud = await ModelServer("together").start()
    decider = await Decider([cloud]).start()
    rendered = yaml.safe_load_all(render({"litellm": LITELLM})["litellm.yaml"])
    (held,) = [d["data"] for d in rendered if d["kind"] == "ConfigMap"]
    config = yaml.safe_load(held["config.yaml"])
    # Names of the cluster's; all else is as rendered.
    for entry, server in zip(config["model_list"], (small, cloud, large), strict=False):
        entry["litellm_params"]["api_base"] = f"http://127.0.0.1:{server.port}/v1"
    proxy = LiteLLM(
        custody,
        "rendered",
        config,
        {"SPILLWAY_URL": f"http://127.0.0.1:{decider.port}", "TOGETHER_API_KEY": "none"},
        authenticate=False,
        callback=held["litellm_callback.py"],
    )
    headers = {"Authorization": f"Bearer {MASTER_KEY}"}
    try:
        await asyncio.to_thread(proxy.start, ready_timeout=120)
        async with aiohttp.ClientSession(headers=headers) as session:

            async def ask(model: str, text: str) -> int:
                body = {"model": model, "messages": [{"role": "user", "content": text}]}
                url = f"{proxy.url}/v1/chat/completions"
                async with session.post(url, json=body) as answer:
                    return answer.status

            assert await ask("auto", "hello") == 200
            assert (small.answered, large.answered) == (1, 0), "an easy one"
            hard = (
                "Think step by step and prove, with a formal proof by induction, the complexity of "
                "the distributed consensus algorithm; analyze the trade-offs and then refactor "
                "this function: ```def f(x): return x```"
            )
            assert await ask("auto", hard) == 200
            assert (small.answered, large.answered) == (1, 1), "a hard one"
            small.status = 503
            assert await ask("llama-8b", "hello") == 200
            assert (large.answered, cloud.answered) == (2, 0), "the fallback; nothing may be paid"
            async with session.get(f"{proxy.url}/metrics/") as page:
                text = await page.text()
            for pool in ("llama-8b", "llama-70b"):
                labels = f'{{namespace="serving",pool="{pool}"}}'
                assert f"spillway_gateway_routed_requests_total{labels} 1.0" in text
        async with (
            aiohttp.ClientSession() as stranger,
            stranger.get(f"{proxy.url}/v1/models") as answer,
        ):
            # 401 in the image; here LiteLLM fails over a package of its database's as it refuses.
            assert answer.status in {401, 500}
            assert "llama-8b" not in await answer.text()
    finally:
        await asyncio.to_thread(proxy.stop)
        await decider.stop()
        for server in (small, large, cloud):
            await server.stop()
