from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from spillway.api.names import Role
from spillway.core.capacity import Capacity, CapacityMemory, VariantMemory, capacity, observe
from spillway.core.facts import LengthQuantiles
from spillway.core.profiles import EngineProfile
from spillway.core.tokenmix import TokenMixMemory

from .pools import START, TICK, Pool, load, pod, spec, variant

if TYPE_CHECKING:
    from spillway.api.inferencepool import InferencePoolSpec
    from spillway.core.facts import PoolFacts, ReplicaLoad

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
H100 = "NVIDIA-H100-80GB-HBM3"
PROMPT, OUTPUT = 1000.0, 200.0
#: Lengths that do not scatter: the median is the 95th percentile.
ALIKE = LengthQuantiles(PROMPT, PROMPT, OUTPUT, OUTPUT)


@dataclass(frozen=True)
class Engine:
    """One whose seconds are spent as the identity has it.

    8 ms a step, 0.05 ms a sequence, 0.05 us a token of context and 20 us a prompt token: a request
    takes 1000 * 20 us to compute and 200 * (0.05 ms + 1100 * 0.05 us) to decode, 41 ms in all. So
    at 60 ms a token (1 - 8/60) / 41 ms = 21 requests per second on average.
    """

    base: float = 0.008
    sequence: float = 5e-5
    context: float = 5e-8
    prefill: float = 2e-5

    @property
    def profile(self) -> EngineProfile:
        return EngineProfile(
            self.base, self.sequence, self.context, self.prefill, per_attention_pair=1e-12
        )

    @property
    def seconds(self) -> float:
        per_token = self.sequence + self.context * (PROMPT + OUTPUT / 2)
        return self.prefill * PROMPT + OUTPUT * per_token

    def times(self, factor: float) -> Engine:
        return Engine(*(factor * c for c in (self.base, self.sequence, self.context, self.prefill)))

    def load(
        self,
        now: float,
        rate: float,
        prompt: float = PROMPT,
        output: float = OUTPUT,
        **changes: Any,
    ) -> ReplicaLoad:
        """At a steady rate: the share of the time that requests leave goes into the base.

        Longer prompts are computed, and then read by each output token.
        """
        per_token = self.sequence + self.context * (prompt + output / 2)
        steps = (1 - rate * (self.prefill * prompt + output * per_token)) / self.base
        batch = rate * output / steps
        values = {
            "running": batch,
            "running_mean": batch,
            "steps_per_second": steps,
            "prompt_tokens_per_second": rate * prompt,
            "generation_tokens_per_second": rate * output,
        }
        return load(now, rate, **(values | changes))


ENGINE = Engine()


def learnable(model: str = "m", gpu: str | None = None, **latency: str) -> InferencePoolSpec:
    first = variant(rps=None)
    if gpu is not None:
        first["accelerator"] = {"type": gpu, "perReplica": 1}
    return spec(modelName=model, variants=[first], latency=latency)


def facts_of(pool_spec: InferencePoolSpec, *loads: ReplicaLoad, **changes: Any) -> PoolFacts:
    facts = Pool(spec=pool_spec).facts()
    pods = tuple(replace(pod(f"p{i}", each), **changes) for i, each in enumerate(loads))
    target = replace(facts.targets["gpu"], pods=pods)
    return replace(facts, targets={"gpu": target}, lengths=ALIKE)


def learned_from(
    pool_spec: InferencePoolSpec,
    rates: list[float],
    engine: Engine = ENGINE,
    memory: CapacityMemory | None = None,
    since: float = START,
    **changes: Any,
) -> CapacityMemory:
    """Two replicas; prompts are longer on the one and shorter on the other, in turns.

    And so are answers, in other turns: else nothing would tell computing a prompt from reading it.
    """
    memory = CapacityMemory() if memory is None else memory
    for i, rate in enumerate(rates):
        now = since + i * TICK
        more = 200.0 if i % 3 else -200.0
        longer = 40.0 if i % 2 else -40.0
        loads = (
            engine.load(now, rate, PROMPT + more, OUTPUT + longer, **changes),
            engine.load(now, rate, PROMPT - more, OUTPUT - longer, **changes),
        )
        memory = observe(memory, facts_of(pool_spec, *loads), now)
    return memory


