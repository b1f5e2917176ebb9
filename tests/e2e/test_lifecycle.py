"""Pools and targets that are wrong, deleted, recreated or replaced while traffic runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from spillway.api.names import (
    DELETION_COST_ANNOTATION,
    DRAIN_DEADLINE_ANNOTATION,
    ROLE_LABEL,
    Role,
)
from spillway.api.reasons import Reason
from tests.e2e.rig.audit import writes
from tests.e2e.rig.workloads import STARTUP_ANNOTATION, vllm_deployment
from tests.e2e.scenario import CAPACITY_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.faults import Faults
    from tests.e2e.rig.cluster import Cluster
    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.scenario import Scenario

SPIKE = 4 * CAPACITY_PER_SECOND
WARM = {"warmPool": {"size": 1}}
FULL = {"replicas": {"floor": 2, "max": 2}}
CRD = "inferencepools.spillway.dev"


def without_rules(schema: Any) -> Any:
    """A schema without its CEL rules."""
    if isinstance(schema, dict):
        rest = {k: v for k, v in schema.items() if k != "x-kubernetes-validations"}
        return {key: without_rules(value) for key, value in rest.items()}
    return [without_rules(item) for item in schema] if isinstance(schema, list) else schema


@pytest.fixture
def lenient_server(cluster: Cluster, namespace: str) -> Iterator[None]:
    """An API server that checks no CEL rules, as one with an older CRD would."""
    schema = cluster.api.get("CustomResourceDefinition", CRD)["spec"]["versions"][0]["schema"]

    def replace(value: Any) -> None:
        body = [{"op": "replace", "path": "/spec/versions/0/schema", "value": value}]
        cluster.api.patch("CustomResourceDefinition", CRD, None, body)

    replace(without_rules(schema))
    yield
    # What is invalid must be gone before the rules are back.
    cluster.api.request("DELETE", cluster.api.path("InferencePool", namespace))
    replace(schema)


def marks(pod: dict[str, Any]) -> dict[str, str]:
    """What Spillway has written on a pod, beside the role serving."""
    metadata = pod["metadata"]
    found = dict(metadata.get("annotations") or {})
    found.pop(STARTUP_ANNOTATION, None)
    role = metadata["labels"].get(ROLE_LABEL)
    return found if role == Role.SERVING else {**found, ROLE_LABEL: role}


def wait_unmarked(pool: Scenario) -> None:
    """Wait until every pod serves and carries nothing of Spillway's."""
    pool.wait(
        "every pod serves and is unmarked",
        lambda: [found for pod in pool.pods() if (found := marks(pod))],
        lambda seen: not seen,
    )


def mark_as_draining(pool: Scenario, cluster: Cluster, pod: dict[str, Any]) -> None:
    """Give a pod every mark of a drained one, as if Spillway had just done so."""
    annotations = {
        DRAIN_DEADLINE_ANNOTATION: "2100-01-01T00:00:00Z",
        DELETION_COST_ANNOTATION: str(-(2**31)),
    }
    metadata = {"labels": {ROLE_LABEL: Role.DRAINING.value}, "annotations": annotations}
    cluster.api.patch("Pod", pod["metadata"]["name"], pool.namespace, {"metadata": metadata})


def hash_of(pod: dict[str, Any]) -> str:
    """The revision of a Deployment's pod."""
    revision: str = pod["metadata"]["labels"]["pod-template-hash"]
    return revision


