"""Metric pages of a fleet: a few large ones for Prometheus, and each pod's own.

Counters are written with three decimals: in the six digits of ``:g`` a counter of millions moves in
jumps, and its rate with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.e2e.rig.fleet import load as loads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.e2e.rig.fleet.load import PoolLoad

MODEL: Final = "meta-llama/Llama-3.1-8B-Instruct"
_BLOCKS: Final = 27_000
#: vLLM's page has some 700 lines, nearly all of them buckets of histograms, which the operator
#: has to read past. Their values say nothing here.
_HISTOGRAMS: Final = (
    "vllm:time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds",
    "vllm:request_inference_time_seconds",
    "vllm:request_prefill_time_seconds",
    "vllm:request_decode_time_seconds",
    "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens",
    "vllm:request_params_n",
    "vllm:request_params_max_tokens",
    "vllm:iteration_tokens_total",
)
_BUCKETS: Final = 50
FILLER: Final = "".join(
    f'{name}_bucket{{engine="0",le="{bound}.0",model_name="{MODEL}"}} {bound}.0\n'
    for name in _HISTOGRAMS
    for bound in range(_BUCKETS)
)


@dataclass(frozen=True, slots=True)
class FleetPod:
    """A pod that reports.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        load: Its pool's.
        begun: The pool's totals when the pod began; its counters count from there.
    """

    namespace: str
    name: str
    load: PoolLoad
    begun: tuple[float, float, float]


def _engine(pod: FleetPod, labels: str, now: float) -> str:
    """The series of one engine; ``labels`` end in a comma or are empty."""
    state = pod.load.state
    finished, _, steps = (
        total - before for total, before in zip(pod.load.totals(now), pod.begun, strict=True)
    )
    of = f'{{{labels}engine="0",model_name="{MODEL}"'
    usage = state.running / loads.MOST_RUNNING * 0.9
    return (
        f"vllm:num_requests_running{of}}} {state.running:.3f}\n"
        f"vllm:num_requests_waiting{of}}} {state.waiting:.3f}\n"
        f'vllm:num_requests_waiting_by_reason{of},reason="capacity"}} {state.waiting:.3f}\n'
        f"vllm:kv_cache_usage_perc{of}}} {usage:.3f}\n"
        f'vllm:request_success_total{of},finished_reason="stop"}} {finished:.3f}\n'
        f"vllm:prompt_tokens_total{of}}} {finished * loads.PROMPT_TOKENS:.3f}\n"
        f"vllm:prompt_tokens_cached_total{of}}} {finished * loads.CACHED_TOKENS:.3f}\n"
        f"vllm:generation_tokens_total{of}}} {finished * loads.OUTPUT_TOKENS:.3f}\n"
        f"vllm:iteration_tokens_total_count{of}}} {steps:.3f}\n"
        f'vllm:cache_config_info{{{labels}engine="0",num_gpu_blocks="{_BLOCKS}"}} 1\n'
    )


def own_page(pod: FleetPod, now: float) -> str:
    """The pod's own page, as long as vLLM's."""
    return _engine(pod, "", now) + FILLER


def fleet_page(pods: Iterable[FleetPod], now: float) -> str:
    """Engines' and DCGM's series of many pods, each with its own namespace and pod."""
    lines = []
    for pod in pods:
        labels = f'namespace="{pod.namespace}",pod="{pod.name}",'
        busy = min(1.0, 0.3 + pod.load.state.running / loads.MOST_RUNNING)
        lines.append(
            f"{_engine(pod, labels, now)}"
            f'DCGM_FI_DEV_GPU_UTIL{{{labels}UUID="GPU-{pod.name}",gpu="0"}} {busy * 100:.0f}\n'
        )
    return "".join(lines)


def gateway_page(loads_by_pool: Mapping[tuple[str, str], PoolLoad], pods: int, now: float) -> str:
    """The gateways' counters, upstream of the split.

    Args:
        loads_by_pool: By namespace and name, of one pod each.
        pods: Pods of a pool.
        now: Seconds since the epoch.
    """
    lines = []
    for (namespace, name), load in loads_by_pool.items():
        labels = f'{{namespace="{namespace}",pool="{name}",destination="local"}}'
        in_flight = (load.state.running + load.state.waiting) * pods
        lines.append(
            f"spillway_gateway_requests_total{labels} {load.totals(now)[1] * pods:.3f}\n"
            f"spillway_gateway_in_flight{labels} {in_flight:.3f}\n"
        )
    return "".join(lines)
