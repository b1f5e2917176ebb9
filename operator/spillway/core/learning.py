"""Which samples of a variant's replicas teach what, and what is remembered of them.

Never learned from: cold replicas, warm ones, stale or missing samples, windows with pauses. Each
sample counts once, and for as much as is new in it.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import TYPE_CHECKING, Final

from spillway.api.names import Role
from spillway.core import routing
from spillway.core.facts import PodPhase
from spillway.core.profiles import GENERIC_PROFILE, EngineProfile
from spillway.core.samples import fresh_load
from spillway.core.stepcost import Four, StepSample, StepSums
from spillway.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spillway.core.facts import PodFacts, ReplicaLoad
    from spillway.core.tokenmix import TokenMix

#: A replica compiles kernels and fills its caches in its first minute; its steps are not typical.
COLD_SECONDS: Final = 60.0
#: Rates are means over about a minute, so a sample that is newer by less brings as much less.
WINDOW_SECONDS: Final = 60.0
#: Half of what was ever seen is forgotten in a day.
_SEEN_HALF_LIFE_SECONDS: Final = 86_400.0
#: Where decode tokens a step exceed the mean batch by this, the engine paused within the window.
_PAUSED_SHARE: Final = 0.6
#: Beyond this share of idle time a window says more of the pauses than of the steps.
_MOST_IDLE: Final = 0.1
#: Idle time over what chance arrivals of requests that do not disturb each other have: prompts are
#: computed one after the other and bunch. 1.6 to 3 in the emulator, for code and RAG at 0.6 of mu.
_BUNCHING: Final = 2.0
_FADE: Final = 0.05
#: With fewer requests in a window their mean length is not told from how they straddle its ends.
_LEAST_REQUESTS: Final = 10.0
#: A window's prompts are not this many times as long, or as short, as the mix has them: beyond it a
#: counter is odd, or the mix will have followed within minutes.
_MOST_UNLIKE: Final = 4.0
#: No replica reads as much context in a second (10^5 sequences of 10^6 tokens in 10^3 steps): a
#: figure beyond it is a broken counter.
_MOST_PER_SECOND: Final = 1e14


@dataclass(frozen=True, slots=True)
class _Lengths:
    """What of the lengths of requests the cost of a step depends on.

    Attributes:
        prompt: Mean prompt in tokens.
        output: Mean answer in tokens.
        context: Mean tokens of context that a sequence reads in a step.
        pairs: What the attention between tokens of a prompt adds to a computed one, in tokens.
    """

    prompt: float
    output: float
    context: float
    pairs: float


@dataclass(frozen=True, slots=True)
class VariantMemory:
    """What was learned of a variant's replicas.

    Attributes:
        profile: The assumption that learning starts from.
        steps: Of the cost of a step.
        sampled_at: Time of the latest sample that counted.
        engines: Data-parallel ranks of a replica.
        kv_share_per_sequence: Share of the KV cache that a running request holds; None if unknown.
        hit_share: Share of the prompts that the replicas' prefix cache answers; None until seen.
        busiest: Largest share of the time that requests took of a replica.
    """

    profile: EngineProfile = GENERIC_PROFILE
    steps: StepSums = field(default_factory=StepSums)
    sampled_at: float = 0.0
    engines: int = 1
    kv_share_per_sequence: float | None = None
    hit_share: float | None = None
    busiest: float = 0.0

    @property
    def prior(self) -> Four:
        """The profile's costs of a step, sequence, context token and prompt token."""
        p = self.profile
        return p.base, p.per_sequence, p.per_context_token, p.per_prefill_token

    def prefill_tokens(self, mix: TokenMix) -> float:
        """Short-prompt tokens that a computed token of the mix costs as much as: at least 1."""
        return 1 + self.profile.tokens_per_pair * mix.pairs_per_computed_token()


