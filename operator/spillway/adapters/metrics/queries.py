"""The PromQL that reads all pools at once.

The number of queries is fixed: nothing of a pool's spec, no namespace, pod or model name ever gets
into one, so a thousand pools cost the same queries as one and a hostile spec has nothing
to inject into. What belongs to which pool is sorted out afterwards, by labels.

``max by (...)`` comes before any sum: a pod that two scrape jobs read (a ServiceMonitor and a
PodMonitor, or both halves of an HA pair) has each series twice, with other job labels, and must not
count twice.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from spillway.adapters.metrics import catalog
from spillway.adapters.metrics.catalog import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Where a series comes from. ``exported_*`` hold the workload's own labels where the scrape job
#: put its target's in front (honorLabels off: dcgm-exporter's pod instead of the GPU's).
POD_LABELS: Final = ("namespace", "pod", "exported_namespace", "exported_pod")
#: ``engine`` is the data-parallel rank; vLLM before 0.8 has none.
ENGINE_LABELS: Final = (*POD_LABELS, "model_name", "engine")
GATEWAY_LABELS: Final = (
    "namespace", "exported_namespace", "pool", "destination", "provider", "instance", "pod",
)  # fmt: skip
#: Of a model's replicas in a namespace together; ``le`` is a bucket's upper bound.
LENGTH_LABELS: Final = ("namespace", "exported_namespace", "model_name", "le")
#: Some hundreds of requests, of which a 95th percentile can be told.
_LENGTHS_WINDOW_SECONDS: Final = 300
_DEVICE_LABELS: Final = (*POD_LABELS, "UUID", "gpu", "GPU_I_ID")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Signal(StrEnum):
    """What a query reads."""

    RUNNING = "running"
    WAITING = "waiting"
    WAITING_ALL = "waiting_all"
    SAMPLED_AT = "sampled_at"
    KV_USAGE = "kv_usage"
    CACHE_BLOCKS = "cache_blocks"
    RUNNING_MEAN = "running_mean"
    IN_FLIGHT_CHANGE = "in_flight_change"
    FINISHED = "finished"
    PROMPT_TOKENS = "prompt_tokens"
    GENERATION_TOKENS = "generation_tokens"
    PREFIX_HIT_TOKENS = "prefix_hit_tokens"
    STEPS = "steps"
    PROMPT_LENGTHS = "prompt_lengths"
    OUTPUT_LENGTHS = "output_lengths"
    GPU_UTILIZATION = "gpu_utilization"
    GATEWAY_RATE = "gateway_rate"
    GATEWAY_CACHE_HITS = "gateway_cache_hits"
    GATEWAY_CACHE_SAVED_TOKENS = "gateway_cache_saved_tokens"
    GATEWAY_ROUTED = "gateway_routed"
    GATEWAY_SAMPLED_AT = "gateway_sampled_at"
    GATEWAY_REQUESTS = "gateway_requests"
    GATEWAY_COST = "gateway_cost"
    GATEWAY_IN_FLIGHT = "gateway_in_flight"
    GATEWAY_FAILURES = "gateway_failures"
    GPU_PRICE = "gpu_price"


#: Signals without which a replica's load is not known at all.
ESSENTIAL: Final = frozenset({Signal.RUNNING, Signal.WAITING, Signal.SAMPLED_AT})
GATEWAY_SIGNALS: Final = frozenset(s for s in Signal if s.startswith("gateway_"))
#: Signals of how far lengths scatter: a pool that lacks them has the assumption for it.
LENGTH_SIGNALS: Final = frozenset({Signal.PROMPT_LENGTHS, Signal.OUTPUT_LENGTHS})
#: Signals that are no load: a pool that lacks one holds its last price, and not its replicas.
PRICE_SIGNALS: Final = frozenset({Signal.GPU_PRICE})


@dataclass(frozen=True, slots=True)
class Query:
    """One instant query and what its values may be.

    Attributes:
        signal: What it reads.
        promql: The query.
        lowest: Values below are wrong and rejected.
        highest: Values above are wrong and rejected.
    """

    signal: Signal
    promql: str
    lowest: float = 0.0
    highest: float = math.inf


def matcher(label: str, value: str) -> str:
    """A PromQL equality matcher with its value quoted.

    Raises:
        ValueError: ``label`` is no label name, or ``value`` is not valid Unicode.
    """
    if not _LABEL_NAME.fullmatch(label):
        msg = (
            f"metrics label matcher: {label!r} is not a label name; accepted are letters, digits "
            "and underscores, not starting with a digit"
        )
        raise ValueError(msg)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        msg = f"metrics label matcher {label}: value {value!r} is not valid Unicode"
        raise ValueError(msg) from error
    # JSON's escapes are a subset of Go's, as long as no surrogate pairs are written.
    return f"{label}={json.dumps(value, ensure_ascii=False)}"


class _Writer:
    """Writes PromQL for one set of settings."""

    def __init__(self, rate_window_seconds: float, matchers: Mapping[str, str]) -> None:
        self.window_seconds = rate_window_seconds
        self._window = f"{round(rate_window_seconds * 1000)}ms"
        self._matchers = tuple(matcher(label, value) for label, value in matchers.items())

    def select(self, series: Series) -> str:
        """An instant selector."""
        labels = ",".join((*(matcher(*pair) for pair in series.where), *self._matchers))
        return f"{series.name}{{{labels}}}" if labels else series.name

    def over(self, function: str, series: Series) -> str:
        """A function over the rate window."""
        return f"{function}({self.select(series)}[{self._window}])"

    def rate(self, series: Series) -> str:
        """Per second over the rate window, counter resets handled by Prometheus."""
        return self.over("rate", series)


def _by(labels: tuple[str, ...], expression: str, how: str = "max") -> str:
    return f"{how} by ({','.join(labels)}) ({expression})"


def _first(
    alternatives: tuple[Series, ...],
    write: Callable[[Series], str],
    labels: tuple[str, ...] = ENGINE_LABELS,
) -> str:
    """Old and new names joined: for each label set the first name that has it wins."""
    return " or ".join(_by(labels, write(series)) for series in alternatives)


def _engine_queries(w: _Writer) -> tuple[Query, ...]:
    (running,) = catalog.RUNNING
    (waiting,) = catalog.WAITING_ALL
    # delta, not deriv: it extrapolates from the same two samples as rate does, so completions plus
    # this are the arrivals. All waiting requests, because deferred ones have arrived too.
    change = " + ".join(
        _by(ENGINE_LABELS, w.over("delta", series)) for series in (running, waiting)
    )
    finished = _first(catalog.FINISHED, w.rate, (*ENGINE_LABELS, "finished_reason"))
    return (
        Query(Signal.RUNNING, _first(catalog.RUNNING, w.select)),
        Query(Signal.WAITING, _first(catalog.WAITING, w.select)),
        Query(Signal.WAITING_ALL, _first(catalog.WAITING_ALL, w.select)),
        # The sample's own time: an instant query answers with its own, however old the sample is.
        Query(Signal.SAMPLED_AT, _by(ENGINE_LABELS, f"timestamp({w.select(running)})")),
        Query(Signal.KV_USAGE, _first(catalog.KV_USAGE, w.select), highest=1.0),
        Query(
            Signal.CACHE_BLOCKS,
            _by((*POD_LABELS, "engine", "num_gpu_blocks"), w.select(catalog.CACHE_CONFIG)),
        ),
        Query(Signal.RUNNING_MEAN, _by(ENGINE_LABELS, w.over("avg_over_time", running))),
        Query(Signal.IN_FLIGHT_CHANGE, f"({change}) / {w.window_seconds:g}", lowest=-math.inf),
        Query(Signal.FINISHED, _by(ENGINE_LABELS, finished, "sum")),
        Query(Signal.PROMPT_TOKENS, _first(catalog.PROMPT_TOKENS, w.rate)),
        Query(Signal.GENERATION_TOKENS, _first(catalog.GENERATION_TOKENS, w.rate)),
        Query(Signal.PREFIX_HIT_TOKENS, _first(catalog.PREFIX_HIT_TOKENS, w.rate)),
        Query(Signal.STEPS, _first(catalog.STEPS, w.rate)),
    )


def _length_queries(w: _Writer) -> tuple[Query, ...]:
    """Requests a second by length.

    Summed at once, though a pod that two jobs scrape then counts twice: it does so in every bucket,
    and the sums leave twenty series of a model instead of as many of each pod.
    """

    def lengths(series: Series) -> str:
        buckets = w.select(Series(f"{series.name}_bucket"))
        return _by(LENGTH_LABELS, f"rate({buckets}[{_LENGTHS_WINDOW_SECONDS}s])", "sum")

    return (
        Query(Signal.PROMPT_LENGTHS, lengths(catalog.PROMPT_LENGTHS)),
        Query(Signal.OUTPUT_LENGTHS, lengths(catalog.OUTPUT_LENGTHS)),
    )


def _gpu_query(w: _Writer, max_age_seconds: float) -> Query:
    """Mean utilisation of a pod's GPUs, 0 to 1; samples that are too old are left out here."""

    def mean(series: Series) -> str:
        selected = w.select(series)
        fresh = f"{selected} and (timestamp({selected}) > time() - {max_age_seconds:g})"
        return _by(POD_LABELS, _by(_DEVICE_LABELS, fresh), "avg")

    percent, ratio = mean(catalog.GPU_UTILIZATION_PERCENT), mean(catalog.GPU_ENGINE_ACTIVE)
    return Query(Signal.GPU_UTILIZATION, f"{percent} / 100 or {ratio}", highest=1.0)


