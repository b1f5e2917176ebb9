"""The edge's Lua, script by script, in the interpreter that Envoy has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from spillway.edge import lua
from spillway.edge.settings import EdgeSettings
from tests.unit.edge.envoy_stub import Script

if TYPE_CHECKING:
    from pathlib import Path

PATH = {":method": "POST", ":path": "/v1/chat/completions"}
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello " * 40}]}
PROVIDERS = [
    {"name": "a", "inputUsdPerMillion": 10, "outputUsdPerMillion": 30, "maxContextTokens": 1000},
    {"name": "b", "inputUsdPerMillion": 10, "outputUsdPerMillion": 30, "maxContextTokens": None},
]
ASKED = {"x-spillway-tokens": "100", "x-spillway-output-tokens": "50"}


def settings(**changes: Any) -> EdgeSettings:
    base = {
        "pool": {"namespace": "serving", "name": "llama"},
        "replicas": {"address": "llama-serving.serving.svc"},
        "operator": {"address": "spillway.spillway-system.svc"},
        "providers": [{"name": name, "address": f"{name}.example"} for name in "ab"],
    }
    return EdgeSettings.model_validate({**base, **changes})


def value(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "epoch": 1,
        "validForSeconds": 45,
        "fraction": 0.5,
        "admit": {"inFlight": 10, "promptTokens": 5000},
        "allowance": {"requests": 4, "usd": 1.0},
        "providers": [{"name": "a", "fraction": 0.25}, {"name": "b", "fraction": 0.25}],
        "share": {"inFlight": 10, "promptTokens": 5000, "requests": 4, "usd": 1.0},
        "terms": {"providers": PROVIDERS, "gpuSeconds": None, "p95OutputTokens": 100},
        **changes,
    }


def way_in(answer: Any = None, **changes: Any) -> Script:
    script = Script(lua.admission(settings(**changes), "edge-0"))
    script.answer = ("200", value() if answer is None else answer)
    return script


def may_leave(script: Script, body: Any = BODY, **headers: str) -> bool:
    return "x-spillway-admit" in script.request({**PATH, **headers}, body)[0]


def way_out(**changes: Any) -> Script:
    script = Script(lua.overflow(settings(), "edge-0"))
    script.answer = ("200", value(**changes))
    return script


def sent_to(script: Script, **headers: str) -> str:
    return script.request({**PATH, **ASKED, **headers})[0]["x-spillway-to"]


# The way in


def test_a_request_may_leave_with_a_live_value_and_says_what_it_is_held_against() -> None:
    headers, handle = way_in().request(dict(PATH), BODY)
    size = len(json.dumps(BODY))
    assert headers["x-spillway-admit"] == f"1;10;5000;{-(-size // 4)}"
    assert handle.cleared == 1, "the route is chosen anew"


@pytest.mark.parametrize(
    "changes",
    [
        {"validForSeconds": 0},
        {"admit": None},
        {"allowance": {"requests": 0, "usd": 0}},
        {"providers": []},
        {"epoch": "1"},
        {"validForSeconds": None},
    ],
)
def test_without_a_value_that_lets_something_leave_all_stay(changes: dict[str, Any]) -> None:
    assert not may_leave(way_in(value(**changes)))


@pytest.mark.parametrize("answer", ["", "{", "[1]", "null", '{"version": 1}'])
def test_an_answer_that_is_no_value_is_none(answer: str) -> None:
    assert not may_leave(way_in(answer))


def test_a_value_is_asked_for_once_a_second_and_let_go_at_its_end() -> None:
    script = way_in()
    assert [may_leave(script) for _ in range(3)] == [True] * 3
    assert len(script.calls) == 1
    script.now += 1000
    assert may_leave(script)
    assert len(script.calls) == 2
    script.answer = ("503", "")
    script.now += 44_000
    assert may_leave(script), "an operator that is gone: the last value holds"
    script.now += 2_000
    assert not may_leave(script), "and not beyond its end"


def test_an_operator_that_is_gone_is_asked_less_and_less() -> None:
    script = way_in()
    script.answer = ("503", "")
    for _ in range(60):
        may_leave(script)
        script.now += 1000
    assert len(script.calls) < 15
    script.answer = ("200", value())
    script.now += 8000
    assert may_leave(script), "back at once when it answers"


def test_the_highest_epoch_wins_and_then_the_highest_version() -> None:
    script = way_in(value(epoch=5, version=9))
    assert may_leave(script)
    shut: dict[str, Any] = {"allowance": {"requests": 0, "usd": 0}}
    for epoch, version, taken in ((4, 99, False), (5, 8, False), (5, 10, True)):
        script.now += 1000
        script.answer = ("200", value(epoch=epoch, version=version, **shut))
        assert may_leave(script) is not taken
    script.now += 1000
    script.answer = ("200", value(epoch=6, version=1))
    assert may_leave(script)


@pytest.mark.parametrize(
    ("headers", "stays"),
    [
        ({"x-class": "restricted"}, True),
        ({"x-class": "RESTRICTED"}, True),
        ({"x-class": "public, restricted"}, True),
        ({"x-class": "public"}, False),
        ({"x-team": "anything"}, True),
        ({"x-team": ""}, True),
        ({"content-encoding": "gzip"}, True),
        ({}, False),
    ],
)
def test_marked_requests_stay(headers: dict[str, str], stays: bool) -> None:  # noqa: FBT001
    marks = [{"name": "x-class", "values": ["restricted"]}, {"name": "x-team"}]
    assert may_leave(way_in(stays={"headers": marks}), **headers) is not stays


@pytest.mark.parametrize(
    ("model", "stays"), [("secret", True), ("m", False), ("other", True), ("\\u006d", True)]
)
def test_models_stay_by_their_name(model: str, stays: bool) -> None:  # noqa: FBT001
    script = way_in(stays={"models": ["secret"]}, models=["m", "secret"])
    assert may_leave(script, f'{{"model": "{model}", "messages": []}}') is not stays


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not JSON",
        '{"messages": []}',
        '{"model": 3}',
        '{"model": "m", "model": "secret"}',
        '{"a": {"model": "m"}}',
        '{"a": "\\"model\\": \\"m\\""}',
        '{"model": "m',
    ],
)
def test_a_body_whose_model_can_not_be_read_stays(body: str) -> None:
    assert not may_leave(way_in(), body)


def test_requests_of_marked_keys_stay_and_all_do_while_the_file_is_not_there(
    tmp_path: Path,
) -> None:
    file = tmp_path / "keys"
    script = way_in(stays={"headers": [], "keysFile": str(file)})
    assert not may_leave(script, authorization="Bearer sk-open")
    file.write_text("# keys of the hospital\nsk-secret\n", encoding="utf-8")
    script.now += 11_000
    assert may_leave(script, authorization="Bearer sk-open")
    assert not may_leave(script, authorization="Bearer sk-secret")
    assert not may_leave(script, **{"x-api-key": "sk-secret"})
    assert may_leave(script)


def test_a_client_can_not_speak_for_the_edge() -> None:
    script = way_in(value(admit=None))
    assert not may_leave(script, **{"x-spillway-admit": "1;0;-1;1", "x-spillway-to": "a"})


def test_a_prompt_beyond_every_context_stays() -> None:
    short = [{**PROVIDERS[0], "maxContextTokens": 50}]
    terms = {"providers": short, "gpuSeconds": None, "p95OutputTokens": 100}
    assert not may_leave(way_in(value(terms=terms)))


def test_other_paths_and_methods_stay() -> None:
    script = way_in()
    assert "x-spillway-admit" not in script.request({":method": "GET", ":path": "/v1/models"})[0]
    other = {":method": "POST", ":path": "/v1/embeddings"}
    assert "x-spillway-admit" not in script.request(other, BODY)[0]
    assert script.calls == []


def test_without_the_operators_share_a_gateway_takes_an_equal_one() -> None:
    script = way_in(value(share=None), gateways=4)
    assert script.request(dict(PATH), BODY)[0]["x-spillway-admit"].startswith("1;2;1250;")


def test_what_a_token_is_long_is_learned_from_what_engines_count() -> None:
    script = way_in()
    size = len(json.dumps(BODY))
    for _ in range(500):
        _, handle = script.request(dict(PATH), BODY)
        usage = f'{{"usage": {{"prompt_tokens": {size // 8}, "completion_tokens": 7}}}}'
        noted = script.response({":status": "200"}, script.noted(handle), [usage])
    assert (noted["destination"], noted["completion_tokens"]) == ("local", 7)
    said = script.request(dict(PATH), BODY)[0]["x-spillway-admit"].split(";")[3]
    assert int(said) == pytest.approx(size / 8, rel=0.05)


def test_a_streams_tokens_are_its_usage_or_else_its_events() -> None:
    script = way_in()
    event = 'data: {"choices": []}\n\n'
    for last, tokens in (('data: {"usage": {"completion_tokens": 99}}\n\n', 99), ("", 5)):
        _, handle = script.request(dict(PATH), BODY)
        chunks = [event] * 5 + [last]
        noted = script.response({":status": "200"}, script.noted(handle), chunks)
        assert noted["completion_tokens"] == tokens


def test_the_cheapest_gpu_time_leaves_first() -> None:
    """Output is dear at the API and cheap on the GPU here, so long prompts are the ones to buy."""
    gpu = {"perPromptToken": 0.001, "perOutputToken": 0.001}
    script = way_in(
        value(
            fraction=0.3,
            admit={"inFlight": 100, "promptTokens": None},
            share={"inFlight": 100, "promptTokens": None},
            terms={"providers": PROVIDERS, "gpuSeconds": gpu, "p95OutputTokens": 100},
        )
    )
    early = {"long": 0, "short": 0}
    for turn in range(1200):
        kind = "long" if turn % 3 == 0 else "short"
        content = "word " * (400 if kind == "long" else 20)
        body = {"model": "m", "messages": [{"content": content}], "max_tokens": 100}
        limit = script.request(dict(PATH), body)[0]["x-spillway-admit"].split(";")[1]
        if turn >= 600:
            early[kind] += limit == "90"
    assert early["long"] > 5 * early["short"]


# The route


@pytest.mark.parametrize(
    ("asked", "in_flight", "to"),
    [
        ("1;10;-1;5", {"local": 9}, "local"),
        ("1;10;-1;5", {"local": 10}, "overflow"),
        ("1;10;-1;5", {"local": 5, "local_again": 3, "local_last": 2}, "overflow"),
        ("1;0;-1;5", {}, "overflow"),
        ("1;10;100;500", {}, "local"),
        ("1;10;100;500", {"local": 1}, "overflow"),
        ("", {"local": 99}, "local"),
        ("nonsense", {"local": 99}, "local"),
    ],
)
def test_the_route_follows_what_is_in_flight(
    asked: str, in_flight: dict[str, int], to: str
) -> None:
    script = Script(lua.route())
    script.in_flight = in_flight
    assert script.route({"x-spillway-admit": asked} if asked else {}) == to


def test_a_request_that_is_asked_for_twice_gets_the_same_answer() -> None:
    script = Script(lua.route())
    script.in_flight = {"local": 9}
    assert script.route({"x-spillway-admit": "1;10;-1;5"}) == "local"
    script.in_flight = {"local": 10}
    assert script.route({"x-spillway-admit": "1;10;-1;5"}) == "local"
    assert script.route({"x-spillway-admit": "2;10;-1;5"}) == "overflow"


def test_prompt_tokens_in_flight_are_those_of_the_latest_that_stayed() -> None:
    script = Script(lua.route())
    for turn in range(10):
        script.in_flight = {"local": turn}
        assert script.route({"x-spillway-admit": f"{turn};100;1000;100"}) == "local"
    script.in_flight = {"local": 10}
    assert script.route({"x-spillway-admit": "11;100;1000;100"}) == "overflow"


# The way out


def test_providers_get_their_fractions_in_the_values_order() -> None:
    share = {"inFlight": 10, "promptTokens": None, "requests": 1000, "usd": 100.0}
    shares = [{"name": "a", "fraction": 0.4}, {"name": "b", "fraction": 0.1}]
    script = way_out(share=share, providers=shares)
    sent = [sent_to(script) for _ in range(100)]
    assert (sent.count("a"), sent.count("b")) == (80, 20)


def test_while_the_fractions_are_zero_the_first_provider_takes_what_leaves() -> None:
    shares = [{"name": "b", "fraction": 0}, {"name": "a", "fraction": 0}]
    script = way_out(providers=shares, fraction=0)
    assert [sent_to(script) for _ in range(4)] == ["b"] * 4


def test_the_allowance_is_spent_and_not_passed() -> None:
    script = way_out()
    assert [sent_to(script) for _ in range(6)].count("local") == 2
    script.now += 2000
    script.answer = ("200", value(version=2))
    assert sent_to(script) != "local", "a new version counts from zero"
    assert script.calls[-1]["used"] == 4, "what was used of the old one is told"


def test_the_allowance_is_of_dollars_too() -> None:
    share = {"inFlight": 10, "promptTokens": None, "requests": 100, "usd": 0.006}
    script = way_out(share=share)
    # 100 prompt tokens and 50 of the answer cost 0.0025.
    assert [sent_to(script) for _ in range(4)] == ["a", "b", "local", "local"]


def test_what_an_answer_cost_takes_the_place_of_what_was_put_aside() -> None:
    share = {"inFlight": 10, "promptTokens": None, "requests": 100, "usd": 0.004}
    script = way_out(share=share)
    _, handle = script.request({**PATH, **ASKED})
    assert sent_to(script) == "local"
    usage = '{"usage": {"prompt_tokens": 100, "completion_tokens": 10}}'
    headers = {":status": "200", "x-spillway-served-by": "a"}
    noted = script.response(headers, script.noted(handle), [usage])
    assert (noted["paid_by"], noted["micro_usd"]) == ("a", 1300)
    assert sent_to(script) != "local"


def test_a_request_that_came_back_to_the_replicas_has_cost_nothing() -> None:
    share = {"inFlight": 10, "promptTokens": None, "requests": 1, "usd": 1.0}
    script = way_out(share=share)
    _, handle = script.request({**PATH, **ASKED})
    noted = script.response(
        {":status": "200", "x-spillway-served-by": "local"}, script.noted(handle)
    )
    assert (noted["paid_by"], noted["micro_usd"]) == ("none", 0)
    assert sent_to(script) == "b", "the provider that failed rests, its allowance is back"


def test_a_provider_whose_context_is_too_short_is_passed_over() -> None:
    script = way_out()
    headers, _ = script.request({**PATH, "x-spillway-tokens": "5000"})
    assert (headers["x-spillway-to"], headers["x-spillway-skip"]) == ("b", ",a,")


def test_without_a_share_nobody_is_paid() -> None:
    assert sent_to(way_out(share=None)) == "local"
    script = way_out()
    script.answer = ("503", "")
    assert sent_to(script) == "local"


# A provider


def before_provider(**changes: Any) -> Script:
    made = settings(providers=[{"name": "a", "address": "api.a.example", **changes}])
    return Script(lua.provider(made, made.providers[0]))


def test_a_provider_gets_its_own_host_path_model_and_key_and_nothing_private(
    tmp_path: Path,
) -> None:
    key = tmp_path / "key"
    key.write_text("sk-provider\n", encoding="utf-8")
    script = before_provider(pathPrefix="/openai/v1/", model="turbo", keyFile=str(key))
    headers, handle = script.request(
        {
            ":path": "/v1/chat/completions?x=1",
            "authorization": "Bearer sk-client",
            "cookie": "c",
            **ASKED,
        },
        BODY,
    )
    assert headers == {
        ":path": "/openai/v1/chat/completions?x=1",
        ":authority": "api.a.example",
        "authorization": "Bearer sk-provider",
    }
    assert json.loads(handle.buffer.text) == {**BODY, "model": "turbo"}


def test_a_provider_whose_key_is_not_there_is_not_asked(tmp_path: Path) -> None:
    script = before_provider(keyFile=str(tmp_path / "none"))
    assert script.request({":path": "/v1/x"})[1].responded == "429"


@pytest.mark.parametrize(
    ("answers", "pause_ms"),
    [
        ([{":status": "429"}], 1000),
        ([{":status": "429", "retry-after": "20"}], 20_000),
        ([{":status": "503", "retry-after": "7"}], 7000),
        ([{":status": "401"}], 30_000),
        ([{":status": "500"}] * 3, 5000),
        ([{":status": "500"}] * 2 + [{":status": "200"}] + [{":status": "500"}], 0),
        ([{":status": "400"}], 0),
        ([{":status": "429", "retry-after": "999999"}], 600_000),
    ],
)
def test_a_provider_that_is_full_or_fails_is_left_alone_for_a_while(
    answers: list[dict[str, str]], pause_ms: int
) -> None:
    script = before_provider()
    for answer in answers:
        script.response(dict(answer), {})
    if pause_ms:
        script.now += pause_ms - 1
        assert script.request({":path": "/v1/x"})[1].responded == "429"
        script.now += 1
    assert script.request({":path": "/v1/x"})[1].responded is None


def test_a_provider_that_was_not_meant_is_not_asked() -> None:
    script = before_provider()
    skipped = {":path": "/v1/x", "x-spillway-skip": ",a,"}
    assert script.request(skipped)[1].responded == "429"
