"""Others who touch what Spillway scales: autoscalers, other pools, hands, Git, another group."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from spillway.api.names import API_VERSION, DELETION_COST_ANNOTATION, MANAGER_SCALE, Role
from spillway.api.reasons import Reason
from tests.e2e.rig.audit import writes
from tests.e2e.rig.workloads import STARTUP_ANNOTATION, gaie_crd, hpa, vllm_deployment
from tests.e2e.scenario import CAPACITY_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.rig.cluster import Cluster
    from tests.e2e.scenario import Scenario

pytestmark = pytest.mark.usefixtures("operator")

WARM = {"warmPool": {"size": 1}}
#: A dozen ticks of the slow loop: what would be wrong shows within two.
WATCHED_SECONDS = 12.0
GAIE = "inference.networking.k8s.io/v1"


def holds(look: Callable[[], Any], expected: Any, seconds: float = WATCHED_SECONDS) -> None:
    """Show that something stays as it is for a while."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        assert look() == expected
        time.sleep(0.2)


def younger_pool(older: Scenario) -> dict[str, Any]:
    """Another pool on the same target."""
    manifest = older.manifest()
    manifest["metadata"]["name"] = "usurper"
    manifest["spec"] |= {"warmPool": {"size": 0}, "replicas": {"floor": 4, "max": 8}}
    return manifest


def condition(cluster: Cluster, namespace: str, name: str, kind: str) -> dict[str, Any]:
    """A condition of an InferencePool; empty where there is none."""
    pool = cluster.api.get("InferencePool", name, namespace)
    found = (pool.get("status") or {}).get("conditions", [])
    return next((c for c in found if c["type"] == kind), {})


def test_of_two_pools_on_one_target_the_older_acts_and_the_younger_waits_for_its_end(
    scenario: Callable[..., Scenario], cluster: Cluster
) -> None:
    older = scenario(spec=WARM)
    older.start()
    older.wait_roles(serving=2, warm=1)
    cluster.api.apply(younger_pool(older))

    def contested() -> dict[str, Any]:
        return condition(cluster, older.namespace, "usurper", "TargetContested")

    said = older.wait("the younger one says so", contested, lambda c: c.get("status") == "True")
    assert said["reason"] == Reason.TARGET_CONTESTED
    assert f"InferencePool {older.name} " in said["message"]
    assert older.condition("TargetContested")["status"] == "False"
    # Neither replicas nor roles: the warm pod of the older one stays warm.
    roles = {pod["metadata"]["uid"]: pod["metadata"]["labels"] for pod in older.pods()}
    holds(
        lambda: {pod["metadata"]["uid"]: pod["metadata"]["labels"] for pod in older.pods()}, roles
    )
    assert older.scale() == 3

    cluster.api.delete("InferencePool", older.name, older.namespace)
    older.wait("the younger one acts", contested, lambda c: c.get("status") == "False")
    older.wait_roles(serving=4, warm=0)
    older.wait(
        "the younger one is Ready",
        lambda: condition(cluster, older.namespace, "usurper", "Ready").get("status"),
        lambda seen: seen == "True",
    )


def test_beside_an_autoscaler_everything_is_given_back_and_nothing_scaled_until_it_is_gone(
    scenario: Callable[..., Scenario], cluster: Cluster
) -> None:
    pool = scenario(spec={**WARM, "replicas": {"floor": 2, "max": 3}})
    pool.start()
    pool.wait_roles(serving=2, warm=1)
    warm = pool.pods(Role.WARM)[0]["metadata"]["name"]
    # As if Spillway had marked it as the next to go.
    cost = {DELETION_COST_ANNOTATION: str(-(2**31))}
    cluster.api.patch("Pod", warm, pool.namespace, {"metadata": {"annotations": cost}})
    cluster.api.apply(hpa(pool.name, pool.namespace))
    said = pool.wait_condition("TargetContested", "True", Reason.TARGET_CONTESTED)
    assert f"HorizontalPodAutoscaler {pool.name} " in said["message"]
    pool.wait_roles(serving=3, warm=0)

    def marks() -> set[str]:
        metadata = cluster.api.get("Pod", warm, pool.namespace)["metadata"]
        return set(metadata.get("annotations") or {}) - {STARTUP_ANNOTATION}

    pool.wait("no mark of Spillway's is left on the pod", marks, lambda seen: not seen)
    pool.wait_condition("OverflowActive", "False", Reason.RELEASED)

    # A spike: nothing bursts and nothing is scaled.
    pool.rate(4 * CAPACITY_PER_SECOND)
    began = time.time()
    holds(lambda: (pool.scale(), pool.traffic()["cloud_total"]), (3, 0))
    if cluster.owns_control_plane:
        assert writes(cluster, "spillway-a", namespace=pool.namespace, resource="pods") != []
        for resource in ("pods", "deployments/scale"):
            since = writes(
                cluster, "spillway-a", namespace=pool.namespace, resource=resource, since=began
            )
            assert since == []

    cluster.api.delete("HorizontalPodAutoscaler", pool.name, pool.namespace)
    pool.wait_condition("TargetContested", "False")
    pool.wait("it bursts again", pool.traffic, lambda seen: seen["cloud_total"] > 0)


