"""The rig itself: what the other tests rely on is so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from spillway.api.names import ROLE_LABEL
from tests.e2e.rig import binaries, guardian
from tests.e2e.rig.cluster import UnsupportedError, make_cluster
from tests.e2e.rig.kubeapi import ApiError
from tests.e2e.rig.processes import Custody, ManagedProcess, RigError
from tests.e2e.rig.rig import Rig
from tests.e2e.rig.waiting import wait_for
from tests.e2e.rig.workloads import (
    gaie_crd,
    hpa,
    scale_target,
    service,
    vllm_deployment,
    vllm_statefulset,
)

if TYPE_CHECKING:
    from tests.e2e.rig.cluster import Cluster


def phases(cluster: Cluster, namespace: str) -> list[str]:
    return sorted(pod["status"]["phase"] for pod in cluster.api.list("Pod", namespace))


def endpoints(cluster: Cluster, namespace: str) -> set[str]:
    """Names of the pods that the namespace's Services send to."""
    return {
        endpoint["targetRef"]["name"]
        for piece in cluster.api.list("EndpointSlice", namespace)
        for endpoint in piece.get("endpoints") or []
        if endpoint["conditions"].get("ready")
    }


def ready_replicas(cluster: Cluster, namespace: str, name: str, kind: str = "Deployment") -> int:
    return int(cluster.api.get(kind, name, namespace)["status"].get("readyReplicas", 0))


def test_a_deployment_runs_and_every_pod_has_its_own_ip(cluster: Cluster, namespace: str) -> None:
    cluster.api.apply(vllm_deployment("model", namespace, replicas=3))
    wait_for("3 replicas are ready", lambda: ready_replicas(cluster, namespace, "model") == 3)
    pods = cluster.api.list("Pod", namespace)
    assert len({pod["status"]["podIP"] for pod in pods}) == 3


def test_a_statefulset_runs(cluster: Cluster, namespace: str) -> None:
    cluster.api.apply(service("model", namespace), vllm_statefulset("model", namespace, replicas=2))
    wait_for(
        "2 replicas are ready",
        lambda: ready_replicas(cluster, namespace, "model", "StatefulSet") == 2,
    )
    wait_for(
        "both get traffic",
        lambda: endpoints(cluster, namespace),
        lambda seen: seen == {"model-0", "model-1"},
    )


def test_the_ninth_gpu_pod_of_an_eight_gpu_node_is_pending(
    cluster: Cluster, namespace: str
) -> None:
    node = cluster.add_node("lonely", gpus=8, labels={"pool": namespace})
    try:
        manifest = vllm_deployment("model", namespace, replicas=9)
        manifest["spec"]["template"]["spec"]["nodeSelector"]["pool"] = namespace
        cluster.api.apply(manifest)
        wait_for(
            "8 pods run and 1 is Pending",
            lambda: phases(cluster, namespace),
            lambda seen: seen == ["Pending"] + ["Running"] * 8,
        )
        pending = [p for p in cluster.api.list("Pod", namespace) if "nodeName" not in p["spec"]]
        reason = wait_for(
            "the scheduler says why",
            lambda: cluster.api.get("Pod", pending[0]["metadata"]["name"], namespace)["status"],
            lambda status: any(c.get("reason") == "Unschedulable" for c in status["conditions"]),
        )
        assert "nvidia.com/gpu" in str(reason)
    finally:
        cluster.remove_node(node)


def test_a_pod_is_running_at_once_and_ready_after_its_startup_time(
    cluster: Cluster, namespace: str
) -> None:
    cluster.api.apply(vllm_deployment("model", namespace, startup_seconds=2.5))
    wait_for("the pod runs", lambda: phases(cluster, namespace), lambda seen: seen == ["Running"])
    began = time.monotonic()
    assert ready_replicas(cluster, namespace, "model") == 0
    # A change of the pod meanwhile, such as a label, must not begin the delay anew.
    time.sleep(1)
    pod = cluster.api.list("Pod", namespace)[0]["metadata"]["name"]
    cluster.api.patch("Pod", pod, namespace, {"metadata": {"labels": {"touched": "yes"}}})
    wait_for("the pod is ready", lambda: ready_replicas(cluster, namespace, "model") == 1)
    assert 2.0 <= time.monotonic() - began <= 3.4


