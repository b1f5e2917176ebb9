"""The mix of a pool's requests: how long prompts and answers are and how much a cache answers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from spillway.core.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spillway.core.facts import LengthQuantiles, ReplicaLoad

#: Half of the mix is from about the latest `_REQUESTS_KEPT` requests, within these bounds: a mean
#: of fewer is noise, since lengths scatter by as much as their mean, and prompt counters jump when
#: a prefill ends; one of more would follow a shift of the traffic late. Requests of before a shift
#: weigh by their number: prompts that double where capacity more than halves still leave the mean
#: 1 % short after a quarter of an hour, and 4 % with 180 s.
LEAST_HALF_LIFE_SECONDS: Final = 120.0
HALF_LIFE_SECONDS: Final = 600.0
_REQUESTS_KEPT: Final = 500.0
#: An assumption, not a measurement: stands in until the pool has finished its first requests.
ASSUMED_PROMPT_TOKENS: Final = 1000.0
ASSUMED_OUTPUT_TOKENS: Final = 200.0
#: Standard deviation over mean of lengths that are not measured as a distribution. Azure's LLM
#: inference trace of 2023 has 1.0 for the prompts of both services, and 0.8 and 2.1 for the answers
#: of the conversation and the coding service.
ASSUMED_CV: Final = 1.0
#: 95th percentile over mean of a lognormal length with sigma 1 (exp(1.645 - 0.5)), which is about
#: what public traces of chat traffic show. For prices, where lengths are not measured as a
#: distribution; it errs to the dear side, so a budget is kept.
ASSUMED_P95_OVER_MEAN: Final = 3.14
#: 95th percentile of the standard normal distribution.
_Z95: Final = 1.645
#: No length scatters more: sigma of a lognormal whose p95 is 30 times its median.
_LARGEST_SIGMA: Final = 2.0
_MIN_REQUESTS: Final = 1.0


@dataclass(frozen=True, slots=True)
class TokenMix:
    """Means over the requests of a pool, and how far single ones scatter.

    Attributes:
        prompt_tokens: Prompt tokens of a request, cached ones included.
        output_tokens: Output tokens of a request, at least 1.
        cached_tokens: Of the prompt tokens, those that the prefix cache answered.
        measured: False while the built-in assumption stands in.
        prompt_sigma: Standard deviation of the logarithm of the prompt length (lognormal); None
            where lengths are not measured as a distribution.
        output_sigma: The same of the output length.
    """

    prompt_tokens: float = ASSUMED_PROMPT_TOKENS
    output_tokens: float = ASSUMED_OUTPUT_TOKENS
    cached_tokens: float = 0.0
    measured: bool = False
    prompt_sigma: float | None = None
    output_sigma: float | None = None

    @property
    def computed_tokens(self) -> float:
        """Prompt tokens that the GPUs have to compute."""
        return max(0.0, self.prompt_tokens - self.cached_tokens)

    @property
    def cached_share(self) -> float:
        """Share of the prompt tokens that the prefix cache answers."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens > 0 else 0.0

    @property
    def prompt_cv(self) -> float:
        """Standard deviation of the prompt length over its mean, measured or assumed."""
        return _cv(self.prompt_sigma)

    @property
    def output_cv(self) -> float:
        """Standard deviation of the output length over its mean, measured or assumed."""
        return _cv(self.output_sigma)

    @property
    def context_tokens(self) -> float:
        """X: tokens of context that a sequence reads in a step, mean over the sequences that run.

        A sequence that runs at a random moment is a long one (E[O^2] / 2 E[O] tokens so far), and
        its prompt counts whole: cached tokens are not computed but are read and held.
        """
        return self.prompt_tokens + self.output_tokens * (1 + self.output_cv**2) / 2

    def pairs_per_computed_token(self) -> float:
        """(query, key) pairs of prefill for each prompt token that is computed.

        A prompt of I tokens with a cached share h has (1 - h) I queries, each of which sees h I
        cached keys and half of the others: I (1 + h) / 2 for each. Long prompts weigh more.
        """
        return self.prompt_tokens * (1 + self.prompt_cv**2) * (1 + self.cached_share) / 2

    def with_cached_share(self, share: float) -> TokenMix:
        """The same requests with another share of the prompts answered by the cache."""
        return replace(self, cached_tokens=self.prompt_tokens * share)

    def at_p95(self) -> TokenMix:
        """A request whose prompt and whose answer are both at their 95th percentile."""
        prompt, output = _p95_over_mean(self.prompt_sigma), _p95_over_mean(self.output_sigma)
        return replace(
            self,
            prompt_tokens=self.prompt_tokens * prompt,
            output_tokens=self.output_tokens * output,
            cached_tokens=self.cached_tokens * prompt,
        )