def _gateway_queries(w: _Writer) -> tuple[Query, ...]:
    to_cloud = Series(catalog.GATEWAY_REQUESTS.name, ((catalog.DESTINATION_LABEL, catalog.CLOUD),))
    in_flight = Series(
        catalog.GATEWAY_IN_FLIGHT.name, ((catalog.DESTINATION_LABEL, catalog.LOCAL),)
    )
    stamp = f"timestamp({w.select(catalog.GATEWAY_REQUESTS)})"
    failed = Series(catalog.GATEWAY_FAILURES.name, to_cloud.where)
    return (
        *(
            Query(signal, _by(GATEWAY_LABELS, expression))
            for signal, expression in (
                (Signal.GATEWAY_RATE, w.rate(catalog.GATEWAY_REQUESTS)),
                (Signal.GATEWAY_CACHE_HITS, w.rate(catalog.GATEWAY_CACHE_HITS)),
                (Signal.GATEWAY_CACHE_SAVED_TOKENS, w.rate(catalog.GATEWAY_CACHE_SAVED_TOKENS)),
                (Signal.GATEWAY_ROUTED, w.rate(catalog.GATEWAY_ROUTED)),
                (Signal.GATEWAY_SAMPLED_AT, stamp),
                (Signal.GATEWAY_REQUESTS, w.select(to_cloud)),
                (Signal.GATEWAY_COST, w.select(catalog.GATEWAY_COST_USD)),
                (Signal.GATEWAY_IN_FLIGHT, w.select(in_flight)),
            )
        ),
        Query(Signal.GATEWAY_FAILURES, _by((*GATEWAY_LABELS, "code"), w.rate(failed))),
    )