def test_a_pod_whose_role_changes_leaves_its_service_within_a_second(
    cluster: Cluster, namespace: str
) -> None:
    cluster.api.apply(service("model", namespace), vllm_deployment("model", namespace, replicas=2))
    both = wait_for(
        "both pods get traffic",
        lambda: endpoints(cluster, namespace),
        lambda seen: len(seen) == 2,
    )
    gone = min(both)
    label = {"metadata": {"labels": {ROLE_LABEL: "draining"}}}
    cluster.api.patch("Pod", gone, namespace, label)
    began = time.monotonic()
    wait_for(
        "the pod has left",
        lambda: endpoints(cluster, namespace),
        lambda seen: seen == both - {gone},
        timeout=5,
        interval=0.02,
    )
    assert time.monotonic() - began < 1.0
    # It still belongs to its ReplicaSet: the role is not in the selector, so none replaces it.
    assert len(cluster.api.list("Pod", namespace)) == 2


def test_deleted_pods_go_at_once(cluster: Cluster, namespace: str) -> None:
    cluster.api.apply(vllm_deployment("model", namespace, replicas=4, startup_seconds=60))
    wait_for("4 pods run", lambda: phases(cluster, namespace) == ["Running"] * 4)
    cluster.api.patch(
        "Deployment", "model", namespace, {"spec": {"replicas": 1}}, subresource="scale"
    )
    wait_for("1 is left", lambda: len(cluster.api.list("Pod", namespace)) == 1, timeout=5)


def test_other_kinds_are_accepted(cluster: Cluster, namespace: str) -> None:
    cluster.install_crd(gaie_crd())
    cluster.api.apply(scale_target("target", namespace, replicas=2), hpa("model", namespace))
    cluster.api.patch(
        "ScaleTarget", "target", namespace, {"spec": {"replicas": 5}}, subresource="scale"
    )
    assert cluster.api.get("ScaleTarget", "target", namespace)["spec"]["replicas"] == 5
    assert cluster.api.list("inference.networking.k8s.io/v1/InferencePool", namespace) == []


def test_refusals_come_with_the_servers_words(cluster: Cluster, namespace: str) -> None:
    broken = vllm_deployment("model", namespace)
    broken["spec"]["replicas"] = -1
    with pytest.raises(ApiError, match=r"spec\.replicas.*greater than or equal to 0") as refusal:
        cluster.api.create(broken)
    assert refusal.value.status == 422


def test_kubectl_works(cluster: Cluster, namespace: str) -> None:
    cluster.api.apply(vllm_deployment("model", namespace))
    assert cluster.kubectl("-n", namespace, "get", "deploy", "-o=name") == "deployment.apps/model\n"


def test_wait_for_says_what_was_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"not within 0.1 s: it is 2; seen last: 1"):
        wait_for("it is 2", lambda: 1, lambda seen: seen == 2, timeout=0.1, interval=0.05)


def test_the_audit_log_tells_which_account_wrote_what(rig: Rig, namespace: str) -> None:
    if not rig.cluster.owns_control_plane:
        pytest.skip("the audit log of this cluster can't be read")
    writer = rig.cluster.kubeconfig_as("writer", namespace, cluster_role="cluster-admin")
    rig.cluster.kubectl("-n", namespace, "create", "configmap", "mine", f"--kubeconfig={writer}")

    def written() -> list[dict[str, Any]]:
        return [
            event
            for event in rig.cluster.audit_events()
            if event["user"]["username"] == f"system:serviceaccount:{namespace}:writer"
        ]

    (event,) = wait_for("the write is in the audit log", written)
    assert (event["verb"], event["objectRef"]["name"]) == ("create", "mine")
    assert event["requestObject"]["kind"] == "ConfigMap"


@pytest.mark.parametrize("name", ["kube-apiserver", "etcd", "kube-controller-manager"])
def test_a_component_can_be_broken_and_mended(rig: Rig, namespace: str, name: str) -> None:
    if not rig.cluster.owns_control_plane:
        pytest.skip("this control plane is not ours to break")
    component = rig.cluster.component(name)
    component.kill()
    component.start()
    component.pause()
    component.resume()
    component.stop()
    component.start()
    wait_for("the API server answers", lambda: rig.cluster.api.get("Namespace", namespace))
    rig.cluster.api.apply(vllm_deployment("model", namespace))
    wait_for("it runs", lambda: ready_replicas(rig.cluster, namespace, "model") == 1)


def test_load_shows_in_prometheus_under_the_usual_labels(rig: Rig, namespace: str) -> None:
    rig.cluster.api.apply(service("model", namespace), vllm_deployment("model", namespace))
    wait_for("it runs", lambda: ready_replicas(rig.cluster, namespace, "model") == 1)
    pod = rig.cluster.api.list("Pod", namespace)[0]["metadata"]["name"]
    pool = rig.emulator.set_pool(
        namespace, "model", selector={"app": "model"}, model_name="org/model"
    )
    rig.emulator.set_rate(pool, 2.0)
    labels = f'namespace="{namespace}",pod="{pod}"'
    wait_for(
        "vLLM's counters move",
        lambda: rig.prometheus.query(f"rate(vllm:generation_tokens_total{{{labels}}}[5s]) > 0"),
    )
    assert rig.prometheus.query(f'vllm:num_requests_running{{{labels},model_name="org/model"}}')
    wait_for(
        "DCGM's exporter names the pod",
        lambda: rig.prometheus.query(
            f'DCGM_FI_DEV_GPU_UTIL{{exported_namespace="{namespace}",exported_pod="{pod}",'
            f'namespace="gpu-operator",pod="dcgm-exporter-x"}}'
        ),
    )
    rig.emulator.set_rate(pool, 0.0)


