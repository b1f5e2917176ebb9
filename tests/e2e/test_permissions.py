"""The rules that the chart ships are what the operator needs: not a verb less, not a verb more.

Every operator of the suite runs under these rules (tests/e2e/rig/rights.py), so that a feature
that needs more fails its own test. Here the API server's audit log is compared with them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from spillway.adapters.kube.ledger_store import LEDGER_LABEL
from spillway.api.names import API_VERSION, KIND
from tests.e2e.rig import gateway_api
from tests.e2e.rig.audit import Use, used, writes
from tests.e2e.rig.gateway_api import http_route
from tests.e2e.rig.rights import scale_target_role, shipped
from tests.e2e.rig.waiting import wait_for
from tests.e2e.rig.workloads import scale_target, vllm_statefulset
from tests.e2e.scenario import CAPACITY_PER_SECOND, MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

pytestmark = pytest.mark.long

ACCOUNT = "spillway-shipped"


def granted() -> set[Use]:
    """Every right of the rules, with those of the rig's own kind."""
    roles = [d for d in [*shipped(), scale_target_role()] if "rules" in d]
    return {
        Use(group, resource, verb)
        for role in roles
        for rule in role["rules"] or []
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def busy(scenario: Callable[..., Scenario], rig: Rig) -> Scenario:
    """A pool that does all that a pool does: warm, burst, rollout, up, and down with a drain."""
    pool = scenario(
        spec={
            "policy": "Utilization",
            "utilization": {"scaleUpAfter": "2s", "scaleDownAfter": "2s"},
            "warmPool": {"size": 1},
            "replicas": {"floor": 2, "max": 5},
        }
    )
    pool.start()
    pool.wait_roles(serving=2, warm=1)
    # Up with a burst, a rollout, and down with a drain.
    rig.emulator.set_fault(pool.key, gpu_utilization=95)
    # A moment later it is five, all that `max` allows, and none is warm.
    pool.wait_roles(serving=4)
    pool.rate(8 * CAPACITY_PER_SECOND)
    pool.wait("it bursts", pool.traffic, lambda seen: seen["cloud_total"] > 0)
    # The first grant creates the ledger's ConfigMap, the second patches it.
    pool.wait("it is granted more", lambda: json.loads(pool.annotation() or "{}"), granted_twice)
    pool.rate(0)
    template = {"metadata": {"annotations": {"example.com/version": "2"}}}
    rig.cluster.api.patch("Deployment", pool.name, pool.namespace, {"spec": {"template": template}})
    rig.emulator.set_fault(pool.key, gpu_utilization=5)
    pool.wait("it has scaled down", pool.scale, lambda seen: seen == 3, timeout=120)
    return pool


def granted_twice(value: dict[str, Any]) -> bool:
    """Whether an overflow value is of a second grant."""
    return int(value.get("version", 0)) >= 2


def other_kinds(rig: Rig) -> None:
    """Pools over a StatefulSet and over a kind that the operator does not know."""
    api, namespace = rig.cluster.api, rig.cluster.create_namespace()
    api.apply(vllm_statefulset("stateful", namespace, replicas=1, startup_seconds=1))
    api.apply(scale_target("other", namespace, replicas=1))
    for name, version, kind in (
        ("stateful", "apps/v1", "StatefulSet"), ("other", "rig.spillway.dev/v1", "ScaleTarget"),
    ):  # fmt: skip
        reference = {"apiVersion": version, "kind": kind, "name": name}
        spec = {
            "modelName": MODEL,
            "variants": [{"name": "main", "targetRef": reference}],
            "replicas": {"floor": 2, "max": 4},
        }
        metadata = {"name": name, "namespace": namespace}
        api.apply({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})

    def asked(kind: str, name: str) -> int:
        return int(api.get(kind, name, namespace)["spec"]["replicas"])

    wait_for("the StatefulSet grows", lambda: asked("StatefulSet", "stateful"), lambda n: n == 2)
    # Somebody else's value is corrected; the second time the event is counted, not made anew.
    for _ in range(3):
        wait_for("the other kind grows", lambda: asked("ScaleTarget", "other"), lambda n: n == 2)
        api.patch("ScaleTarget", "other", namespace, {"spec": {"replicas": 1}})
    rig.cluster.delete_namespace(namespace)


def routed(rig: Rig) -> None:
    """A pool whose split is made by an HTTPRoute."""
    api, namespace = rig.cluster.api, rig.cluster.create_namespace()
    gateway_api.install(api)
    api.apply(
        vllm_statefulset("routed", namespace, replicas=1, startup_seconds=1),
        http_route("route", namespace, gateway_api.rule("chat", routed=None, api=0)),
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": "routed", "namespace": namespace},
            "spec": {
                "modelName": MODEL,
                "variants": [
                    {"name": "main", "targetRef": {"kind": "StatefulSet", "name": "routed"}}
                ],
                "replicas": {"floor": 1, "max": 2},
                "burst": {
                    "driver": "HTTPRoute",
                    "routeRef": {"name": "route", "local": "routed"},
                    "providers": [{"name": "cloud", "backendRef": {"name": "api"}}],
                },
            },
        },
    )

    def weights() -> list[int | None]:
        [rule] = api.get(gateway_api.ROUTE, "route", namespace)["spec"]["rules"]
        return [ref.get("weight") for ref in rule["backendRefs"]]

    wait_for("the route's weights are the pool's", weights, lambda seen: seen == [1000, 0])
    rig.cluster.delete_namespace(namespace)


def test_the_rules_that_are_shipped_are_enough_and_none_is_idle(
    operators: Rig, scenario: Callable[..., Scenario]
) -> None:
    # The first operator of a cluster creates the Lease and the ledgers.
    api, namespace = operators.cluster.api, operators.system_namespace
    for kind, label in (("Lease", ""), ("ConfigMap", LEDGER_LABEL)):
        for found in api.list(kind, namespace, selector=label):
            api.delete(kind, found["metadata"]["name"], namespace)
    operator = operators.start_operator("shipped")
    pool = busy(scenario, operators)
    other_kinds(operators)
    routed(operators)
    assert "forbidden" not in operator.log.read_text(encoding="utf-8").casefold()
    assert [line for line in operator.log_lines() if "may not" in str(line.get("error"))] == []
    metadata = pool.pool()["metadata"]
    assert "finalizers" not in metadata
    assert set(metadata["annotations"]) == {"spillway.dev/overflow"}
    if not operators.cluster.owns_control_plane:
        pytest.skip("the audit log of this cluster can't be read")
    assert [w for w in writes(operators.cluster, ACCOUNT) if w.code in {401, 403}] == []
    seen = used(operators.cluster, ACCOUNT)
    assert [use for use, codes in seen.items() if codes & {401, 403}] == []
    assert set(seen) - granted() == set()
    # A verb that nothing uses is one that a thief of the token could.
    assert granted() - set(seen) == set()
