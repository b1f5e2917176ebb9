"""From the answers of all queries to each replica's load: pure, no I/O.

What is not there stays unknown: a replica without a running or a waiting gauge, or with a sample
that is too old, has no load at all (and the reason is kept for a person); one without a GPU series
has a load whose GPU utilisation is None. A sum over engine ranks counts only when every rank is in
it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from spillway.adapters.metrics.answers import Answer, Key, pod_key
from spillway.adapters.metrics.queries import ESSENTIAL, Signal
from spillway.core.facts import ReplicaLoad

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from spillway.adapters.metrics.freshness import Freshness
    from spillway.core.facts import GatewayLoad, LengthQuantiles

#: Model name and data-parallel rank: one engine of a pod.
Rank: TypeAlias = tuple[str, str]
Ranks: TypeAlias = dict[Rank, float]
_NO_ANSWER = Answer()
_NO_RANKS: Mapping[Rank, float] = MappingProxyType({})
#: No engine has more KV-cache blocks than this; a larger number is not a count of blocks.
_MOST_BLOCKS = 1e12


@dataclass(frozen=True, slots=True)
class QueryFailure:
    """A query that brought no usable answer.

    Attributes:
        signal: What it reads.
        query: The PromQL.
        error: Why, for a person.
    """

    signal: Signal
    query: str
    error: str


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """What Prometheus knows of all replicas and gateways at one moment.

    Attributes:
        at: When it was asked, seconds since the epoch.
        loads: By (namespace, pod); only replicas with a fresh and complete sample.
        model_names: The models that each pod reports, by (namespace, pod), stale pods included.
        models_seen: All models that any series names, series of unknown pods included.
        gateways: By (namespace, pool).
        lengths: Of the requests of the last minutes, by (namespace, model).
        node_gpu_usd: US dollars for one GPU-hour by node, where OpenCost says it.
        failures: Queries without a usable answer.
        unusable: Why a pod that Prometheus knows has no load, by (namespace, pod).
        unusable_gateways: Likewise by (namespace, pool).
        queries: PromQL of each signal.
    """

    at: float
    loads: Mapping[Key, ReplicaLoad] = field(default_factory=lambda: MappingProxyType({}))
    model_names: Mapping[Key, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    models_seen: frozenset[str] = frozenset()
    gateways: Mapping[Key, GatewayLoad] = field(default_factory=lambda: MappingProxyType({}))
    lengths: Mapping[Key, LengthQuantiles] = field(default_factory=lambda: MappingProxyType({}))
    node_gpu_usd: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    failures: tuple[QueryFailure, ...] = ()
    unusable: Mapping[Key, str] = field(default_factory=lambda: MappingProxyType({}))
    unusable_gateways: Mapping[Key, str] = field(default_factory=lambda: MappingProxyType({}))
    queries: Mapping[Signal, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def blind(self) -> bool:
        """Whether a query failed without which no replica's load is known."""
        return any(failure.signal in ESSENTIAL for failure in self.failures)


@dataclass(frozen=True, slots=True)
class EngineReadings:
    """The engines' part of a snapshot; attributes as in `MetricsSnapshot`."""

    loads: dict[Key, ReplicaLoad]
    model_names: dict[Key, frozenset[str]]
    models_seen: frozenset[str]
    unusable: dict[Key, str]


class EngineTables:
    """Engines' series by pod and rank, taken out of each answer as it comes.

    The label sets of ten thousand pods, a dozen times, would be a hundred megabytes, held until the
    last answer is there. Threads may share one; each signal is one thread's.
    """

    def __init__(self) -> None:
        self._series: dict[Signal, Mapping[Key, Ranks]] = {}
        self._names: dict[tuple[str, str], tuple[str, str]] = {}
        self._models: frozenset[str] = frozenset()

    def take(self, signal: Signal, answer: Answer) -> Answer:
        """Take over an engine signal's samples; what is left of the answer, or all of another's."""
        if signal not in _ENGINE_SIGNALS:
            return answer
        if signal is Signal.RUNNING:
            models = (labels.get("model_name") for labels, _ in answer.samples)
            self._models = frozenset(filter(None, models))
        self._series[signal] = _by_pod(answer, self._names)
        return Answer(rejected=answer.rejected)

    def read(self, answers: Mapping[Signal, Answer], fresh: Freshness) -> EngineReadings:
        """Each pod's load, as `read_engines`, of answers whose samples were taken over."""
        # One that came after its deadline has failed, though it may have been taken over since.
        series = {s: self._series.get(s, {}) if s in answers else {} for s in _ENGINE_SIGNALS}
        models = self._models if Signal.RUNNING in answers else frozenset()
        return _readings(series, models, answers, fresh)