def test_prometheus_can_be_killed_and_keeps_its_data(rig: Rig) -> None:
    up = 'up{job=~"dcgm|gateway"} == 1'
    wait_for("both are scraped", lambda: len(rig.prometheus.query(up)) == 2)
    before = time.time()
    rig.prometheus.kill()
    assert not rig.prometheus.alive
    rig.prometheus.start()
    assert len(rig.prometheus.query(up, at=before)) == 2
    rig.prometheus.reload(scrape_interval_seconds=0.5)
    rig.prometheus.reload(scrape_interval_seconds=1.0)


def test_a_process_that_does_not_start_says_why() -> None:
    with Custody() as custody:
        words = "import sys; sys.exit('no such model')"
        broken = ManagedProcess(
            custody, "broken", [sys.executable, "-c", words], ready_url="http://127.0.0.1:9/"
        )
        with pytest.raises(
            RigError, match=r"broken ended with code 1; its log ends:\nno such model"
        ):
            broken.start()


def test_processes_stop_pause_and_go_with_their_children() -> None:
    with Custody() as custody:
        sleeper = ManagedProcess(custody, "sleeper", ["sh", "-c", "sleep 60 & wait"]).start()
        wait_for("its child runs", lambda: len(custody.pids()) == 2, timeout=5)
        sleeper.pause()
        assert sleeper.alive
        assert sleeper.stop() == -signal.SIGTERM
        assert custody.pids() == []
        daemon = ManagedProcess(custody, "daemon", ["sh", "-c", "setsid sleep 60 &"]).start()
        wait_for("only its daemon is left", lambda: not daemon.alive, timeout=5)
        assert len(custody.pids()) == 1
    assert custody.pids() == []
    assert not custody.directory.exists()


def test_a_cluster_that_is_not_ours_is_used_and_left_as_it_was(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--cluster=current``, on a control plane that stands for the user's own."""
    if not rig.cluster.owns_control_plane:
        pytest.skip("needs a control plane to stand for the user's")
    with Custody() as users:
        theirs = make_cluster("local", users, binaries.ensure())
        theirs.start()
        # Only the kwok that the rig brings along may run the rig's nodes.
        theirs.component("kwok-controller").stop()
        monkeypatch.setenv("KUBECONFIG", str(theirs.kubeconfig))
        kinds = ("Node", "Namespace", "CustomResourceDefinition", "ClusterRoleBinding")
        before = {kind: names(theirs, kind) for kind in kinds}
        with Rig("current", nodes=1, console=Console(quiet=True)) as guest:
            place = guest.cluster.create_namespace()
            guest.cluster.api.apply(vllm_deployment("model", place, replicas=2))
            wait_for("it runs there", lambda: ready_replicas(theirs, place, "model") == 2)
            guest.cluster.kubeconfig_as("someone", place, cluster_role="view")
            with pytest.raises(UnsupportedError, match="--cluster=local"):
                guest.cluster.component("etcd")
        assert {kind: names(theirs, kind) for kind in kinds} == before


def names(cluster: Cluster, kind: str) -> set[str]:
    return {item["metadata"]["name"] for item in cluster.api.list(kind)}


#: A rig that says where it is and then waits to be ended.
CHILD = """
from tests.e2e.rig import binaries
from tests.e2e.rig.cluster import make_cluster
from tests.e2e.rig.processes import Custody, ManagedProcess, RigError
import sys, time

custody = Custody()
make_cluster("local", custody, binaries.ensure()).start()
print(custody.token, custody.directory, flush=True)
if sys.argv[1] == "raise":
    raise KeyError("a bug in a test")
time.sleep(60)
"""


@pytest.mark.parametrize("end", ["raise", "SIGINT", "SIGTERM", "SIGKILL"])
def test_however_a_rig_ends_nothing_is_left_behind(end: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, end],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    token, folder = child.stdout.readline().split()
    if end.startswith("SIG"):
        assert len(guardian.processes(token)) >= 5
        child.send_signal(signal.Signals[end])
    child.communicate(timeout=30)
    assert child.returncode != 0
    wait_for("no process is left", lambda: guardian.processes(token) == [], timeout=20)
    wait_for("its folder is gone", lambda: not Path(folder).exists(), timeout=20)