def _price_query(w: _Writer) -> Query:
    """OpenCost's price of a node's GPU; no series where OpenCost is not installed."""
    price = w.select(catalog.NODE_GPU_HOURLY_COST)
    return Query(Signal.GPU_PRICE, _by(("node", "exported_node"), price))


def build_queries(
    *,
    rate_window_seconds: float = 60.0,
    max_age_seconds: float = 60.0,
    matchers: Mapping[str, str] | None = None,
) -> tuple[Query, ...]:
    """All queries of one snapshot.

    Args:
        rate_window_seconds: Window of rates and means; at least two scrape intervals.
        max_age_seconds: GPU samples older than this are left out.
        matchers: Labels that every series must have, from the operator's settings (a cluster label
            where one Prometheus holds many clusters).

    Raises:
        ValueError: A window or an age that is not positive, or a matcher that is no label.
    """
    for name, value in (
        ("rate_window_seconds", rate_window_seconds),
        ("max_age_seconds", max_age_seconds),
    ):
        if not (math.isfinite(value) and value >= 0.001):
            msg = f"{name}: {value!r} is not a duration; accepted are 0.001 s and more"
            raise ValueError(msg)
    writer = _Writer(rate_window_seconds, matchers or {})
    return (
        *_engine_queries(writer),
        *_length_queries(writer),
        _gpu_query(writer, max_age_seconds),
        *_gateway_queries(writer),
        _price_query(writer),
    )


def build_history_query(*, step_seconds: float, matchers: Mapping[str, str] | None = None) -> str:
    """The one range query that tells all pools' past arrivals, as the demand estimator counts them.

    Gateways' counters by namespace and ``pool``; engines' completions plus the growth of what is in
    flight by namespace and ``model_name``, since the pods of the past are gone.

    Args:
        step_seconds: Window of the rates, and the step to ask with.
        matchers: Labels that every series must have.

    Raises:
        ValueError: A matcher is no label.
    """
    w = _Writer(step_seconds, matchers or {})
    (running,), (waiting,) = catalog.RUNNING, catalog.WAITING_ALL
    change = " + ".join(
        _by(ENGINE_LABELS, w.over("delta", series)) for series in (running, waiting)
    )
    finished = _first(catalog.FINISHED, w.rate, (*ENGINE_LABELS, "finished_reason"))
    engines = f"{_by(ENGINE_LABELS, finished, 'sum')} + ({change}) / {step_seconds:g}"
    gateways = _by(GATEWAY_LABELS, w.rate(catalog.GATEWAY_REQUESTS))
    by_pool = _by(("namespace", "exported_namespace", "pool"), gateways, "sum")
    return f"{by_pool} or {_by(('namespace', 'exported_namespace', 'model_name'), engines, 'sum')}"
