"""Targets of other kinds than Deployment: StatefulSet, and a CRD with a scale subresource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from spillway.api.names import Role
from spillway.api.reasons import Reason
from tests.e2e.rig.workloads import scale_target, vllm_statefulset

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.scenario import Scenario

pytestmark = pytest.mark.usefixtures("operator")


def targeting(kind: str, api_version: str = "apps/v1", **changes: Any) -> dict[str, Any]:
    """A spec whose one variant leads to another kind; moved by what DCGM says."""
    reference = {"apiVersion": api_version, "kind": kind, "name": "llama"}
    return {
        "variants": [{"name": "main", "targetRef": reference}],
        "policy": "Utilization",
        "utilization": {"scaleUpAfter": "2s", "scaleDownAfter": "2s"},
        "replicas": {"floor": 2, "max": 4},
        "burst": None,
        **changes,
    }


def gpus_say(pool: Scenario, percent: float) -> None:
    """Have DCGM report this utilisation for every GPU of the pool."""
    pool.rig.emulator.set_fault(pool.key, gpu_utilization=percent)


def names(pods: list[dict[str, Any]]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


def test_a_statefulset_grows_and_drains_its_highest_ordinal(
    scenario: Callable[..., Scenario],
) -> None:
    pool = scenario(spec=targeting("StatefulSet"))
    pool.deploy(vllm_statefulset(pool.name, pool.namespace, replicas=2, startup_seconds=2))
    pool.apply()
    pool.wait_ready()
    gpus_say(pool, 95)
    pool.wait_roles(serving=4)
    pool.rate(2)
    gpus_say(pool, 5)
    draining = pool.wait("one drains", lambda: names(pool.pods(Role.DRAINING)))
    assert draining == {"llama-3"}
    pool.wait("the floor is left", lambda: names(pool.pods()) == {"llama-0", "llama-1"}, timeout=90)
    assert pool.traffic()["lost_total"] == 0


def test_a_kind_that_nobody_knows_is_scaled_and_nothing_more(
    scenario: Callable[..., Scenario],
) -> None:
    spec = targeting("ScaleTarget", "rig.spillway.dev/v1", warmPool={"size": 1})
    pool = scenario(spec=spec)
    api = pool.rig.cluster.api
    api.apply(scale_target(pool.name, pool.namespace, replicas=1))
    pool.apply()

    def replicas() -> int:
        target = api.get("ScaleTarget", pool.name, pool.namespace)
        return int(target["spec"]["replicas"])

    pool.wait("its floor is asked for", lambda: replicas() == 2)
    condition = pool.wait_condition("WarmPoolReady", "False", Reason.UNSUPPORTED_TARGET.value)
    assert "main" in condition["message"]
    managers = api.get("ScaleTarget", pool.name, pool.namespace)["metadata"].get("managedFields")
    assert managers is None or any(m["manager"] == "spillway-scale" for m in managers)
    # Somebody else's value is corrected here as well.
    api.patch("ScaleTarget", pool.name, pool.namespace, {"spec": {"replicas": 1}})
    pool.wait("and again", lambda: replicas() == 2)