@dataclass(frozen=True, slots=True)
class TokenMixMemory:
    """Totals with exponential forgetting: requests, and tokens by kind.

    ``at`` is their time; ``measured`` is set for good once a whole request was seen. The sigmas are
    those of `TokenMix`, means over the same time.
    """

    at: float = 0.0
    requests: float = 0.0
    prompt: float = 0.0
    output: float = 0.0
    cached: float = 0.0
    measured: bool = False
    prompt_sigma: float | None = None
    output_sigma: float | None = None

    def mix(self) -> TokenMix:
        """The mix so far, or the assumption until one whole request was seen."""
        if not self.measured:
            return TokenMix()
        return TokenMix(
            prompt_tokens=self.prompt / self.requests,
            output_tokens=max(1.0, self.output / self.requests),
            cached_tokens=min(self.cached, self.prompt) / self.requests,
            measured=True,
            prompt_sigma=self.prompt_sigma,
            output_sigma=self.output_sigma,
        )


def observe(
    memory: TokenMixMemory,
    loads: Iterable[ReplicaLoad],
    now: float,
    lengths: LengthQuantiles | None = None,
) -> TokenMixMemory:
    """Add what the replicas report of the time since the last call (at most a minute of it).

    While nothing finishes nothing is forgotten either: a quiet night does not change the mix.
    """
    elapsed = min(max(0.0, now - memory.at), 60.0)
    if elapsed == 0.0:
        return memory
    loads = [load for load in loads if load.finished_per_second]
    if not loads:
        return replace(memory, at=now)
    finished_per_second = sum(load.finished_per_second or 0.0 for load in loads)
    half_life = min(
        max(LEAST_HALF_LIFE_SECONDS, _REQUESTS_KEPT / finished_per_second), HALF_LIFE_SECONDS
    )
    keep = 0.5 ** (elapsed / half_life)
    requests, prompt, output, cached = (
        memory.requests * keep,
        memory.prompt * keep,
        memory.output * keep,
        memory.cached * keep,
    )
    for load in loads:
        finished = load.finished_per_second
        prompt_rate, output_rate = load.prompt_tokens_per_second, load.generation_tokens_per_second
        if finished is None or prompt_rate is None or output_rate is None:
            continue
        requests += finished * elapsed
        prompt += prompt_rate * elapsed
        output += output_rate * elapsed
        cached += (load.prefix_hit_tokens_per_second or 0.0) * elapsed
    measured = memory.measured or (requests >= _MIN_REQUESTS and output > 0)
    prompt_sigma, output_sigma = memory.prompt_sigma, memory.output_sigma
    if lengths is not None:
        seen = _sigma(lengths.prompt_p50, lengths.prompt_p95)
        prompt_sigma = _faded(prompt_sigma, seen, keep)
        seen = _sigma(lengths.output_p50, lengths.output_p95)
        output_sigma = _faded(output_sigma, seen, keep)
    return TokenMixMemory(
        now, requests, prompt, output, cached, measured, prompt_sigma, output_sigma
    )


def _cv(sigma: float | None) -> float:
    return ASSUMED_CV if sigma is None else math.sqrt(math.expm1(sigma * sigma))


def _p95_over_mean(sigma: float | None) -> float:
    """Of a lognormal: exp(z sigma - sigma^2 / 2)."""
    return ASSUMED_P95_OVER_MEAN if sigma is None else math.exp(sigma * (_Z95 - sigma / 2))


def _sigma(p50: float | None, p95: float | None) -> float | None:
    """Of the lognormal with these two quantiles; None where they are none."""
    if p50 is None or p95 is None or not 0 < p50 <= p95 < math.inf:
        return None
    return min(math.log(p95 / p50) / _Z95, _LARGEST_SIGMA)


def _faded(old: float | None, seen: float | None, keep: float) -> float | None:
    if old is None or seen is None:
        return old if seen is None else seen
    return keep * old + (1 - keep) * seen
