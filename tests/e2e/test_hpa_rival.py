"""The simulator's HPA decides as the real kube-controller-manager does, on a recorded sequence.

HPAs follow scripted metrics; what each found and did is recorded, and the simulator's HPA is given
the same at the same moments.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from spillway.sim.rivals.behavior import (
    SCALE_DOWN,
    SCALE_UP,
    Behavior,
    Normalizer,
    PolicySelect,
    PolicyType,
    ScalingPolicy,
    ScalingRules,
)
from spillway.sim.rivals.hpa import (
    Pods,
    Tolerances,
    replicas_by_external_metric,
    replicas_by_pods_metric,
)
from tests.e2e.metrics_api import Script, served
from tests.e2e.rig.cluster_local import LocalComponent
from tests.e2e.rig.waiting import wait_for
from tests.e2e.rig.workloads import vllm_deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.metrics_api import Moment
    from tests.e2e.rig.cluster import Cluster

pytestmark = pytest.mark.long

#: Windows and periods below lie between multiples of it, so that no decision is a matter of
#: milliseconds.
SYNC_SECONDS = 2.0
CLOCK_SECONDS = 0.3
MOST_CLOCKS = 4
MOST = 40
PODS, PERCENT = PolicyType.PODS, PolicyType.PERCENT


@dataclass(frozen=True)
class Case:
    """One HPA.

    Attributes:
        values: What its metric says, one each sync.
        target: ``averageValue``.
        behavior: ``spec.behavior``.
        per_pod: A Pods metric; else an External one.
        start: Replicas to begin with.
        silent: Pods that never report.
    """

    values: tuple[int, ...]
    target: int = 2
    behavior: Behavior | None = None
    per_pod: bool = False
    start: int = 2
    silent: int = 0


#: Up in steps, some of them by less than the tolerance, and down again.
STEPPED = (
    4, 9, 9, 9, 40, 40, 40, 40, 40, 73, 73, 73, 73, 73, 31, 30, 30, 60, 30, 12, 12, 12, 12, 3,
)  # fmt: skip
TRIANGLE = (
    8, 9, 10, 11, 12, 13, 14, 13, 12, 11, 10, 9, 8, 7, 8, 9, 20, 19, 18, 17, 16, 20, 19, 18,
)  # fmt: skip
#: Percent of a GPU, for a target of 70.
BUSY = (
    90, 90, 75, 77, 78, 60, 60, 35, 35, 35, 100, 100, 100, 72, 64, 63, 62, 20, 20, 20, 20, 95, 70,
)  # fmt: skip
#: Requests that wait on each pod, for a target of 2.
QUEUED = (
    9, 9, 9, 5, 3, 3, 2, 1, 1, 1, 0, 0, 4, 8, 8, 8, 3, 2, 2, 1, 1, 0, 0,
)  # fmt: skip
WITHIN_SECONDS = replace(SCALE_DOWN, stabilization_seconds=3)
CASES = {
    # As the API server defaults it: doubled, but at least to four; no way down for five minutes.
    "plain": Case(STEPPED),
    "default-behavior": Case(STEPPED, behavior=Behavior(down=WITHIN_SECONDS)),
    "policies": Case(
        STEPPED,
        behavior=Behavior(
            ScalingRules((ScalingPolicy(PODS, 2, 5), ScalingPolicy(PERCENT, 30, 3)), 5),
            ScalingRules((ScalingPolicy(PODS, 1, 3), ScalingPolicy(PERCENT, 45, 7)), 3),
        ),
    ),
    "least-change": Case(
        STEPPED,
        behavior=Behavior(
            ScalingRules(
                (ScalingPolicy(PODS, 3, 5), ScalingPolicy(PERCENT, 100, 3)), 0, PolicySelect.MIN
            ),
            ScalingRules(
                (ScalingPolicy(PODS, 3, 5), ScalingPolicy(PERCENT, 50, 3)), 0, PolicySelect.MIN
            ),
        ),
    ),
    "own-tolerance": Case(
        TRIANGLE,
        start=4,
        behavior=Behavior(replace(SCALE_UP, tolerance=0), replace(WITHIN_SECONDS, tolerance=0.2)),
    ),
    "pods": Case(BUSY, target=70, per_pod=True, behavior=Behavior(down=WITHIN_SECONDS)),
    "pods-without-a-metric": Case(
        QUEUED, per_pod=True, start=4, silent=2, behavior=Behavior(down=WITHIN_SECONDS)
    ),
}


def rules(each: ScalingRules) -> dict[str, Any]:
    return {
        "stabilizationWindowSeconds": int(each.stabilization_seconds),
        "selectPolicy": each.select.value,
        "tolerance": f"{each.tolerance:g}",
        "policies": [
            {"type": p.type.value, "value": int(p.value), "periodSeconds": int(p.period_seconds)}
            for p in each.policies
        ],
    }


def autoscaler(name: str, namespace: str, case: Case) -> dict[str, Any]:
    target = {"type": "AverageValue", "averageValue": str(case.target)}
    metric = {"metric": {"name": name}, "target": target}
    kind = "Pods" if case.per_pod else "External"
    spec: dict[str, Any] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": 1,
        "maxReplicas": MOST,
        "metrics": [{"type": kind, kind.lower(): metric}],
    }
    if case.behavior is not None:
        spec["behavior"] = {
            "scaleUp": rules(case.behavior.up),
            "scaleDown": rules(case.behavior.down),
        }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


@contextmanager
def fast_controller(cluster: Cluster) -> Iterator[LocalComponent]:
    """The controller manager with a short sync period."""
    manager = cluster.component("kube-controller-manager")
    assert isinstance(manager, LocalComponent)
    flag = f"--horizontal-pod-autoscaler-sync-period={SYNC_SECONDS:g}s"
    manager.stop()
    try:
        replace(manager, command=(*manager.command, flag)).start()
        yield manager
    finally:
        manager.stop()
        manager.start()


def ready_replicas(cluster: Cluster, name: str, namespace: str) -> int:
    found = cluster.api.get("Deployment", name, namespace)
    return int(found["status"].get("readyReplicas", 0))


def one(value: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([float(value)])


def wanted(case: Case, m: Moment) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What the simulator's HPA reads from the metric."""
    current, rules_ = one(m.spec_replicas), case.behavior or Behavior()
    tolerances = Tolerances(rules_.down.tolerance, rules_.up.tolerance)
    value, target = one(m.value * 1000), one(case.target * 1000)
    if case.per_pod:
        pods = Pods(current, one(m.reporting), one(m.pending), one(m.silent))
        return replicas_by_pods_metric(value, target, pods, tolerances)
    pods = Pods(current, one(m.status_replicas), one(0), one(0))
    return replicas_by_external_metric(value, target, pods, tolerances)