def found(pool_spec: InferencePoolSpec, memory: CapacityMemory) -> Capacity:
    return capacity(pool_spec.variants[0], pool_spec.latency, memory)


def known(engine: Engine, memory: CapacityMemory, pool_spec: InferencePoolSpec) -> float:
    """Mu where the cost of a step is what it really is."""
    exact = VariantMemory(profile=engine.profile, hit_share=memory.variants["gpu"].hit_share)
    return found(pool_spec, replace(memory, variants={"gpu": exact})).requests_per_second


def swinging(ticks: int, low: float = 8.0, high: float = 16.0) -> list[float]:
    """Rates that go up and down as a day does."""
    return [low + (high - low) * abs((i % 40) / 20 - 1) for i in range(ticks)]


def test_declared_capacity_is_taken_as_it_is() -> None:
    assert found(spec(), CapacityMemory()) == Capacity(10.0, 40.0, "Declared")


def test_before_anything_is_measured_the_table_speaks_for_a_model_on_a_gpu() -> None:
    pool_spec = learnable(LLAMA, H100)
    memory = observe(CapacityMemory(), facts_of(pool_spec), START)
    assumed = found(pool_spec, memory)
    assert (assumed.source, assumed.relative_error) == ("Profile", None)
    assert assumed.detail == "8.03B parameters, 16-bit weights, on 1 x H100"
    # 1,000 in and 200 out: (1 - 7.7/60) / (28 ms + 200 * 0.1 ms) = 18 on average, and less so that
    # 95 % of the requests meet it.
    assert 14 < assumed.requests_per_second < 18


@pytest.mark.parametrize(("model", "gpu"), [("m", H100), (LLAMA, None), (LLAMA, "TPU v9")])
def test_a_model_or_a_gpu_that_is_not_known_is_assumed_to_be_slow(
    model: str, gpu: str | None
) -> None:
    pool_spec = learnable(model, gpu)
    assumed = found(pool_spec, observe(CapacityMemory(), facts_of(pool_spec), START))
    table = learnable(LLAMA, H100)
    told = found(table, observe(CapacityMemory(), facts_of(table), START))
    assert assumed.source == "Prior"
    assert 0 < assumed.requests_per_second < told.requests_per_second


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_a_quarter_of_an_hour_of_varied_load_teaches_what_a_step_costs(factor: float) -> None:
    engine = ENGINE.times(factor)
    pool_spec = learnable()
    memory = learned_from(pool_spec, swinging(60, 8 / factor, 16 / factor), engine)
    learned = found(pool_spec, memory)
    assert learned.source == "Learned"
    assert learned.requests_per_second == pytest.approx(known(engine, memory, pool_spec), rel=0.05)
    assert learned.relative_error is not None
    assert learned.relative_error < 0.2


def test_an_engine_that_becomes_slower_is_followed_within_a_quarter_of_an_hour() -> None:
    pool_spec = learnable()
    memory = learned_from(pool_spec, swinging(160))
    slower = ENGINE.times(1.4)
    since = START + 160 * TICK
    memory = learned_from(pool_spec, swinging(60, 6, 12), slower, memory, since)
    assert found(pool_spec, memory).requests_per_second == pytest.approx(
        known(slower, memory, pool_spec), rel=0.06
    )


def test_a_shift_of_the_mix_needs_no_new_learning() -> None:
    """Twice the prompt is another mu of the same engine, known as soon as the mix is."""
    pool_spec = learnable()
    memory = learned_from(pool_spec, swinging(120))
    longer = replace(memory.mix, prompt=2 * memory.mix.prompt)
    shifted = replace(memory, mix=longer)
    assert found(pool_spec, shifted).requests_per_second == pytest.approx(
        known(ENGINE, shifted, pool_spec), rel=0.1
    )


