"""A server-side-apply sync as Argo CD does it, over workloads that Spillway scales.

Argo CD itself is not here: what it does to the API server (apply as its field manager, with force)
is done by kubectl, and the recorded pools feed the Lua tests.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from spillway.api.names import KIND
from spillway.api.reasons import Reason
from tests.e2e.rig.workloads import vllm_deployment
from tests.unit.test_argocd import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.rig.rig import Rig
    from tests.e2e.scenario import Scenario

APPLICATION = Path(__file__).resolve().parents[2] / "manifests" / "argocd" / "application.yaml"
RECORDED = Path(__file__).resolve().parents[1] / "unit" / "recorded_pools"
#: Set to write the pools that were seen into RECORDED.
RECORD = "SPILLWAY_RECORD"

pytestmark = pytest.mark.usefixtures("operator")


def sync(rig: Rig, *manifests: dict[str, Any], ignoring: str = "") -> None:
    """What an Argo CD sync sends: with ServerSideApply=true and RespectIgnoreDifferences=true.

    Args:
        rig: Where to.
        manifests: As Git has them.
        ignoring: A field (``a/b``) under ignoreDifferences: Argo CD puts the live value in its
            place before it applies.
    """
    for manifest in manifests:
        sent = copy.deepcopy(manifest)
        if ignoring == "spec/replicas" and "replicas" in sent["spec"]:
            metadata = sent["metadata"]
            live = rig.cluster.api.get(sent["kind"], metadata["name"], metadata["namespace"])
            sent["spec"]["replicas"] = live["spec"]["replicas"]
        rig.cluster.kubectl(
            "apply", "--server-side", "--force-conflicts",
            "--field-manager=argocd-controller", "-f", "-", stdin=yaml.safe_dump(sent),
        )  # fmt: skip


def scaled(scenario: Callable[..., Scenario], replicas: int | None) -> tuple[Scenario, Any]:
    """A pool whose Deployment came from Git and that Spillway has scaled to its floor of 3."""
    pool = scenario(spec={"replicas": {"floor": 3, "max": 6}, "burst": None}, startup_seconds=0.5)
    git = vllm_deployment(pool.name, pool.namespace, replicas=2, startup_seconds=0.5)
    if replicas is None:
        del git["spec"]["replicas"]
    sync(pool.rig, git)
    pool.deploy({**git, "spec": {k: v for k, v in git["spec"].items() if k != "replicas"}})
    pool.apply()
    pool.wait("Spillway has scaled", pool.scale, lambda n: n == 3)
    return pool, git


def owners(pool: Scenario) -> set[str]:
    """Who owns spec.replicas."""
    live = pool.rig.cluster.api.request(
        "GET", pool.rig.cluster.api.path("Deployment", pool.namespace, pool.name)
    )
    return {
        entry["manager"]
        for entry in live["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    }


def test_a_sync_without_replicas_in_git_leaves_them_alone(
    scenario: Callable[..., Scenario],
) -> None:
    pool, git = scaled(scenario, None)
    git["spec"]["template"]["metadata"].setdefault("annotations", {})["example.com/v"] = "2"
    sync(pool.rig, git)
    assert pool.scale() == 3
    assert owners(pool) == {"spillway-scale"}


def test_a_sync_with_replicas_in_git_and_the_difference_ignored_leaves_them_too(
    scenario: Callable[..., Scenario],
) -> None:
    pool, git = scaled(scenario, 2)
    sync(pool.rig, git, ignoring="spec/replicas")
    assert pool.scale() == 3
    # Then Git drops the field: what it no longer owns stays at what it is, not at the default of 1.
    del git["spec"]["replicas"]
    sync(pool.rig, git)
    assert pool.scale() == 3
    pool.wait(
        "Spillway owns them alone", lambda: owners(pool), lambda who: who == {"spillway-scale"}
    )


def test_a_sync_that_forces_replicas_is_corrected(scenario: Callable[..., Scenario]) -> None:
    pool, git = scaled(scenario, 2)
    sync(pool.rig, git)
    pool.wait("Spillway has it back or says who fights", lambda: pool.scale() == 3 or (
        pool.condition("TargetContested").get("status") == "True"))  # fmt: skip


def test_a_sync_of_the_pool_leaves_what_spillway_writes_and_all_of_that_is_ignored(
    scenario: Callable[..., Scenario],
) -> None:
    pool = scenario(startup_seconds=0.5)
    pool.deploy()
    git = pool.manifest()
    sync(pool.rig, git)
    pool.wait_ready()
    pool.wait("the overflow value is published", pool.annotation)
    git["spec"]["replicas"]["max"] += 1
    sync(pool.rig, git)
    live = pool.rig.cluster.api.request(
        "GET", pool.rig.cluster.api.path(KIND, pool.namespace, pool.name)
    )
    assert live["metadata"]["annotations"].keys() == {"spillway.dev/overflow"}
    assert live["status"]["conditions"]
    # Whatever is not Git's belongs to the managers that the example's Application ignores.
    managers = {entry["manager"] for entry in live["metadata"]["managedFields"]}
    spec = yaml.safe_load(APPLICATION.read_text(encoding="utf-8"))["spec"]
    (ignored,) = [d for d in spec["ignoreDifferences"] if d["kind"] == KIND]
    assert managers == {"argocd-controller", *ignored["managedFieldsManagers"]}


def keep(name: str, pool: Scenario, rig: Rig) -> dict[str, Any]:
    """The pool as it is; recorded where asked for."""
    found = rig.cluster.api.get(KIND_PATH, pool.name, pool.namespace)
    if os.environ.get(RECORD):
        found["metadata"].pop("managedFields", None)
        RECORDED.mkdir(exist_ok=True)
        text = json.dumps(found, indent=1, sort_keys=True) + "\n"
        (RECORDED / f"{name}.json").write_text(text, encoding="utf-8")
    return found


KIND_PATH = KIND


def test_health_follows_a_pool_through_its_life(
    operator: OperatorProcess, scenario: Callable[..., Scenario]
) -> None:
    pool = scenario(startup_seconds=4)
    rig = pool.rig
    pool.apply()
    pool.wait_condition("Ready", "False", Reason.TARGET_NOT_FOUND)
    assert run("health", keep("degraded", pool, rig))["status"] == "Degraded"
    pool.deploy()

    def health() -> str:
        found = keep("progressing", pool, rig)
        said: str = run("health", found)["status"]
        return said

    pool.wait("it is on its way", health, lambda said: said == "Progressing", timeout=30)
    pool.wait_ready()
    assert run("health", keep("healthy", pool, rig))["status"] == "Healthy"
    # The action, as Argo CD applies it: the difference to what was there.
    paused = run("pause", pool.pool())
    rig.cluster.api.patch(
        KIND, pool.name, pool.namespace, {"spec": {"mode": paused["spec"]["mode"]}}
    )
    pool.wait_condition("Paused", "True", Reason.PAUSED)
    assert run("health", keep("suspended", pool, rig))["status"] == "Suspended"
    assert operator.alive
