"""Names of the series that Spillway reads, old and new, and where each name is from.

A signal is a tuple of alternatives, the current name first: the first one that a replica exports is
read and the rest are left alone, so a page that carries an old and a new name side by side (vLLM
0.9 to 0.11 did) counts once.

Sources:
    vLLM: https://docs.vllm.ai/en/stable/usage/metrics/ and vllm/v1/metrics/loggers.py; before 0.8
    vllm/engine/metrics.py.
    dcgm-exporter: etc/default-counters.csv and etc/dcp-metrics-included.csv of
    https://github.com/NVIDIA/dcgm-exporter.
    Gateways: Spillway's own contract; every gateway driver reports these names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Series:
    """One series that carries a signal.

    Attributes:
        name: Metric name.
        where: Labels and the values that they must have.
    """

    name: str
    where: tuple[tuple[str, str], ...] = ()


def _gauge(*names: str) -> tuple[Series, ...]:
    return tuple(Series(name) for name in names)


def _counter(*names: str) -> tuple[Series, ...]:
    """Each name with ``_total`` and without.

    Python's client appends ``_total`` to every counter; the OpenTelemetry collector takes it off
    again unless told otherwise.
    """
    return tuple(Series(name + suffix) for name in names for suffix in ("_total", ""))


#: Requests in the running batch; the same name since vLLM 0.1.
RUNNING: Final = _gauge("vllm:num_requests_running")
#: All requests in the waiting queue, whatever they wait for.
WAITING_ALL: Final = _gauge("vllm:num_requests_waiting")
#: Requests that wait because the engine is full. Newer engines split the queue by reason
#: (``capacity`` and ``deferred``: postponed by the scheduler for its own ends, no sign of load).
WAITING: Final = (
    Series("vllm:num_requests_waiting_by_reason", (("reason", "capacity"),)),
    *WAITING_ALL,
)
#: Share of KV-cache blocks in use, 0 to 1 in spite of its name; ``gpu_`` until vLLM 0.10.
KV_USAGE: Final = _gauge("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
#: A constant 1 whose label ``num_gpu_blocks`` is the cache's size; it has no ``model_name``.
CACHE_CONFIG: Final = Series("vllm:cache_config_info")
#: Requests completed, by ``finished_reason``; aborted ones are not all in it.
FINISHED: Final = _counter("vllm:request_success")
#: Prompt tokens of requests whose prefill ended, cached ones included.
PROMPT_TOKENS: Final = _counter("vllm:prompt_tokens")
GENERATION_TOKENS: Final = _counter("vllm:generation_tokens")
#: Prompt tokens that were not computed. ``prompt_tokens_cached`` also has those that a KV connector
#: brought; ``prefix_cache_hits`` counts tokens since vLLM 0.8 (before, there was only a rate).
PREFIX_HIT_TOKENS: Final = _counter(
    "vllm:prompt_tokens_cached", "vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits"
)
PREFIX_QUERIED_TOKENS: Final = _counter(
    "vllm:prefix_cache_queries", "vllm:gpu_prefix_cache_queries"
)
#: A histogram of tokens an engine step (its name ends in ``_total``): its count is the steps.
STEPS: Final = _gauge("vllm:iteration_tokens_total_count")
#: Histograms of the lengths of requests that finished, in tokens; add ``_bucket``.
PROMPT_LENGTHS: Final = Series("vllm:request_prompt_tokens")
OUTPUT_LENGTHS: Final = Series("vllm:request_generation_tokens")
#: Latency histograms; add ``_bucket``, ``_sum`` or ``_count``.
TTFT_SECONDS: Final = _gauge("vllm:time_to_first_token_seconds")
ITL_SECONDS: Final = _gauge(
    "vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"
)

#: Share of time in which any kernel ran, 0 to 100. Not exported for MIG slices.
GPU_UTILIZATION_PERCENT: Final = Series("DCGM_FI_DEV_GPU_UTIL")
#: Share of time in which the compute engine was busy, 0 to 1; the one that MIG slices have.
GPU_ENGINE_ACTIVE: Final = Series("DCGM_FI_PROF_GR_ENGINE_ACTIVE")

#: Requests that came in, by ``namespace``, ``pool`` and ``destination`` (``local`` or ``cloud``).
GATEWAY_REQUESTS: Final = Series("spillway_gateway_requests_total")
GATEWAY_PROMPT_TOKENS: Final = Series("spillway_gateway_prompt_tokens_total")
GATEWAY_COMPLETION_TOKENS: Final = Series("spillway_gateway_completion_tokens_total")
#: What the paid API charged, by the gateway's own count; may be split by ``provider``.
GATEWAY_COST_USD: Final = Series("spillway_gateway_cost_usd_total")
#: Attempts at a paid API that failed, by ``provider`` and status ``code``.
GATEWAY_FAILURES: Final = Series("spillway_gateway_failures_total")
#: Requests that the gateway's cache answered, which reach neither replica nor API: no arrivals.
GATEWAY_CACHE_HITS: Final = Series("spillway_gateway_cache_hits_total")
#: Prompt and output tokens of these.
GATEWAY_CACHE_SAVED_TOKENS: Final = Series("spillway_gateway_cache_saved_tokens_total")
#: Arrivals that the gateway's own routing by complexity sent to this pool.
GATEWAY_ROUTED: Final = Series("spillway_gateway_routed_requests_total")
#: Requests in flight now, by ``namespace``, ``pool`` and ``destination``.
GATEWAY_IN_FLIGHT: Final = Series("spillway_gateway_in_flight")
#: US dollars an hour for one GPU of a node, 0 where it has none, from OpenCost
#: (https://opencost.io/docs/integrations/metrics); on spot nodes the spot price.
NODE_GPU_HOURLY_COST: Final = Series("node_gpu_hourly_cost")
DESTINATION_LABEL: Final = "destination"
LOCAL: Final = "local"
CLOUD: Final = "cloud"
