"""LiteLLM's callback, called as LiteLLM calls it: which deployments it leaves the router."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from spillway.gateways import litellm_callback
from spillway.gateways.litellm_callback import Handler, Settings, Stays, Value

POOL = "serving/llama"
NOW = 1_800_000_000.0
UNTIL = "2027-01-15T08:01:00Z"  # NOW is 08:00:00.


def deployment(name: str, provider: str = "", **params: Any) -> dict[str, Any]:
    info = {"id": name, "spillway_pool": POOL}
    if provider:
        info["spillway_provider"] = provider
    return {"model_name": "llama", "litellm_params": params, "model_info": info}


LOCAL = deployment("local")
#: One million tokens cost two dollars there, and four at the second.
FIRST = deployment("first", "first", input_cost_per_token=2e-6, output_cost_per_token=2e-6)
SECOND = deployment("second", "second", input_cost_per_token=4e-6, output_cost_per_token=4e-6)
EVERY = [LOCAL, FIRST, SECOND]


def value(**changes: Any) -> dict[str, Any]:
    return {
        "version": 2,
        "epoch": 1,
        "until": UNTIL,
        "fraction": 0.0,
        "admit": {"inFlight": 2, "promptTokens": None},
        "allowance": {"requests": 100, "usd": 1.0},
        "providers": [{"name": "first", "fraction": 0.0}, {"name": "second", "fraction": 0.0}],
        "reason": "Shortage",
    } | changes


CLOSED = value(version=1, allowance={"requests": 0, "usd": 0}, admit=None)
FULL = value(admit={"inFlight": 0, "promptTokens": None})


class Proxy:
    """A handler as LiteLLM drives it, with an operator that answers what it is told to."""

    def __init__(self, answer: dict[str, Any] | None, **settings: Any) -> None:
        self.answer = answer
        self.now = NOW
        self.registry = CollectorRegistry()
        self.everything: list[dict[str, Any]] = []
        self.handler = Handler(
            Settings(refresh_seconds=3600, **settings),
            fetch=self.fetch,
            clock=lambda: self.now,
            registry=self.registry,
            deployments=lambda _: self.everything,
        )
        self.calls = 0

    async def fetch(self, url: str, report: Any) -> Any:
        self.report = report
        assert url.endswith(f"/v1/overflow/{POOL}")
        if self.answer is None:
            raise ConnectionError
        return self.answer

    async def refresh(self, answer: dict[str, Any] | None) -> None:
        self.answer = answer
        await self.handler._refresh(POOL, self.handler.pools[POOL])

    async def choose(self, healthy: list[dict[str, Any]] | None = None, **kwargs: Any) -> list[str]:
        """IDs of the deployments that are left for a request; it stays in flight."""
        self.calls += 1
        kwargs.setdefault("litellm_call_id", f"call-{self.calls}")
        messages = kwargs.pop("messages", [{"role": "user", "content": "x" * 400}])
        left = await self.handler.async_filter_deployments(
            "llama", EVERY if healthy is None else healthy, messages, kwargs
        )
        self.handler.log_pre_api_call("llama", messages, kwargs)
        return [each["model_info"]["id"] for each in left]

    async def end(self, call: int, usd: float = 0.0, **changes: Any) -> None:
        kwargs = {"litellm_call_id": f"call-{call}", "response_cost": usd, **changes}
        usage = SimpleNamespace(prompt_tokens=100, completion_tokens=20)
        response = SimpleNamespace(usage=usage)
        await self.handler.async_log_success_event(kwargs, response, None, None)

    async def fail(self, call: int, status: int | None, headers: Any = None) -> None:
        error = Exception("refused")
        error.__dict__.update(status_code=status, headers=headers)
        await self.handler.async_post_call_failure_deployment_hook(
            {"litellm_call_id": f"call-{call}"}, error, None
        )

    def read(self, name: str, **labels: str) -> float | None:
        where = {"namespace": "serving", "pool": "llama"} | labels
        return self.registry.get_sample_value(f"spillway_gateway_{name}", where)


async def proxy(answer: dict[str, Any] | None = None, **settings: Any) -> Proxy:
    """One that has seen that nothing may leave, and then this value."""
    made = Proxy(CLOSED, **settings)
    await made.choose([LOCAL])
    await made.end(1)
    await made.refresh(answer or value())
    made.calls = 0
    return made


# Admission


async def test_a_request_beyond_admit_goes_to_the_cheapest_provider_at_once() -> None:
    made = await proxy(value())
    assert [await made.choose() for _ in range(4)] == [["local"], ["local"], ["first"], ["first"]]
    await made.end(1)
    assert await made.choose() == ["local"]
    assert await made.choose() == ["first"]


async def test_prompt_tokens_in_flight_are_bounded_too() -> None:
    made = await proxy(value(admit={"inFlight": 100, "promptTokens": 250}))
    assert [await made.choose() for _ in range(3)] == [["local"], ["local"], ["first"]]


async def test_a_prompt_longer_than_the_bound_may_have_idle_replicas() -> None:
    made = await proxy(value(admit={"inFlight": 100, "promptTokens": 50}))
    assert await made.choose() == ["local"]
    assert await made.choose() == ["first"]


async def test_tokens_per_character_are_learned_from_answers() -> None:
    made = await proxy(value(admit={"inFlight": 100, "promptTokens": 1000}))
    pool = made.handler.pools[POOL]
    for call in range(1, 40):
        await made.choose(messages=[{"role": "user", "content": "x" * 200}])
        await made.end(call)  # 100 tokens: two characters each.
    assert pool.characters_per_token == pytest.approx(2, abs=0.2)


async def test_without_admit_the_fraction_leaves_evenly_and_sessions_stay_on_one_side() -> None:
    answer = value(admit=None, fraction=0.3, allowance={"requests": 10_000, "usd": 100})
    made = await proxy(answer)
    sides = [await made.choose() for _ in range(1000)]
    assert sides.count(["first"]) == pytest.approx(300, abs=1)
    sessions = {}
    for number in range(300):
        name = f"session-{number}"
        sides = [await made.choose(litellm_session_id=name) for _ in range(3)]
        assert sides == [sides[0]] * 3
        sessions[name] = sides[0]
    assert list(sessions.values()).count(["first"]) == pytest.approx(90, abs=30)


async def test_a_session_whose_prefix_is_here_gets_the_last_places() -> None:
    made = await proxy(value(admit={"inFlight": 40, "promptTokens": None}))
    warm: dict[str, Any] = {"metadata": {"session_id": "warm"}}
    assert await made.choose(**warm) == ["local"]
    await made.end(1)
    assert await made.choose(**warm) == ["local"]
    strangers = [await made.choose() for _ in range(40)]
    assert strangers.count(["local"]) == 37  # 38 of 40 places, one of which is the session's.
    assert await made.choose(**warm) == ["local"]


async def test_processes_share_the_bounds_and_the_allowance() -> None:
    answer = value(
        admit={"inFlight": 4, "promptTokens": None}, allowance={"requests": 6, "usd": 1.0}
    )
    made = await proxy(answer, shares=2)
    sides = [await made.choose() for _ in range(10)]
    assert sides.count(["first"]) == 3
    assert sides[:2] == [["local"], ["local"]]
    assert sides[5:] == [["local"]] * 5  # The allowance is used up: they queue.


async def test_what_the_operator_deals_out_goes_before_everything() -> None:
    dealt = {"inFlight": 1, "promptTokens": None, "requests": 2, "usd": 0.02}
    answer = value(share=dealt, validForSeconds=30)
    made = Proxy(answer, shares=8)
    # Dealt to this very process, so it may be spent at once.
    assert [await made.choose() for _ in range(5)] == [["local"]] + [["first"]] * 2 + [
        ["local"]
    ] * 2
    await made.refresh(answer)
    assert made.report["version"] == 2
    assert (made.report["cap"], made.report["used"], made.report["inFlight"]) == (2, 2, 3)
    assert made.report["gateway"] == made.report["worker"]
    # A standby knows the value and not this process's part.
    await made.refresh(value())
    assert await made.choose() == ["local"]
    await made.refresh(value(share=dealt | {"requests": 4, "usd": 0.04}, validForSeconds=30))
    assert await made.choose() == ["first"]
    made.now += 31  # By the operator's clock there would be half a minute left.
    assert await made.choose() == ["local"]


async def test_terms_of_the_operator_stand_in_where_deployments_say_nothing() -> None:
    terms = {
        "name": "plain",
        "inputUsdPerMillion": 10_000.0,
        "outputUsdPerMillion": 0.0,
        "maxContextTokens": 500,
    }
    answer = FULL | {
        "providers": [{"name": "plain", "fraction": 0.0}],
        "terms": {"providers": [terms]},
    }
    made = await proxy(answer)
    plain = deployment("plain", "plain")
    long = [{"role": "user", "content": "x" * 8000}]
    assert await made.choose([LOCAL, plain], messages=long) == ["local"]
    assert await made.choose([LOCAL, plain], max_tokens=10) == ["plain"]  # A cent for each token.
    assert await made.choose([LOCAL, plain], max_tokens=10) == ["local"]


# The value


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {"error": "no overflow value"},
        value(version="x"),
        value(fraction=2),
        value(until="soon"),
        value(allowance={"requests": -1, "usd": 1}),
        [],
    ],
)
async def test_without_a_value_everything_stays(answer: Any) -> None:
    made = Proxy(answer)
    assert [await made.choose() for _ in range(5)] == [["local"]] * 5


async def test_an_expired_or_stale_value_is_not_used() -> None:
    made = await proxy(FULL)
    assert await made.choose() == ["first"]
    await made.refresh(None)
    made.now += 44
    assert await made.choose() == ["first"]
    made.now += 2  # 46 s without an answer, though the value would last.
    assert await made.choose() == ["local"]
    await made.refresh(FULL)
    assert await made.choose() == ["first"]
    made.now += 15
    assert await made.choose() == ["local"]


async def test_the_highest_epoch_wins_and_a_closing_value_always_counts() -> None:
    made = await proxy(FULL)
    await made.refresh(value(epoch=0, version=9))
    assert await made.choose() == ["first"]
    await made.refresh(value(epoch=2, version=1))
    assert await made.choose() == ["local"]
    await made.refresh(FULL)
    assert made.handler.pools[POOL].value == Value.parse(value(epoch=2, version=1), NOW)
    shorter = {"epoch": 2, "version": 1, "until": "2027-01-15T08:00:30Z"}
    await made.refresh(FULL | shorter)
    assert await made.choose() == ["local"]
    await made.refresh(CLOSED | shorter)
    assert made.handler.pools[POOL].value == Value.parse(CLOSED | shorter, NOW)


async def test_a_process_that_starts_amid_a_grant_does_not_spend_it_again() -> None:
    made = Proxy(FULL)
    assert await made.choose() == ["local"]
    await made.refresh(FULL)
    assert await made.choose() == ["local"]
    # The operator extends a grant only after it has seen that enough of it is unused.
    await made.refresh(FULL | {"until": "2027-01-15T08:01:20Z"})
    assert await made.choose() == ["first"]


# Allowance


async def test_the_allowance_caps_requests_and_starts_anew_with_the_version() -> None:
    few = FULL | {"allowance": {"requests": 3, "usd": 1.0}}
    made = await proxy(few)
    assert [await made.choose() for _ in range(5)] == [["first"]] * 3 + [["local"]] * 2
    await made.refresh(few)
    assert await made.choose() == ["local"]
    await made.refresh(few | {"version": 3})
    assert await made.choose() == ["first"]


async def test_the_allowance_caps_dollars_by_what_answers_really_cost() -> None:
    made = await proxy(FULL | {"allowance": {"requests": 100, "usd": 0.01}})
    # 100 prompt tokens and at most 900: $0.002 are put aside for each.
    sides = [await made.choose(max_tokens=900) for _ in range(6)]
    assert sides == [["first"]] * 5 + [["local"]]
    await made.end(1, usd=0.0005)
    await made.end(2, usd=0.0005)
    assert await made.choose(max_tokens=900) == ["first"]
    assert await made.choose(max_tokens=900) == ["local"]
    assert made.handler.pools[POOL].used_usd == pytest.approx(0.009)


async def test_it_caps_the_paid_side_when_cooldown_empties_the_local_one() -> None:
    made = await proxy(value(allowance={"requests": 4, "usd": 1.0}))
    made.everything = EVERY
    sides = [await made.choose([FIRST, SECOND]) for _ in range(20)]
    assert sides == [["first"]] * 4 + [["local"]] * 16


async def test_replicas_in_cooldown_are_remembered_where_the_router_does_not_tell() -> None:
    made = await proxy(value(allowance={"requests": 0, "usd": 0}))
    assert await made.choose([FIRST]) == ["local"]


async def test_an_attempt_that_failed_gives_its_dollars_back_but_not_its_place() -> None:
    made = await proxy(FULL | {"allowance": {"requests": 3, "usd": 1.0}})
    for call, status in enumerate((500, None, 500), start=1):
        await made.choose()
        await made.fail(call, status)
    assert await made.choose() == ["local"]
    # Nobody knows whether the one without an answer is billed.
    assert made.handler.pools[POOL].used_usd == pytest.approx(1 / 3)


async def test_a_cached_answer_costs_no_allowance() -> None:
    made = await proxy(FULL | {"allowance": {"requests": 1, "usd": 1.0}})
    call = {"litellm_call_id": "call-1"}
    await made.handler.async_filter_deployments("llama", EVERY, [], call)
    await made.end(1, cache_hit=True)
    assert await made.choose() == ["first"]
    assert made.read("cache_hits_total") == 1
    assert made.read("cache_saved_tokens_total") == 120


async def test_what_litellms_own_router_sends_here_is_counted_when_it_is_sent() -> None:
    made = await proxy(value())
    made.everything = [
        {"model_name": "auto", "litellm_params": {"model": "auto_router/complexity_router"}}
    ]
    await made.choose(proxy_server_request={"body": {"model": "auto"}})
    await made.choose(proxy_server_request={"body": {"model": "llama"}})
    made.everything = [LOCAL]
    await made.choose(proxy_server_request={"body": {"model": "an-alias"}})
    assert made.read("routed_requests_total") == 1


# Marked requests

STAY = (
    ("header", "x-data-class", "restricted"),
    ("key", "hr-bot", ""),
    ("team", "legal", ""),
    ("model", "llama-private", ""),
)
MARKED: list[dict[str, Any]] = [
    {"proxy_server_request": {"headers": {"X-Data-Class": "restricted"}}},
    {"metadata": {"headers": {"x-data-class": "restricted"}}},
    {"metadata": {"user_api_key_alias": "hr-bot"}},
    {"litellm_metadata": {"user_api_key_team_alias": "legal"}},
    {"metadata": {"user_api_key_team_id": "legal"}},
    {"metadata": {"model_group_alias": "llama-private"}},
    {"proxy_server_request": {"body": {"model": "llama-private"}}},
    {"metadata": {"user_api_key_team_metadata": {"spillway_stay": True}}},
]


@pytest.mark.parametrize("marked", MARKED)
async def test_marked_requests_stay_whatever_happens(marked: dict[str, Any]) -> None:
    made = await proxy(FULL, stay=STAY)
    other: dict[str, Any] = {"proxy_server_request": {"headers": {"x-data-class": "public"}}}
    assert await made.choose(**other) == ["first"]
    assert await made.choose(**marked) == ["local"]
    assert await made.choose([FIRST, SECOND], **marked) == ["local"]
    excluded = {"_excluded_deployment_ids": ["local"]}
    assert await made.choose([LOCAL, FIRST], **marked, **excluded) == ["local"]


async def test_fallbacks_to_other_models_do_not_let_marked_requests_out() -> None:
    made = await proxy(FULL, stay=STAY)
    elsewhere = {"model_info": {"id": "gpt"}, "litellm_params": {}}
    own = {"model_info": {"id": "own", "spillway_local": True}, "litellm_params": {}}
    assert await made.choose([elsewhere]) == ["gpt"]
    for marked in MARKED:
        assert await made.choose([elsewhere, own], **marked) == ["own"]
        with pytest.raises(Stays, match="must not leave"):
            await made.choose([elsewhere], **marked)
        named = {**marked, "model": "gpt", "model_info": elsewhere["model_info"]}
        with pytest.raises(Stays, match="must not leave"):
            await made.handler.async_pre_call_deployment_hook(named, None)


async def test_a_paid_deployment_that_is_named_directly_needs_allowance_too() -> None:
    made = await proxy(FULL | {"allowance": {"requests": 1, "usd": 1.0}})
    for number in range(2):
        call = {"litellm_call_id": f"direct-{number}", "model_info": FIRST["model_info"]}
        if number:
            with pytest.raises(Stays):
                await made.handler.async_pre_call_deployment_hook(call, None)
        else:
            await made.handler.async_pre_call_deployment_hook(call, None)
    assert made.handler.pools[POOL].used_requests == 1


# Failures and providers


async def test_never_a_deployment_that_this_request_failed_on() -> None:
    made = await proxy(value())
    attempt: dict[str, Any] = {"metadata": {"previous_models": ({"deployment_id": "local"},)}}
    assert await made.choose(**attempt) == ["first"]
    attempt["metadata"]["_failover_excluded_ids"] = ["first"]
    assert await made.choose(**attempt) == ["second"]
    attempt["metadata"]["_failover_excluded_ids"] = ["first", "second"]
    other = deployment("local-2")
    assert await made.choose([*EVERY, other], **attempt) == ["local-2"]
    made.everything = EVERY
    assert await made.choose(**attempt) == ["local"]  # Better than an error.


async def test_a_429_moves_the_share_to_the_next_provider_for_as_long_as_it_says() -> None:
    made = await proxy(FULL)
    assert await made.choose() == ["first"]
    await made.fail(1, 429, {"Retry-After": "20"})
    assert await made.choose() == ["second"]
    made.now += 19
    assert await made.choose() == ["second"]
    made.now += 2
    assert await made.choose() == ["first"]
    assert made.read("failures_total", destination="cloud", provider="first", code="429") == 1


async def test_429s_without_a_date_pause_longer_each_time_and_all_down_means_local() -> None:
    made = await proxy(FULL)
    await made.choose()
    await made.fail(1, 429)
    made.now += 6
    assert await made.choose() == ["first"]
    await made.fail(2, 429)
    made.now += 6
    assert await made.choose() == ["second"]
    await made.fail(3, 429, {"retry-after": "Fri, 15 Jan 2027 08:01:00 GMT"})
    assert await made.choose() == ["local"]


async def test_providers_fill_within_requests_and_tokens_a_minute() -> None:
    limited = deployment("first", "first", rpm=3)
    thin = deployment("second", "second", tpm=300)  # 100 tokens of prompt, 20 of answer.
    made = await proxy(FULL)
    every = [LOCAL, limited, thin]
    sides = [await made.choose(every) for _ in range(7)]
    assert sides == [["first"]] * 3 + [["second"]] * 2 + [["local"]] * 2
    made.now += 59
    assert await made.choose(every) == ["local"]
    await made.refresh(FULL | {"until": "2027-01-15T08:03:00Z"})
    made.now += 2
    assert await made.choose(every) == ["first"]


async def test_prompts_over_a_providers_context_stay() -> None:
    small = deployment("first", "first", max_input_tokens=1000)
    small["model_info"]["max_input_tokens"] = 1000
    made = await proxy(FULL)
    long = [{"role": "user", "content": [{"type": "text", "text": "x" * 8000}]}]
    assert await made.choose([LOCAL, small], messages=long) == ["local"]
    assert await made.choose([LOCAL, small]) == ["first"]
    assert await made.choose([LOCAL, small], max_tokens=950) == ["local"]
    assert await made.choose([LOCAL, small, SECOND], messages=long) == ["second"]


async def test_the_operators_order_counts_and_providers_without_a_share_come_last() -> None:
    turned = [{"name": "first", "fraction": 0.0}, {"name": "second", "fraction": 0.4}]
    made = await proxy(FULL | {"providers": turned, "fraction": 0.4})
    assert await made.choose() == ["second"]
    assert await made.choose([LOCAL, FIRST]) == ["first"]
    await made.refresh(FULL | {"version": 3, "providers": [{"name": "unknown", "fraction": 0.4}]})
    assert await made.choose() == ["local"]


async def test_groups_of_no_pool_are_left_alone() -> None:
    made = await proxy()
    other = [{"model_info": {"id": "a"}}, {"model_info": {"id": "b"}}]
    assert await made.choose(other) == ["a", "b"]
    assert await made.choose([LOCAL, *other]) == ["local"]


# What ends, and what is counted


async def test_in_flight_comes_back_however_a_request_ends() -> None:
    made = await proxy(value())
    pool, handler = made.handler.pools[POOL], made.handler
    for _ in range(2):
        await made.choose()
    assert pool.in_flight == 2
    await handler.async_post_call_success_deployment_hook({"litellm_call_id": "call-1"}, 0, 0)
    assert pool.in_flight == 1
    await made.end(1)
    await made.fail(2, 500)
    assert (pool.in_flight, pool.tokens_in_flight) == (0, 0)

    await made.choose()  # A stream that the client leaves.
    stream = handler.async_post_call_streaming_iterator_hook(
        None, chunks(), {"litellm_call_id": "call-3"}
    )
    assert await anext(stream) == 0
    assert pool.in_flight == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert pool.in_flight == 0

    await made.choose()  # One that nobody tells of: its logging object is gone.
    logger = SimpleNamespace()
    holder = LoggingObject()
    await handler.async_pre_call_deployment_hook(
        {"litellm_call_id": "call-4", "litellm_logging_obj": holder}, None
    )
    del logger, holder
    assert pool.in_flight == 0

    call = {"litellm_call_id": "call-5"}  # One that was never sent.
    await handler.async_filter_deployments("llama", EVERY, [], call)
    made.now += 31
    handler._sweep()
    assert pool.in_flight == 0


class LoggingObject:
    """Stands for LiteLLM's, of which a request has one."""


