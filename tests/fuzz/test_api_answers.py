"""Objects as no API server should send them: left out with a reason, or read and harmless."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spillway.adapters.kube.informer import Informer
from spillway.adapters.kube.nodes import project_node, project_quota
from spillway.adapters.kube.projections import (
    project_autoscaler,
    project_deployment,
    project_pod,
    project_service,
    project_stateful_set,
)
from spillway.adapters.kube.routes import project_route
from spillway.adapters.prices import PriceFileError, read_catalog, read_price_map
from spillway.api.inferencepool import InferencePoolSpec
from spillway.controller.watches import project_pool
from spillway.core.facts import PoolFacts, TargetFacts, TargetKind
from tests.e2e.rig.gateway_api import http_route, rule
from tests.e2e.rig.workloads import hpa, node_manifest, pod_template, service, vllm_deployment
from tests.fuzz.core import Core
from tests.fuzz.specs import strange
from tests.pool_table import FULL, changed, paths

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from spillway.adapters.kube.client import Cluster
    from spillway.adapters.kube.records import PodRecord

NOW = 1_792_875_600.0
STORED = {
    "namespace": "ns",
    "name": "a",
    "uid": "u",
    "resourceVersion": "7",
    "generation": 2,
    "creationTimestamp": "2026-10-24T12:00:00Z",
}


def stored(manifest: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An object as the API server has it."""
    return {**manifest, "metadata": {**manifest.get("metadata", {}), **STORED}, **more}


POD = stored(
    pod_template("a"),
    status={
        "phase": "Running",
        "podIP": "10.0.0.1",
        "startTime": "2026-10-24T12:00:00Z",
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-10-24T12:01:00Z"},
            {"type": "PodScheduled", "status": "True"},
        ],
    },
)
POD["metadata"] |= {
    "labels": {"spillway.dev/role": "draining", "app": "a"},
    "annotations": {
        "spillway.dev/drain-deadline": "2026-10-24T12:05:00Z",
        "controller.kubernetes.io/pod-deletion-cost": "-5",
    },
    "ownerReferences": [{"kind": "ReplicaSet", "name": "a-1", "uid": "r", "controller": True}],
}
QUOTA = {
    "spec": {"hard": {"requests.nvidia.com/gpu": "3"}},
    "status": {"hard": {"requests.nvidia.com/gpu": "3"}, "used": {"requests.nvidia.com/gpu": "1"}},
}
KINDS: tuple[tuple[Callable[[dict[str, Any]], Any], dict[str, Any]], ...] = (
    (project_pod, POD),
    (project_deployment, stored(vllm_deployment("a", "ns"), status={"observedGeneration": 2})),
    (project_stateful_set, stored(vllm_deployment("a", "ns"), status={"replicas": 1})),
    (project_service, stored(service("a", "ns"))),
    (project_autoscaler, stored(hpa("a", "ns"))),
    (project_node, stored(node_manifest("a"))),
    (project_quota, stored(QUOTA)),
    (project_route, stored(http_route("a", "ns", rule("chat", local=900, api=100)))),
    (
        project_pool,
        stored({"apiVersion": "spillway.dev/v1alpha1", "kind": "InferencePool", "spec": FULL}),
    ),
)
PLACES = [
    (project, raw, path)
    for project, raw in KINDS
    for path in paths(raw)
    # Dots are in names of labels too; the path language of the table can't reach those.
    if all(part.isalnum() for part in path.split("."))
]
texts = st.sampled_from(["spillway.dev/role", "spillway.dev/drain-deadline"])
hostile = strange | st.dictionaries(texts, strange, max_size=2)
wide = settings(suppress_health_check=list(HealthCheck))


class Nowhere:
    """A cluster that an informer without a run never asks."""


@wide
@given(st.sampled_from(range(len(PLACES))), hostile)
def test_no_object_stops_an_informer(place: int, value: Any) -> None:
    project, raw, path = PLACES[place]
    broken = changed(raw, {path: value})

    informer: Informer[Any] = Informer(cast("Cluster", Nowhere()), "/x", project)
    informer._event("ADDED", raw)
    assert len(informer.store) == 1, informer.malformed
    informer._event("MODIFIED", broken)
    if project is project_pod:
        for record in informer.store.values():
            survives(record)
    for last in (raw, broken):
        informer._event("DELETED", last)
    assert not informer.store


def survives(record: PodRecord) -> None:
    """The core takes a pod as it was read, whatever its annotations say."""
    spec = InferencePoolSpec.model_validate(
        {
            "modelName": "m",
            "variants": [{"name": "gpu", "targetRef": {"name": "gpu"}}],
            "replicas": {"floor": 1, "max": 2},
        }
    )
    pod = record.facts(in_endpoints=None, load=None, zone=None, interrupted=False)
    target = TargetFacts(TargetKind.DEPLOYMENT, spec_replicas=1, owned=True, pods=(pod,))
    Core(spec, NOW).slow(PoolFacts("ns", "p", "u", 1, NOW, spec, {"gpu": target}))


catalogs = st.fixed_dictionaries(
    {},
    optional={
        "accelerators": strange | st.dictionaries(st.text(max_size=5), strange, max_size=3),
        "models": strange | st.dictionaries(st.text(max_size=5), strange, max_size=3),
    },
)
price_maps = st.dictionaries(
    st.text(max_size=5),
    strange
    | st.fixed_dictionaries(
        {"input_cost_per_token": strange, "output_cost_per_token": strange},
        optional={"deprecation_date": strange},
    ),
    max_size=3,
)


@wide
@given(catalogs | strange, price_maps | strange, st.binary(max_size=40))
def test_no_price_file_is_more_than_refused(
    tmp_path_factory: Any, catalog: Any, price_map: Any, garbage: bytes
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "prices"
    for data in (
        yaml.safe_dump(catalog).encode(errors="replace"),
        json.dumps(price_map).encode(errors="replace"),
        garbage,
    ):
        path.write_bytes(data)
        for read in (read_catalog, read_price_map):
            with suppress(PriceFileError):
                assert all(usd >= 0 for usd in read(path).gpus.values())