def test_a_shift_is_in_the_samples_before_it_is_in_the_mix() -> None:
    """Twice the prompt at 0.6 of capacity: the engine is the same, and so is what it costs."""
    pool_spec = learnable()
    memory = learned_from(pool_spec, swinging(120))
    before = memory.variants["gpu"].steps.cost
    assert before is not None
    for i in range(16):
        now = START + (120 + i) * TICK
        loads = (
            ENGINE.load(now, 7.5, 2 * PROMPT + 200, OUTPUT),
            ENGINE.load(now, 7.5, 2 * PROMPT - 200, OUTPUT),
        )
        memory = observe(memory, facts_of(pool_spec, *loads), now)
    after = memory.variants["gpu"].steps.cost
    assert after is not None
    assert after.costs == pytest.approx(before.costs, rel=0.05)


def test_a_fast_replica_is_believed_up_to_twice_what_it_has_shown() -> None:
    engine = ENGINE.times(0.3)
    pool_spec = learnable()
    memory = learned_from(pool_spec, [10.0, 11.0] * 30, engine)
    # At 12 a second requests take 15 % of its time; half of the time carries 40 a second.
    shown = found(pool_spec, memory)
    assert shown.requests_per_second < 0.6 * known(engine, memory, pool_spec)
    assert shown.source in {"Learned", "Prior"}


def test_a_slow_replica_is_believed_at_once() -> None:
    engine = ENGINE.times(4)
    pool_spec = learnable(tpot="100ms")
    assumed = found(pool_spec, CapacityMemory())
    memory = learned_from(pool_spec, [1.0] * 60, engine, running=7.0, running_mean=7.0)
    learned = found(pool_spec, memory)
    assert learned.source == "Learned"
    assert learned.requests_per_second < assumed.requests_per_second


def test_one_odd_minute_does_not_overturn_the_assumption() -> None:
    pool_spec = learnable()
    assert found(pool_spec, learned_from(pool_spec, [16.0])).source == "Prior"


@pytest.mark.parametrize(
    "changes",
    [
        {"role": Role.WARM},
        {"ready_at": START - 30},
        {"ready_at": None},
        {"load": None},
    ],
)
def test_warm_cold_and_silent_replicas_teach_nothing(changes: dict[str, Any]) -> None:
    facts = facts_of(learnable(), ENGINE.load(START, 12.0), **changes)
    assert observe(CapacityMemory(), facts, START).variants["gpu"].steps.weight == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"running": 0.0},
        # Idle for half of the window: half of the steps and tokens, and half of the mean batch.
        {"running_mean": 20.0, "generation_tokens_per_second": 1200.0, "steps_per_second": 30.0},
        {"steps_per_second": None},
        {"prompt_tokens_per_second": None},
    ],
)
def test_a_window_with_a_pause_or_without_a_signal_teaches_nothing(
    changes: dict[str, Any],
) -> None:
    facts = facts_of(learnable(), ENGINE.load(START, 12.0, **changes))
    assert observe(CapacityMemory(), facts, START).variants["gpu"].steps.weight == 0


def test_a_sample_counts_once_however_often_it_is_looked_at() -> None:
    facts = facts_of(learnable(), ENGINE.load(START, 12.0), ENGINE.load(START, 12.0))
    memory = observe(CapacityMemory(), facts, START)
    again = observe(memory, facts, START + 5)
    assert again.variants["gpu"].steps.weight == memory.variants["gpu"].steps.weight == 2


def test_a_measured_step_beyond_the_target_is_unreachable_and_an_assumed_one_is_not() -> None:
    pool_spec = learnable(tpot="7ms")
    assert not found(pool_spec, CapacityMemory()).unreachable
    assert found(pool_spec, learned_from(pool_spec, swinging(60))).unreachable


def test_the_kv_cache_bounds_the_batch() -> None:
    pool_spec = learnable()
    free = found(pool_spec, learned_from(pool_spec, swinging(60), kv_usage=0.2))
    # A hundredth of the cache for each request: 95 fit, and some room for the scatter is left.
    memory = learned_from(pool_spec, [12.0] * 60, running=50.0, kv_usage=0.5)
    full = found(pool_spec, memory)
    assert full.concurrency < 95 < free.concurrency
    assert full.kv_tokens == pytest.approx(1100 / 0.01)


