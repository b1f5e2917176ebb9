"""An operator that finds what an older version of the CRD has stored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.faults import never_below
from tests.e2e.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.faults import Faults
    from tests.e2e.rig.rig import Rig

CRD = "inferencepools.spillway.dev"
#: What the first version could store: three fields, and one that is gone by now.
OLD_SPEC = {"modelName": "m", "replicas": {"max": 4}, "retired": {"field": 1}}
OLD_STATUS = {
    "observedGeneration": 1,
    "replicas": {"serving": 2, "retired": 3},
    "retired": True,
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "OfAnotherVersion",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ],
}


@pytest.fixture
def older_crd(rig: Rig) -> Iterator[None]:
    """The CRD as if its schema had known other fields; the present one comes back after."""
    if not rig.cluster.owns_control_plane:
        pytest.skip("the CRD of this cluster is not ours to change")
    crd = rig.cluster.api.get("CustomResourceDefinition", CRD)
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    path = "/spec/versions/0/schema/openAPIV3Schema/properties"
    patch = [
        {"op": "replace", "path": f"{path}/{part}", "value": anything}
        for part in ("spec", "status")
    ]
    assert crd["spec"]["versions"][0]["storage"]
    rig.cluster.api.patch("CustomResourceDefinition", CRD, None, patch)
    yield
    rig.apply_crds()


@pytest.mark.usefixtures("older_crd")
def test_an_object_of_an_older_version_is_served_and_keeps_its_replicas(
    operators: Rig, faults: Faults
) -> None:
    rig = operators
    pool = Scenario(rig, rig.cluster.create_namespace())
    pool.deploy()
    manifest: dict[str, Any] = pool.manifest()
    target = {"name": "main", "targetRef": {"kind": "Deployment", "name": pool.name}}
    manifest["spec"] = {**OLD_SPEC, "variants": [target]}

    def stored() -> dict[str, Any]:
        rig.cluster.api.apply(manifest)
        spec: dict[str, Any] = pool.pool()["spec"]
        return spec

    pool.wait("the older version is served", stored, lambda spec: "retired" in spec)
    status = {"status": OLD_STATUS}
    rig.cluster.api.patch("InferencePool", pool.name, pool.namespace, status, subresource="status")
    rig.apply_crds()
    began = time.time()
    rig.start_operator("newer")
    pool.wait_ready()
    pool.wait(
        "the status is of this version",
        pool.status,
        lambda seen: "retired" not in seen and seen.get("lastDecision"),
    )
    seconds = time.time() - began
    never_below(pool, 2, began)
    rig.cluster.delete_namespace(pool.namespace)
    faults.survived(
        "the operator is upgraded over an object of an older CRD",
        "it is served, unknown fields are dropped, 2 replicas stay",
        seconds,
    )