def learn(
    known: VariantMemory, pods: Iterable[PodFacts], mix: TokenMix, pooling: float, now: float
) -> VariantMemory:
    """The memory with the new samples of replicas that have run for a while."""
    fresh = [
        load
        for p in pods
        if p.role is not Role.WARM and p.phase is PodPhase.READY and p.ready_at is not None
        if (load := fresh_load(p, now)) is not None
        if load.sampled_at > known.sampled_at and load.sampled_at - p.ready_at >= COLD_SECONDS
    ]
    lengths = _Lengths(
        mix.prompt_tokens,
        mix.output_tokens,
        mix.context_tokens,
        known.profile.tokens_per_pair * mix.pairs_per_computed_token(),
    )
    used, samples = [], []
    for load in fresh:
        sample = _sample(known, load, lengths, pooling)
        if sample is not None:
            used.append(load)
            samples.append(sample)
    if not samples:
        return known
    steps = known.steps.plus(samples, known.prior, now)
    busiest = known.busiest
    if steps.cost is not None:
        keep = 0.5 ** (max(0.0, now - known.steps.at) / _SEEN_HALF_LIFE_SECONDS)
        rest = [1 - steps.cost.costs[0] * s.regressors[0] / s.busy for s in samples]
        busiest = max(keep * busiest, *rest)
    # Both of the same moment: a mean batch says nothing of what fills the cache now. An engine's
    # share of it is what its own requests fill.
    held = [load.kv_usage * load.engines / load.running for load in used if load.kv_usage]
    hits = [
        min(1.0, load.prefix_hit_tokens_per_second / load.prompt_tokens_per_second)
        for load in used
        if load.prefix_hit_tokens_per_second is not None and load.prompt_tokens_per_second
    ]
    return VariantMemory(
        profile=known.profile,
        steps=steps,
        sampled_at=max(load.sampled_at for load in fresh),
        engines=max(1, used[-1].engines),
        kv_share_per_sequence=_faded(known.kv_share_per_sequence, held),
        hit_share=_faded(known.hit_share, hits),
        busiest=busiest,
    )


def _faded(old: float | None, seen: list[float]) -> float | None:
    """The old mean with new values, each of which counts for a twentieth."""
    if not seen:
        return old
    mean = sum(seen) / len(seen)
    return mean if old is None else mean + (1 - _FADE) ** len(seen) * (old - mean)


def _sample(
    known: VariantMemory, load: ReplicaLoad, mix: _Lengths, pooling: float
) -> StepSample | None:
    """The identity's regressors of a replica that ran without a pause; None otherwise.

    Where the tokens decoded in a step are more than the mean batch explains, the engine paused, or
    decodes speculatively: then nothing is learned.
    """
    steps, decoded = load.steps_per_second, load.generation_tokens_per_second
    prompts, batch = load.prompt_tokens_per_second, load.running_mean
    if steps is None or decoded is None or prompts is None or batch is None or steps <= 0:
        return None
    of_a_step = decoded / steps
    if load.running <= 0 or of_a_step < 1 or batch < max(1.0, _PAUSED_SHARE * of_a_step):
        return None
    idle = _BUNCHING * routing.idle_share(of_a_step / load.engines, pooling)
    if idle > _MOST_IDLE:
        return None
    lengths = _of_window(load, mix)
    fresh_tokens = max(0.0, prompts - (load.prefix_hit_tokens_per_second or 0.0))
    computed = (1 + lengths.pairs) * fresh_tokens
    each = 1 / load.engines
    age = load.sampled_at - known.sampled_at if known.sampled_at else WINDOW_SECONDS
    regressors = steps * each, decoded * each, decoded * each * lengths.context, computed * each
    if not max(regressors) < _MOST_PER_SECOND:
        return None
    # Idle time comes in gaps until the next arrival, exponential where arrivals are Poisson.
    # So a share i of a window with n arrivals is a compound Poisson sum, of variance 2 i / n.
    arrivals = WINDOW_SECONDS * decoded * each / mix.output
    return StepSample(
        regressors=regressors,
        busy=1 - idle,
        weight=min(1.0, age / WINDOW_SECONDS),
        unsure=2 * idle / max(1.0, arrivals),
    )


def _of_window(load: ReplicaLoad, mix: _Lengths) -> _Lengths:
    """The lengths of the requests that this window is of; the mix's where that can't be told.

    A minute whose prompts happen to be long has more to compute and more to read. Where only the
    first is counted, a prompt token is taken to cost what both do. Of n requests with P prompt and
    G output tokens in all, lengths independent of each other, the prompts that the output tokens
    read are G P / n in expectation, and what is left of the error goes along with none of the
    regressors. So is a shift of the traffic in the samples at once, before the mix has followed.

    Prompts are counted when their first token is sent, so n is what finished and what has joined
    the requests in flight. Of what is read, the part of requests that were there before has the
    mix's prompts: a sequence that decodes for D on average began within the window W in
    1 - (1 - exp(-W/D)) D/W of its time, durations taken as exponential, and D is by Little's law.
    """
    finished, joined = load.finished_per_second, load.in_flight_change_per_second
    prompts, batch = load.prompt_tokens_per_second, load.running_mean
    if finished is None or joined is None or prompts is None or not batch or mix.prompt <= 0:
        return mix
    started = finished + joined
    if not started * WINDOW_SECONDS >= _LEAST_REQUESTS:
        return mix
    unlike = min(max(prompts / started / mix.prompt, 1 / _MOST_UNLIKE), _MOST_UNLIKE)
    turns = started * WINDOW_SECONDS / batch
    own = 1 + math.expm1(-turns) / turns
    context = mix.context + own * (unlike - 1) * mix.prompt
    return _Lengths(unlike * mix.prompt, mix.output, context, unlike * mix.pairs)
