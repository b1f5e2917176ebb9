"""What a vLLM engine counts: gauges, monotone counters and histograms, in vLLM's meaning.

Names, meanings and bucket bounds are those of vLLM's ``vllm/v1/metrics/loggers.py`` and
``vllm/v1/metrics/stats.py``.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from spillway.sim.request import FinishReason

TTFT_BOUNDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
"""Upper bounds of ``vllm:time_to_first_token_seconds``."""
ITL_BOUNDS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
    0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
"""Upper bounds of ``vllm:inter_token_latency_seconds`` (``time_per_output_token_seconds``)."""
E2E_BOUNDS: Final = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0,
    30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
"""Upper bounds of ``vllm:e2e_request_latency_seconds``."""
ITERATION_TOKENS_BOUNDS: Final = (
    1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0,
)  # fmt: skip
"""Upper bounds of ``vllm:iteration_tokens_total``."""
LENGTH_BOUNDS: Final = tuple(float(m * 10**e) for e in range(5) for m in (1, 2, 5))
"""Upper bounds of ``vllm:request_prompt_tokens`` and ``vllm:request_generation_tokens``: 1, 2, 5,
10 and so on up to the longest context (``build_1_2_5_buckets``), here of 50,000 tokens and more."""


class Histogram:
    """A Prometheus histogram: an observation counts in the first bucket whose bound is >= it.

    Attributes:
        bounds: Upper bounds, ascending, without +Inf.
        counts: Observations per bucket (not cumulative); one more than bounds, for +Inf.
        sum: Sum of the observed values.
        count: Number of observations.
    """

    __slots__ = ("bounds", "count", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.count = 0

    def observe(self, value: float, times: int = 1) -> None:
        """Count ``value``, ``times`` over."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times
        self.count += times


def _reasons() -> dict[FinishReason, int]:
    return dict.fromkeys(FinishReason, 0)


@dataclass(slots=True)
class EngineCounters:
    """An engine's monotone counters since it started.

    Attributes:
        steps: Scheduler steps completed, those that sent no token (an early chunk of a prompt)
            included. vLLM shows only steps that sent one: ``iteration_tokens.count``.
        prompt_tokens: Prompt tokens, cached ones included, counted when a prefill ends.
        prompt_tokens_cached: Of these, answered by the prefix cache.
        generation_tokens: Output tokens.
        requests_finished: By reason, as in ``vllm:request_success_total``.
        preemptions: Requests that lost their KV blocks.
        prefix_cache_queries: Prompt tokens looked up in the prefix cache, at first admission.
        prefix_cache_hits: Prompt tokens found there.
        iteration_tokens: Prompt tokens whose prefill ended, and output tokens, per step.
        prompt_lengths: Prompt tokens of each request that finished.
        output_lengths: Output tokens likewise.
        ttft: Time to first token, from arrival.
        inter_token_latency: Gaps between output tokens.
        e2e: Arrival to last token.
    """

    steps: int = 0
    prompt_tokens: int = 0
    prompt_tokens_cached: int = 0
    generation_tokens: int = 0
    requests_finished: dict[FinishReason, int] = field(default_factory=_reasons)
    preemptions: int = 0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    iteration_tokens: Histogram = field(default_factory=lambda: Histogram(ITERATION_TOKENS_BOUNDS))
    prompt_lengths: Histogram = field(default_factory=lambda: Histogram(LENGTH_BOUNDS))
    output_lengths: Histogram = field(default_factory=lambda: Histogram(LENGTH_BOUNDS))
    ttft: Histogram = field(default_factory=lambda: Histogram(TTFT_BOUNDS))
    inter_token_latency: Histogram = field(default_factory=lambda: Histogram(ITL_BOUNDS))
    e2e: Histogram = field(default_factory=lambda: Histogram(E2E_BOUNDS))


@dataclass(frozen=True, slots=True)
class EngineGauges:
    """An engine's state at one moment.

    Attributes:
        running: Requests in the batch.
        waiting: Requests queued for capacity.
        kv_usage: Share of the KV blocks in use, 0 to 1.
    """

    running: int
    waiting: int
    kv_usage: float
