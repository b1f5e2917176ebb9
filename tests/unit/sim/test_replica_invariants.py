"""What must hold for every replica under every traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from spillway.sim.profiles import ReplicaProfile
from spillway.sim.replica import Replica
from spillway.sim.request import Request, Stream

if TYPE_CHECKING:
    from spillway.sim.engine_metrics import EngineCounters

profiles = st.builds(
    ReplicaProfile,
    name=st.just("any"),
    gpu=st.just("GPU"),
    gpus=st.just(1),
    base_seconds=st.floats(0.001, 0.05),
    per_sequence_seconds=st.floats(0, 0.001),
    per_context_token_seconds=st.floats(0, 1e-5),
    per_prefill_token_seconds=st.floats(0, 1e-3),
    per_attention_pair_seconds=st.floats(0, 1e-6),
    kv_capacity_tokens=st.integers(512, 2048),
    max_num_seqs=st.integers(1, 8),
    max_num_batched_tokens=st.integers(1, 256),
)
arrivals = st.lists(
    st.tuples(
        st.floats(0, 0.5),  # seconds since the one before
        st.integers(1, 300),
        st.integers(1, 40),
        st.floats(0, 1),  # share of the prompt that is cached
    ),
    min_size=1,
    max_size=12,
)


def monotone(counters: EngineCounters) -> list[float]:
    return [
        counters.steps,
        counters.prompt_tokens,
        counters.prompt_tokens_cached,
        counters.generation_tokens,
        counters.preemptions,
        counters.prefix_cache_queries,
        counters.prefix_cache_hits,
        *counters.requests_finished.values(),
        *counters.iteration_tokens.counts,
        *counters.ttft.counts,
        *counters.inter_token_latency.counts,
        *counters.e2e.counts,
    ]


@given(profile=profiles, traffic=arrivals)
def test_nothing_is_lost_made_up_or_over_budget(
    profile: ReplicaProfile, traffic: list[tuple[float, int, int, float]]
) -> None:
    replica = Replica(profile, 0.0)
    finished: list[Stream] = []
    now, submitted = 0.0, 0
    before = monotone(replica.counters)
    for number, (wait, prompt, output, cached) in enumerate(traffic):
        now += wait
        replica.submit(
            Request(number, now, prompt, output, min(prompt - 1, int(prompt * cached))), now
        )
        submitted += 1
        for fraction in (0.0, 0.3):
            finished += replica.advance(now + wait * fraction)
            gauges = replica.gauges()
            assert submitted == gauges.running + gauges.waiting + len(finished)
            assert gauges.running <= profile.max_num_seqs
            assert 0 <= gauges.kv_usage <= 1
            assert replica.step_tokens <= profile.max_num_batched_tokens
            after = monotone(replica.counters)
            assert all(new >= old for old, new in zip(before, after, strict=True))
            before = after
        now = replica.clock
    finished += replica.advance(now + 10_000)

    assert replica.in_flight == 0
    assert replica.gauges().kv_usage == 0
    assert len(finished) == submitted
    assert replica.counters.prompt_tokens == sum(prompt for _, prompt, _, _ in traffic)
    assert replica.counters.generation_tokens == sum(output for _, _, output, _ in traffic)
    assert 0 < replica.busy_seconds <= replica.clock
    for stream in finished:
        assert stream.generated_tokens == stream.request.output_tokens
        assert (stream.ttft_seconds or 0) >= profile.base_seconds * 0.999


@given(profile=profiles, traffic=arrivals, cuts=st.lists(st.floats(0, 5), max_size=5))
def test_how_often_one_looks_does_not_change_what_happens(
    profile: ReplicaProfile, traffic: list[tuple[float, int, int, float]], cuts: list[float]
) -> None:
    def run(looks: list[float]) -> list[tuple[int, float | None]]:
        replica, now, found = Replica(profile, 0.0), 0.0, []
        for number, (wait, prompt, output, _) in enumerate(traffic):
            for look in sorted(look for look in looks if now < look < now + wait):
                found += replica.advance(look)
            now += wait
            replica.submit(Request(number, now, prompt, output), now)
        found += replica.advance(now + 10_000)
        return [(stream.request.id, stream.finished_at) for stream in found]

    assert run([]) == run(cuts)
