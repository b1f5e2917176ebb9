"""What one replica of a variant serves within the latency promise: mu and B*.

The cost of a step is learned from what the engine counts (`spillway.core.stepcost`), and mu is the
largest rate at which requests of the present mix meet both targets at that cost
(`spillway.core.throughput`). So a shift of the mix needs no new learning, and neither does a change
of the targets.

Sources in order: declared in the spec; learned; the built-in table's entry for the model on the GPU
(`spillway.core.profiles`); a generic assumption. What is learned counts once the replicas were seen
at half of the rate that it promises. Until then it is believed up to twice what was seen, or where
it is below the table's: a replica that is faster than the table shows it step by step, each time it
is given what it was shown to take.

The prefix cache's hits are taken off what is computed but not off what is read and held, and only
for a variant whose own replicas have shown them.
"""

from __future__ import annotations

import math
from dataclasses import field
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from spillway.core import headroom_table, routing
from spillway.core.learning import VariantMemory, learn
from spillway.core.profiles import GENERIC_PROFILE, profile_of
from spillway.core.routing import RoutingMemory
from spillway.core.samples import fresh_load, pods_of
from spillway.core.stepcost import Four, StepCost
from spillway.core.throughput import BatchBounds, RequestWork, Throughput, throughput
from spillway.core.tokenmix import TokenMix, TokenMixMemory
from spillway.core.tokenmix import observe as observe_mix
from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from spillway.api.inferencepool import Latency, Variant
    from spillway.core.facts import PoolFacts, ReplicaLoad
    from spillway.core.profiles import EngineProfile

__all__ = ["GENERIC_PROFILE", "Capacity", "CapacityMemory", "VariantMemory", "capacity", "observe"]

Source: TypeAlias = Literal["Declared", "Learned", "Profile", "Prior"]

#: Share of what is promised that must have been seen before it is believed.
TRUSTED_SHARE: Final = 0.5
#: vLLM starts to preempt when the KV cache is full; the last 5 % are for growth of what runs.
_KV_USABLE: Final = 0.95
_NORMAL: Final = NormalDist()
#: Nearer to the target than this a base of a step leaves an error that is any.
_LEAST_ROOM: Final = 0.05
#: What is not measured may not call a target unreachable, so a tight target makes it as fast, in
#: proportion, as leaves some of it for requests: two thirds where nothing is known, and a fifth
#: where the table knows the model and the GPU.
_PRIOR_BASE_SHARE: Final = 1 / 3
_PROFILE_BASE_SHARE: Final = 0.8


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica serves within the latency promise.

    Attributes:
        requests_per_second: mu, of the present mix; 0 when no rate meets the targets.
        concurrency: B*, requests in flight at that rate; 0 likewise.
        source: Where it comes from.
        relative_error: Standard error of mu over mu: of the learned costs and of the model that
            turns them into mu; None where nothing was measured.
        prefill_seconds: Time to compute the mean prompt on an idle replica.
        kv_tokens: Tokens of context that a replica holds; None where that is not known.
        engine_concurrency: Requests that its engine takes into the batch at most; None where
            capacity is declared.
        longest_prompt_tokens: Prompts beyond this miss the TTFT target on an idle replica; None
            where capacity is declared.
        unattainable_share: Share of the requests whose prompt is longer than that.
        detail: What an assumption is about, for a person; "" for what is not assumed.
    """

    requests_per_second: float
    concurrency: float
    source: Source
    relative_error: float | None = None
    prefill_seconds: float | None = None
    kv_tokens: float | None = None
    engine_concurrency: float | None = None
    longest_prompt_tokens: float | None = None
    unattainable_share: float = 0.0
    detail: str = ""

    @property
    def unreachable(self) -> bool:
        """No rate meets the targets: the condition's reason TargetUnreachable."""
        return self.requests_per_second <= 0


@dataclass(frozen=True, slots=True)
class CapacityMemory:
    """What was learned, by variant, the pool's mix and how evenly its router deals it out."""

    variants: dict[str, VariantMemory] = field(default_factory=dict)
    mix: TokenMixMemory = field(default_factory=TokenMixMemory)
    routing: RoutingMemory = field(default_factory=RoutingMemory)


