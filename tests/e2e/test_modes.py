"""What a pool lets Spillway do: Advise, Paused, and leaving Active."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from spillway.api.names import DRAIN_DEADLINE_ANNOTATION, Role
from spillway.api.reasons import Reason
from tests.e2e.scenario import CAPACITY_PER_SECOND
from tests.e2e.watching import watch_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.rig.operator_process import OperatorProcess
    from tests.e2e.scenario import Scenario

WARM: dict[str, Any] = {"warmPool": {"size": 1}, "replicas": {"floor": 2, "max": 4}}
SPIKE = 3 * 2 * CAPACITY_PER_SECOND
ENGINE = {"profile": {"overrides": {"base_seconds": 0.022, "max_num_seqs": 16}}}


def set_mode(pool: Scenario, mode: str) -> None:
    """Change spec.mode."""
    pool.rig.cluster.api.patch("InferencePool", pool.name, pool.namespace, {"spec": {"mode": mode}})


def roles(pool: Scenario) -> list[str]:
    """Role labels of all pods, sorted."""
    return sorted(pod["metadata"]["labels"]["spillway.dev/role"] for pod in pool.pods())


def test_advise_computes_and_writes_status_alone(
    scenario: Callable[..., Scenario], operator: OperatorProcess
) -> None:
    assert operator.alive
    pool = scenario(spec={**WARM, "mode": "Advise"}, emulator=ENGINE)
    pool.start()
    pool.wait_condition("Paused", "True", Reason.ADVISE.value)
    pool.rate(SPIKE)
    pool.wait("it would scale", lambda: pool.status()["replicas"]["desired"] > 2, timeout=90)
    looks = watch_for(pool, 3)
    assert {seen.replicas for seen in looks} == {2}
    assert roles(pool) == [Role.SERVING, Role.SERVING]
    assert pool.annotation() is None
    assert pool.traffic()["cloud_total"] == 0


@pytest.mark.parametrize("mode", ["Advise", "Paused"])
def test_leaving_active_gives_everything_back(
    scenario: Callable[..., Scenario], operator: OperatorProcess, mode: str
) -> None:
    assert operator.alive
    pool = scenario(spec=WARM, emulator=ENGINE)
    pool.start()
    pool.wait_roles(serving=2, warm=1)
    pool.rate(SPIKE)
    pool.wait("it bursts", lambda: pool.status()["overflow"]["fraction"] > 0)
    pool.rate(0)
    set_mode(pool, mode)
    pool.wait("no overflow annotation", lambda: pool.annotation() is None)
    pool.wait("all pods serve", lambda: set(roles(pool)) == {Role.SERVING})
    replicas = pool.scale()
    for pod in pool.pods():
        annotations = pod["metadata"].get("annotations", {})
        assert DRAIN_DEADLINE_ANNOTATION not in annotations
        assert "controller.kubernetes.io/pod-deletion-cost" not in annotations
        assert "karpenter.sh/do-not-disrupt" not in annotations
    looks = watch_for(pool, 4)
    assert {seen.replicas for seen in looks} == {replicas}, "replicas stay as they were"
    set_mode(pool, "Active")
    pool.wait("it acts again", lambda: len(pool.pods(Role.WARM)) > 0, timeout=60)
