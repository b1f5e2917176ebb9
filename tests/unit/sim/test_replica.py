"""The replica's steps, checked by hand with round figures: 10 ms a step, 1 ms a prompt token."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spillway.sim.profiles import PROFILES, ReplicaProfile, profile_named
from spillway.sim.replica import Replica
from spillway.sim.request import FinishReason, Request

PROFILE = ReplicaProfile(
    name="by-hand",
    gpu="GPU",
    gpus=1,
    base_seconds=0.010,
    per_sequence_seconds=0.0,
    per_context_token_seconds=0.0,
    per_prefill_token_seconds=0.001,
    per_attention_pair_seconds=0.0,
    kv_capacity_tokens=1600,
    max_num_seqs=4,
    max_num_batched_tokens=100,
)


def request(prompt: int, output: int, at: float = 0.0, cached: int = 0) -> Request:
    return Request(0, at, prompt, output, cached)


def test_a_lone_request_takes_one_prefill_and_one_step_per_further_token() -> None:
    replica = Replica(PROFILE, 0.0)
    stream = replica.submit(request(40, 3), 0.0)
    assert replica.advance(10.0) == [stream]
    assert stream.ttft_seconds == pytest.approx(0.010 + 40 * 0.001)
    assert stream.tpot_seconds == pytest.approx(0.010)
    assert stream.finished_at == pytest.approx(0.070)
    assert replica.busy_seconds == pytest.approx(0.070)
    assert replica.counters.steps == 3
    assert replica.counters.prompt_tokens == 40
    assert replica.counters.generation_tokens == 3
    assert replica.counters.requests_finished[FinishReason.STOP] == 1
    assert replica.counters.ttft.count == 1
    assert replica.counters.inter_token_latency.count == 2


def test_a_long_prompt_is_computed_in_chunks_of_the_token_budget() -> None:
    replica = Replica(PROFILE, 0.0)
    stream = replica.submit(request(250, 1), 0.0)
    replica.advance(10.0)
    # 100 + 100 + 50 tokens in three steps; only the last sends a token, so vLLM shows one step.
    assert stream.ttft_seconds == pytest.approx(3 * 0.010 + 0.250)
    assert replica.counters.steps == 3
    assert replica.counters.iteration_tokens.count == 1
    assert replica.counters.iteration_tokens.sum == 251


def test_a_prompt_that_arrives_stretches_the_gap_of_a_running_decode() -> None:
    replica = Replica(PROFILE, 0.0)
    first = replica.submit(request(10, 50), 0.0)
    replica.advance(0.100)
    replica.submit(request(99, 1, at=0.100), 0.100)
    replica.advance(10.0)
    # One token of the budget goes to the decode, the 99 others fit beside it: one step of 109 ms.
    assert first.max_gap_seconds == pytest.approx(0.109)


def test_cached_prompt_tokens_are_not_computed_but_are_held() -> None:
    replica = Replica(PROFILE, 0.0)
    stream = replica.submit(request(90, 2, cached=80), 0.0)
    replica.advance(0.015)
    assert replica.gauges().kv_usage == pytest.approx(6 / 100)  # 90 tokens in blocks of 16
    replica.advance(10.0)
    assert stream.ttft_seconds == pytest.approx(0.020)
    assert replica.counters.prefix_cache_queries == 90
    assert replica.counters.prefix_cache_hits == 80
    assert replica.counters.prompt_tokens == 90


def test_attention_makes_a_chunk_cost_more_the_more_context_it_sees() -> None:
    replica = Replica(replace(PROFILE, per_attention_pair_seconds=1e-6), 0.0)
    stream = replica.submit(request(200, 1), 0.0)
    replica.advance(10.0)
    # 100 * 50 pairs in the first chunk, 100 * (100 + 50) in the second.
    assert stream.ttft_seconds == pytest.approx(0.020 + 0.200 + 1e-6 * (5_000 + 15_000))


def test_sequences_and_context_lengthen_a_step() -> None:
    profile = replace(PROFILE, per_sequence_seconds=0.001, per_context_token_seconds=0.0001)
    replica = Replica(profile, 0.0)
    stream = replica.submit(request(20, 2), 0.0)
    replica.advance(10.0)
    assert stream.tpot_seconds == pytest.approx(0.010 + 0.001 + 20 * 0.0001)


def test_more_than_max_num_seqs_wait() -> None:
    replica = Replica(PROFILE, 0.0)
    for _ in range(6):
        replica.submit(request(1, 100), 0.0)
    replica.advance(0.001)
    gauges = replica.gauges()
    assert (gauges.running, gauges.waiting) == (4, 2)


def test_admission_blocks_when_the_kv_cache_is_full() -> None:
    replica = Replica(replace(PROFILE, kv_capacity_tokens=160, max_num_batched_tokens=1000), 0.0)
    for _ in range(3):
        replica.submit(request(70, 5), 0.0)
    replica.advance(0.001)
    gauges = replica.gauges()
    # Ten blocks hold two prompts of five blocks each.
    assert (gauges.running, gauges.waiting, gauges.kv_usage) == (2, 1, 1.0)


def test_when_kv_blocks_run_out_the_youngest_is_preempted_and_still_finishes() -> None:
    replica = Replica(replace(PROFILE, kv_capacity_tokens=160, max_num_batched_tokens=1000), 0.0)
    old = replica.submit(request(70, 30), 0.0)
    young = replica.submit(request(70, 30), 0.0)
    assert replica.advance(100.0) == [old, young]
    assert (old.preemptions, young.preemptions) == (0, 1)
    assert replica.counters.preemptions == 1
    assert replica.counters.prompt_tokens == 140  # A second prefill is not counted again.
    assert replica.counters.generation_tokens == 60
    assert replica.gauges().kv_usage == 0


def test_requests_wait_while_the_engine_hangs_and_go_on_afterwards() -> None:
    replica = Replica(PROFILE, 0.0)
    stream = replica.submit(request(40, 2), 0.0)
    replica.advance(0.020)
    replica.hang()
    replica.submit(request(40, 2, at=5.0), 5.0)
    assert replica.advance(10.0) == []
    assert replica.busy_seconds == pytest.approx(0.020)
    assert replica.gauges().waiting == 1
    replica.resume()
    replica.advance(20.0)
    assert stream.first_token_at == pytest.approx(10.030)
    assert replica.in_flight == 0


def test_drop_returns_what_is_lost() -> None:
    replica = Replica(PROFILE, 0.0)
    done = replica.submit(request(1, 1), 0.0)
    lost = [replica.submit(request(1, 100), 0.5) for _ in range(6)]
    assert replica.advance(0.6) == [done]
    assert replica.drop() == lost
    assert replica.in_flight == 0
    assert replica.advance(1.0) == []


def test_time_never_runs_backwards() -> None:
    replica = Replica(PROFILE, 5.0)
    with pytest.raises(ValueError, match=r"must not run backwards: at 5\.0, asked for 4\.0"):
        replica.advance(4.0)


def test_a_request_that_can_never_fit_is_refused_with_the_limit() -> None:
    with pytest.raises(ValueError, match=r"at most 1600 .* got 1700"):
        Replica(PROFILE, 0.0).submit(request(1600, 100), 0.0)


@pytest.mark.parametrize(("prompt", "output", "cached"), [(0, 1, 0), (1, 0, 0), (5, 1, 5)])
def test_requests_without_work_are_refused(prompt: int, output: int, cached: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        request(prompt, output, cached=cached)


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of llama-3\.1-8b-h100, .* got 'tpu'"):
        profile_named("tpu")


def test_a_profile_that_stops_time_is_refused() -> None:
    with pytest.raises(ValueError, match="base_seconds must be above 0"):
        replace(PROFILE, base_seconds=0.0)
    with pytest.raises(ValueError, match="max_num_seqs must be at least 1, got 0"):
        replace(PROFILE, max_num_seqs=0)


def test_an_8b_model_on_an_h100_prefills_and_decodes_at_known_speed() -> None:
    replica = Replica(PROFILES["llama-3.1-8b-h100"], 0.0)
    stream = replica.submit(request(1000, 100), 0.0)
    replica.advance(60.0)
    # About 35 ms for 1,000 prompt tokens and about 8 ms a token alone, as public benchmarks show.
    assert stream.ttft_seconds == pytest.approx(0.035, rel=0.1)
    assert stream.tpot_seconds == pytest.approx(0.0078, rel=0.1)