def observe(memory: CapacityMemory, facts: PoolFacts, now: float) -> CapacityMemory:
    """Learn from the fresh samples of warm-run pods; each sample counts once."""
    loads = [load for p in pods_of(facts) if (load := fresh_load(p, now)) is not None]
    mix_memory = observe_mix(memory.mix, loads, now, facts.lengths)
    mix = mix_memory.mix()
    variants = {}
    for variant in facts.spec.variants:
        known = memory.variants.get(variant.name, VariantMemory())
        target = facts.targets.get(variant.name)
        accelerator = variant.accelerator
        profile = profile_of(facts.spec.model_name, accelerator.type, accelerator.per_replica)
        if profile is not known.profile:
            known = replace(known, profile=profile)
        if variant.capacity is None and target is not None and target.exists:
            known = learn(known, target.pods, mix, memory.routing.pooling, now)
        variants[variant.name] = known
    routed = routing.observe(memory.routing, pods_of(facts), _stretch(variants, loads), now)
    return CapacityMemory(variants, mix_memory, routed)


def capacity(variant: Variant, latency: Latency, memory: CapacityMemory) -> Capacity:
    """What one replica of the variant serves, from the best source there is."""
    if variant.capacity is not None:
        return Capacity(
            variant.capacity.requests_per_second, float(variant.capacity.concurrency), "Declared"
        )
    known = memory.variants.get(variant.name, VariantMemory())
    # Nothing says that replicas which never served will find prompts in their caches.
    mix = memory.mix.mix().with_cached_share(known.hit_share or 0.0)
    pooling = memory.routing.pooling
    profile = known.profile
    share = _PROFILE_BASE_SHARE if profile.source else _PRIOR_BASE_SHARE
    reached = min(1.0, share * min(latency.tpot, latency.ttft) / profile.base)
    prior = StepCost(_scaled(known.prior, reached))
    cost = known.steps.cost
    if not known.steps.learned or cost is None:
        return _capacity(known, prior, latency, mix, pooling)
    learned = _capacity(known, cost, latency, mix, pooling)
    work = _work(known, cost.costs, mix, pooling)
    shown = known.busiest / TRUSTED_SHARE / work.seconds * known.engines
    if learned.requests_per_second <= shown:
        return learned
    assumed = _capacity(known, prior, latency, mix, pooling)
    if learned.requests_per_second <= assumed.requests_per_second:
        return learned
    if assumed.requests_per_second >= shown:
        return assumed
    part = shown / learned.requests_per_second
    return replace(
        learned,
        requests_per_second=shown,
        concurrency=max(1.0, _in_flight(work, shown / known.engines) * known.engines),
        relative_error=max(learned.relative_error or 0.0, 1 - part),
    )


def of_profile(
    profile: EngineProfile, latency: Latency, mix: TokenMix, pooling: float = 1.0
) -> Capacity:
    """What a replica serves at a table's figures, taken at their word: for plans, not decisions."""
    known = VariantMemory(profile=profile)
    return _capacity(known, StepCost(known.prior), latency, mix, pooling)


def _capacity(
    known: VariantMemory, cost: StepCost, latency: Latency, mix: TokenMix, pooling: float
) -> Capacity:
    """Mu and what goes with it at these costs of a step."""
    work = _work(known, cost.costs, mix, pooling)
    kv_tokens = _kv_tokens(known, mix)
    sequences = float(known.profile.max_num_seqs)
    if kv_tokens is not None:
        sequences = min(sequences, _KV_USABLE * kv_tokens / mix.context_tokens)
    bounds = BatchBounds(sequences, known.profile.max_num_batched_tokens, mix.computed_tokens)
    found: Throughput = throughput(work, latency, bounds)
    longest = _longest_prompt(known, cost.costs, mix, latency.ttft)
    measured = cost.covariance is not None
    error = cost.relative_error(_elasticities(cost.costs, known, mix, latency.tpot, work.seconds))
    if error is not None:
        error = math.hypot(error, headroom_table.TYPICAL_ERROR)
    profile = known.profile
    return Capacity(
        requests_per_second=found.requests_per_second * known.engines,
        concurrency=found.concurrency * known.engines,
        source="Learned" if measured else "Profile" if profile.source else "Prior",
        relative_error=error,
        prefill_seconds=work.base_seconds + work.prefill_seconds,
        kv_tokens=None if kv_tokens is None else kv_tokens * known.engines,
        engine_concurrency=sequences * known.engines,
        longest_prompt_tokens=longest,
        unattainable_share=_share_beyond(longest, mix),
        detail="" if measured else profile.source,
    )