def told(pool: Scenario, text: str) -> bool:
    """Whether an event on a foreign change of the replicas has this text."""
    return any(text in event["note"] for event in pool.events(Reason.FOREIGN_SCALE))


def scale_by_hand(pool: Scenario, replicas: int) -> float:
    """Have kubectl set the replicas; how long until it was corrected to two, with an event."""
    pool.rig.cluster.kubectl(
        "-n", pool.namespace, "scale", f"deployment/{pool.name}", f"--replicas={replicas}"
    )
    scaled = time.time()
    pool.wait("it is corrected", pool.scale, lambda seen: seen == 2)
    seconds = time.time() - scaled
    pool.wait(
        "an event says so",
        lambda: [event["note"] for event in pool.events(Reason.FOREIGN_SCALE)],
        lambda notes: any(f": {replicas} to 2 replicas" in note for note in notes),
    )
    return seconds


def test_replicas_set_by_hand_are_corrected_at_the_next_tick_with_an_event(
    scenario: Callable[..., Scenario], measured: dict[str, float]
) -> None:
    pool = scenario(startup_seconds=8.0)
    pool.start()
    served = {pod["metadata"]["uid"] for pod in pool.pods(Role.SERVING, ready=True)}
    measured["kubectl scale from 2 to 6 corrected after"] = scale_by_hand(pool, 6)
    pool.wait("the others have gone", pool.pods, lambda seen: len(seen) == 2)
    # Only pods that had not served yet went.
    assert {pod["metadata"]["uid"] for pod in pool.pods()} == served
    measured["kubectl scale from 2 to 1 corrected after"] = scale_by_hand(pool, 1)
    pool.wait_roles(serving=2)


def test_replicas_stay_when_git_drops_the_field(
    scenario: Callable[..., Scenario], cluster: Cluster
) -> None:
    pool = scenario(replicas=3, spec={"replicas": {"floor": 3, "max": 8}})
    manifest = vllm_deployment(pool.name, pool.namespace, replicas=3, startup_seconds=1.0)
    pool.deploy(manifest)
    pool.apply()
    pool.wait_ready()

    def owners() -> set[str]:
        deployment = cluster.api.get("Deployment", pool.name, pool.namespace)
        return {
            entry["manager"]
            for entry in deployment["metadata"]["managedFields"]
            if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
        }

    pool.wait("Spillway co-owns the number", owners, lambda seen: seen == {"rig", MANAGER_SCALE})
    del manifest["spec"]["replicas"]
    cluster.api.apply(manifest)
    assert owners() == {MANAGER_SCALE}
    holds(pool.scale, 3, seconds=5)


def test_a_target_above_max_is_adopted_without_a_reduction(
    scenario: Callable[..., Scenario], cluster: Cluster
) -> None:
    """The end of the ten minutes is shown on the core: test_limits.py."""
    pool = scenario(replicas=5, spec={"replicas": {"floor": 2, "max": 3}})
    pool.start()
    pool.wait(
        "the decision says why nothing goes",
        lambda: pool.status()["lastDecision"]["reasons"],
        lambda reasons: Reason.ADOPTING in reasons,
    )
    held = {pod["metadata"]["uid"] for pod in pool.pods()}
    holds(
        lambda: (pool.scale(), {pod["metadata"]["uid"] for pod in pool.pods(Role.SERVING)}),
        (5, held),
        seconds=20,
    )
    # Not above what is there either, whatever is asked for.
    pool.rate(8 * CAPACITY_PER_SECOND)
    holds(pool.scale, 5)
    if cluster.owns_control_plane:
        found = writes(cluster, namespace=pool.namespace, resource="deployments/scale")
        assert {w.body["spec"]["replicas"] for w in found} == {5}


def test_the_inference_extension_s_pool_of_the_same_kind_is_left_alone(
    scenario: Callable[..., Scenario], cluster: Cluster
) -> None:
    """Gateway API Inference Extension: another group, the same kind and plural."""
    name = gaie_crd()["metadata"]["name"]
    cluster.install_crd(gaie_crd())
    try:
        pool = scenario()
        theirs = {
            "apiVersion": GAIE,
            "kind": "InferencePool",
            "metadata": {"name": "llama", "namespace": pool.namespace},
            "spec": {
                "selector": {"matchLabels": {"app": pool.name}},
                "targetPorts": [{"number": 8000}],
            },
        }
        created = cluster.api.create(theirs)
        pool.start()
        for group, version in (
            ("spillway.dev", API_VERSION),
            ("inference.networking.k8s.io", GAIE),
        ):
            shown = cluster.kubectl(
                "-n", pool.namespace, "get", f"inferencepools.{group}", "llama",
                "-o=jsonpath={.apiVersion}",
            )  # fmt: skip
            assert shown == version
        untouched = cluster.api.get(f"{GAIE}/InferencePool", "llama", pool.namespace)
        assert untouched == created
    finally:
        cluster.api.delete("CustomResourceDefinition", name)
    # Its kind vanishes again, and Spillway goes on.
    pool.rate(4 * CAPACITY_PER_SECOND)
    pool.wait("it bursts", pool.traffic, lambda seen: seen["cloud_total"] > 0)
