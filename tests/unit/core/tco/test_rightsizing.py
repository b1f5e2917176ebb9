from __future__ import annotations

import pytest

from spillway.api.inferencepool import Latency
from spillway.core.profiles import Gpu, ModelShape, gpu_of, shape_of
from spillway.core.tco.rightsizing import Offer, Option, Work, best_of_each, options
from spillway.core.tokenmix import TokenMix


def known(model: str, gpu: str) -> tuple[ModelShape, Gpu]:
    shape, device = shape_of(model), gpu_of(gpu)
    assert shape is not None
    assert device is not None
    return shape, device


LLAMA_70B, H100 = known("llama-3.3-70b", "h100")
MIX = TokenMix(1500, 300)


def found(longest: float = 8192, latency: Latency | None = None) -> dict[tuple[str, int], Option]:
    work = Work(LLAMA_70B, MIX, latency or Latency(), longest)
    every = options(work, [Offer(H100, 3.5)], {"fp8": 0.99})
    return {(option.precision, option.gpus): option for option in every}


def test_weights_are_parameters_times_bits_over_eight() -> None:
    every = found()
    assert every["fp16", 4].weight_gigabytes == 70.6 * 2
    assert every["fp8", 4].weight_gigabytes == 70.6
    assert every["int4", 4].weight_gigabytes == pytest.approx(70.6 * 4.25 / 8)


def test_what_does_not_hold_the_weights_is_named() -> None:
    every = found()
    assert every["fp16", 1].obstacle == "weights need 141 GB"
    assert every["fp16", 1].usd_per_million is None
    assert every["fp16", 2].obstacle == "weights need 141 GB"
    assert not every["fp16", 4].obstacle
    # Half the bits, half the GPUs.
    assert not every["fp8", 2].obstacle


def test_the_kv_cache_is_what_the_weights_leave() -> None:
    option = found()["fp8", 2]
    # 80 layers, 8 KV heads of 128, keys and values of 2 bytes each.
    per_token = 2 * 80 * 1024 * 2
    assert option.kv_tokens == (2 * (0.9 * 80e9 - 2.5e9) - 70.6e9) / per_token


def test_the_longest_context_must_fit_once() -> None:
    held = found()["fp8", 2].kv_tokens
    assert "tokens of context" in found(longest=held + 1)["fp8", 2].obstacle
    assert not found(longest=held - 1)["fp8", 2].obstacle


def test_a_promise_that_no_rate_meets_is_said() -> None:
    every = found(latency=Latency(tpot=0.001))
    assert {option.obstacle for option in every.values() if option.kv_tokens > 8192} == {
        "no rate meets the targets"
    }


def test_a_token_costs_the_replicas_hour_over_its_tokens() -> None:
    option = found()["fp8", 4]
    assert option.usd_per_hour == 14.0
    tokens = option.requests_per_second * 3600 * 1800
    assert option.usd_per_million is not None
    assert abs(option.usd_per_million - 14.0 / tokens * 1e6) < 1e-9


def test_the_best_of_each_precision_is_its_cheapest_that_serves() -> None:
    every = found()
    for option in best_of_each(options(Work(LLAMA_70B, MIX, Latency(), 8192), [Offer(H100, 3.5)])):
        rivals = [o for (p, _), o in every.items() if p == option.precision]
        serving = [o.usd_per_million for o in rivals if o.usd_per_million is not None]
        assert option.usd_per_million == min(serving)


def test_quality_is_what_was_declared() -> None:
    every = found()
    assert every["fp8", 4].quality == 0.99
    assert every["int4", 4].quality is None
