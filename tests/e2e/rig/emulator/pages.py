"""The text pages: a vLLM engine's, DCGM exporter's, the gateway's, and service discovery.

Names, labels and bucket bounds are those of vLLM's ``vllm/v1/metrics/loggers.py`` and of NVIDIA's
dcgm-exporter with Kubernetes mapping on. Written by hand rather than with prometheus_client, so
that a mistake there can't hide in both the writer and the reader.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spillway.sim.engine_metrics import Histogram
    from spillway.sim.replica import Replica
    from tests.e2e.rig.emulator.fleet import Fleet
    from tests.e2e.rig.emulator.pod import EmulatedPod
    from tests.e2e.rig.emulator.pool import Pool

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_OLD_NAMES: Final = {
    "vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc",
    "vllm:inter_token_latency_seconds": "vllm:time_per_output_token_seconds",
    "vllm:prefix_cache_queries_total": "vllm:gpu_prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total": "vllm:gpu_prefix_cache_hits_total",
}
"""What vLLM called them before 0.11."""
_NEW_ONLY: Final = frozenset(
    {
        "vllm:num_requests_waiting_by_reason",
        "vllm:prompt_tokens_by_source_total",
        "vllm:prompt_tokens_cached_total",
    }
)


class Page:
    """Text exposition format, family by family."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, kind: str, text: str) -> None:
        """Begin a metric family."""
        self._lines += (f"# HELP {name} {text}", f"# TYPE {name} {kind}")

    def sample(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """One sample."""
        inside = ",".join(f'{label}="{_escape(labels[label])}"' for label in sorted(labels))
        self._lines.append(f"{name}{{{inside}}} {_number(value)}")

    def histogram(self, name: str, labels: Mapping[str, str], histogram: Histogram) -> None:
        """A histogram's samples; its buckets are cumulative."""
        total = 0
        for bound, count in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
            total += count
            self.sample(f"{name}_bucket", {**labels, "le": _number(bound)}, total)
        self.sample(f"{name}_count", labels, histogram.count)
        self.sample(f"{name}_sum", labels, histogram.sum)

    def text(self) -> str:
        """The page."""
        return "\n".join(self._lines) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else str(float(value))


class _EnginePage:
    """A vLLM metrics page: one sample a family, engine and label set."""

    def __init__(self, pool: Pool, pod: EmulatedPod) -> None:
        self.page = Page()
        self._old = pool.settings.old_metric_names
        self._nan = pod.fault.nan
        self._model = pod.fault.model_name or pool.settings.model_name
        self._engines = pod.engines

    def _name(self, name: str) -> str:
        return _OLD_NAMES.get(name, name) if self._old else name

    def _each(self) -> Iterable[tuple[dict[str, str], Replica]]:
        for rank, engine in enumerate(self._engines):
            yield {"engine": str(rank), "model_name": self._model}, engine

    def scalar(
        self, name: str, kind: str, text: str, values: list[Mapping[tuple[str, str], float]]
    ) -> None:
        """A gauge or counter: per engine, values by (extra label, its value); ("", "") for none."""
        if self._old and name in _NEW_ONLY:
            return
        name = self._name(name)
        self.page.family(name, kind, text)
        for (labels, _), by_label in zip(self._each(), values, strict=True):
            for (label, label_value), value in by_label.items():
                extra = {label: label_value} if label else {}
                spoilt = math.nan if self._nan and kind == "gauge" else value
                self.page.sample(name, {**labels, **extra}, spoilt)

    def histogram(self, name: str, text: str, histograms: list[Histogram]) -> None:
        """A histogram per engine."""
        name = self._name(name)
        self.page.family(name, "histogram", text)
        for (labels, _), histogram in zip(self._each(), histograms, strict=True):
            self.page.histogram(name, labels, histogram)


_PLAIN: Final = ("", "")


def vllm(pool: Pool, pod: EmulatedPod) -> str:
    """The metrics page of a pod's engines."""
    page = _EnginePage(pool, pod)
    _gauges(page, pod)
    _counters(page, pod)
    counters = [engine.counters for engine in pod.engines]
    for name, text, histograms in (
        ("iteration_tokens_total", "Histogram of number of tokens per engine_step.",
         [one.iteration_tokens for one in counters]),
        ("request_prompt_tokens", "Number of prefill tokens processed.",
         [one.prompt_lengths for one in counters]),
        ("request_generation_tokens", "Number of generation tokens processed.",
         [one.output_lengths for one in counters]),
        ("time_to_first_token_seconds", "Histogram of time to first token in seconds.",
         [one.ttft for one in counters]),
        ("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.",
         [one.inter_token_latency for one in counters]),
        ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.",
         [one.e2e for one in counters]),
    ):  # fmt: skip
        page.histogram(f"vllm:{name}", text, histograms)
    name = "vllm:cache_config_info"
    page.page.family(name, "gauge", "Information of the LLMEngine CacheConfig")
    for rank in range(len(pod.engines)):
        page.page.sample(
            name,
            {
                "block_size": "16",
                "cache_dtype": "auto",
                "enable_prefix_caching": "True",
                "engine": str(rank),
                "gpu_memory_utilization": "0.9",
                "num_gpu_blocks": str(pool.kv_blocks),
            },
            1,
        )
    return page.page.text()


