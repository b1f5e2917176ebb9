"""What a secret, a tenant and a hostile name can't do: docs/security.md says it, this shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml

from spillway.api.reasons import Reason
from tests.e2e.faults import bursting
from tests.e2e.rig.kubeapi import ApiError, KubeApi
from tests.e2e.rig.waiting import wait_for
from tests.e2e.rig.workloads import vllm_deployment
from tests.e2e.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.rig.rig import Rig

PLANTED = "planted-secret-4711"
RBAC = Path(__file__).resolve().parents[2] / "manifests" / "base" / "rbac.yaml"
PAUSE = {"spec": {"mode": "Paused"}}
#: Kubernetes label values may not hold such things; model names may.
HOSTILE = 'm"} or vector(9) or up{a="\\'


def everything_said(rig: Rig, namespace: str) -> str:
    """Logs, metrics, pools with their status and annotations, events, and the operator's own."""
    api = rig.cluster.api
    said = [p.log.read_text(encoding="utf-8", errors="replace") for p in rig.operators.values()]
    said += [requests.get(f"{p.url}/metrics", timeout=5).text for p in rig.operators.values()]
    for kind, place in (
        ("InferencePool", namespace),
        ("Event", namespace),
        ("ConfigMap", rig.system_namespace),
        ("Lease", rig.system_namespace),
        ("Event", rig.system_namespace),
    ):
        said.append(json.dumps(api.list(kind, place)))
    return "\n".join(said)


def test_no_secret_is_said_in_logs_status_events_or_metrics(
    operators: Rig, scenario: Callable[..., Scenario], tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text(f"{PLANTED}-password\n", encoding="utf-8")
    operator = operators.start_operator(
        "secrets",
        log_level="debug",
        # It refuses connections, so that every query has an error to tell.
        prometheus_url="http://127.0.0.1:9/api",
        prometheus_username="spillway",
        prometheus_password_file=password,
        prometheus_headers=json.dumps({"X-Tenant-Key": f"{PLANTED}-header"}),
        prometheus_timeout_seconds=2,
        altered={"SOME_API_KEY": f"{PLANTED}-environment"},
    )
    pool = scenario()
    bursting(pool)
    operators.emulator.set_fault(pool.key, metrics="error")
    pool.wait_condition("MetricsAvailable", "False", Reason.METRICS_MISSING.value, timeout=60)
    # A password that is no line of text is an error of its own.
    password.write_bytes(f"{PLANTED}-broken\n{PLANTED}-broken".encode())
    wait_for(
        "the broken password is told",
        lambda: pool.condition("MetricsAvailable")["message"],
        lambda text: "must hold one line" in text or "password" in text,
    )
    said = everything_said(operators, pool.namespace)
    assert PLANTED not in said
    config = next(arg for arg in operator.command if "kubeconfig-spillway" in arg)
    token = yaml.safe_load(Path(config).read_text(encoding="utf-8"))["users"][0]["user"]["token"]
    assert token not in said
    assert "event" in said, "something was said at all"


def tenant_of(rig: Rig, namespace: str) -> KubeApi:
    """Somebody with all rights in a namespace, and the pool editor's."""
    account = "tenant"
    kubeconfig = rig.cluster.kubeconfig_as(account, namespace, cluster_role=None)
    roles = [d for d in yaml.safe_load_all(RBAC.read_text(encoding="utf-8")) if d]
    editor = next(d for d in roles if d["metadata"]["name"].endswith("-pool-editor"))
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    rig.cluster.api.apply(editor)
    for number, role in enumerate(("admin", editor["metadata"]["name"])):
        rig.cluster.api.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": f"tenant-{number}", "namespace": namespace},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": role,
                },
                "subjects": [subject],
            }
        )
    return KubeApi(kubeconfig)


def refused(call: Callable[[], Any]) -> None:
    """Assert that the API server says 403."""
    with pytest.raises(ApiError) as error:
        call()
    assert error.value.status == 403


def test_a_tenant_scales_reads_and_spends_nothing_outside_of_its_namespace(
    rig: Rig, operators: Rig, scenario: Callable[..., Scenario]
) -> None:
    operators.start_operator()
    victim = Scenario(rig, rig.cluster.create_namespace(), name="victim")
    bursting(victim)
    own = scenario()
    tenant = tenant_of(rig, own.namespace)
    wait_for(
        "the tenant may list its pools", lambda: tenant.list("InferencePool", own.namespace) == []
    )
    # A target of the same name as the victim's, a namespace in every reference: the operator acts
    # in the pool's namespace alone, and the rest of a reference is not in the schema.
    manifest = own.manifest()
    manifest["metadata"]["name"] = "thief"
    manifest["spec"]["variants"][0]["targetRef"] = {
        "kind": "Deployment", "name": "victim", "namespace": victim.namespace,
    }  # fmt: skip
    manifest["spec"]["replicas"] = {"floor": 8, "max": 8}
    tenant.create(manifest)
    stored = tenant.get("InferencePool", "thief", own.namespace)
    assert "namespace" not in stored["spec"]["variants"][0]["targetRef"]
    slashed = {"kind": "Deployment", "name": f"{victim.namespace}/victim"}
    manifest["metadata"]["name"] = "slashed"
    manifest["spec"]["variants"][0]["targetRef"] = slashed
    with pytest.raises(ApiError, match="name"):
        tenant.create(manifest)

    def ready() -> dict[str, Any]:
        status = tenant.get("InferencePool", "thief", own.namespace).get("status", {})
        return next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})

    wait_for("it finds no target", ready, lambda c: c.get("reason") == Reason.TARGET_NOT_FOUND)
    assert victim.scale() == 2

    # Neither the victim's pool nor its pods, the ledger nor the Lease.
    for call in (
        lambda: tenant.get("InferencePool", "victim", victim.namespace),
        lambda: tenant.patch("InferencePool", "victim", victim.namespace, PAUSE),
        lambda: tenant.list("Pod", victim.namespace),
        lambda: tenant.list("ConfigMap", rig.system_namespace),
        lambda: tenant.get("Lease", "spillway-operator", rig.system_namespace),
        lambda: tenant.delete("ConfigMap", "spillway-ledger-0", rig.system_namespace),
    ):  # fmt: skip
        refused(call)
    # A forged value on its own pool is the operator's again at its next write, and no other's.
    tenant.apply(vllm_deployment("victim", own.namespace, replicas=1, startup_seconds=1))
    wait_for(
        "with a target of its own it scales that",
        lambda: tenant.get("Deployment", "victim", own.namespace)["spec"]["replicas"],
        lambda n: n == 8,
    )
    assert victim.scale() == 2
    tenant.close()
    victim.rate(0)
    rig.cluster.delete_namespace(victim.namespace)


def test_a_hostile_name_is_only_a_name(operators: Rig, scenario: Callable[..., Scenario]) -> None:
    operator = operators.start_operator()
    other = scenario(name="other")
    other.start()
    pool = scenario(spec={"modelName": HOSTILE})
    pool.deploy()
    pool.apply()
    said = pool.wait_condition(
        "MetricsAvailable", "False", Reason.METRICS_MISSING.value, timeout=60
    )
    assert HOSTILE in said["message"] or json.dumps(HOSTILE)[1:-1] in said["message"]
    assert pool.scale() == 2
    # Nobody's queries broke on it, and nothing of it was taken for a sample.
    other.rate(4)
    other.wait(
        "the other is seen", lambda: (other.status().get("demand") or {}).get("requestsPerSecond")
    )
    assert other.condition("MetricsAvailable")["status"] == "True"
    assert operator.log_lines(event="tick failed") == []
    assert operator.alive
