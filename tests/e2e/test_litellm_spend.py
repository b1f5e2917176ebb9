"""The operator, Prometheus and LiteLLM's proxy together: spend within what the ledger holds."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
import requests

from spillway.core.ledger import Period
from tests.e2e.rig.litellm import LiteLLM, deployment
from tests.e2e.rig.model_servers import ModelServer
from tests.e2e.scenario import CAPACITY_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

pytestmark = pytest.mark.long

BUDGET_USD: Final = 100.0
KILLS: Final = 3
#: As test_overflow.py has it: emulated replicas that take no more than they are declared to.
ENGINE: Final = {
    "router": "none",
    "profile": {"overrides": {"base_seconds": 0.022, "max_num_seqs": 16}},
}
#: About what the operator expects of a request: 225 prompt tokens and 100 of the answer.
OUTPUT_TOKENS: Final = 100
BODY: Final[dict[str, Any]] = {
    "model": "llama",
    "max_tokens": OUTPUT_TOKENS,
    "messages": [{"role": "user", "content": "hello " * 150}],
}


def committed(pool: Scenario) -> float:
    """US dollars that the stored ledger has spent or reserved this month."""
    ledger = pool.ledger()
    return 0.0 if ledger is None else float(ledger.committed(Period.MONTH))


def version(operator: OperatorProcess, pool: Scenario) -> int:
    """Of the value that may be spent now; 0 where there is none."""
    try:
        answer = requests.get(f"{operator.url}/v1/overflow/{pool.key}", timeout=2)
    except requests.RequestException:
        return 0
    if answer.status_code != 200 or not answer.json()["allowance"]["requests"]:
        return 0
    return int(answer.json()["version"])


def made(
    rig: Rig, pool: Scenario, operator: OperatorProcess, local: ModelServer, cloud: ModelServer
) -> LiteLLM:
    """The proxy before the pool, not started."""
    return LiteLLM(
        rig.custody,
        "spend",
        {
            "model_list": [
                deployment("llama", f"http://127.0.0.1:{local.port}", pool=pool.key),
                deployment(
                    "llama",
                    f"http://127.0.0.1:{cloud.port}",
                    "cloud",
                    pool=pool.key,
                    input_cost_per_token=cloud.input_usd_per_million / 1e6,
                    output_cost_per_token=cloud.output_usd_per_million / 1e6,
                ),
            ],
            "litellm_settings": {
                "callbacks": ["litellm_callback.handler", "prometheus"],
                "require_auth_for_metrics_endpoint": False,
            },
        },
        {"SPILLWAY_URL": operator.url, "SPILLWAY_REFRESH_SECONDS": "0.5"},
    )


async def kill_in_a_grant(
    operator: OperatorProcess, pool: Scenario, cloud: ModelServer, seen: int
) -> int:
    """End the operator (SIGKILL) when a grant after ``seen`` begins to be spent; its version.

    It has reserved, stored, published and dealt out then, and has not been told what is spent.
    """
    ends = time.monotonic() + 60
    now, paid = 0, cloud.answered
    while now <= seen or cloud.answered <= paid:
        if now <= seen:
            paid = cloud.answered
            now = await asyncio.to_thread(version, operator, pool)
        assert time.monotonic() < ends, (now, cloud.answered, pool.status())
        await asyncio.sleep(0.05)
    await asyncio.to_thread(operator.kill)
    return now


async def test_an_operator_killed_in_each_grant_never_lets_litellm_spend_beyond_what_is_stored(
    operators: Rig, scenario: Callable[..., Scenario], measured: dict[str, float]
) -> None:
    operator = await asyncio.to_thread(operators.start_operator)
    pool = scenario(
        spec={
            "replicas": {"floor": 2, "max": 2},
            "burst": {"driver": "LiteLLM", "budget": {"perMonth": f"{BUDGET_USD:.2f}"}},
        },
        emulator=ENGINE,
    )
    await asyncio.to_thread(pool.start)
    # Slower than the clients that ask: they fill the bound, and what is beyond may leave.
    local = await ModelServer("local", seconds=4.0).start()
    cloud = await ModelServer("cloud", seconds=0.2, completion_tokens=OUTPUT_TOKENS).start()
    proxy = made(operators, pool, operator, local, cloud)
    clients: list[asyncio.Task[None]] = []
    over: list[tuple[float, float]] = []
    try:
        await asyncio.to_thread(proxy.start, ready_timeout=120)
        operators.prometheus.set_gateways([proxy.metrics_target])
        await asyncio.to_thread(pool.rate, 2 * 2 * CAPACITY_PER_SECOND)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def client() -> None:
                headers = {"Authorization": "Bearer sk-any-one"}
                url = f"{proxy.url}/v1/chat/completions"
                while True:
                    async with session.post(url, json=BODY, headers=headers) as answer:
                        await answer.read()

            async def look() -> None:
                """The stored ledger is older than what the cloud is asked next, never younger."""
                spent = cloud.usd
                held = await asyncio.to_thread(committed, pool)
                if spent > held + 1e-6:
                    over.append((spent, held))

            clients = [asyncio.create_task(client()) for _ in range(80)]
            seen = 0
            for _ in range(KILLS):
                seen = await kill_in_a_grant(operator, pool, cloud, seen)
                for _ in range(10):
                    await look()
                    await asyncio.sleep(0.2)
                await asyncio.to_thread(operator.start)
            ends = time.monotonic() + 20
            while time.monotonic() < ends:
                await look()
                await asyncio.sleep(0.5)
            for each in clients:
                each.cancel()
        measured[f"(US dollars) paid of {BUDGET_USD:g} while {KILLS} operators died"] = cloud.usd
        assert over == []
        assert 0.05 < cloud.usd <= BUDGET_USD
        assert local.answered > 0
    finally:
        operators.prometheus.set_gateways([])
        await asyncio.to_thread(proxy.stop)
        await local.stop()
        await cloud.stop()