def read_engines(answers: Mapping[Signal, Answer], fresh: Freshness) -> EngineReadings:
    """Each pod's load, its ranks summed.

    Args:
        answers: By signal; a query that failed is simply not in it.
        fresh: Which samples are of the present.
    """
    tables = EngineTables()
    return tables.read({s: tables.take(s, answer) for s, answer in answers.items()}, fresh)


def _readings(
    series: Mapping[Signal, Mapping[Key, Ranks]],
    models_seen: frozenset[str],
    answers: Mapping[Signal, Answer],
    fresh: Freshness,
) -> EngineReadings:
    unusable = {
        key: f"{signal.value}: {why}"
        for signal in sorted(ESSENTIAL)
        for labels, why in answers.get(signal, _NO_ANSWER).rejected
        if (key := pod_key(labels)) is not None
    }
    blocks = _cache_blocks(answers.get(Signal.CACHE_BLOCKS, _NO_ANSWER))
    gpus = _gpu_utilization(answers.get(Signal.GPU_UTILIZATION, _NO_ANSWER))
    loads: dict[Key, ReplicaLoad] = {}
    for key, running in series[Signal.RUNNING].items():
        if key in unusable:
            continue
        of_pod = {signal: pods.get(key, _NO_RANKS) for signal, pods in series.items()}
        load = _load(running, of_pod, blocks.get(key, {}), gpus.get(key))
        if isinstance(load, str):
            unusable[key] = load
        elif why := fresh.fault(load.sampled_at):
            unusable[key] = why
        else:
            loads[key] = load
    return EngineReadings(
        loads=loads,
        model_names={
            key: frozenset(model for model, _ in ranks if model)
            for key, ranks in series[Signal.RUNNING].items()
        },
        models_seen=models_seen,
        unusable=unusable,
    )


#: Signals with one series an engine rank.
_ENGINE_SIGNALS: Final = (
    Signal.RUNNING,
    Signal.WAITING,
    Signal.WAITING_ALL,
    Signal.SAMPLED_AT,
    Signal.KV_USAGE,
    Signal.RUNNING_MEAN,
    Signal.IN_FLIGHT_CHANGE,
    Signal.FINISHED,
    Signal.PROMPT_TOKENS,
    Signal.GENERATION_TOKENS,
    Signal.PREFIX_HIT_TOKENS,
    Signal.STEPS,
)


def _by_pod(answer: Answer, names: dict[tuple[str, str], tuple[str, str]]) -> dict[Key, Ranks]:
    """Series by pod and rank.

    A series that comes twice (a pod that two jobs scrape, one of them with honorLabels) counts
    once, at the larger value, as ``max by`` does in the queries.

    Args:
        answer: What came.
        names: Pods and ranks that have come already: the same objects are used again.
    """
    pods: dict[Key, Ranks] = {}
    for labels, value in answer.samples:
        key = pod_key(labels)
        if key is None:
            continue
        rank = (labels.get("model_name", ""), labels.get("engine", ""))
        rank = names.setdefault(rank, rank)
        ranks = pods.get(key)
        if ranks is None:
            pods[names.setdefault(key, key)] = {rank: value}
        elif value > ranks.get(rank, -math.inf):
            ranks[rank] = value
    return pods