def _gauges(page: _EnginePage, pod: EmulatedPod) -> None:
    gauges = [engine.gauges() for engine in pod.engines]
    page.scalar(
        "vllm:num_requests_running",
        "gauge",
        "Number of requests in model execution batches.",
        [{_PLAIN: one.running} for one in gauges],
    )
    page.scalar(
        "vllm:num_requests_waiting",
        "gauge",
        "Number of requests waiting to be processed.",
        [{_PLAIN: one.waiting} for one in gauges],
    )
    page.scalar(
        "vllm:num_requests_waiting_by_reason",
        "gauge",
        "Number of waiting requests by reason.",
        [{("reason", "capacity"): one.waiting, ("reason", "deferred"): 0} for one in gauges],
    )
    page.scalar(
        "vllm:kv_cache_usage_perc",
        "gauge",
        "KV-cache usage. 1 means 100 percent usage.",
        [{_PLAIN: one.kv_usage} for one in gauges],
    )


def _counters(page: _EnginePage, pod: EmulatedPod) -> None:
    counters = [engine.counters for engine in pod.engines]
    for name, text, values in (
        ("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.",
         [one.prefix_cache_queries for one in counters]),
        ("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.",
         [one.prefix_cache_hits for one in counters]),
        ("num_preemptions", "Cumulative number of preemption from the engine.",
         [one.preemptions for one in counters]),
        ("prompt_tokens", "Number of prefill tokens processed.",
         [one.prompt_tokens for one in counters]),
        ("prompt_tokens_cached", "Number of cached prompt tokens (local + external).",
         [one.prompt_tokens_cached for one in counters]),
        ("generation_tokens", "Number of generation tokens processed.",
         [one.generation_tokens for one in counters]),
    ):  # fmt: skip
        page.scalar(f"vllm:{name}_total", "counter", text, [{_PLAIN: value} for value in values])
    page.scalar(
        "vllm:prompt_tokens_by_source_total",
        "counter",
        "Number of prompt tokens by source.",
        [
            {
                ("source", "local_compute"): one.prompt_tokens - one.prompt_tokens_cached,
                ("source", "local_cache_hit"): one.prompt_tokens_cached,
                ("source", "external_kv_transfer"): 0,
            }
            for one in counters
        ],
    )
    page.scalar(
        "vllm:request_success_total",
        "counter",
        "Count of successfully processed requests.",
        [
            {("finished_reason", reason): count for reason, count in one.requests_finished.items()}
            for one in counters
        ],
    )


def dcgm(fleet: Fleet) -> str:
    """The page of a DCGM exporter that sees every GPU in use."""
    page = Page()
    gpus = [
        (_gpu_labels(pool, pod, position), pod.gpu_utilization(position))
        for pool, pod in fleet.pods()
        if not pod.fault.gpu_missing
        for position in range(len(pod.gpu_indices))
    ]
    page.family("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).")
    for labels, utilization in gpus:
        page.sample("DCGM_FI_DEV_GPU_UTIL", labels, round(utilization * 100))
    page.family(
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", "Ratio of time the graphics engine is active."
    )
    for labels, utilization in gpus:
        page.sample("DCGM_FI_PROF_GR_ENGINE_ACTIVE", labels, utilization)
    return page.text()


def _gpu_labels(pool: Pool, pod: EmulatedPod, position: int) -> dict[str, str]:
    index = pod.gpu_indices[position]
    return {
        "gpu": str(index),
        "UUID": pod.gpu_uuid(position),
        "pci_bus_id": f"00000000:{index:02X}:00.0",
        "device": f"nvidia{index}",
        "modelName": pool.gpu,
        "Hostname": pod.view.node or "",
        "container": pod.view.container,
        "namespace": pod.view.namespace,
        "pod": pod.view.name,
    }


def gateway(fleet: Fleet) -> str:
    """The gateway's counters, upstream of the split."""
    page = Page()
    sides = [
        (
            {"namespace": p.settings.namespace, "pool": p.settings.name, "destination": name},
            side,
        )
        for p in fleet.pools.values()
        if p.settings.http_port is None
        for name, side in (("local", p.local), ("cloud", p.cloud))
    ]
    for name, kind, text, field in (
        ("requests_total", "counter", "Requests sent, when they are sent.", "requests"),
        ("prompt_tokens_total", "counter", "Prompt tokens of answered requests.", "prompt_tokens"),
        ("completion_tokens_total", "counter", "Output tokens of answered requests.",
         "completion_tokens"),
        ("cost_usd_total", "counter", "US dollars that answered requests cost.", "usd"),
        ("in_flight", "gauge", "Requests sent and not yet ended.", "in_flight"),
    ):  # fmt: skip
        page.family(f"spillway_gateway_{name}", kind, text)
        for labels, side in sides:
            page.sample(f"spillway_gateway_{name}", labels, getattr(side, field))
    return page.text()


def discovery(fleet: Fleet, address: str) -> list[dict[str, Any]]:
    """Prometheus HTTP service discovery: one target a running pod, all at this ``address``."""
    return [
        {
            "targets": [address],
            "labels": {
                "__metrics_path__": f"/pods/{pod.view.namespace}/{pod.view.name}/metrics",
                "namespace": pod.view.namespace,
                "pod": pod.view.name,
            },
        }
        for _, pod in fleet.pods()
        if pod.deleted_at is None
    ]