async def chunks() -> Any:
    for number in range(3):
        yield number


async def test_its_metrics_are_the_gateways_contract() -> None:
    made = await proxy(value(admit={"inFlight": 1, "promptTokens": None}))
    await made.choose()
    await made.choose()
    await made.end(2, usd=0.25)
    cloud = {"destination": "cloud", "provider": "first"}
    local = {"destination": "local", "provider": ""}
    assert made.read("requests_total", **cloud) == 1
    assert made.read("requests_total", **local) == 2
    assert made.read("in_flight", **local) == 1
    assert made.read("in_flight", **cloud) == 0
    assert made.read("cost_usd_total", **cloud) == 0.25
    assert made.read("prompt_tokens_total", **cloud) == 100
    assert made.read("completion_tokens_total", **cloud) == 20
    assert made.read("value_age_seconds") == 0


# How it is loaded


async def test_it_loads_as_litellm_loads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file beside the config, not registered as a module; ``handler`` is made once."""
    monkeypatch.setenv("SPILLWAY_URL", "http://127.0.0.1:1/")
    path = Path(litellm_callback.__file__)
    spec = importlib.util.spec_from_file_location("litellm_callback_alone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler = module.handler
    assert handler is module.handler
    assert handler.settings.url == "http://127.0.0.1:1"
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SPILLWAY_REFRESH_SECONDS", "often"),
        ("SPILLWAY_MAX_AGE_SECONDS", "0"),
        ("SPILLWAY_SHARES", "-1"),
        ("SPILLWAY_STAY", "colour:red"),
        ("SPILLWAY_STAY", "key:"),
    ],
)
def test_a_setting_that_is_not_accepted_is_named(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: must be .*{text}"):
        Settings.from_environment({name: text})


def test_settings_come_from_the_environment() -> None:
    settings = Settings.from_environment(
        {
            "SPILLWAY_URL": "http://spillway:8080/",
            "SPILLWAY_SHARES": "4",
            "SPILLWAY_STAY": "header:X-Data-Class=restricted, team:legal,key:hr-bot,model:private",
        }
    )
    assert (settings.url, settings.shares) == ("http://spillway:8080", 4)
    assert settings.stay[1:] == (
        ("header", "x-data-class", "restricted"),
        ("team", "legal", ""),
        ("key", "hr-bot", ""),
        ("model", "private", ""),
    )


# Asking the operator


class Answer:
    def __init__(self, status: int, content: Any) -> None:
        self.status_code, self.content = status, content
        self.is_success = status == 200

    def json(self) -> Any:
        return self.content

    def raise_for_status(self) -> None:
        if not self.is_success:
            raise ConnectionError(self.status_code)


async def test_the_leader_is_looked_for_among_standbys_with_one_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Making a client takes long enough to hold every request up."""
    clients: list[dict[str, Any]] = []
    answers = [
        *(Answer(200, {"by": "standby"}), Answer(200, {"by": "leader", "share": {}})),
        *(Answer(200, {"by": "standby"}),) * 3,
        Answer(404, {}),
    ]

    class Client:
        def __init__(self, **settings: Any) -> None:
            clients.append(settings)

        async def post(self, url: str, json: Any) -> Answer:
            assert (url, json) == ("http://operator", {"inFlight": 3})
            return answers.pop(0)

    fake = SimpleNamespace(AsyncClient=Client, Limits=dict)
    monkeypatch.setitem(sys.modules, "httpx", fake)
    ask = litellm_callback.Operator()
    assert (await ask("http://operator", {"inFlight": 3}))["by"] == "leader"
    assert (await ask("http://operator", {"inFlight": 3}))["by"] == "standby", "there is no leader"
    with pytest.raises(ConnectionError):
        await ask("http://operator", {"inFlight": 3})
    assert answers == []
    assert [c["limits"] for c in clients] == [{"max_keepalive_connections": 0}]
