"""An InferencePool's prices, targets and limits become the world."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from spillway.api.validation import parse
from spillway.sim.conditions import Conditions
from spillway.sim.manifest import conditions_of
from tests.unit.controller.fakes import pool_object

SAMPLE = Path(__file__).resolve().parents[3] / "manifests/samples/inferencepool.yaml"


def world(**spec: Any) -> tuple[Conditions, list[str]]:
    pool = parse(pool_object("a", **spec))
    return conditions_of(pool.spec, pool.spec.model_name, Conditions())


def test_the_sample_is_taken_over_as_it_stands() -> None:
    pool = parse(yaml.safe_load(SAMPLE.read_text("utf-8")))
    conditions, _ = conditions_of(pool.spec, pool.spec.model_name, Conditions())
    assert pool.spec.variants[0].price is not None
    assert pool.spec.burst is not None
    (provider, *_) = pool.spec.burst.providers
    assert provider.price is not None
    assert conditions.gpu_usd_per_replica_hour == float(
        pool.spec.variants[0].price.per_accelerator_hour
    )
    assert conditions.api.input_usd_per_million == float(provider.price.input_per_million)
    assert (conditions.floor, conditions.max) == (pool.spec.replicas.floor, pool.spec.replicas.max)


def test_a_replica_of_several_gpus_costs_all_of_them() -> None:
    conditions, remarks = world(
        modelName="meta-llama/Llama-3.3-70B-Instruct",
        variants=[
            {
                "name": "h100",
                "targetRef": {"name": "a"},
                "accelerator": {"type": "NVIDIA-H100-80GB-HBM3", "perReplica": 4},
                "price": {"perAcceleratorHour": "2.50"},
            }
        ],
        latency={"ttft": "4s", "tpot": "80ms", "attainment": "0.9"},
    )
    assert conditions.gpu_usd_per_replica_hour == 10.0
    assert conditions.profile.name == "llama-3.3-70b-h100x4"
    assert (conditions.ttft_seconds, conditions.tpot_seconds) == (4.0, 0.08)
    assert conditions.attainment == 0.9
    assert remarks == []


def test_what_is_not_stated_is_assumed_and_told() -> None:
    conditions, remarks = world(
        modelName="someone/else",
        variants=[{"name": "x", "targetRef": {"name": "a"}}],
        burst={"providers": [{"name": "together"}]},
    )
    assert conditions.gpu_usd_per_replica_hour == Conditions().gpu_usd_per_replica_hour
    assert [remark.split(";")[0] for remark in remarks] == [
        "No built-in profile fits someone/else on its GPUs",
        "The pool states no GPU price",
        "The pool states no price for together",
    ]


def test_what_a_replay_leaves_out_is_told() -> None:
    provider = {"name": "a", "price": {"inputPerMillion": "1", "outputPerMillion": "1"}}
    _, remarks = world(
        warmPool={"size": 1}, burst={"providers": [provider], "budget": {"perDay": "10"}}
    )
    assert "The budget is not replayed: burst may spend what it needs." in remarks
    assert "The warm pool is not replayed: every replica starts cold." in remarks


def test_the_cheapest_provider_with_its_limits_and_retries() -> None:
    conditions, remarks = world(
        burst={
            "providers": [
                {"name": "dear", "price": {"inputPerMillion": "1", "outputPerMillion": "2"}},
                {
                    "name": "cheap",
                    "price": {"inputPerMillion": "0.1", "outputPerMillion": "0.2"},
                    "limits": {"requestsPerMinute": 600},
                    "errorShare": "0.05",
                    "retries": [{"layer": "gateway", "most": 2}, {"layer": "client", "most": 1}],
                    "maxContextTokens": 8192,
                },
            ]
        }
    )
    api = conditions.api
    assert (api.input_usd_per_million, api.output_usd_per_million) == (0.1, 0.2)
    assert (api.requests_per_minute, api.error_share, api.max_context_tokens) == (600, 0.05, 8192)
    # Three tries by the gateway for each of the client's two: five after the first.
    assert api.retries == 5
    assert "Only the cheapest provider is replayed." in remarks
    assert world()[0].api.requests_per_minute == math.inf