def _work(known: VariantMemory, costs: Four, mix: TokenMix, pooling: float) -> RequestWork:
    base, sequence, context, prefill = costs
    tokens = known.prefill_tokens(mix)
    # Time to compute a prompt scatters as its length does, and more by the quadratic part.
    long_share = 1 - 1 / tokens
    return RequestWork(
        base_seconds=base,
        prefill_seconds=prefill * mix.computed_tokens * tokens,
        token_seconds=sequence + context * mix.context_tokens,
        output_tokens=mix.output_tokens,
        prefill_cv=mix.prompt_cv * (1 + long_share),
        output_cv=mix.output_cv,
        pooling=pooling,
    )


def _in_flight(work: RequestWork, rate: float) -> float:
    return work.batch(rate) + rate * work.prefill_seconds


def _elasticities(
    costs: Four, known: VariantMemory, mix: TokenMix, tpot: float, seconds: float
) -> Four:
    """Derivatives d ln mu / d ln cost of the mean-value line, mu = (1 - c0/T) / w."""
    base, sequence, context, prefill = costs
    output = mix.output_tokens
    return (
        -base / max(tpot - base, _LEAST_ROOM * tpot),
        -sequence * output / seconds,
        -context * mix.context_tokens * output / seconds,
        -prefill * mix.computed_tokens * known.prefill_tokens(mix) / seconds,
    )


def _kv_tokens(known: VariantMemory, mix: TokenMix) -> float | None:
    """Tokens that the KV cache of an engine holds: as seen, or else as the table says.

    What was seen is the share that a running request takes, so blocks that requests share count
    once.
    """
    if known.kv_share_per_sequence:
        return mix.context_tokens / known.kv_share_per_sequence
    tokens = known.profile.kv_tokens
    return None if tokens is None else tokens / known.engines


def _longest_prompt(known: VariantMemory, costs: Four, mix: TokenMix, ttft: float) -> float:
    """Tokens of the prompt that an idle replica computes within the TTFT target.

    The root of c3 (1 - h) I (1 + q I (1 + h) / 2) + c0 (I (1 - h) / M + 1) = ttft with q the
    cost of a pair in tokens, h the cached share and M the tokens of a step: a chunk is a step.
    """
    base, _, _, prefill = costs
    fresh = 1 - mix.cached_share
    linear = fresh * (prefill + base / known.profile.max_num_batched_tokens)
    square = prefill * fresh * known.profile.tokens_per_pair * (1 + mix.cached_share) / 2
    left = ttft - base
    if left <= 0 or linear <= 0:
        return 0.0 if left <= 0 else math.inf
    # The stable form of the root, which holds for no quadratic part as well.
    return 2 * left / (linear + math.sqrt(linear * linear + 4 * square * left))


def _share_beyond(tokens: float, mix: TokenMix) -> float:
    """Share of lognormal prompts that are longer."""
    if tokens <= 0:
        return 1.0
    if math.isinf(tokens) or not mix.measured or mix.prompt_tokens <= 0:
        return 0.0
    sigma = math.sqrt(math.log1p(mix.prompt_cv**2))
    distance = math.log(tokens / mix.prompt_tokens)
    if sigma <= 0:
        return float(distance < 0)
    return 1 - _NORMAL.cdf((distance + sigma * sigma / 2) / sigma)


def _stretch(variants: dict[str, VariantMemory], loads: list[ReplicaLoad]) -> float:
    """How much longer steps are now than empty ones (t / c0), by the slowest variant's c0."""
    bases = [k.steps.cost.costs[0] for k in variants.values() if k.steps.cost is not None]
    rates = [load.steps_per_second / load.engines for load in loads if load.steps_per_second]
    if not bases or not rates:
        return 1.0
    return max(1.0, len(rates) / (sum(rates) * max(bases)))


def _scaled(costs: Four, factor: float) -> Four:
    a, b, c, d = costs
    return a * factor, b * factor, c * factor, d * factor
