"""A pool explained, line by line, from what its status says."""

from __future__ import annotations

from typing import Any

import pytest

from spillway.api.inferencepool import InferencePoolStatus
from spillway.core.explain import explain

from .pools import burst, spec

STATUS: dict[str, Any] = {
    "replicas": {"serving": 3, "warm": 1, "starting": 1, "draining": 0, "desired": 4},
    "demand": {"requestsPerSecond": 34.4, "queue": 2, "source": "Gateway"},
    "forecast": {"mean": 36, "low": 29, "high": 44, "horizonSeconds": 240},
    "capacity": {
        "requestsPerSecond": 11.2,
        "concurrency": 64,
        "source": "Learned",
        "relativeError": 0.06,
    },
    "sizing": {
        "proposed": 4,
        "reason": "Demand",
        "gpuPerReplicaHour": 3.5,
        "apiPerReplicaHour": 7.0,
        "provider": "together",
        "addAbove": 41.2,
        "removeBelow": 30.1,
        "apiAddAbove": 8.1,
        "apiRemoveBelow": 4.2,
    },
    "overflow": {
        "fraction": 0.12,
        "percent": "12%",
        "reason": "Shortage",
        "until": "2026-11-21T12:00:41Z",
    },
    "cost": {
        "gpuPerHour": 14.0,
        "apiPerHour": 1.2,
        "allGpuPerHour": 17.5,
        "allApiPerHour": 24.8,
    },
    "budget": {"spentHour": 1.0, "spentDay": 12.5, "spentMonth": 80.0},
}


def lines(spec_changes: dict[str, Any] | None = None, **changes: Any) -> dict[str, str]:
    section = {"burst": burst(budget={"perDay": "250"}), **(spec_changes or {})}
    status = InferencePoolStatus.model_validate(STATUS | changes)
    return {line.topic: line.text for line in explain(spec(**section), status)}


def test_what_the_gateway_spares_is_told_and_is_no_load() -> None:
    assert "gateway" not in lines()
    seen = {
        "cacheHitsPerSecond": 2.5,
        "cacheHitShare": 0.2,
        "savedTokensPerSecond": 2500,
        "savedPerHour": 9,
        "routedShare": 0.4,
    }
    assert lines(levers=seen)["gateway"] == (
        "its cache answers 20% of all requests (2.5 req/s, worth $9.00/h), none of which is load; "
        "routing by complexity sends 40% of what arrives"
    )


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-21T12:00:00Z",
    }


def test_a_busy_pool_in_ten_lines() -> None:
    assert lines() == {
        "replicas": "3 serve, 1 warm, 1 starting, 4 asked for (floor 1, max 20)",
        "load": "34.4 req/s arrive (by the gateway's count), 2 wait",
        "expected": "36 req/s in 4m, with 90 % from 29 to 44",
        "capacity": "a replica serves 11.2 req/s within the targets, 64 at a time "
        "(Learned, give or take 6%)",
        "policy": "Cost asks for 4 to serve (Demand)",
        "prices": "a replica costs $3.50/h, its work at together $7.00/h: it pays when used "
        "above 50%",
        "overflow": "12% of arrivals leave (Shortage), until 2026-11-21T12:00:41Z",
        "cost": "$14.00/h for GPUs and $1.20/h for the API; all on GPUs $17.50/h, all at the API "
        "$24.80/h",
        "budget": "$12.50 of $250 this day",
        "would change": "one more above 41.2 req/s expected or with the API above $8.10/h; "
        "one less below 30.1 req/s expected or with the API below $4.20/h",
    }


def test_the_limit_that_bit_is_a_line() -> None:
    limited = condition("ScalingLimited", "True", "Max", "the pool may have at most 4 replicas")
    assert lines(conditions=[limited])["limit"] == "the pool may have at most 4 replicas (Max)"
    passed = condition("ScalingLimited", "False", "Steady")
    assert "limit" not in lines(conditions=[passed])


def test_what_is_wrong_comes_last_and_is_marked() -> None:
    conditions = [
        condition("MetricsAvailable", "False", "MetricsMissing", "vllm: no series"),
        condition("WarmPoolReady", "False", "WarmDisabled"),
        condition("Ready", "True", "Reconciled"),
        condition("SomethingNewer", "False", "Whatever"),
    ]
    status = InferencePoolStatus.model_validate(STATUS | {"conditions": conditions})
    found = explain(spec(), status)
    troubles = [line for line in found if line.trouble]
    assert troubles == [found[-1]]
    assert found[-1].text == "MetricsMissing: vllm: no series"


def test_an_api_that_is_always_cheaper_is_said_to_be() -> None:
    sizing = STATUS["sizing"] | {"apiPerReplicaHour": 3.0}
    assert "the API is cheaper, even than a full one" in lines(sizing=sizing)["prices"]


def test_a_budget_that_ends_early_is_foretold() -> None:
    budget = STATUS["budget"] | {"lastsUntil": "2026-11-21T16:40:00Z"}
    text = lines(budget=budget)["budget"]
    assert text.endswith("at this rate, out by 16:40 on 2026-11-21 (UTC)")
    berlin = {"burst": burst(budget={"perDay": "250", "timeZone": "Europe/Berlin"})}
    text = lines(berlin, budget=budget)["budget"]
    assert text.endswith("out by 17:40 on 2026-11-21 (Europe/Berlin)")
    odd = STATUS["budget"] | {"lastsUntil": "soon"}
    assert lines(budget=odd)["budget"].endswith("out by soon")


def test_without_a_price_that_turns_it_the_load_alone_would() -> None:
    sizing = STATUS["sizing"] | {"apiAddAbove": None, "apiRemoveBelow": None}
    text = lines(sizing=sizing)["would change"]
    assert text == "one more above 41.2 req/s expected; one less below 30.1 req/s expected"
    nothing = sizing | {"addAbove": None, "removeBelow": None}
    assert "would change" not in lines(sizing=nothing)


def test_the_classic_rule_says_its_own_figures() -> None:
    text = lines({"policy": "Utilization"})["would change"]
    assert text == "doubles above 60 % for 1m, one less below 30 % for 10m"


@pytest.mark.parametrize("gone", ["demand", "forecast", "capacity", "sizing", "cost", "budget"])
def test_what_is_not_known_is_left_out_or_said(gone: str) -> None:
    found = lines(**{gone: None})
    assert found["replicas"]
    if gone == "demand":
        assert found["load"] == "not known, so the number of replicas stays"


def test_without_a_status_it_says_where_to_look() -> None:
    (line,) = explain(spec(), None)
    assert line.trouble
    assert "see that it runs" in line.text


def test_a_price_that_only_holds_is_said_to() -> None:
    held = {
        "name": "variant gpu",
        "item": "any GPU OnDemand",
        "source": "Catalog",
        "perAcceleratorHour": 3.5,
        "heldSince": "2026-11-21T10:40:00Z",
    }
    follows = held | {"name": "provider together", "heldSince": ""}
    assert lines(prices=[held, follows])["prices"].endswith(
        "held for want of a better price: variant gpu since 2026-11-21T10:40:00Z"
    )
