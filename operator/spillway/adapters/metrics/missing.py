"""Names what a pool lacks and what was seen instead, for its MetricsAvailable condition."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from spillway.adapters.metrics.queries import GATEWAY_SIGNALS, LENGTH_SIGNALS, PRICE_SIGNALS, Signal
from spillway.core.facts import MissingData

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from spillway.adapters.metrics.snapshot import MetricsSnapshot

#: Names that a message lists before it says how many more there are.
_LISTED = 3


def missing_for(
    snapshot: MetricsSnapshot,
    pool_namespace: str,
    model_name: str,
    pods: Collection[str],
    *,
    need_gpu: bool = False,
    gateway_pool: str | None = None,
) -> tuple[MissingData, ...]:
    """What is missing of the pods that ought to report, and what was there instead.

    Args:
        snapshot: The latest one.
        pool_namespace: Namespace of the pool and its pods.
        model_name: The pool's spec.modelName.
        pods: Names of the pods that Prometheus ought to know (ready and serving).
        need_gpu: Report pods without GPU utilisation too; the Utilization policy needs it, to the
            others it only corroborates.
        gateway_pool: The pool's name where a gateway ought to report its arrivals.

    Returns:
        Empty when nothing is missing. At most one entry a query and cause, so that its length does
        not grow with the number of pods.
    """
    missing = [
        MissingData(query=failure.query, seen=failure.error)
        for failure in snapshot.failures
        if pods
        and failure.signal not in GATEWAY_SIGNALS | LENGTH_SIGNALS | PRICE_SIGNALS
        and (need_gpu or failure.signal is not Signal.GPU_UTILIZATION)
    ]
    if not snapshot.blind:
        missing += _missing_pods(snapshot, pool_namespace, model_name, pods)
    if need_gpu:
        missing += _missing_gpus(snapshot, pool_namespace, pods)
    if gateway_pool is not None:
        missing += _missing_gateway(snapshot, pool_namespace, gateway_pool)
    return tuple(missing)


def _missing_pods(
    snapshot: MetricsSnapshot, namespace: str, model_name: str, pods: Collection[str]
) -> list[MissingData]:
    query = snapshot.queries.get(Signal.RUNNING, "")
    absent: list[str] = []
    causes: defaultdict[str, list[str]] = defaultdict(list)
    for pod in sorted(pods):
        key = (namespace, pod)
        models = snapshot.model_names.get(key, frozenset())
        if key in snapshot.unusable:
            causes[snapshot.unusable[key]].append(pod)
        elif key not in snapshot.loads:
            absent.append(pod)
        elif model_name not in models:
            causes[_instead(model_name, models)].append(pod)
    if absent:
        others = listed(snapshot.models_seen)
        elsewhere = f"models seen anywhere: {others}" if others else "no vLLM series at all"
        causes[f"no series; {elsewhere}"] = absent
    return [
        MissingData(query=query, seen=f"{len(names)} of {len(pods)} pods ({listed(names)}): {why}")
        for why, names in causes.items()
    ]


def other_models(model_name: str, pages: Mapping[str, frozenset[str]]) -> tuple[MissingData, ...]:
    """Pods whose own pages name other models than the pool's.

    Args:
        model_name: The pool's spec.modelName.
        pages: By pod, the models that its page names; a page that names none tells nothing.
    """
    causes: defaultdict[frozenset[str], list[str]] = defaultdict(list)
    for pod, models in sorted(pages.items()):
        if models and model_name not in models:
            causes[models].append(pod)
    found = []
    for models, pods in causes.items():
        which = f"{len(pods)} of {len(pages)} pods ({listed(pods)})"
        seen = f"{which}: {_instead(model_name, models)}"
        found.append(MissingData(query="the pods' own pages", seen=seen))
    return tuple(found)


def aged_samples(
    snapshot: MetricsSnapshot, namespace: str, model_name: str, pods: Collection[str]
) -> tuple[MissingData, ...]:
    """Pods without a load although the snapshot has one: it was fresh then and is not any more."""
    aged = [
        pod
        for pod in sorted(pods)
        if (namespace, pod) in snapshot.loads
        and model_name in snapshot.model_names.get((namespace, pod), ())
    ]
    if not aged:
        return ()
    seen = f"{len(aged)} of {len(pods)} pods ({listed(aged)}): stale: no newer answer since"
    return (MissingData(query=snapshot.queries.get(Signal.RUNNING, ""), seen=seen),)


def _instead(model_name: str, models: frozenset[str]) -> str:
    return f"model names seen there instead of {model_name!r}: {listed(models) or 'none'}"


def _missing_gpus(
    snapshot: MetricsSnapshot, namespace: str, pods: Collection[str]
) -> list[MissingData]:
    if any(failure.signal is Signal.GPU_UTILIZATION for failure in snapshot.failures):
        return []
    without = [
        pod
        for pod in sorted(pods)
        if (load := snapshot.loads.get((namespace, pod))) and load.gpu_utilization is None
    ]
    if not without:
        return []
    seen = f"{len(without)} of {len(pods)} pods ({listed(without)}): no fresh GPU series"
    return [MissingData(query=snapshot.queries.get(Signal.GPU_UTILIZATION, ""), seen=seen)]


def _missing_gateway(snapshot: MetricsSnapshot, namespace: str, pool: str) -> list[MissingData]:
    failed = [
        MissingData(query=failure.query, seen=failure.error)
        for failure in snapshot.failures
        if failure.signal in GATEWAY_SIGNALS
    ]
    if failed or (namespace, pool) in snapshot.gateways:
        return failed
    seen = snapshot.unusable_gateways.get((namespace, pool), "no gateway reports this pool")
    return [MissingData(query=snapshot.queries.get(Signal.GATEWAY_RATE, ""), seen=seen)]


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    ordered = sorted(names)
    more = len(ordered) - _LISTED
    return ", ".join(ordered[:_LISTED]) + (f" and {more} more" if more > 0 else "")
