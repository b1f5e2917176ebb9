"""Runs in LiteLLM's environment: 10,000 choices of its real Router with Spillway's callback.

Prints a JSON object: kind of request to side to count.
"""

import asyncio
import collections
import json
import random
import sys
from importlib import util
from typing import Any

REQUESTS = 10_000
POOL = "serving/llama"
MARKS = "header:x-data-class=restricted,key:hr-bot,team:legal,model:llama-private"
VALUE = {
    "version": 1,
    "epoch": 1,
    "until": "2100-01-01T00:00:00Z",
    "fraction": 1.0,
    "admit": {"inFlight": 0, "promptTokens": 0},
    "allowance": {"requests": 1_000_000, "usd": 1_000_000.0},
    "providers": [{"name": "first", "fraction": 0.5}, {"name": "second", "fraction": 0.5}],
    "reason": "Shortage",
    "share": {"inFlight": 0, "promptTokens": 0, "requests": 1_000_000, "usd": 1_000_000.0},
}
MARKED: dict[str, dict[str, Any]] = {
    "header": {"proxy_server_request": {"headers": {"X-Data-Class": "restricted"}}},
    "key": {"metadata": {"user_api_key_alias": "hr-bot"}},
    "team": {"metadata": {"user_api_key_team_id": "legal"}},
    "model": {"metadata": {"model_group_alias": "llama-private"}},
}


def deployment(name: str, provider: str) -> dict[str, Any]:
    """One that would refuse a connection: nothing is sent here."""
    info = {"id": name, "spillway_pool": POOL}
    return {
        "model_name": "llama",
        "litellm_params": {"model": "openai/x", "api_base": "http://127.0.0.1:1", "api_key": "x"},
        "model_info": info | ({"spillway_provider": provider} if provider else {}),
    }


async def main(path: str) -> None:
    """Choose for mixed requests; some have failed on the replicas, which cool down for a while."""
    import litellm

    spec = util.spec_from_file_location("litellm_callback", path)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)

    async def fetch(_url: str, _report: Any) -> Any:
        return VALUE

    settings = module.Settings.from_environment({"SPILLWAY_STAY": MARKS})
    handler = module.Handler(settings, fetch=fetch)
    every = [deployment("local", ""), deployment("first", "first"), deployment("second", "second")]
    router = litellm.Router(model_list=every, cooldown_time=3600)
    handler._deployments = lambda _: router.get_model_list(model_name="llama")
    litellm.callbacks = [handler]
    rng = random.Random(1)  # noqa: S311 - not for secrets.
    seen: collections.Counter[str] = collections.Counter()
    for number in range(REQUESTS):
        if number == REQUESTS // 2:  # From here on the router holds the replicas back.
            router.cooldown_cache.add_deployment_to_cooldown(
                model_id="local",
                original_exception=Exception("down"),
                exception_status=503,
                cooldown_time=3600,
            )
        kind = rng.choice(["plain", "plain", *MARKED])
        kwargs = json.loads(json.dumps(MARKED.get(kind, {})))
        if rng.random() < 0.1:
            kwargs.setdefault("metadata", {})["previous_models"] = [{"deployment_id": "local"}]
        chosen = await router.async_get_available_deployment(
            "llama", request_kwargs=kwargs, messages=[{"role": "user", "content": "x" * 400}]
        )
        seen[f"{kind} {'cloud' if chosen['model_info']['id'] != 'local' else 'local'}"] += 1
        handler._close(kwargs["litellm_call_id"], 0.0)
    print(json.dumps(seen))  # noqa: T201 - this is its output.


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