def replayed(case: Case, moments: list[Moment], after: list[int]) -> tuple[list[int], int]:
    """The simulator's decisions, and for how many of them a clock had to be set.

    The controller looks at its clock a little after it asked for the metric, and again when it has
    scaled. Where its decision is not the simulator's, it may be so, `CLOCK_SECONDS` off.
    """
    normalizer = Normalizer([case.behavior], SYNC_SECONDS / 2)
    found, set_clocks = [], 0
    for m, real in zip(moments, after, strict=True):
        tried = {}
        for shift in (0.0, -CLOCK_SECONDS, CLOCK_SECONDS):
            trial = deepcopy(normalizer)
            arguments = one(m.spec_replicas), wanted(case, m), one(1), one(MOST)
            tried[shift] = trial, int(trial.normalize(m.at + shift, *arguments)[0])
            if tried[shift][1] == real:
                break
        else:
            shift = 0.0
        normalizer, asked = tried[shift]
        found.append(asked)
        set_clocks += shift != 0
    return found, set_clocks


def test_the_simulators_hpa_is_the_controllers(cluster: Cluster, namespace: str) -> None:
    if not cluster.owns_control_plane:
        pytest.skip("needs a controller manager with a short sync period")
    api = cluster.api
    scripts = {name: Script(case.values, case.silent) for name, case in CASES.items()}
    with (
        fast_controller(cluster) as manager,
        served(cluster, namespace, scripts, manager.folder / "pki"),
    ):
        for name, case in CASES.items():
            api.apply(vllm_deployment(name, namespace, replicas=case.start, gpus=0))
        for name, case in CASES.items():
            ready = partial(ready_replicas, cluster, name, namespace)
            wait_for(f"{name} runs", ready, case.start.__eq__)
        for name, case in CASES.items():
            api.apply(autoscaler(name, namespace, case))
        wait_for(
            "every script is played",
            lambda: min(len(s.moments) - len(s.values) for s in scripts.values()),
            lambda left: left > 0,
            timeout=120,
        )
    set_clocks = 0
    for name, script in scripts.items():
        played = script.moments[: len(script.values)]
        after = [m.spec_replicas for m in script.moments[1 : len(played) + 1]]
        decisions, clocks = replayed(CASES[name], played, after)
        assert decisions == after, f"{name}: {played}"
        assert len(set(after)) > 3, f"{name} shows little: {after}"
        set_clocks += clocks
    # A busy machine may put some decisions on the edge of a window, not many.
    assert set_clocks <= MOST_CLOCKS