def _cache_blocks(answer: Answer) -> dict[Key, dict[str, float]]:
    """KV-cache blocks by pod and rank, where the engine exports a number (it may say "None")."""
    pods: defaultdict[Key, dict[str, float]] = defaultdict(dict)
    for labels, _ in answer.samples:
        key, blocks = pod_key(labels), labels.get("num_gpu_blocks", "")
        if key is not None and blocks.isascii() and blocks.isdigit() and len(blocks) <= 12:
            engine = labels.get("engine", "")
            pods[key][engine] = max(float(blocks), pods[key].get(engine, 0.0))
    return pods


def _gpu_utilization(answer: Answer) -> dict[Key, float]:
    gpus: dict[Key, float] = {}
    for labels, value in answer.samples:
        key = pod_key(labels)
        if key is not None:
            gpus[key] = max(value, gpus.get(key, 0.0))
    return gpus


def total(series: Mapping[Rank, float], ranks: Collection[Rank]) -> float | None:
    """Sum over all ranks; None when one of them is missing, for then it is not the sum."""
    if len(ranks) == 1:
        # Nearly every pod, and ten sums of each.
        (only,) = ranks
        value = series.get(only)
        return value if value is not None and math.isfinite(value) else None
    if not all(rank in series for rank in ranks):
        return None
    result = sum(series[rank] for rank in ranks)
    return result if math.isfinite(result) else None


def mean_kv_usage(
    usage: Mapping[Rank, float], ranks: Collection[Rank], blocks: Mapping[str, float]
) -> float | None:
    """KV usage over all ranks, weighed by their blocks where all of them are known.

    Args:
        usage: Share in use by rank; above 1 it is not a share and nothing is known.
        ranks: The ranks that must be in it.
        blocks: Cache blocks by engine label.
    """
    if len(ranks) == 1:
        (only,) = ranks
        value = usage.get(only)
        return value if value is not None and value <= 1.0 else None
    if not ranks or not all(rank in usage and usage[rank] <= 1.0 for rank in ranks):
        return None
    weights = {rank: blocks.get(rank[1], 0.0) for rank in ranks}
    if min(weights.values()) <= 0 or max(weights.values()) > _MOST_BLOCKS:
        weights = dict.fromkeys(ranks, 1.0)
    mean = sum(usage[rank] * weights[rank] for rank in ranks) / sum(weights.values())
    return min(mean, 1.0)


def _load(
    running: Ranks,
    series: Mapping[Signal, Mapping[Rank, float]],
    blocks: Mapping[str, float],
    gpu_utilization: float | None,
) -> ReplicaLoad | str:
    """A pod's load, or why there is none."""
    ranks = running.keys()
    in_batch = total(running, ranks)
    waiting = total(series[Signal.WAITING], ranks)
    stamps = series[Signal.SAMPLED_AT]
    if in_batch is None:
        return "running: the sum over the engines is no number"
    if waiting is None:
        return "waiting: no series for each engine that reports running requests"
    if not all(rank in stamps for rank in ranks):
        return "sampled_at: the age of the sample is not known"
    return ReplicaLoad(
        # The oldest rank decides: a sum is no fresher than its oldest part.
        sampled_at=min(stamps[rank] for rank in ranks),
        running=in_batch,
        waiting=waiting,
        waiting_all=total(series[Signal.WAITING_ALL], ranks),
        kv_usage=mean_kv_usage(series[Signal.KV_USAGE], ranks, blocks),
        running_mean=total(series[Signal.RUNNING_MEAN], ranks),
        in_flight_change_per_second=total(series[Signal.IN_FLIGHT_CHANGE], ranks),
        finished_per_second=total(series[Signal.FINISHED], ranks),
        prompt_tokens_per_second=total(series[Signal.PROMPT_TOKENS], ranks),
        generation_tokens_per_second=total(series[Signal.GENERATION_TOKENS], ranks),
        prefix_hit_tokens_per_second=total(series[Signal.PREFIX_HIT_TOKENS], ranks),
        steps_per_second=total(series[Signal.STEPS], ranks),
        gpu_utilization=gpu_utilization,
        engines=len({engine for _, engine in ranks}),
    )