def test_prompts_from_the_cache_are_not_computed_but_still_read_and_held() -> None:
    pool_spec = learnable()
    cold = learned_from(pool_spec, swinging(60), prefix_hit_tokens_per_second=0.0)
    gpu = replace(cold.variants["gpu"], hit_share=0.5)
    mix = replace(cold.mix, cached=0.5 * cold.mix.prompt)
    half = found(pool_spec, replace(cold, variants={"gpu": gpu}, mix=mix))
    none = found(pool_spec, cold)
    assert half.requests_per_second > none.requests_per_second
    # Prompts take about half of a request's time here: at most half of that half is saved, and
    # what its tokens read stays.
    assert half.requests_per_second < none.requests_per_second / 0.7


def test_a_variant_that_never_served_is_not_credited_with_the_others_cache() -> None:
    pool_spec = learnable()
    memory = learned_from(pool_spec, swinging(60), prefix_hit_tokens_per_second=6000.0)
    fresh = replace(memory, variants={"gpu": VariantMemory(profile=ENGINE.profile)})
    warm = VariantMemory(profile=ENGINE.profile, hit_share=0.5)
    served = replace(memory, variants={"gpu": warm})
    assert (
        found(pool_spec, fresh).requests_per_second < found(pool_spec, served).requests_per_second
    )


def test_data_parallel_ranks_are_one_replica_with_the_rate_of_all() -> None:
    pool_spec = learnable()
    one = found(pool_spec, learned_from(pool_spec, swinging(60)))

    memory = CapacityMemory()
    for i, rate in enumerate(swinging(60)):
        now = START + i * TICK
        loads = []
        for more in (200.0, -200.0):
            sample = ENGINE.load(now, rate, PROMPT + (more if i % 3 else -more))
            doubled = {
                name: 2 * getattr(sample, name)
                for name in (
                    "running", "running_mean", "finished_per_second", "prompt_tokens_per_second",
                    "generation_tokens_per_second", "steps_per_second",
                )
            }  # fmt: skip
            loads.append(replace(sample, engines=2, **doubled))
        memory = observe(memory, facts_of(pool_spec, *loads), now)
    two = found(pool_spec, memory)
    assert two.requests_per_second == pytest.approx(2 * one.requests_per_second, rel=0.05)


def test_prompts_too_long_for_the_first_token_are_told_and_not_sized_for() -> None:
    pool_spec = learnable(ttft="1s")
    memory = learned_from(pool_spec, swinging(60))
    learned = found(pool_spec, memory)
    # 20 us a token, and an attention pair costs 3.3e-5 of one: 30,000 tokens take 0.9 s.
    assert learned.longest_prompt_tokens == pytest.approx(31_500, rel=0.15)
    assert learned.unattainable_share == 0
    scattered = replace(memory.mix, prompt=30 * memory.mix.prompt, prompt_sigma=1.0)
    long = found(pool_spec, replace(memory, mix=scattered))
    # 30,000 on average, so 18,000 in the middle; 31,500 is 0.55 sigma above it.
    assert long.unattainable_share == pytest.approx(0.29, abs=0.06)


def test_lengths_that_are_all_alike_leave_more_to_use_than_lengths_that_scatter() -> None:
    pool_spec = learnable()
    memory = learned_from(pool_spec, swinging(60))
    alike = found(pool_spec, memory)
    scattered = replace(memory.mix, prompt_sigma=1.2, output_sigma=1.2)
    assert isinstance(scattered, TokenMixMemory)
    less = found(pool_spec, replace(memory, mix=scattered))
    assert less.requests_per_second < alike.requests_per_second


def test_figures_of_a_broken_counter_teach_nothing_and_break_nothing() -> None:
    pool_spec = learnable()
    memory = learned_from(pool_spec, swinging(20))
    now = START + 20 * TICK
    odd = ENGINE.load(now, 12.0, prompt_tokens_per_second=1e300)
    after = observe(memory, facts_of(pool_spec, odd), now)
    assert after.variants["gpu"].steps == memory.variants["gpu"].steps
    assert found(pool_spec, after).requests_per_second >= 0


def test_requests_without_a_prompt_have_a_capacity() -> None:
    empty = TokenMixMemory(START, requests=10.0, prompt=0.0, output=100.0, measured=True)
    assert found(learnable(), CapacityMemory(mix=empty)).requests_per_second > 0