@pytest.mark.usefixtures("lenient_server", "operator")
def test_an_invalid_pool_says_which_field_and_disturbs_none_of_twenty_others(
    scenario: Callable[..., Scenario], cluster: Cluster
) -> None:
    small = {"replicas": {"floor": 1, "max": 2}}
    good = [scenario(name=f"good-{number:02}", replicas=1, spec=small) for number in range(20)]
    for pool in good:
        # Without GPUs, so that the rig's sixteen are no limit.
        pool.deploy(vllm_deployment(pool.name, pool.namespace, gpus=0))
        pool.apply()
    bad = scenario(name="bad", spec=WARM)
    bad.start()
    bad.wait_roles(serving=2, warm=1)

    # The server takes it; pydantic knows better.
    def break_it() -> dict[str, Any]:
        change = {"spec": {"replicas": {"floor": 9}}}
        return cluster.api.patch("InferencePool", bad.name, bad.namespace, change)

    bad.wait("the server has become lenient", break_it)
    broken_at = time.time()
    said = bad.wait_condition("Ready", "False", Reason.INVALID_SPEC)
    assert "spec.replicas.floor" in said["message"]
    assert "9" in said["message"]
    (event,) = bad.wait("an event says so too", lambda: bad.events(Reason.INVALID_SPEC))
    assert event["type"] == "Warning"
    assert "spec.replicas.floor" in event["note"]
    for pool in good:
        pool.wait_ready()
    # All go on: a target of one of them that is scaled by hand is corrected.
    cluster.kubectl("-n", bad.namespace, "scale", "deployment/good-07", "--replicas=2")
    good[7].wait("good-07 is corrected", good[7].scale, lambda seen: seen == 1)
    # The invalid one stays as it is, its warm pod too.
    assert bad.scale() == 3
    assert len(bad.pods(Role.WARM, ready=True)) == 1
    if cluster.owns_control_plane:
        assert not [
            write
            for resource in ("pods", "deployments/scale")
            for write in writes(
                cluster, "spillway-a", namespace=bad.namespace, resource=resource, since=broken_at
            )
            if write.name.startswith(bad.name)
        ]
    change = {"spec": {"replicas": {"floor": 2}}}
    cluster.api.patch("InferencePool", bad.name, bad.namespace, change)
    bad.wait_ready()


def test_a_pool_deleted_in_a_burst_goes_at_once_and_leaves_nothing(
    scenario: Callable[..., Scenario], cluster: Cluster, operator: OperatorProcess
) -> None:
    busy, resting = scenario(name="busy", spec=FULL), scenario(name="resting", spec=WARM)
    busy.start()
    resting.start()
    resting.wait_roles(serving=2, warm=1)
    busy.rate(SPIKE)
    value = busy.wait(
        "it bursts",
        lambda: busy.traffic()["overflow"],
        lambda seen: seen and seen["live"] and seen["fraction"] > 0.2,
    )
    address = f"{operator.url}/v1/overflow/{busy.key}"
    assert requests.get(address, timeout=5).json()["epoch"] == value["epoch"]

    mark_as_draining(resting, cluster, resting.pods(Role.SERVING, ready=True)[0])
    for pool in (busy, resting):
        cluster.api.delete("InferencePool", pool.name, pool.namespace)
        # No finalizer holds it back.
        assert cluster.api.find("InferencePool", pool.name, pool.namespace) is None
    busy.wait(
        "the operator has no value any more",
        lambda: requests.get(address, timeout=5),
        lambda answer: answer.status_code == 404,
    )
    wait_unmarked(resting)
    wait_unmarked(busy)
    busy.wait("the router's value has expired", busy.traffic, lambda t: not t["overflow"]["live"])
    before = busy.traffic()
    after = busy.wait(
        "requests still arrive",
        busy.traffic,
        lambda seen: seen["arrivals_total"] > before["arrivals_total"] + SPIKE,
    )
    assert after["cloud_total"] == before["cloud_total"]
    assert (busy.scale(), resting.scale()) == (2, 3)


def test_what_a_pool_left_that_was_deleted_while_nobody_looked_is_swept_at_start(
    scenario: Callable[..., Scenario], cluster: Cluster, operator: OperatorProcess
) -> None:
    pool = scenario(spec=WARM)
    pool.start()
    pool.wait_roles(serving=2, warm=1)
    operator.kill()
    draining, kept = pool.pods(Role.SERVING, ready=True)
    mark_as_draining(pool, cluster, draining)
    # A kill between two writes: serving again, and still the first to go.
    cost = {DELETION_COST_ANNOTATION: str(-(2**31))}
    name = kept["metadata"]["name"]
    cluster.api.patch("Pod", name, pool.namespace, {"metadata": {"annotations": cost}})
    cluster.api.delete("InferencePool", pool.name, pool.namespace)
    operator.start()
    wait_unmarked(pool)
    assert pool.scale() == 3


@pytest.mark.usefixtures("operator")
def test_a_target_that_is_deleted_and_comes_back_gets_its_floor_again(
    scenario: Callable[..., Scenario], cluster: Cluster
) -> None:
    pool = scenario()
    pool.start()
    cluster.api.delete("Deployment", pool.name, pool.namespace)
    said = pool.wait_condition("Ready", "False", Reason.TARGET_NOT_FOUND)
    assert f"Deployment {pool.key}" in said["message"]
    pool.wait("its pods are gone", pool.pods, lambda seen: not seen)
    cluster.api.apply(vllm_deployment(pool.name, pool.namespace, replicas=1, startup_seconds=1))
    pool.wait_ready()
    assert pool.scale() == 2


@pytest.mark.usefixtures("operator")
def test_a_rolling_update_in_a_spike_takes_nothing_out_of_service(
    scenario: Callable[..., Scenario], cluster: Cluster, faults: Faults
) -> None:
    pool = scenario(
        spec={**WARM, "replicas": {"floor": 3, "max": 6}},
        replicas=3,
        emulator={"shutdown_grace_seconds": 60},
    )
    pool.start()
    pool.wait_roles(serving=3, warm=1)
    pool.rate(SPIKE)
    pool.wait(
        "the spike is felt",
        pool.traffic,
        lambda seen: seen["arrivals_per_second"] > SPIKE / 2,
    )
    old = {hash_of(pod) for pod in pool.pods()}
    template = {"metadata": {"annotations": {"example.com/version": "2"}}}
    cluster.api.patch("Deployment", pool.name, pool.namespace, {"spec": {"template": template}})
    began = time.time()

    def rolling() -> bool:
        status = cluster.api.get("Deployment", pool.name, pool.namespace)["status"]
        return bool(status.get("updatedReplicas", 0) < status["replicas"])

    pool.wait("the rollout has begun", rolling)
    still_rolling = time.time()
    while True:
        looked = time.time()
        if not rolling():
            break
        still_rolling = looked
        assert looked - began < 90, "the rollout does not end"
        time.sleep(0.1)

    if cluster.owns_control_plane:
        since = writes(cluster, "spillway-a", namespace=pool.namespace, since=began)
        meanwhile = [write for write in since if write.at < still_rolling]
        roles = [w.body["metadata"].get("labels") for w in meanwhile if w.resource == "pods"]
        assert all(role == {ROLE_LABEL: Role.SERVING.value} for role in roles if role)
        asked = [w.body["spec"]["replicas"] for w in meanwhile if w.resource == "deployments/scale"]
        assert all(replicas >= 4 for replicas in asked)
    pool.wait(
        "only the new revision is left",
        lambda: {hash_of(pod) for pod in pool.pods()},
        lambda seen: len(seen) == 1 and not seen & old,
        timeout=60,
    )
    pool.wait(
        "the warm pool is back",
        lambda: len(pool.pods(Role.WARM, ready=True)),
        lambda seen: seen == 1,
        timeout=60,
    )
    assert len(pool.pods(Role.SERVING, ready=True)) >= 3
    traffic = pool.traffic()
    assert (traffic["lost_total"], traffic["refused_total"]) == (0, 0)
    held = "no request is lost, 4 are asked for all the time"
    faults.survived("the target is rolled over in a spike", held, None)
